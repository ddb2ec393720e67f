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
#: Those by which a peer complains of a channel.
FAILING_TYPES: Final = frozenset({messages.Error.TYPE, messages.Warning.TYPE})
#: What a peer begins on a channel that is ready, and nobody here can go on with yet.
LATER_TYPES: Final = frozenset(
    {
        messages.UpdateAddHtlc.TYPE,
        messages.UpdateFee.TYPE,
        messages.CommitmentSigned.TYPE,
        messages.Shutdown.TYPE,
        messages.Stfu.TYPE,
    }
)
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
