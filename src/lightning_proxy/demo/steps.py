"""The demo's steps: who told whom what, and the orders in which they may come."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

from lightning_proxy.demo.channel_peer import MINIMUM_DEPTH

#: A channel's messages.
_MESSAGES: Final = (
    "open_channel",
    "accept_channel",
    "funding_created",
    "funding_signed",
    "channel_ready",
)
#: Both sides say it, so that the name alone doesn't tell which step it is.
_BOTH_SAY: Final = "channel_ready"


def _key(name: str, from_: str, kind: str | None) -> str:
    detail = kind or (from_ if name == _BOTH_SAY else "")
    return f"{name} {detail}".rstrip()


class Step(Struct, kw_only=True, omit_defaults=True):
    """One step, at so many milliseconds from the beginning.

    `bytes` are a message's with its type, an act's, a transaction's, or those of the frame between
    relay and wallet; None where nobody counted them. `kind` is a delegation's.
    """

    name: str
    from_: str = field(name="from")
    to: str
    at_ms: float
    bytes: int | None = None
    kind: str | None = None
    session_id: str | None = None
    delegation_id: str | None = None
    channel_id: str | None = None

    @property
    def key(self) -> str:
        """Which step of a flow it is: its name, with a delegation's kind, or who says it."""
        return _key(self.name, self.from_, self.kind)


class Due(Struct, frozen=True):
    """A step that a flow has, between these two.

    `after` is the key of what has to come before; `times`: how often it comes.
    """

    name: str
    from_: str
    to: str
    after: str | None = None
    kind: str | None = None
    times: int = 1

    @property
    def key(self) -> str:
        """As `Step.key`."""
        return _key(self.name, self.from_, self.kind)


class Flow(Struct, frozen=True):
    """The steps of one kind of demo, in their usual order.

    `sources` says which step the lines of a program tell of (by the program's name and the line's
    event), and who speaks in it.
    """

    steps: tuple[Due, ...]
    sources: dict[tuple[str, str], tuple[str, str]]

    def due(self, name: str, from_: str) -> Due:
        """The first step of this name that this program speaks in."""
        return next(due for due in self.steps if (due.name, due.from_) == (name, from_))

    def step_of(self, program: str, line: dict[str, Any], started: float) -> Step | None:
        """The step that a program's line tells of, if it is one; `started`: Unix seconds."""
        source = self.sources.get((program, str(line.get("event"))))
        if source is None:
            return None
        name, from_ = source
        # The relay's log has its own way to tell the time.
        stamp = line.get("timestamp")
        at = line["at"] if stamp is None else datetime.fromisoformat(stamp).timestamp()
        return Step(
            name=name,
            from_=from_,
            to=self.due(name, from_).to,
            at_ms=round(1000 * (at - started), 3),
            bytes=line.get("size"),
            kind=line.get("kind"),
            session_id=line.get("session_id"),
            delegation_id=line.get("delegation_id"),
            channel_id=line.get("channel_id"),
        )

    def is_complete(self, steps: list[Step]) -> bool:
        """Whether each step came as often as it has to."""
        keys = [step.key for step in steps]
        return all(keys.count(due.key) >= due.times for due in self.steps)

    def what_is_wrong(self, steps: list[Step]) -> str | None:
        """Why these steps are not the flow: one is missing, too many or too early; None: they are.

        A step that comes several times is over with its last, for what has to come after it.
        """
        keys = [step.key for step in steps]
        for due in self.steps:
            count = keys.count(due.key)
            if count != due.times:
                return f"the step {due.key} came {count} times" if count else f"no step {due.key}"
        last = {key: index for index, key in enumerate(keys)}
        for due in self.steps:
            if due.after is not None and keys.index(due.key) < last[due.after]:
                return f"the step {due.key} came before {due.after}"
        return None


def _asked(kind: str, after: str) -> tuple[Due, Due]:
    """A delegation and its answer."""
    return (
        Due("delegated", "relay", "wallet", after, kind),
        Due("answered", "wallet", "relay", f"delegated {kind}", kind),
    )


_CONNECTED: Final = (
    Due("act_one", "wallet", "peer"),
    Due("act_two", "peer", "wallet", "act_one"),
    Due("act_three", "wallet", "peer", "act_two"),
    Due("init_sent", "relay", "peer", "act_three"),
    Due("init_received", "peer", "relay", "init_sent"),
    # A real peer pings when it likes, or is pinged.
    Due("ping", "peer", "relay", "init_received"),
    Due("pong", "relay", "peer", "ping"),
)
_ACCEPTED: Final = (
    *_CONNECTED,
    Due("open_channel", "peer", "relay", "init_received"),
    *_asked("channel_keys", "open_channel"),
    Due("accept_channel", "relay", "peer", "answered channel_keys"),
)
_CONFIRMED: Final = (
    Due("block", "chain", "all", "broadcast", times=MINIMUM_DEPTH),
    *_asked("channel_ready", "block"),
    Due("channel_ready", "relay", "peer", "answered channel_ready"),
    Due("channel_ready", "peer", "relay", "block"),
)

_FROM_RELAY: Final = {
    **{("relay", due.name): (due.name, due.from_) for due in _ACCEPTED},
    # It doesn't log these; a real peer's are known from its session's counters.
    ("peer", "ping_sent"): ("ping", "peer"),
    ("peer", "pong_received"): ("pong", "relay"),
}
_FROM_PEER_AND_RELAY: Final = {
    **{key: step for key, step in _FROM_RELAY.items() if key[1] not in _MESSAGES},
    # Of a channel's messages, the peer says when each left and when it came.
    **{
        ("peer", f"{name}_{way}"): (name, from_)
        for way, from_ in (("sent", "peer"), ("received", "relay"))
        for name in _MESSAGES
    },
    ("chain", "block_mined"): ("block", "chain"),
}

#: A peer, real or not, asks for a channel and is answered.
OFFERED: Final = Flow(_ACCEPTED, _FROM_RELAY)
#: A peer asks for a channel while the wallet is away.
ASLEEP: Final = Flow(
    (
        *_CONNECTED,
        Due("asleep", "wallet", "relay", "init_received"),
        Due("open_channel", "peer", "relay", "asleep"),
        # It waits for a wallet that is not there.
        Due("delegated", "relay", "wallet", "open_channel", "channel_keys"),
        Due("push", "relay", "wallet", "delegated channel_keys"),
        Due("awake", "wallet", "relay", "push"),
        Due("answered", "wallet", "relay", "awake", "channel_keys"),
        Due("accept_channel", "relay", "peer", "answered channel_keys"),
    ),
    {
        **_FROM_RELAY,
        ("wallet", "asleep"): ("asleep", "wallet"),
        ("wallet", "pushed"): ("push", "relay"),
        ("wallet", "awake"): ("awake", "wallet"),
    },
)
#: The built-in peer opens a channel.
INCOMING: Final = Flow(
    (
        *_ACCEPTED,
        Due("funding_created", "peer", "relay", "accept_channel"),
        *_asked("funding_signed", "funding_created"),
        Due("funding_signed", "relay", "peer", "answered funding_signed"),
        Due("broadcast", "peer", "chain", "funding_signed"),
        *_CONFIRMED,
    ),
    {**_FROM_PEER_AND_RELAY, ("chain", "transaction"): ("broadcast", "peer")},
)
#: The wallet opens one.
OUTGOING: Final = Flow(
    (
        *_CONNECTED,
        Due("open_channel", "relay", "peer", "init_received"),
        Due("accept_channel", "peer", "relay", "open_channel"),
        *_asked("funding_created", "accept_channel"),
        Due("funding_created", "relay", "peer", "answered funding_created"),
        Due("funding_signed", "peer", "relay", "funding_created"),
        *_asked("funding_transaction", "funding_signed"),
        # The wallet broadcasts by its own chain source, and then says so.
        Due("broadcast", "wallet", "chain", "delegated funding_transaction"),
        *_CONFIRMED,
    ),
    {**_FROM_PEER_AND_RELAY, ("chain", "transaction"): ("broadcast", "wallet")},
)
