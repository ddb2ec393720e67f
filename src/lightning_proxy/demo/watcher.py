"""Makes steps of what the demo's programs say, and waits for what they are to say."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from lightning_proxy.demo.programs import Program
from lightning_proxy.demo.steps import Flow, Step
from lightning_proxy.rpc import Handshake

#: Seconds for whatever does not wait for a person.
PATIENCE: Final = 30.0
#: Seconds that a step is held back before it is shown: three programs tell of them, and what
#: happened first may be heard of last.
_SHOW_AFTER: Final = 0.1
#: Seconds in which the other programs say what they know of a failure.
_LAST_WORDS: Final = 0.3

#: What programs say when nothing more can come.
_ENDS: Final = (
    "failed",
    "closed",
    "refused",
    "session_closed",
    "delegation_expired",
    "delegation_void",
)

T = TypeVar("T")


class DemoFailed(Exception):
    """The sentence says what failed."""


class Watcher:
    """Give `take` to each program. `on_step` gets the steps of the `flow` as they happen.

    `transport_keys` are those that the wallet handed to the relay, by name, and `answer` is what it
    answered to the first delegation.
    """

    def __init__(self, flow: Flow, on_step: Callable[[Step], None]) -> None:
        self.flow = flow
        self.transport_keys: dict[str, bytes] = {}
        self.answer: dict[str, Any] = {}
        self._on_step = on_step
        self._started = time.time()
        self._steps: list[Step] = []
        self._shown = 0
        self._first: dict[tuple[str, str], dict[str, Any]] = {}
        self._last: dict[tuple[str, str], dict[str, Any]] = {}
        #: Of each delegation, by its id.
        self._kinds: dict[str, str | None] = {}
        self._frame_sizes: dict[tuple[str, str], int] = {}
        self._ends: list[str] = []
        self._changed = asyncio.Event()

    # ---- asking ----

    @property
    def steps(self) -> list[Step]:
        """The steps until now, in the order in which they happened."""
        for step in self._steps:
            if step.bytes is None and step.delegation_id is not None:
                step.bytes = self._frame_sizes.get((step.name, step.delegation_id))
        return sorted(self._steps, key=lambda step: step.at_ms)

    def has(self, name: str) -> bool:
        """Whether this step came."""
        return any(step.name == name for step in self._steps)

    def count(self, key: str) -> int:
        """How often the step of this key came."""
        return sum(step.key == key for step in self._steps)

    def first(self, program: str, event: str) -> dict[str, Any] | None:
        """What this program first said of this event, None before it did."""
        return self._first.get((program, event))

    def last(self, program: str, event: str) -> dict[str, Any]:
        """What it last said of it; raises `KeyError` before the first time."""
        return self._last[program, event]

    async def said(self, program: str, event: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The same, once it says so; raises `DemoFailed`."""
        return await self.until(
            lambda: self.first(program, event), f"the {program} never said {event}", patience
        )

    async def until(
        self, found: Callable[[], T | None], failure: str, patience: float = PATIENCE
    ) -> T:
        """Wait until `found` gives something true, which is returned.

        Raises `DemoFailed` with the sentence `failure` after `patience` seconds, and with the
        programs' own words as soon as one of them ended.
        """
        try:
            async with asyncio.timeout(patience):
                while not (result := found()):
                    if self._ends:
                        await asyncio.sleep(_LAST_WORDS)
                        raise DemoFailed(f"{failure}: {'; '.join(self._ends)}")
                    self._changed.clear()
                    await self._changed.wait()
                return result
        except TimeoutError:
            raise DemoFailed(f"{failure} within {patience:g} s") from None

    # ---- showing ----

    async def show(self) -> None:
        """Run for ever: hand steps to `on_step`, in order, shortly after they happened."""
        while True:
            await asyncio.sleep(_SHOW_AFTER / 2)
            self._show_until(1000 * (time.time() - self._started - _SHOW_AFTER))

    def show_rest(self) -> None:
        """Hand over those that `show` has not."""
        self._show_until(float("inf"))

    def _show_until(self, at_ms: float) -> None:
        for step in self.steps[self._shown :]:
            if step.at_ms > at_ms:
                break
            self._shown += 1
            self._on_step(step)

    # ---- listening ----

    def take(self, program: Program, line: dict[str, Any] | None) -> None:
        """A line of a program's, or None at its end."""
        self._changed.set()
        name = program.name
        if line is None:
            self._ends.append(f"the {name} ended")
            return
        event = str(line.get("event"))
        if event == "frame":
            self._take_frame(line)
            return
        self._first.setdefault((name, event), line)
        self._last[name, event] = line
        if event in _ENDS:
            self._ends.append(f"the {name} says {event}: {line.get('reason')}")
        step = self.flow.step_of(name, line, self._started)
        if step is not None:
            if step.delegation_id is not None:
                step.kind = self._kinds.setdefault(step.delegation_id, step.kind)
            # What a real peer goes on with is no part of the flow.
            if any(due.key == step.key for due in self.flow.steps):
                self._steps.append(step)
        elif event == "counters" and not self.has("pong"):
            self._take_counters(line)

    def _take_counters(self, counters: dict[str, Any]) -> None:
        """A ping and its pong, whoever began, as the session's counters tell of them."""
        if counters["pings_received"]:
            # The relay counts a ping when it has answered it.
            parties = {"ping": ("peer", "relay"), "pong": ("relay", "peer")}
        elif counters["pongs_received"]:
            parties = {"ping": ("relay", "peer"), "pong": ("peer", "relay")}
        else:
            return
        at_ms = round(1000 * (counters["at"] - self._started), 3)
        for name, (from_, to) in parties.items():
            self._steps.append(Step(name=name, from_=from_, to=to, at_ms=at_ms))

    def _take_frame(self, line: dict[str, Any]) -> None:
        """A frame between wallet and relay: the sizes of some, and what the proof needs to know."""
        frame = msgspec.json.decode(line["text"], type=dict[str, Any])
        match line["direction"], frame:
            case "received", {"method": "delegate", "id": str(delegation_id)}:
                self._frame_sizes["delegated", delegation_id] = line["size"]
            case "sent", {"result": dict(answer), "id": str(delegation_id)}:
                self._frame_sizes["answered", delegation_id] = line["size"]
                self.answer = self.answer or answer
            case "sent", {"method": "handshake", "params": params}:
                handshake = msgspec.convert(params, Handshake)
                self.transport_keys = {
                    "sending key": bytes.fromhex(handshake.sending.key),
                    "receiving key": bytes.fromhex(handshake.receiving.key),
                    "chaining key": bytes.fromhex(handshake.sending.chaining_key),
                }
