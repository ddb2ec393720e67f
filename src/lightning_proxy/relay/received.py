"""What a session does with each message of its peer's, by type."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import structlog

from lightning_proxy.bolt import messages
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.relay import channel_messages, gossip
from lightning_proxy.relay.questions import ALL_CHANNELS

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

#: In an open_channel: after its type and the chain_hash (BOLT #2).
_TEMPORARY_CHANNEL_ID: Final = slice(34, 66)
#: A session's first errors and warnings are logged for the operator, later ones for debugging.
_ERRORS_LOGGED: Final = 5


def received_second_init(session: "Session", type: int, view: memoryview) -> None:
    session.fail("a second init")


def received_other(session: "Session", type: int, view: memoryview) -> None:
    if type % 2:
        # BOLT #1: it's OK to be odd.
        session.counters.unknown_ignored += 1
    else:
        session.fail(f"unknown even message type {type}")


def received_error(session: "Session", type: int, view: memoryview) -> None:
    """Record an `error` or a `warning`, show it to the wallet, and do what BOLT #1 says."""
    error = cast("messages.Error | messages.Warning | None", session.decode(messages.Message, view))
    if error is None or (error.channel_id != ALL_CHANNELS and _holds_back(session, type, view)):
        return
    text = channel_messages.text_of(error)
    session.errors_received += 1
    # A peer must not be able to fill the operator's disk.
    log = _log.info if session.errors_received <= _ERRORS_LOGGED else _log.debug
    session.say(log, f"peer_{error.NAME}", channel_id=error.channel_id.hex(), text=text)
    session.pass_on(type, view)
    if isinstance(error, messages.Warning):
        return
    if error.channel_id == ALL_CHANNELS:
        session.close(f"the peer failed all channels: {text}")
    elif session.own_channels is not None:
        session.own_channels.received_error(error.channel_id, text)


def received_query(session: "Session", type: int, view: memoryview) -> None:
    try:
        session.tell(gossip.answer_query(bytes(view)))
    except BoltError as malformed:
        session.fail(str(malformed))


def received_gossip(session: "Session", type: int, view: memoryview) -> None:
    """Drop it, unless it is the `channel_update` of one of the wallet's channels."""
    if (
        type == messages.ChannelUpdate.TYPE
        and session.short_channel_ids
        and gossip.short_channel_id_of(view) in session.short_channel_ids
    ):
        session.pass_on(type, view)
    else:
        session.gossip_dropped += 1
        session.counters.gossip_dropped += 1


def received_open_channel(session: "Session", type: int, view: memoryview) -> None:
    raw = bytes(view)
    try:
        open_channel = messages.decode(raw)
    except BoltError as malformed:
        # A kind of channel that nobody here knows has records that nobody here knows: that is
        # no reason to lose the peer's other channels.
        channel_id = raw[_TEMPORARY_CHANNEL_ID]
        if len(channel_id) < len(ALL_CHANNELS):
            session.fail(str(malformed))
        else:
            session.fail_channel(channel_id, str(malformed))
    else:
        session.channels.received_open_channel(raw, cast("messages.OpenChannel", open_channel))


def received_for_channel(session: "Session", type: int, view: memoryview) -> None:
    message = session.decode(messages.Message, view)
    if message is not None and not _holds_back(session, type, view):
        session.channels.received(type, bytes(view), message)


def received_for_signed(session: "Session", type: int, view: memoryview) -> None:
    """Payments and closing are the wallet's alone as yet."""
    message = session.decode(messages.Message, view)
    if message is not None and not _holds_back(session, type, view):
        session.channels.received_signed(type, bytes(view))


def received_open_channel2(session: "Session", type: int, view: memoryview) -> None:
    """Opening v2 was never offered; the peer gets an `error` for that channel, not a hang."""
    open_channel = session.decode(messages.OpenChannel2, view)
    if open_channel is not None:
        session.fail_channel(open_channel.temporary_channel_id, "dual funding is not supported")


def _holds_back(session: "Session", type: int, view: memoryview) -> bool:
    """Whether nobody can judge this message yet: it is kept until then."""
    own = session.channels if session.inbox.node_id is None else session.own_channels
    return own is not None and own.holds_back(type, bytes(view))


def _pass_on(session: "Session", type: int, view: memoryview) -> None:
    session.pass_on(type, view)


Handler = Callable[["Session", int, memoryview], None]

#: What a session does with these whatever the wallet wants.
ALWAYS: Final[dict[int, Handler]] = {
    messages.Init.TYPE: received_second_init,
    messages.Error.TYPE: received_error,
    messages.Warning.TYPE: received_error,
}

#: And with the rest, unless the wallet subscribed to raw messages: all of BOLT #2 reaches the
#: wallet as it is but for what is delegated or refused.
UNLESS_RAW: Final[dict[int, Handler]] = {
    **dict.fromkeys(messages.MESSAGES, _pass_on),
    **dict.fromkeys(gossip.GOSSIP_TYPES, received_gossip),
    **dict.fromkeys(gossip.QUERY_TYPES, received_query),
    messages.OpenChannel.TYPE: received_open_channel,
    **dict.fromkeys(channel_messages.SIGNED_TYPES, received_for_signed),
    **dict.fromkeys(channel_messages.TYPES, received_for_channel),
    messages.OpenChannel2.TYPE: received_open_channel2,
    # Peer storage is a feature that the relay never offers.
    messages.PeerStorage.TYPE: received_other,
    messages.PeerStorageRetrieval.TYPE: received_other,
}
