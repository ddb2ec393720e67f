"""A chain source that shows what the test says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain import BroadcastRejected, ChainError, Output, Tip


class FakeChain:
    """`outputs` by outpoint; `fault` is raised instead of every answer; `on_ask` sees questions."""

    chain = "regtest"

    def __init__(self) -> None:
        self.outputs: dict[tuple[bytes, int], Output] = {}
        self.sent: list[bytes] = []
        self.fault: ChainError | None = None
        self.rejects: str | None = None
        #: How often a transaction was handed to it.
        self.tried = 0
        self.asked = 0
        self.on_ask: Callable[[], None] = lambda: None
        self.height = 100
        self.closed = False

    def show(self, channel: Channel, **changes: Any) -> None:
        """The channel's funding output, as agreed and six deep, or with other fields."""
        created = channel.funding_created
        agreed = Output(
            channel.funding_scriptpubkey, channel.open_channel.funding_satoshis, 6, 95, 1, False
        )
        outpoint = created.funding_txid, created.funding_output_index
        self.outputs[outpoint] = replace(agreed, **changes)
        self.height += 1

    def hide(self) -> None:
        self.outputs.clear()
        self.height += 1

    def _answer(self) -> None:
        self.asked += 1
        self.on_ask()
        if self.fault is not None:
            raise self.fault

    async def tip(self) -> Tip:
        self._answer()
        return Tip(self.height, self.height.to_bytes(32, "big"))

    async def confirmations(self, txid: bytes) -> int | None:
        self._answer()
        return next(
            (out.confirmations for (id_, _), out in self.outputs.items() if id_ == txid), None
        )

    async def output(self, txid: bytes, index: int) -> Output | None:
        self._answer()
        return self.outputs.get((txid, index))

    async def fee_estimate(self, target_blocks: int) -> int:
        self._answer()
        return 1_000

    async def broadcast(self, transaction: bytes) -> bytes:
        self._answer()
        self.tried += 1
        if self.rejects is not None:
            raise BroadcastRejected(self.rejects)
        self.sent.append(transaction)
        return parse_transaction(transaction).id[::-1]

    async def close(self) -> None:
        self.closed = True
