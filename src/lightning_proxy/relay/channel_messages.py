"""The messages of a channel's life (BOLT #2): which there are, and which channel they are about."""

from typing import Final

from lightning_proxy.bolt import messages
from lightning_proxy.relay.text import printable

#: The messages of a channel's life that the state machine takes, but for `open_channel`.
TYPES: Final = frozenset(
    {
        messages.AcceptChannel.TYPE,
        messages.FundingCreated.TYPE,
        messages.FundingSigned.TYPE,
        messages.ChannelReady.TYPE,
        messages.ChannelReestablish.TYPE,
    }
)
#: Those that a peer says on a channel that both have signed. (`tx_*` belong to openings and splices
#: that were never negotiated.)
SIGNED_TYPES: Final = frozenset(
    type_
    for type_, kind in messages.MESSAGES.items()
    if kind.LAYOUT.names[:1] == ("channel_id",)
    and not kind.NAME.startswith("tx_")
    and kind not in (messages.Error, messages.Warning, messages.FundingSigned)
)
#: Bytes of the longest message that is kept: all have some hundred and short TLVs, and the largest
#: `init` seen has 261. What is kept of a peer's, many times over, has to be bounded.
MOST_KEPT: Final = 2048
#: The same by type.
LONGEST: Final = dict.fromkeys(TYPES | {messages.OpenChannel.TYPE, messages.Init.TYPE}, MOST_KEPT)
#: Those by which a peer complains of a channel.
FAILING_TYPES: Final = frozenset({messages.Error.TYPE, messages.Warning.TYPE})
_DOES_NOT_MOVE: Final = (
    b"this channel does not move on this connection: its wallet takes no payments and no fees here"
)
#: What a peer begins on a channel that is ready and nobody here goes on with, and what it is told.
NOT_GONE_ON_WITH: Final = {
    messages.UpdateAddHtlc.TYPE: _DOES_NOT_MOVE,
    messages.UpdateFee.TYPE: _DOES_NOT_MOVE,
    messages.CommitmentSigned.TYPE: _DOES_NOT_MOVE,
    messages.Shutdown.TYPE: b"this node does not close channels together with its peer yet",
    messages.Stfu.TYPE: b"this node knows no quiescence, and has not offered it",
}
#: What `TYPES` are.
Channelled = (
    messages.AcceptChannel
    | messages.FundingCreated
    | messages.FundingSigned
    | messages.ChannelReady
    | messages.ChannelReestablish
)


def channel_id_in(raw: bytes) -> bytes:
    """What one of these names its channel by, which stands first: its final id or temporary one."""
    return raw[2:34]


def text_of(error: messages.Error | messages.Warning) -> str:
    """What it says, fit to be shown."""
    return printable(error.data.decode("latin-1"))
