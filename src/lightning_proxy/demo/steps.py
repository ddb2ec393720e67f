"""The demo's steps: who told whom what, and the orders in which they may come."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

#: The steps in the order of the flow, each with who speaks and who hears it.
PARTIES: Final = {
    "act_one": ("wallet", "peer"),
    "act_two": ("peer", "wallet"),
    "act_three": ("wallet", "peer"),
    "init_sent": ("relay", "peer"),
    "init_received": ("peer", "relay"),
    "ping": ("peer", "relay"),
    "pong": ("relay", "peer"),
    "open_channel": ("peer", "relay"),
    "delegated": ("relay", "wallet"),
    "answered": ("wallet", "relay"),
    "accept_channel": ("relay", "peer"),
}

#: What has to come before a step; a real peer pings when it likes.
_AFTER: Final = {
    "act_two": "act_one",
    "act_three": "act_two",
    "init_sent": "act_three",
    "init_received": "init_sent",
    "ping": "init_received",
    "pong": "ping",
    "open_channel": "init_received",
    "delegated": "open_channel",
    "answered": "delegated",
    "accept_channel": "answered",
}


class Step(Struct, kw_only=True, omit_defaults=True):
    """One step, at so many milliseconds from the beginning.

    `bytes` are a message's with its type, an act's, or those of the frame between relay and wallet;
    None where nobody counted them.
    """

    name: str
    from_: str = field(name="from")
    to: str
    at_ms: float
    bytes: int | None = None
    session_id: str | None = None
    delegation_id: str | None = None
    channel_id: str | None = None

    @classmethod
    def of(cls, name: str, at_ms: float, **more: Any) -> "Step":
        """The step of this name, between its usual parties."""
        sender, receiver = PARTIES[name]
        at_ms = round(at_ms, 3)
        return cls(**{"name": name, "from_": sender, "to": receiver, "at_ms": at_ms, **more})


def from_relay(line: dict[str, Any], started: float) -> Step | None:
    """The step that a line of the relay's log tells of, if it is one; `started`: Unix seconds."""
    name = line.get("event")
    if name not in PARTIES:
        return None
    at = datetime.fromisoformat(line["timestamp"]).timestamp()
    return Step.of(
        name,
        1000 * (at - started),
        bytes=line.get("size"),
        session_id=line.get("session_id"),
        delegation_id=line.get("delegation_id"),
        channel_id=line.get("channel_id"),
    )


def what_is_wrong(steps: list[Step]) -> str | None:
    """Why these steps are not the flow: one is missing, came twice or too early; None: they are."""
    names = [step.name for step in steps]
    for name in PARTIES:
        count = names.count(name)
        if count != 1:
            return f"the step {name} came {count} times" if count else f"no step {name}"
    for later, earlier in _AFTER.items():
        if names.index(later) < names.index(earlier):
            return f"the step {later} came before {earlier}"
    return None
