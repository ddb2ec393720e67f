"""A source that speaks JSON-RPC as Bitcoin Core does, and btcd with a few differences.

Without a transaction index Bitcoin Core finds a confirmed transaction only by an output that is
still unspent, or by its block. So an output's block is remembered once it was seen: what is spent
later is found there. (Pruned, it may be forgotten.)
"""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from types import MappingProxyType
from typing import Final, Self, TypeVar

import msgspec
from msgspec import Raw, Struct

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
from lightning_proxy.chain.url import SourceKind

# Bitcoin Core wraps an error into any of these, by its code; btcd says 200.
_ANSWERS: Final = frozenset({200, 400, 404, 500})

# JSON-RPC and Bitcoin Core's protocol.h; btcd has them too.
_NO_SUCH_METHOD: Final = -32601
_UNKNOWN: Final = -5
_OUT_OF_RANGE: Final = frozenset({-1, -8})  # btcd's and Bitcoin Core's for a height above the tip
_ALREADY_CONFIRMED: Final = -27
_WARMING_UP: Final = -28
_REJECTED: Final = frozenset({-22, -25, -26, _ALREADY_CONFIRMED})

# Feerates are in bitcoins a 1000 virtual bytes.
_PER_KW: Final = 25_000_000

# Among these a funding, commitment or closing transaction has one that stays unspent for a while.
_LIKELY_OUTPUTS: Final = range(4)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Where the nodes differ."""

    fee_method: str
    #: The most blocks that it estimates fees for.
    longest_target: int
    #: Whether `getrawtransaction` takes the block to look in.
    finds_in_block: bool


_DIALECTS: Final = MappingProxyType(
    {
        SourceKind.BITCOIND: _Dialect("estimatesmartfee", 1008, finds_in_block=True),
        SourceKind.BTCD: _Dialect("estimatefee", 25, finds_in_block=False),
    }
)


class _RpcError(Struct, frozen=True):
    code: int
    message: str


class _Answer(Struct, frozen=True):
    id: int | None = None
    result: Raw = Raw(b"null")
    error: _RpcError | None = None


class _ChainInfo(Struct, frozen=True):
    blocks: int
    bestblockhash: str


class _Script(Struct, frozen=True):
    hex: str


class _Unspent(Struct, frozen=True):
    bestblock: str
    confirmations: int
    value: Decimal
    scriptPubKey: _Script  # noqa: N815 - the node's name


class _TransactionOutput(Struct, frozen=True):
    value: Decimal
    scriptPubKey: _Script  # noqa: N815 - the node's name


class _Transaction(Struct, frozen=True):
    vout: list[_TransactionOutput]
    # Both are missing while it is unconfirmed.
    confirmations: int = 0
    blockhash: str | None = None


class _Block(Struct, frozen=True):
    tx: list[str]


class _Spending(Struct, frozen=True):
    spendingtxid: str | None = None


class _SmartFee(Struct, frozen=True):
    feerate: Decimal | None = None


class NodeError(ChainError):
    """The node's own refusal of one request, with its code."""

    def __init__(self, method: str, error: _RpcError) -> None:
        super().__init__(f"{method}: {checks.quoted(error.message)} ({error.code})")
        self.code = error.code
        self.reason = checks.quoted(error.message)


class BitcoindSource:
    """Answers by Bitcoin Core (24 or later) or btcd (0.24 or later); see `ChainSource`."""

    def __init__(self, client: HttpClient, kind: SourceKind, chain: str = "") -> None:
        self.chain = chain
        self._client = client
        self._dialect = _DIALECTS[kind]
        self._ids = count(1)
        self._places = Places()

    @classmethod
    async def open(cls, client: HttpClient, kind: SourceKind) -> Self:
        """Learn the chain of the node that `client` asks, which is closed with the source."""
        source = cls(client, kind)
        source.chain = checks.chain_of(await source._block_hash(0))
        return source

    async def tip(self) -> Tip:
        info = await self._call(_ChainInfo, "getblockchaininfo")
        return Tip(checks.height(info.blocks), checks.block_hash(info.bestblockhash, "tip's hash"))

    async def confirmations(self, txid: bytes) -> int | None:
        checks.check_txid(txid)

        async def read(tip: Tip) -> int | None:
            transaction = await self._transaction(txid)
            if transaction is not None:
                return checks.confirmations(transaction.confirmations)
            found = await asyncio.gather(
                *(self._unspent(txid, index, tip) for index in _LIKELY_OUTPUTS)
            )
            unspent = next((unspent for unspent in found if unspent is not None), None)
            if unspent is None:
                return None
            await self._place(txid, _height(unspent.confirmations, tip))
            return unspent.confirmations

        return await steady(self.tip, read)

    async def output(self, txid: bytes, index: int) -> Output | None:
        checks.check_outpoint(txid, index)

        async def read(tip: Tip) -> Output | None:
            # The confirmed outputs that no confirmed transaction spends: with the tip unmoved, a
            # confirmed output that isn't among them is spent, and what an unconfirmed transaction
            # spends, the mempool knows.
            unspent = await self._unspent(txid, index, tip)
            if unspent is not None:
                found: _Unspent | _TransactionOutput = unspent
                confirmations = unspent.confirmations
            else:
                transaction = await self._transaction(txid)
                if transaction is None or index >= len(transaction.vout):
                    return None
                found = transaction.vout[index]
                confirmations = checks.confirmations(transaction.confirmations)
            height = _height(confirmations, tip) if confirmations else None
            place = None if height is None else await self._place(txid, height)
            spent = (unspent is None and place is not None) or await self._waits_to_be_spent(
                txid, index
            )
            return Output(
                scriptpubkey=checks.hexadecimal(found.scriptPubKey.hex, "script"),
                amount_sat=checks.bitcoins(found.value),
                confirmations=confirmations,
                block_height=height,
                transaction_index=None if place is None else place.index,
                spent=spent,
            )

        return await steady(self.tip, read)

    async def fee_estimate(self, target_blocks: int) -> int:
        checks.check_target(target_blocks)
        target = min(target_blocks, self._dialect.longest_target)
        if self._dialect.fee_method == "estimatesmartfee":
            estimate = (await self._call(_SmartFee, "estimatesmartfee", target)).feerate
        else:
            estimate = await self._estimate_fee(target)
        if estimate is None:
            return checks.no_estimate(self.chain)
        return checks.feerate(estimate, _PER_KW)

    async def broadcast(self, transaction: bytes) -> bytes:
        txid = checks.transaction_id(transaction)
        try:
            said = await self._call(str, "sendrawtransaction", transaction.hex())
        except NodeError as error:
            if error.code not in _REJECTED:
                raise
            # Nodes refuse what they have; and what one waits for, and what is spent already, may
            # be this very transaction.
            if (
                error.code == _ALREADY_CONFIRMED
                or is_there(error.reason)
                or await self.confirmations(txid) is not None
            ):
                return txid
            raise BroadcastRejected(error.reason) from None
        if checks.block_hash(said, "txid") != txid[::-1]:
            raise ChainError("the node published another transaction")
        return txid

    async def close(self) -> None:
        await self._client.close()

    async def _block_hash(self, height: int) -> bytes:
        try:
            return checks.block_hash(await self._call(str, "getblockhash", height), "block hash")
        except NodeError as error:
            if error.code in _OUT_OF_RANGE:
                raise Moved from error
            raise

    async def _unspent(self, txid: bytes, index: int, tip: Tip) -> _Unspent | None:
        """A confirmed output that no confirmed transaction spends."""
        result = await self._ask("gettxout", txid[::-1].hex(), index, False)
        if result == b"null":
            return None
        unspent = checks.decode(result, _Unspent, "answer to gettxout")
        if unspent.bestblock != tip.block_hash.hex():
            raise Moved
        return unspent

    async def _transaction(self, txid: bytes) -> _Transaction | None:
        """A transaction in the mempool, in the index, or in the block it was last seen in."""
        name = txid[::-1].hex()
        try:
            return await self._call(_Transaction, "getrawtransaction", name, 1)
        except NodeError as error:
            if error.code != _UNKNOWN:
                raise
        place = self._places.get(txid)
        if place is None or not self._dialect.finds_in_block:
            return None
        try:
            transaction = await self._call(
                _Transaction, "getrawtransaction", name, 1, place.block_hash.hex()
            )
        except NodeError as error:
            # Pruned, or gone with a reorg.
            if error.code in (_UNKNOWN, -1):
                return None
            raise
        # In a block that a reorg replaced, it is not a transaction of this chain.
        return transaction if transaction.confirmations > 0 else None

    async def _place(self, txid: bytes, height: int) -> Place:
        block_hash = await self._block_hash(height)
        place = self._places.get(txid)
        if place is None or place.block_hash != block_hash:
            block = await self._call(_Block, "getblock", block_hash.hex(), 1)
            if txid[::-1].hex() not in block.tx:
                raise Moved
            place = Place(block_hash, checks.position(block.tx.index(txid[::-1].hex())))
            self._places.set(txid, place)
        return place

    async def _waits_to_be_spent(self, txid: bytes, index: int) -> bool:
        """Whether an unconfirmed transaction spends an output."""
        outpoint = {"txid": txid[::-1].hex(), "vout": index}
        spendings = await self._call(list[_Spending], "gettxspendingprevout", [outpoint])
        if len(spendings) != 1:
            raise ChainError("no sense in gettxspendingprevout: one question, not one answer")
        return spendings[0].spendingtxid is not None

    async def _estimate_fee(self, target: int) -> Decimal | None:
        try:
            estimate = await self._call(Decimal, "estimatefee", target)
        except NodeError as error:
            # btcd has one code for whatever fails.
            if error.code == _NO_SUCH_METHOD:
                raise
            return None
        return estimate if estimate > 0 else None

    async def _call(self, shape: type[T], method: str, *params: object) -> T:
        """The result of one request, of this shape."""
        return checks.decode(await self._ask(method, *params), shape, f"answer to {method}")

    async def _ask(self, method: str, *params: object) -> bytes:
        """The result of one request in JSON; `NodeError` if the node refuses it."""
        request_id = next(self._ids)
        request = {"jsonrpc": "1.0", "id": request_id, "method": method, "params": params}
        status, body = await self._client.post("", msgspec.json.encode(request), "application/json")
        if status not in _ANSWERS:
            raise ChainError(f"{method}: HTTP status {status}")
        answer = checks.decode(body, _Answer, f"answer to {method}")
        if answer.error is not None:
            if answer.error.code == _WARMING_UP:
                raise ChainUnavailable(
                    f"the node is starting: {checks.quoted(answer.error.message)}"
                )
            raise NodeError(method, answer.error)
        if answer.id != request_id:
            raise ChainError(f"{method}: an answer to another question")
        return bytes(answer.result)


def _height(confirmations: int, tip: Tip) -> int:
    """The height of the block that is so deep."""
    return checks.height(tip.height - checks.confirmations(confirmations) + 1)
