"""What relay and wallet ask of the blockchain, whoever answers: a node, an Esplora, a simulation.

A txid stands as Lightning's messages carry it (`funding_txid`: the order of hashing); block hashes
stand as explorers print them.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from lightning_proxy.chain.rejections import is_final, kind_of

#: What a Bitcoin node takes at least to relay a transaction: a satoshi a virtual byte is 250 a
#: thousand weight units, and 253 is what remains above it once nodes have rounded weights up.
MINIMUM_FEERATE_PER_KW: Final = 253


class ChainError(Exception):
    """A source gave no answer or a senseless one; a sentence with no credential in it."""


class ChainUnavailable(ChainError):
    """The source can't be asked now: it is not there, or not yet ready."""


class BroadcastRejected(ChainError):
    """The source looked at a transaction and doesn't want it; the sentence has its reason."""

    @property
    def is_final(self) -> bool:
        """Whether it never will; what it refuses for now may do with a later block."""
        return is_final(str(self))

    @property
    def kind(self) -> str:
        """What it has in common with refusals that differ in numbers only."""
        return kind_of(str(self))


class BroadcastGivenUp(BroadcastRejected):
    """Nobody hands that transaction to the source any more."""

    @property
    def is_final(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Tip:
    """The last block of the best chain."""

    height: int
    #: 32 bytes, in the order that explorers print.
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Output:
    """One transaction output as a source sees it now; all fields speak of one and the same chain.

    Of an output that nobody can ever spend (OP_RETURN), a source may say that it is spent.
    """

    scriptpubkey: bytes
    amount_sat: int
    #: 1 for an output in the last block, 0 for one in the mempool only.
    confirmations: int
    #: None while unconfirmed.
    block_height: int | None
    #: The position of its transaction in its block, which `short_channel_id` needs (BOLT #7);
    #: None while unconfirmed.
    transaction_index: int | None
    #: By a confirmed or an unconfirmed transaction that the source knows.
    spent: bool


class ChainSource(Protocol):
    """Where answers about the blockchain come from.

    Each method raises `ChainError` when the source can't be reached, is too slow, or answers what
    can't be; it may be asked again at any time. Methods may run side by side.
    """

    #: A name of `bolt.chains`, by the genesis block that the source itself knows.
    chain: str

    async def tip(self) -> Tip:
        """The last block of the best chain."""

    async def confirmations(self, txid: bytes) -> int | None:
        """How deep a transaction (32 bytes, as in messages) is: 1 in the last block.

        0 for one in the mempool; None for one that the source doesn't know.
        """

    async def output(self, txid: bytes, index: int) -> Output | None:
        """One output of a transaction (32 bytes, as in messages); None if the source knows none."""

    async def fee_estimate(self, target_blocks: int) -> int:
        """What confirms within so many blocks, in satoshis a 1000 weight units; at least 253.

        Where no money is at stake, a source that has no estimate says the least; on Bitcoin's
        main chain that is a `ChainError`.
        """

    async def broadcast(self, transaction: bytes) -> bytes:
        """Publish a whole transaction; its txid (32 bytes, as in messages).

        One that the source already has, confirmed or not, counts as success. Raises
        `BroadcastRejected` with the source's reason, and `ValueError` for bytes that are no
        transaction.
        """

    async def close(self) -> None:
        """Give up what the source holds open; nothing may be asked afterwards."""
