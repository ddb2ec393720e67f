"""Whether a record is an older copy of itself: by what a relay holds of what the wallet has said.

A relay can hide, and it can lie: what it shows is reason to warn the owner, and to be careful.
"""

from collections.abc import Iterable
from typing import Final

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.rpc import ChannelInfo, SlotInfo
from lightning_proxy.wallet.record import Ledger
from lightning_proxy.wallet.words import short

#: A peer's offer that nobody has answered is in no record.
_UNANSWERED: Final = frozenset({ChannelState.NEW, ChannelState.OFFERED})
_FUNDED: Final = frozenset({ChannelState.CREATED, ChannelState.SIGNED, ChannelState.READY})
_SIGNED: Final = frozenset({ChannelState.SIGNED, ChannelState.READY})


def what_is_missing(
    ledger: Ledger, channels: Iterable[ChannelInfo], slots: Iterable[SlotInfo]
) -> str | None:
    """What the wallet must have said that the record doesn't know; None: nothing is seen.

    `channels` and `slots` were listed before this is called: what is said meanwhile is stored
    before a relay can know of it.
    """
    for info in channels:
        name, peer = short(bytes.fromhex(info.channel_id)), bytes.fromhex(info.peer)
        if info.state in _UNANSWERED:
            continue
        stored = ledger.named(peer, bytes.fromhex(info.temporary_channel_id))
        if stored is None:
            return f"the relay has a channel that it does not have, {name} with {short(peer)}"
        if _has_said_more(info, stored.channel()):
            return f"the relay knows more of a channel than it does, {name} with {short(peer)}"
    for slot in slots:
        if ledger.slot(bytes.fromhex(slot.funding_pubkey)) is None:
            return f"the relay holds a key slot that it does not have, {slot.slot_id}"
    return None


def _has_said_more(info: ChannelInfo, channel: Channel) -> bool:
    """Whether by then this side had to say something that is not in the record."""
    if channel.role is Role.OPENER:
        return info.state in _FUNDED and channel.state not in _FUNDED
    return info.state in _SIGNED and channel.state not in _SIGNED
