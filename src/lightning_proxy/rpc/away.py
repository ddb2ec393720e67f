"""What a wallet arranges for the time when it is away: wake-ups, key slots, presence, devices."""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

from lightning_proxy.rpc.integers import MAX_SAFE, Amount, Count
from lightning_proxy.rpc.types import (
    ChannelKeys,
    Closed,
    FeatureBits,
    Id,
    Key,
    Message,
    NodeId,
    PeerAddress,
    PeerMessage,
    Point,
    Position,
    PresencePolicy,
    Sentence,
    Voided,
)

#: A URL that a wallet wants called; what may stand in it is checked when it is registered.
Url = Annotated[str, Meta(min_length=10, max_length=1024)]


class Acknowledge(Struct, frozen=True):
    """wallet → relay: I have all up to this position; it need not wait for me any more."""

    position: Position


class SessionLost(Struct, frozen=True):
    """relay → wallet: a restart of the relay cost this session; shake hands with its peer again."""

    session_id: Id
    #: "pubkey@host:port"
    peer: PeerAddress
    position: Position = 0


# ---- wake-ups ----


class WakeKind(StrEnum):
    """How a wallet is woken."""

    WEBHOOK = "webhook"
    WEB_PUSH = "web_push"


class WakeReason(StrEnum):
    """Why a wallet is woken: all that a push says, beside an opaque id."""

    DELEGATION = "delegation"  # a question waits
    MESSAGE = "message"  # a message of a peer's waits, on a session with `raw`
    SLOT_USED = "slot_used"  # a channel was accepted with a key slot
    SESSION_LOST = "session_lost"  # a connection broke; shake hands again
    TEST = "test"  # the wallet asked for it


class WakeByWebhook(Struct, frozen=True):
    """wallet → relay: wake me by an HTTPS POST to this URL."""

    url: Url

    def __repr__(self) -> str:
        return "WakeByWebhook(...)"


class WakeByWebPush(Struct, frozen=True):
    """wallet → relay: wake me by Web Push; the browser's `PushSubscription` as it is (RFC 8291)."""

    endpoint: Url
    #: base64url without padding: 65 and 16 bytes.
    p256dh: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{87}$", max_length=87)]
    auth: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$", max_length=22)]

    def __repr__(self) -> str:
        return "WakeByWebPush(...)"


class WakeTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place where the relay wakes a wallet; of the URL only its host is shown."""

    target_id: Id
    kind: WakeKind
    host: Annotated[str, Meta(max_length=1024)]
    created: float
    #: Unix seconds of the last attempt, and the last that worked; none since the relay started.
    last_attempt: float | None = None
    last_success: float | None = None
    #: A sentence about the last attempt, where it failed.
    failure: Sentence | None = None


class RemoveWakeTarget(Struct, frozen=True):
    """wallet → relay: don't wake me there any more."""

    target_id: Id


class WakeTest(Struct, frozen=True):
    """wallet → relay: wake me now, everywhere, with the reason `test`."""


# ---- key slots ----


class SlotPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which `open_channel` a key slot may answer; what isn't named is not limited."""

    min_funding_sat: Amount = 0
    max_funding_sat: Amount
    #: Node ids; none: any peer that the wallet is connected to.
    peers: Annotated[list[NodeId], Meta(max_length=100)] | None = None
    #: Feature maps; none: any type that both nodes support.
    channel_types: Annotated[list[FeatureBits], Meta(max_length=16)] | None = None


class Slot(Struct, frozen=True, kw_only=True):
    """A single-use answer to `channel_keys`; `channel_type` is left out: the peer's is echoed."""

    answer: ChannelKeys
    policy: SlotPolicy


class AddSlots(Struct, frozen=True):
    """wallet → relay: keep these answers; all are taken, or none."""

    slots: Annotated[list[Slot], Meta(min_length=1, max_length=100)]


class SlotInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key slot."""

    slot_id: Id
    funding_pubkey: Point
    policy: SlotPolicy
    created: float
    #: Unix seconds; none while it is free.
    used: float | None = None


class RemoveSlot(Struct, frozen=True):
    """wallet → relay: this slot is not to be used; its keys count as used all the same."""

    slot_id: Id


class SlotUsed(Struct, frozen=True, kw_only=True):
    """relay → wallet: while you slept this `open_channel` was accepted with that slot."""

    slot_id: Id
    session_id: Id
    peer: NodeId
    #: The temporary one.
    channel_id: Key
    #: Both as they were on the wire.
    open_channel: Message
    accept_channel: Message
    position: Position = 0


# ---- the chain ----


class FundingRefused(Struct, frozen=True, kw_only=True):
    """relay → wallet: the relay's chain source does not take the funding transaction.

    Not `final`: it is tried again with each block, or it went out while its channel failed: the
    reason says so, and it may be on the chain. Final: it never will, or its channel failed, and the
    relay publishes it no more; it can be funded by nobody but the wallet.
    """

    channel_id: Key
    peer: NodeId
    #: The source's own words.
    reason: Sentence
    final: bool
    position: Position = 0


# ---- presence ----


class SetPresence(Struct, frozen=True, kw_only=True):
    """wallet → relay: what to do with this session while I am away.

    `seconds`: with `disconnect`, how long something may wait for the wallet; with `attended`, how
    long the last device may be gone (it may only be changing networks).
    """

    session_id: Id
    policy: PresencePolicy
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 30.0


# ---- devices ----


class DeviceRight(StrEnum):
    """What a device may do; all that the node key itself may, but for managing devices."""

    SEE = "see"  # sessions, channels, delegations, messages
    ANSWER = "answer"  # settle and refuse delegations, send messages, acknowledge
    CONNECT = "connect"  # connect, handshake, close


DeviceName = Annotated[str, Meta(min_length=1, max_length=64)]
DeviceRights = Annotated[list[DeviceRight], Meta(min_length=1, max_length=3)]


class AddDevice(Struct, frozen=True, kw_only=True):
    """wallet → relay: this key may authenticate for me. Only the node key may say so."""

    device_key: Point
    name: DeviceName
    rights: DeviceRights


class DeviceInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device of a wallet's."""

    device_key: Point
    name: DeviceName
    rights: DeviceRights
    created: float
    #: How many sockets it has open now.
    sockets: Count = 0
    #: Unix seconds; a revoked device can't come back by the same key.
    revoked: float | None = None


class RevokeDevice(Struct, frozen=True):
    """wallet → relay: this key is out, now. Only the node key may say so."""

    device_key: Point


#: It only grows, and starts at 1.
Fencing = Annotated[int, Meta(ge=1, le=MAX_SAFE)]


class TakeOver(Struct, frozen=True):
    """wallet → relay: from now on this device settles for that channel."""

    #: The temporary or the final id, as delegations name it.
    channel_id: Key


class Lease(Struct, frozen=True):
    """The result of `take_over`. A later one has a higher number (for a store of the devices')."""

    fencing: Fencing


class LeaseLost(Struct, frozen=True):
    """relay → wallet: another device took that channel (temporary id) over; answers are refused."""

    channel_id: Key
    fencing: Fencing


#: What waits for a wallet until it acknowledges it, and the method by which it is told.
NOTIFICATIONS: Final[dict[type[Struct], str]] = {
    PeerMessage: "message",
    Closed: "closed",
    Voided: "voided",
    SessionLost: "session_lost",
    SlotUsed: "slot_used",
    FundingRefused: "funding_refused",
}
Notification: TypeAlias = PeerMessage | Closed | Voided | SessionLost | SlotUsed | FundingRefused
