"""What the chain shows of one session's channels, until they are ready and were seen."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.opening import short_channel_id
from lightning_proxy.chain import Output, WatchedOutput
from lightning_proxy.relay.book import ChannelBook
from lightning_proxy.rpc import FundingSeen

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()


class Fundings:
    """`changed` is called when a channel that is not ready may go on by what the chain shows.

    `spent` is called for one whose funding output somebody spent.
    """

    __slots__ = ("_book", "_changed", "_seen", "_session", "_spent", "_watched")

    def __init__(
        self,
        session: "Session",
        book: ChannelBook,
        changed: Callable[[Channel], None],
        spent: Callable[[Channel], None],
    ) -> None:
        self._session = session
        self._book = book
        self._changed = changed
        self._spent = spent
        self._watched: dict[Channel, WatchedOutput] = {}
        self._seen: dict[Channel, FundingSeen] = {}

    def of(self, channel: Channel) -> FundingSeen | None:
        """What was seen last; None: it is not there, or nobody looked."""
        return self._seen.get(channel)

    def follow(self, channel: Channel) -> None:
        """Watch a funding output until the channel is ready, and the chain has shown it."""
        if channel not in self._watched and self._book.sees(channel):
            self._watched[channel] = self._book.watch(
                channel, lambda output: self._look(channel, output)
            )

    def forget(self, channel: Channel) -> None:
        """The channel is gone."""
        self._seen.pop(channel, None)
        if (watched := self._watched.pop(channel, None)) is not None:
            watched.unwatch()

    def close(self) -> None:
        """Look no more."""
        for watched in self._watched.values():
            watched.unwatch()
        self._watched.clear()

    def _look(self, channel: Channel, output: Output | None) -> None:
        if output is None:
            channel.unobserve()
            self._seen.pop(channel, None)
        else:
            try:
                channel.observe(output.scriptpubkey, output.amount_sat, output.confirmations)
            except BoltError as error:
                self._session.say(
                    _log.warning,
                    "funding_differs",
                    channel_id=channel.channel_id.hex(),
                    reason=str(error),
                )
                return
            scid = None
            if output.block_height is not None and output.transaction_index is not None:
                scid = short_channel_id(
                    output.block_height,
                    output.transaction_index,
                    channel.funding_created.funding_output_index,
                )
            self._seen[channel] = FundingSeen(output.confirmations, scid)
            self._book.seen(self._session.inbox.node_id, channel)
        if output is not None and output.spent:
            self._spent(channel)
        elif channel.state is not ChannelState.READY:
            self._changed(channel)
        elif output is not None:
            self._watched.pop(channel).unwatch()
