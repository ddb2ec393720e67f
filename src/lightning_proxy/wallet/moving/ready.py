"""The channels that are ready, as they stand now. Needs nothing but the record."""

from typing import NamedTuple

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.wallet.moving.tables import Book
from lightning_proxy.wallet.record import Ledger, StoredChannel
from lightning_proxy.wallet.request import chain_of


class Ready(NamedTuple):
    """A channel that is ready: from the record, replayed once, and as it moves."""

    stored: StoredChannel
    channel: Channel
    snapshot: Snapshot

    @property
    def chain(self) -> str:
        return chain_of(self.channel.open_channel)


def ready_in(ledger: Ledger) -> list[Ready]:
    """All of them, the oldest first."""
    book, found = Book(ledger), []
    for stored in ledger.channels():
        channel = stored.channel()
        if channel.state is ChannelState.READY:
            live = book.live(stored.index)
            snapshot = snapshot_of(channel) if live is None else live.snapshot
            found.append(Ready(stored, channel, snapshot))
    return found
