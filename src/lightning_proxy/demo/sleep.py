"""The demo of a wallet that sleeps: it goes away, is asked, is woken by a push, and answers."""

import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from lightning_proxy.demo.run import Demo, fields_of
from lightning_proxy.demo.steps import ASLEEP, Step


class SleepDemo(Demo):
    """One run, made inside an event loop, up to the `accept_channel` of a wallet that was asleep.

    `on_step` gets each step as it happens.
    """

    def __init__(self, on_step: Callable[[Step], None]) -> None:
        super().__init__(on_step, lambda _: None, flow=ASLEEP)

    async def _start_peer(self, stack: AsyncExitStack) -> str:
        address = await super()._start_peer(stack)
        self._peer_program = self._programs[-1]
        return address

    def _peer_arguments(self) -> list[str]:
        return ["--wait"]

    def _wallet_arguments(self) -> list[str]:
        return ["--sleep"]

    async def _follow(self, node_id: str) -> dict[str, Any]:
        watcher = self._watcher
        await watcher.until(lambda: watcher.has("asleep"), "the wallet did not go away")
        # Only when nobody is there to be asked does the peer ask.
        await watcher.said("relay", "wallet_away")
        self._peer_program.signal(signal.SIGUSR1)
        for due in watcher.flow.steps:
            await watcher.until(
                lambda due=due: watcher.count(due.key) >= due.times,  # type: ignore[misc]
                f"no step {due.key} came",
            )
        await watcher.said("peer", "done")
        return fields_of(await watcher.said("peer", "accept_channel_received"))
