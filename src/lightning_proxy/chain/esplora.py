"""A source that speaks Esplora's HTTP API: electrs of Blockstream, mempool, a simulated chain."""

from decimal import Decimal
from typing import Final, Self, TypeVar

from msgspec import Struct

from lightning_proxy.chain import checks
from lightning_proxy.chain.http import HttpClient
from lightning_proxy.chain.rejections import is_there
from lightning_proxy.chain.source import (
    BroadcastRejected,
    ChainError,
    ChainUnavailable,
    Output,
    Tip,
)
from lightning_proxy.chain.steady import Moved, Place, Places, steady

_OK: Final = 200
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_SERVER_FAILED: Final = 500
# Estimates are in satoshis a virtual byte.
_PER_KW: Final = 250

T = TypeVar("T")


class _Block(Struct, frozen=True):
    id: str
    height: int


class _Status(Struct, frozen=True):
    confirmed: bool
    block_height: int | None = None
    block_hash: str | None = None


class _Output(Struct, frozen=True):
    scriptpubkey: str
    value: int


class _Transaction(Struct, frozen=True):
    vout: list[_Output]
    status: _Status


class _Outspend(Struct, frozen=True):
    spent: bool


class EsploraSource:
    """Answers by an Esplora server (see `ChainSource`)."""

    def __init__(self, client: HttpClient, chain: str) -> None:
        self.chain = chain
        self._client = client
        self._tip = Tip(0, bytes(32))
        self._places = Places()

    @classmethod
    async def open(cls, client: HttpClient) -> Self:
        """Learn the chain of the server that `client` asks, which is closed with the source."""
        status, body = await client.get("/block-height/0")
        genesis = checks.block_hash(_text(status, body, "genesis hash"), "genesis hash")
        return cls(client, checks.chain_of(genesis))

    async def tip(self) -> Tip:
        status, body = await self._client.get("/blocks/tip/hash")
        block_hash = checks.block_hash(_text(status, body, "tip's hash"), "tip's hash")
        if block_hash != self._tip.block_hash:
            # Asked by its hash, for `/blocks/tip/height` may be another block's by now.
            block = await self._ask(f"/block/{block_hash.hex()}", _Block, "tip")
            if block is None or block.id != block_hash.hex():
                raise ChainError("the source doesn't know its own tip")
            self._tip = Tip(checks.height(block.height), block_hash)
        return self._tip

    async def confirmations(self, txid: bytes) -> int | None:
        checks.check_txid(txid)

        async def read(tip: Tip) -> int | None:
            transaction = await self._transaction(txid)
            if transaction is None:
                return None
            block = _block_of(transaction.status, tip)
            return 0 if block is None else tip.height - block.height + 1

        return await steady(self.tip, read)

    async def output(self, txid: bytes, index: int) -> Output | None:
        checks.check_outpoint(txid, index)

        async def read(tip: Tip) -> Output | None:
            transaction = await self._transaction(txid)
            if transaction is None or index >= len(transaction.vout):
                return None
            output = transaction.vout[index]
            path = f"/tx/{txid[::-1].hex()}/outspend/{index}"
            outspend = await self._ask(path, _Outspend, "output's spending")
            if outspend is None:
                raise Moved
            block = _block_of(transaction.status, tip)
            return Output(
                scriptpubkey=checks.hexadecimal(output.scriptpubkey, "script"),
                amount_sat=checks.satoshis(output.value),
                confirmations=0 if block is None else tip.height - block.height + 1,
                block_height=None if block is None else block.height,
                transaction_index=None if block is None else await self._position(txid, block),
                spent=outspend.spent,
            )

        return await steady(self.tip, read)

    async def fee_estimate(self, target_blocks: int) -> int:
        checks.check_target(target_blocks)
        estimates = await self._ask("/fee-estimates", dict[int, Decimal], "fee estimates")
        if not estimates:
            return checks.no_estimate(self.chain)
        # One for fewer blocks is good enough; for fewer than there are, the soonest.
        soon_enough = [target for target in estimates if target <= target_blocks]
        target = max(soon_enough, default=min(estimates))
        return checks.feerate(estimates[target], _PER_KW)

    async def broadcast(self, transaction: bytes) -> bytes:
        txid = checks.transaction_id(transaction)
        body = transaction.hex().encode()
        status, answer = await self._client.post("/tx", body, "text/plain")
        if status == _BAD_REQUEST:
            # Servers and their nodes have many words for a transaction that they have already.
            # Its index may be behind its node, and outputs that are spent already are not found.
            reason = answer.decode(errors="replace")
            if is_there(reason) or await self.confirmations(txid) is not None:
                return txid
            raise BroadcastRejected(checks.quoted(reason))
        said = checks.block_hash(_text(status, answer, "txid"), "txid")
        if said != txid[::-1]:
            raise ChainError("the source published another transaction")
        return txid

    async def close(self) -> None:
        await self._client.close()

    async def _transaction(self, txid: bytes) -> _Transaction | None:
        # `/tx/…/status` would say "unconfirmed" of one that doesn't exist.
        return await self._ask(f"/tx/{txid[::-1].hex()}", _Transaction, "transaction")

    async def _position(self, txid: bytes, block: Tip) -> int:
        place = self._places.get(txid)
        if place is None or place.block_hash != block.block_hash:
            path = f"/block/{block.block_hash.hex()}/txids"
            txids = await self._ask(path, list[str], "block's transactions")
            if txids is None or txid[::-1].hex() not in txids:
                raise Moved
            place = Place(block.block_hash, checks.position(txids.index(txid[::-1].hex())))
            self._places.set(txid, place)
        return place.index

    async def _ask(self, path: str, shape: type[T], what: str) -> T | None:
        """What a path says in JSON; None where the server knows nothing by that name."""
        status, body = await self._client.get(path)
        if status == _NOT_FOUND:
            return None
        _check(status, what)
        return checks.decode(body, shape, what)


def _block_of(status: _Status, tip: Tip) -> Tip | None:
    """The block that a transaction is in; `Moved` if that can't be below this tip."""
    if not status.confirmed:
        return None
    if status.block_height is None or status.block_hash is None:
        raise ChainError("no sense in the transaction: confirmed in no block")
    block_hash = checks.block_hash(status.block_hash, "block hash")
    block = Tip(checks.height(status.block_height), block_hash)
    if block.height > tip.height:
        raise Moved
    return block


def _check(status: int, what: str) -> None:
    if status != _OK:
        # An explorer whose own node is starting, or gone, says that it failed itself.
        kind = ChainUnavailable if status >= _SERVER_FAILED else ChainError
        raise kind(f"no {what}: HTTP status {status}")


def _text(status: int, body: bytes, what: str) -> str:
    _check(status, what)
    try:
        return body.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ChainError(f"no sense in the {what}: no text") from None
