"""What a wallet does about its channels without being asked: it listens, catches up and watches."""

import asyncio
import time
from collections.abc import Callable, Container, Coroutine, Iterable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, Self

import structlog

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingSigned,
    Message,
    decode,
)
from lightning_proxy.chain import (
    BroadcastRejected,
    Output,
    OutputWatch,
    WatchedOutput,
    publish,
)
from lightning_proxy.rpc import ChannelInfo, SlotInfo
from lightning_proxy.terminal import quoted
from lightning_proxy.wallet.confirmations import OwnChain, difference_of
from lightning_proxy.wallet.events import (
    ChannelOpened,
    ChannelProblem,
    Event,
    FundingChange,
    FundingChanged,
    FundingNotTaken,
    RecordOutdated,
)
from lightning_proxy.wallet.lineage import what_is_missing
from lightning_proxy.wallet.record import SIGNED, Ledger, Record, StoredChannel
from lightning_proxy.wallet.request import Refusal, chain_of
from lightning_proxy.wallet.steps import hear

_log = structlog.get_logger()

#: BOLT #1: an `error` for this id concerns every channel.
_ALL: Final = bytes(32)
#: Seconds after which an `open_channel` in the record has reached the relay, or never will.
_ON_ITS_WAY: Final = 120.0
_SPENT: Final = "its funding output was spent: it is being closed on the chain"


class WalletChannels:
    """Use as an async context manager: entering begins to watch, where the wallet has a chain.

    `emit` takes events. Methods raise `RecordError`.
    """

    def __init__(
        self,
        record: Record,
        emit: Callable[[Event], None],
        chain: OwnChain | None = None,
        *,
        watch_interval: float = 10.0,
    ) -> None:
        self._record = record
        self._emit = emit
        self._chain = chain
        self._watch_interval = watch_interval
        self._watch: OutputWatch | None = None
        self._watched: dict[bytes, WatchedOutput] = {}
        #: What was last told of each.
        self._told: dict[bytes, FundingChange] = {}
        self._opened: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._chain is not None:
                self._watch = await stack.enter_async_context(
                    OutputWatch(self._chain.source, interval=self._watch_interval)
                )
                stack.push_async_callback(self._stop_tasks)
            for stored in await self._record.channels():
                channel = stored.channel()
                if channel.state is ChannelState.READY:
                    self._opened.add(channel.channel_id)
                self._follow(stored, channel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # ---- what the peer says ----

    async def received(self, peer: bytes, raw: bytes, message: Message) -> None:
        """A message of the peer's that came without a question."""
        match message:
            case ChannelReady():
                await self._hear(peer, message.channel_id, (raw,))
            case ChannelReestablish():
                await self._reestablished(peer, raw, message)
            case Error():
                await self._failed_by_peer(peer, message)

    async def catch_up(self, listed: Iterable[ChannelInfo]) -> None:
        """Take what the peer said while this wallet was away, as the relay tells it.

        What the record has is passed over; what contradicts it is told, and never taken.
        """
        for info in listed:
            if info.state == ChannelState.OFFERED:
                continue  # a question, or a peer's silence, and no message that is missing
            channel_id, peer = bytes.fromhex(info.channel_id), bytes.fromhex(info.peer)
            raw_messages = tuple(bytes.fromhex(message) for message in info.messages)
            temporary_id = bytes.fromhex(info.temporary_channel_id)
            await self._hear(peer, channel_id, raw_messages, temporary_id)
            if info.failure is not None:
                await self._fail(peer, (channel_id,), info.failure)

    async def bury(
        self,
        openings: Iterable[StoredChannel],
        listed: Iterable[ChannelInfo],
        sessions: Container[str],
    ) -> None:
        """Give up the openings that the relay has lost, with their connection or without.

        `openings` are the record's as it was before channels, and then sessions, were listed.
        """
        known = {bytes.fromhex(info.temporary_channel_id) for info in listed}
        now = time.time()
        for stored in openings:
            channel = stored.channel()
            if channel.temporary_channel_id in known:
                continue
            if stored.session_id not in sessions:
                reason = "the connection to the peer was lost before both had signed"
            elif channel.state is ChannelState.OFFERED and now < stored.created + _ON_ITS_WAY:
                continue  # another process of this wallet's may be about to send it
            else:
                reason = "it was given up before both had signed"

            def fail(ledger: Ledger, stored: StoredChannel = stored, reason: str = reason) -> None:
                current = ledger.by_index(stored.index)
                if current is not None and len(current.log) == len(stored.log):
                    ledger.fail(current, reason)

            await self._record.change(fail)

    async def compare(self, listed: Iterable[ChannelInfo], slots: Iterable[SlotInfo]) -> None:
        """Whether the relay holds what this record has never said; the owner is told."""

        def look(ledger: Ledger) -> str | None:
            reason = what_is_missing(ledger, listed, slots)
            ledger.set_outdated(reason)
            return reason

        reason = await self._record.change(look)
        if reason is not None:
            self._emit(RecordOutdated(reason))

    async def look(self, peer: bytes, channel_id: bytes) -> None:
        """A question about this channel was answered: it may have come further."""
        found = await self._record.change(lambda ledger: ledger.funded(peer, channel_id))
        if found is not None:
            self._advanced(found, found.channel())

    async def look_again(self) -> None:
        """A question was refused: its channel's transaction may have to be sent all the same."""
        for stored in await self._record.channels():
            self._follow(stored, stored.channel())

    async def _hear(
        self,
        peer: bytes,
        channel_id: bytes,
        raw_messages: tuple[bytes, ...],
        temporary_id: bytes | None = None,
    ) -> None:
        work = partial(
            _hear,
            peer=peer,
            channel_id=channel_id,
            raw_messages=raw_messages,
            temporary_id=temporary_id,
        )
        try:
            found = await self._record.change(work)
        except (BoltError, Refusal) as error:
            self._emit(ChannelProblem(channel_id, peer, str(error)))
            return
        if found is not None:
            self._advanced(found, found.channel())

    async def _failed_by_peer(self, peer: bytes, error: Error) -> None:
        """BOLT #1: an `error` ends its channel; one for all, whatever is not signed by both."""
        reason = f"the peer failed it: {quoted(error.data)}"
        await self._fail(peer, None if error.channel_id == _ALL else (error.channel_id,), reason)

    async def _fail(self, peer: bytes, ids: Container[bytes] | None, reason: str) -> None:
        """Remember that these channels with a peer failed; None: all that are being opened."""

        def work(ledger: Ledger) -> None:
            for stored in ledger.with_peer(peer):
                channel = stored.channel()
                if (
                    channel.state not in SIGNED
                    if ids is None
                    else channel.channel_id in ids or channel.temporary_channel_id in ids
                ):
                    ledger.fail(stored, reason)

        await self._record.change(work)

    async def _reestablished(self, peer: bytes, raw: bytes, message: ChannelReestablish) -> None:
        """The peer says where it stands; a record that stands elsewhere is an old one."""
        channel_id = message.channel_id
        stored = await self._record.change(lambda ledger: ledger.funded(peer, channel_id))
        if stored is None:
            self._emit(
                ChannelProblem(
                    channel_id,
                    peer,
                    "the peer goes on with a channel that this wallet's record does not have",
                    state_lost=True,
                )
            )
            return
        channel = stored.reconnected()
        ours = channel.reestablish()
        try:
            channel.receive(raw, message)
        except BoltError as error:
            ahead = (
                message.next_commitment_number > ours.next_commitment_number
                or message.next_revocation_number > ours.next_revocation_number
            )
            self._emit(ChannelProblem(channel_id, peer, str(error), state_lost=ahead))

    # ---- the chain ----

    def _advanced(self, stored: StoredChannel, channel: Channel) -> None:
        if channel.state is ChannelState.READY and channel.channel_id not in self._opened:
            self._opened.add(channel.channel_id)
            self._emit(ChannelOpened(channel.channel_id, stored.peer))
        self._follow(stored, channel)

    def _follow(self, stored: StoredChannel, channel: Channel) -> None:
        """From both signatures on, watch the funding output: the owner is told of its end."""
        if (
            self._watch is None
            or self._chain is None
            or channel.state not in SIGNED
            or channel.channel_id in self._watched
            or self._chain.source.chain != chain_of(channel.open_channel)
        ):
            return
        created = channel.funding_created
        self._watched[channel.channel_id] = self._watch.watch(
            created.funding_txid,
            created.funding_output_index,
            partial(self._seen, stored.peer, channel),
        )
        transaction = stored.funding_transaction
        if stored.failure is not None:
            return  # to fund it now would only lock the money up
        if transaction is not None and channel.channel_ready(Role.OPENER) is None:
            # It may never have left: this wallet may have stopped in between.
            self._run(self._broadcast(self._chain, channel, transaction))

    async def _broadcast(self, chain: OwnChain, channel: Channel, transaction: bytes) -> None:
        def refused(error: BroadcastRejected) -> None:
            self._emit(FundingNotTaken(channel.channel_id, str(error), error.is_final))

        await publish(chain.source, transaction, refused, interval=self._watch_interval)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _seen(self, peer: bytes, channel: Channel, output: Output | None) -> None:
        """The chain shows another picture of a funding output."""
        change, detail = _change(channel, output)
        if self._told.get(channel.channel_id) is change:
            return
        self._told[channel.channel_id] = change
        if change is FundingChange.SPENT:
            self._run(self._fail(peer, (channel.channel_id,), _SPENT))
        confirmations = 0 if output is None else output.confirmations
        self._emit(FundingChanged(channel.channel_id, change, confirmations, detail))


def _hear(
    ledger: Ledger,
    peer: bytes,
    channel_id: bytes,
    raw_messages: tuple[bytes, ...],
    temporary_id: bytes | None,
) -> StoredChannel | None:
    """Take what can be taken without an answer: signatures for us, and the peer's readiness."""
    stored = ledger.funded(peer, channel_id) or ledger.opening(peer, Role.OPENER, channel_id)
    stored = stored or ledger.opening(peer, Role.ACCEPTER, channel_id)
    if stored is None and temporary_id is not None:
        # The relay heard `funding_created`, and this wallet's question about it is yet to come.
        stored = ledger.opening(peer, Role.ACCEPTER, temporary_id)
        if stored is not None and stored.channel().state is not ChannelState.ACCEPTED:
            stored = None
    if stored is None:
        raise Refusal("the relay tells of a channel that this wallet's record does not have")
    channel = stored.channel()
    for raw in raw_messages:
        known = any(e.raw[:2] == raw[:2] for e in channel.log if e.sender is not channel.role)
        # What calls for an answer comes with its question.
        if known or isinstance(decode(raw), FundingSigned | ChannelReady):
            hear(channel, (raw,))
    ledger.extend(stored, channel)
    return ledger.by_index(stored.index)


def _change(channel: Channel, output: Output | None) -> tuple[FundingChange, str]:
    if output is None:
        return FundingChange.GONE, ""
    difference = difference_of(channel, output)
    if difference is not None:
        return FundingChange.DIFFERS, difference
    if output.spent:
        return FundingChange.SPENT, ""
    if output.confirmations >= max(channel.accept_channel.minimum_depth, 1):
        return FundingChange.CONFIRMED, ""
    return FundingChange.SEEN, ""
