"""A blockchain in memory for demo and tests: mempool, blocks, reorgs; asked by Esplora's API.

What a node checks of a transaction is checked here too (inputs, amounts, locks, scripts with their
signatures, by btclib), save proof of work, fees' policy, and time: locks by time are over.
"""

from collections.abc import Collection, Iterator
from hashlib import sha256
from typing import Final, Self

from aiohttp import web
from btclib.exceptions import BTClibException
from btclib.script.engine import verify_transaction
from btclib.tx import OutPoint, Tx, TxIn, TxOut

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated_api import Block, Fault, application
from lightning_proxy.chain.source import BroadcastRejected, Tip

#: What a faucet's transaction leaves to the miner.
FAUCET_FEE_SAT: Final = 1_000

_HOST: Final = "127.0.0.1"
_FINAL: Final = 0xFFFFFFFF
_BLOCK_LOCKTIMES: Final = 500_000_000
# BIP 68: a sequence number that is no lock, one that counts time, and what is left to count blocks.
_NO_RELATIVE_LOCK: Final = 1 << 31
_TIME_LOCK: Final = 1 << 22
_LOCKED_BLOCKS: Final = 0xFFFF


class SimulatedChain:
    """A regtest chain of one's own; ``async with SimulatedChain() as chain`` serves `chain.url`.

    Mining and paying are method calls; whoever asks goes through `chain.url` by a real client.
    """

    def __init__(self) -> None:
        genesis = CHAIN_HASHES["regtest"][::-1]
        self._blocks = [Block(0, genesis, (_coinbase(0),))]
        # Of the best chain and the mempool, by txid as explorers print it.
        self._transactions: dict[bytes, Tx] = {}
        self._blocks_of: dict[bytes, Block] = {}
        self._spenders: dict[OutPoint, bytes] = {}
        # What faucets spend: outputs of no transaction.
        self._sources: dict[OutPoint, TxOut] = {}
        self._mined = 0
        #: A test's way to let requests fail.
        self.fault: Fault | None = None
        #: What `/fee-estimates` says: satoshis a virtual byte, by target in blocks.
        self.fee_estimates: dict[int, float] = {1: 10.0, 6: 5.0, 144: 1.5}
        #: How `open_source` finds it; empty while it isn't served.
        self.url = ""
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(application(self), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, 0).start()
        self.url = f"esplora+http://{_HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        self.url = ""

    @property
    def tip(self) -> Tip:
        """The last block."""
        last = self._blocks[-1]
        return Tip(last.height, last.block_hash)

    @property
    def mempool(self) -> tuple[bytes, ...]:
        """The txids (as in messages) of what waits for a block, in the order they would enter."""
        return tuple(txid[::-1] for txid in self._waiting())

    def faucet(self, scriptpubkey: bytes, amount_sat: int) -> tuple[bytes, int]:
        """Pay to a script out of nothing; the payment waits in the mempool.

        Returns the raw transaction and the index of the output that pays.
        """
        origin = OutPoint(sha256(b"faucet %d" % len(self._sources)).digest(), 0)
        self._sources[origin] = TxOut(amount_sat + FAUCET_FEE_SAT, b"\x51")  # OP_TRUE
        tx = Tx(2, 0, [TxIn(origin, b"", _FINAL)], [TxOut(amount_sat, scriptpubkey)])
        raw = tx.serialize(include_witness=True)
        self.add_transaction(raw)
        return raw, 0

    def add_transaction(self, transaction: bytes) -> bytes:
        """Take a whole transaction into the mempool; its txid (32 bytes, as in messages).

        One that is already here counts as success. Raises `BroadcastRejected` with the reason.
        """
        try:
            tx = parse_transaction(transaction)
        except ValueError as error:
            raise BroadcastRejected(f"TX decode failed: {error}") from error
        if tx.id not in self._transactions:
            self._check(tx)
            self._enter(tx)
        return tx.id[::-1]

    def mine(self, n: int = 1) -> list[bytes]:
        """Mine blocks, each with all that waits and may be in it.

        Returns their hashes, as explorers print them.
        """
        return [self._mine(self._mineable()).block_hash for _ in range(n)]

    def reorg(self, depth: int, *, keep: bool | Collection[bytes] = True) -> list[bytes]:
        """Replace the last `depth` blocks by one more, all empty; the new blocks' hashes.

        Of the transactions that were in them, those to `keep` (all, none, or these txids, as in
        messages) wait in the mempool again; the others are forgotten, with all that spends them.
        """
        if not 1 <= depth < len(self._blocks):
            raise ValueError(f"a reorg of {depth} blocks in a chain of {len(self._blocks)}")
        undone = self._blocks[-depth:]
        del self._blocks[-depth:]
        for txid in (txid for block in undone for txid in block.txids):
            # A coinbase; or what it spends was forgotten just before, and it with that.
            if self._blocks_of.pop(txid, None) is None:
                continue
            if keep is False or (keep is not True and txid[::-1] not in keep):
                self._forget(txid)
        return [self._mine(()).block_hash for _ in range(depth + 1)]

    def block(self, block_hash: bytes) -> Block | None:
        """A block of the best chain by its hash, as explorers print it."""
        return next((block for block in self._blocks if block.block_hash == block_hash), None)

    def block_at(self, height: int) -> Block | None:
        """A block of the best chain by its height."""
        return self._blocks[height] if 0 <= height < len(self._blocks) else None

    def transaction(self, txid: bytes) -> Tx | None:
        """A transaction of the best chain or the mempool; the txid as explorers print it."""
        return self._transactions.get(txid)

    def block_of(self, txid: bytes) -> Block | None:
        """The block that a transaction is in; the txid as explorers print it."""
        return self._blocks_of.get(txid)

    def spender(self, txid: bytes, index: int) -> tuple[bytes, int] | None:
        """The transaction and its input that spend an output; txids as explorers print them."""
        outpoint = OutPoint(txid, index)
        spending = self._spenders.get(outpoint)
        if spending is None:
            return None
        inputs = self._transactions[spending].vin
        return spending, [tx_in.prev_out for tx_in in inputs].index(outpoint)

    def _waiting(self) -> Iterator[bytes]:
        return (txid for txid in self._transactions if txid not in self._blocks_of)

    def _check(self, tx: Tx) -> None:
        try:
            tx.assert_valid()
            if tx.is_coinbase:
                raise BroadcastRejected("coinbase")
            prevouts = [self._prevout(tx_in.prev_out) for tx_in in tx.vin]
            self._check_locks(tx)
            verify_transaction(prevouts, tx)
        except BTClibException as error:
            raise BroadcastRejected(f"mandatory-script-verify-flag-failed ({error})") from error

    def _prevout(self, outpoint: OutPoint) -> TxOut:
        spender = self._spenders.get(outpoint)
        if spender is not None:
            raise BroadcastRejected(f"txn-mempool-conflict: {spender.hex()} spends it already")
        if outpoint in self._sources:
            return self._sources[outpoint]
        funding = self._transactions.get(outpoint.tx_id)
        if funding is None or outpoint.vout >= len(funding.vout):
            raise BroadcastRejected("bad-txns-inputs-missingorspent")
        return funding.vout[outpoint.vout]

    def _check_locks(self, tx: Tx) -> None:
        if not self._is_final(tx):
            raise BroadcastRejected("non-final")
        if not self._is_unlocked(tx):
            raise BroadcastRejected("non-BIP68-final")

    def _is_final(self, tx: Tx) -> bool:
        # A lock names the last block that the transaction may not be in.
        return (
            tx.lock_time <= self.tip.height
            or tx.lock_time >= _BLOCK_LOCKTIMES
            or all(tx_in.sequence == _FINAL for tx_in in tx.vin)
        )

    def _is_unlocked(self, tx: Tx) -> bool:
        if tx.version < 2:
            return True
        for tx_in in tx.vin:
            if tx_in.sequence & (_NO_RELATIVE_LOCK | _TIME_LOCK):
                continue
            block = self._blocks_of.get(tx_in.prev_out.tx_id)
            height = block.height if block else self.tip.height + 1
            if self.tip.height + 1 - height < tx_in.sequence & _LOCKED_BLOCKS:
                return False
        return True

    def _enter(self, tx: Tx) -> None:
        self._transactions[tx.id] = tx
        self._spenders.update((tx_in.prev_out, tx.id) for tx_in in tx.vin)

    def _forget(self, txid: bytes) -> None:
        tx = self._transactions.pop(txid)
        self._blocks_of.pop(txid, None)
        for tx_in in tx.vin:
            del self._spenders[tx_in.prev_out]
        for index in range(len(tx.vout)):
            if spender := self._spenders.get(OutPoint(txid, index)):
                self._forget(spender)

    def _mineable(self) -> list[bytes]:
        """What waits and may be in the next block: a reorg can bring back what is locked again."""
        chosen: list[bytes] = []
        for txid in self._waiting():
            tx = self._transactions[txid]
            parents = {tx_in.prev_out.tx_id for tx_in in tx.vin} & self._transactions.keys()
            ready = all(txid in self._blocks_of or txid in chosen for txid in parents)
            if ready and self._is_final(tx) and self._is_unlocked(tx):
                chosen.append(txid)
        return chosen

    def _mine(self, txids: Collection[bytes]) -> Block:
        before = self._blocks[-1]
        # The count makes a block of another branch another block.
        self._mined += 1
        with_coinbase = (_coinbase(self._mined), *txids)
        block_hash = sha256(b"".join([before.block_hash, *with_coinbase])).digest()
        block = Block(before.height + 1, block_hash, with_coinbase)
        self._blocks.append(block)
        self._blocks_of.update(dict.fromkeys(txids, block))
        return block


def _coinbase(count: int) -> bytes:
    return sha256(b"coinbase %d" % count).digest()
