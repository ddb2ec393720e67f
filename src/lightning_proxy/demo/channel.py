"""The demo of a whole channel: relay, peer and wallet as ever, and a simulated chain beside them.

Funding, signatures, blocks and `channel_ready`; each of the three has a chain source of its own.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH
from lightning_proxy.demo.run import Demo, fields_of
from lightning_proxy.demo.steps import INCOMING, OUTGOING, Step
from lightning_proxy.demo.watcher import DemoFailed

#: Of the channel; a quarter is pushed, so that both sides have something.
FUNDING_SAT: Final = 1_000_000
PUSH_MSAT: Final = 250_000_000
#: Seconds between blocks, and between the relay's looks at the chain.
_BLOCK_INTERVAL: Final = 0.3
_CHAIN_INTERVAL: Final = 0.1


class ChannelDemo(Demo):
    """One run, made inside an event loop, up to a channel that is ready.

    `channel_type` is one of `CHANNEL_TYPES`; `outgoing`: the wallet opens it, and not the peer.
    `on_step` gets each step as it happens.
    """

    def __init__(
        self, on_step: Callable[[Step], None], *, channel_type: str, outgoing: bool
    ) -> None:
        flow = OUTGOING if outgoing else INCOMING
        super().__init__(on_step, lambda _: None, flow=flow)
        self._outgoing = outgoing
        self._opening = [
            *("--open", channel_type, "--funding-sat", str(FUNDING_SAT)),
            *("--push-msat", str(PUSH_MSAT)),
        ]

    async def _prepare(self, stack: AsyncExitStack) -> None:
        blocks = ["--blocks", str(MINIMUM_DEPTH), "--interval", str(_BLOCK_INTERVAL)]
        await self._start(stack, "chain", ["lightning_proxy.demo.chain", *blocks])
        listening = await self._watcher.said("chain", "listening")
        self._chain_url: str = listening["url"]
        self._chain = ["--chain", self._chain_url, "--faucet", listening["faucet"]]

    def _relay_settings(self) -> str:
        return f'chain = "{self._chain_url}"\nchain_interval = {_CHAIN_INTERVAL}\n'

    def _peer_arguments(self) -> list[str]:
        return [*self._chain, *([] if self._outgoing else self._opening)]

    def _wallet_arguments(self) -> list[str]:
        return [*self._chain, *(self._opening if self._outgoing else [])]

    async def _follow(self, node_id: str) -> dict[str, Any]:
        watcher = self._watcher
        # Each on its own, so that a failure names the step that is missing.
        for due in watcher.flow.steps:
            await watcher.until(
                lambda due=due: watcher.count(due.key) >= due.times,  # type: ignore[misc]
                f"no step {due.key} came",
            )
        views = {
            program: dict(await watcher.said(program, "channel")) for program in ("peer", "wallet")
        }
        for program, view in views.items():
            view.update(watcher.last(program, "channel"))
            for name in ("event", "at"):
                del view[name]
        self._channel = views
        compare(views["peer"], views["wallet"])
        first = "open_channel_received" if self._outgoing else "accept_channel_received"
        seen = fields_of(await watcher.said("peer", first))
        return {**seen, **fields_of(await watcher.said("peer", "channel_ready_received"))}


def compare(peer: dict[str, Any], wallet: dict[str, Any]) -> None:
    """Both sides have to see the same channel, each from its own end; raises `DemoFailed`."""
    same = {name: wallet[name] for name in ("channel_id", "state", "capacity_sat", "channel_type")}
    mirrored = {
        "our_balance_msat": wallet["peer_balance_msat"],
        "peer_balance_msat": wallet["our_balance_msat"],
    }
    for name, value in {**same, **mirrored}.items():
        if peer[name] != value:
            raise DemoFailed(
                f"the two sides see another {name}: the peer {peer[name]}, the wallet {value}"
            )
