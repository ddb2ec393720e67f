"""Whether a funding transaction is what was agreed and deep enough, by the wallet's own source."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.chain import BroadcastRejected, ChainError, ChainSource, Output
from lightning_proxy.wallet.request import Refusal, chain_of
from lightning_proxy.wallet.steps import Seen

_OURS: Final = "this wallet's own chain source"


@dataclass(frozen=True, slots=True)
class OwnChain:
    """The wallet's own view of the chain.

    It waits up to `patience` seconds for what a relay's source may have seen earlier, and asks
    again every `interval` seconds.
    """

    source: ChainSource
    patience: float = 60.0
    interval: float = 2.0

    def check_chain(self, chain: str) -> None:
        """Raises `Refusal` for a channel on another chain (by name) than the source's."""
        if self.source.chain != chain:
            raise Refusal(f"{_OURS} shows {self.source.chain}, and not {chain}")

    async def wait_until_deep(self, channel: Channel, deadline: float) -> Seen:
        """The funding output, once it has the confirmations that were agreed.

        Raises `Refusal` when it is not so by then (`deadline` is in Unix seconds), and at once for
        what no waiting makes good.
        """
        self.check_chain(chain_of(channel.open_channel))
        until = min(time.time() + self.patience, deadline)
        while True:
            try:
                output = await self._output(channel)
                reason = check_output(channel, output)
            except ChainError as error:
                output, reason = None, f"{_OURS} gives no answer: {error}"
            if output is not None and reason is None:
                return Seen(output.scriptpubkey, output.amount_sat, output.confirmations)
            if time.time() + self.interval > until:
                raise Refusal(reason or f"{_OURS} gives no answer")
            await asyncio.sleep(self.interval)

    async def broadcast(self, transaction: bytes) -> None:
        """Publish a transaction; raises `ChainError` when that fails for all of `patience`."""
        until = time.time() + self.patience
        while True:
            try:
                await self.source.broadcast(transaction)
            except BroadcastRejected:
                raise
            except ChainError:
                if time.time() + self.interval > until:
                    raise
                await asyncio.sleep(self.interval)
            else:
                return

    async def _output(self, channel: Channel) -> Output | None:
        created = channel.funding_created
        return await self.source.output(created.funding_txid, created.funding_output_index)


def check_output(channel: Channel, output: Output | None) -> str | None:
    """Why a channel whose funding output looks so is not ready yet; None: it is.

    Raises `Refusal` where it never will be.
    """
    if output is None:
        created = channel.funding_created
        outpoint = f"{created.funding_txid[::-1].hex()}:{created.funding_output_index}"
        return f"{_OURS} does not show the funding output {outpoint}"
    difference = difference_of(channel, output)
    if difference is not None:
        raise Refusal(difference)
    if output.spent:
        raise Refusal(f"{_OURS} shows that the funding output is spent")
    needed = channel.accept_channel.minimum_depth
    if output.confirmations < needed:
        return (
            f"{_OURS} shows {output.confirmations} confirmations of the funding transaction, and "
            f"{needed} were agreed"
        )
    return None


def difference_of(channel: Channel, output: Output) -> str | None:
    """In what a funding output differs from what was agreed, with both sides of it named."""
    if output.scriptpubkey != channel.funding_scriptpubkey:
        return (
            f"{_OURS} shows a funding output that pays to the script {output.scriptpubkey.hex()}, "
            f"and not to {channel.funding_scriptpubkey.hex()}"
        )
    wanted = channel.open_channel.funding_satoshis
    if output.amount_sat != wanted:
        return (
            f"{_OURS} shows a funding output of {output.amount_sat} sat, and {wanted} sat were "
            "agreed"
        )
    return None
