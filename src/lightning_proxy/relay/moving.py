"""The channels of one session that move: what the wallet is asked, and what leaves for its answer.

With the wallet away nothing leaves: no `revoke_and_ack`, no signature, no word on an HTLC.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import structlog

from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.channel.begin import snapshot_of
from lightning_proxy.bolt.channel.reestablish import Behind
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import ChannelReestablish, Message, UpdateAddHtlc
from lightning_proxy.relay.delegation import Delegates, Delegation, DelegationState
from lightning_proxy.relay.disk_work import DiskWork
from lightning_proxy.relay.early import Early
from lightning_proxy.relay.live import MOVE_TYPES, LiveChannel, Stale
from lightning_proxy.relay.questions import CommitmentQuestion
from lightning_proxy.relay.resuming import resumed
from lightning_proxy.relay.snapshots import Snapshots
from lightning_proxy.relay.store import StoreError
from lightning_proxy.rpc import ErrorCode, RpcError

_log = structlog.get_logger()

#: Seconds that a preimage waits for the signature that mostly follows, to be one question with it.
_GAIN_AFTER: Final = 0.25
#: What this room takes of the peer's.
_TYPES: Final = MOVE_TYPES | {ChannelReestablish.TYPE}


class _Inbox(Protocol):
    node_id: bytes | None

    @property
    def is_out_of_reach(self) -> bool: ...


class _Session(Delegates, Protocol):
    raw: bool
    commitments: bool

    @property
    def inbox(self) -> _Inbox: ...
    @property
    def is_over(self) -> bool: ...
    def say(self, log: Callable[..., object], event: str, **values: object) -> None: ...
    def fail(self, reason: str) -> None: ...
    def close(self, reason: str) -> None: ...
    def pass_on(self, type: int, view: memoryview) -> None: ...


class MovingChannels:
    """Of one session whose wallet answers `commitment`; of another one it takes nothing."""

    __slots__ = (
        "_disk",
        "_kept",
        "_live",
        "_questions",
        "_resting",
        "_session",
        "_snapshots",
        "_soon",
        "_stored",
        "_timers",
        "_unanswered",
    )

    def __init__(self, session: _Session, snapshots: Snapshots, disk: DiskWork) -> None:
        self._session = session
        self._snapshots = snapshots
        self._disk = disk
        self._live: dict[Channel, LiveChannel] = {}
        #: Those that may have moved before, so that only the wallet's snapshot says where they are.
        self._resting: set[Channel] = set()
        #: What the relay has taken last of each, by its id.
        self._stored: dict[bytes, bytes] = {}
        #: What the peer said while the wallet is asked for its snapshot.
        self._kept: dict[Channel, Early] = {}
        self._questions: dict[Channel, tuple[CommitmentQuestion, Delegation]] = {}
        #: Those that will be looked at once all that was read is taken.
        self._soon: set[Channel] = set()
        self._timers: dict[Channel, asyncio.TimerHandle] = {}
        #: Those whose question has expired and was asked again.
        self._unanswered: set[Channel] = set()

    @property
    def open_delegations(self) -> int:
        return len(self._questions)

    # ---- the connection ----

    def loaded(self, channels: Sequence[Channel], stored: dict[bytes, bytes]) -> None:
        """These are on the disk, and were before this connection."""
        self._resting |= {each for each in channels if each.state is ChannelState.READY}
        self._stored = stored

    def resume(self, channel: Channel, snapshot: bytes | None, message: ChannelReestablish) -> bool:
        """The wallet says by its record where the channel is: whether it goes on from there.

        Raises `RpcError`.
        """
        stored = self._stored.get(channel.channel_id)
        if snapshot is None or not self._session.commitments:
            if stored is not None:
                raise RpcError(
                    ErrorCode.ANSWER_INVALID,
                    "This channel has moved: it goes on from the wallet's snapshot of it, on a "
                    "session whose handshake said that the wallet answers `commitment`.",
                )
            return False
        base = resumed(channel, snapshot, message, stored)
        self._stored.pop(channel.channel_id, None)
        channel.re_established(channel.role)
        self._live[channel] = LiveChannel(base)
        return True

    def kept(self, channel: Channel) -> list[tuple[int, bytes]]:
        """What waited for the wallet's `channel_reestablish`, with its type."""
        early = self._kept.pop(channel, None)
        return [] if early is None else early.take()

    def forget(self, channel: Channel, reason: str) -> None:
        """The channel is over."""
        if channel in self._questions:
            self._questions[channel][1].void(reason)
        for gone in (self._live, self._kept):
            gone.pop(channel, None)
        for none in (self._resting, self._unanswered):
            none.discard(channel)
        self._no_timer(channel)

    def stop(self, reason: str) -> None:
        """The connection is gone, or the wallet speaks for itself: no channel moves here now."""
        for _, delegation in list(self._questions.values()):
            delegation.void(reason)
        for channel in list(self._timers):
            self._no_timer(channel)
        for channel in list(self._kept):
            for type_, raw in self.kept(channel):
                # BOLT #2: with the connection they are forgotten, and what counts comes again.
                if type_ not in MOVE_TYPES or not self._session.is_over:
                    self._session.pass_on(type_, memoryview(raw))
        self._resting |= self._live.keys()
        self._live.clear()

    # ---- the peer's messages ----

    def takes(self, channel: Channel, raw: bytes, message: Message) -> bool:
        """Whether this moves the channel, or says where it is: then nobody else takes it."""
        if not self._session.commitments or message.TYPE not in _TYPES:
            return False
        if not channel.has_re_established(channel.role):
            early = self._kept.setdefault(channel, Early())
            if not early.keep(message.TYPE, raw, unadopted=False):
                self._session.fail("too many messages about a channel at once")
            return True
        live = self._find(channel)
        if live is None or (
            # The opening's: it was lost before there was anything to move.
            isinstance(message, ChannelReestablish) and live.base.reestablished is None
        ):
            return False
        self._received(channel, live, raw, message)
        return True

    def _find(self, channel: Channel) -> LiveChannel | None:
        """It begins with the first word after both `channel_ready`."""
        live = self._live.get(channel)
        if (
            live is None
            and self._session.commitments
            and channel.state is ChannelState.READY
            and channel not in self._resting
        ):
            live = self._live[channel] = LiveChannel(snapshot_of(channel))
        return live

    def _received(self, channel: Channel, live: LiveChannel, raw: bytes, message: Message) -> None:
        session = self._session
        if isinstance(message, UpdateAddHtlc) and self._answers_nothing(channel):
            # An HTLC that is bound and never answered ends on the chain; one that the peer can't
            # offer, it fails by itself.
            session.close("a payment came, and the wallet does not answer")
            return
        if isinstance(message, ChannelReestablish):
            # It may have something to say, or to prove.
            session.pass_on(message.TYPE, memoryview(raw))
        try:
            again = live.received(raw, message)
        except Behind as behind:
            # Who says so to a peer that could make use of it loses the channel's money.
            session.close(f"{message.NAME}: {behind}")
            return
        except BoltError as error:
            session.fail(f"{message.NAME}: {error}")
            return
        if isinstance(message, ChannelReestablish):
            self._re_established(channel, live, message, again)
        elif live.is_wallets_turn:
            self._look_soon(channel)
        elif live.is_wallets_gain and channel not in self._timers:
            self._timers[channel] = asyncio.get_running_loop().call_later(
                _GAIN_AFTER, self._ask, channel
            )

    def _answers_nothing(self, channel: Channel) -> bool:
        """Whether what this channel waits for has run out of time, or nobody will come for it.

        Without a question nobody was called yet: the next payment may be what the wallet comes for.
        """
        return channel in self._unanswered or (
            bool(self._questions) and self._session.inbox.is_out_of_reach
        )

    def _re_established(
        self,
        channel: Channel,
        live: LiveChannel,
        message: ChannelReestablish,
        again: Sequence[bytes],
    ) -> None:
        """Both have said where they are: now for what may be lost."""
        channel.re_established(channel.role.other)
        ready = channel.retransmit()
        # BOLT #2: only if both are at their first commitments.
        if ready is not None and message.next_commitment_number == live.fence.ours + 1 == 1:
            self._session.tell(ready)
        for raw in again:
            self._session.tell(raw)

    # ---- the wallet's ----

    async def update(self, channel: Channel, heard: int, said: int, words: Sequence[bytes]) -> None:
        """What the wallet says of its own accord; returns once it is stored, and has left.

        Raises `RpcError`: stale, invalid_params, unavailable.
        """
        live = self._find(channel)
        if live is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "This channel does not move on this session.")
        stored = self._take(
            channel, live, heard, said, words, ErrorCode.STALE, ErrorCode.INVALID_PARAMS
        )
        if channel in self._questions and not self._questions[channel][0].is_open:
            self._questions[channel][1].void("the wallet went on by itself")
        self._look_soon(channel)
        if not await stored:
            raise RpcError(
                ErrorCode.UNAVAILABLE,
                "The relay can't write its state at the moment; try again later.",
            )

    def speaks_for(self, type_: int, channel: Channel) -> bool:
        """Whether a wallet's message of this type has to come by `update_channel`."""
        return type_ in _TYPES and channel in self._live

    def _answered(
        self, channel: Channel, live: LiveChannel, heard: int, said: int, words: list[bytes]
    ) -> None:
        invalid = ErrorCode.ANSWER_INVALID
        self._take(channel, live, heard, said, words, invalid, invalid)

    def _take(
        self,
        channel: Channel,
        live: LiveChannel,
        heard: int,
        said: int,
        words: Sequence[bytes],
        stale: ErrorCode,
        invalid: ErrorCode,
    ) -> asyncio.Future[bool]:
        """What is new leaves when it is on the disk; then the result is true, and false if never.

        Raises `RpcError`: `stale` for another state than the relay's, `invalid` for what BOLT #2
        does not allow.
        """
        try:
            fresh = live.take(heard, said, words)
        except Stale as error:
            raise RpcError(stale, f"{_sentence(error)}.") from None
        except BoltError as error:
            raise RpcError(invalid, f"BOLT 2 does not allow it: {error}.") from None
        self._unanswered.discard(channel)
        wallet = self._session.inbox.node_id
        assert wallet is not None  # noqa: S101 - nobody else's answer got us here
        snapshot = live.base.encode()
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def end(*, well: bool) -> None:
            # Who waited for it may be gone.
            if not stored.done():
                stored.set_result(well)

        async def save() -> None:
            try:
                await self._snapshots.save(wallet, channel.channel_id, snapshot)
            except StoreError:
                end(well=False)
                raise

        def go_on() -> None:
            for raw in fresh:
                self._session.tell(raw)
            end(well=True)

        self._disk.write_beside(save, go_on)
        return stored

    # ---- questions ----

    def _look_soon(self, channel: Channel) -> None:
        """All that came in one piece is one question."""
        if channel not in self._soon:
            self._soon.add(channel)
            asyncio.get_running_loop().call_soon(self._look, channel)

    def _look(self, channel: Channel) -> None:
        self._soon.discard(channel)
        live = self._live.get(channel)
        if live is not None and live.is_wallets_turn:
            self._ask(channel)

    def _ask(self, channel: Channel) -> None:
        self._no_timer(channel)
        live = self._live.get(channel)
        if (
            live is None
            or channel in self._questions
            or self._session.is_over
            or not (live.is_wallets_turn or live.is_wallets_gain)
        ):
            return
        question = CommitmentQuestion(channel, live, partial(self._answered, channel, live))
        delegation = self._session.delegate(question, [], None, self._over)
        self._questions[channel] = question, delegation

    def _no_timer(self, channel: Channel) -> None:
        if (timer := self._timers.pop(channel, None)) is not None:
            timer.cancel()

    def _over(self, delegation: Delegation, sentence: str, _: list[bytes]) -> None:
        channel = delegation.question.channel
        del self._questions[channel]
        self._session.delegation_over(delegation, sentence)
        match delegation.state:
            case DelegationState.SETTLED:
                self._look_soon(channel)
            case DelegationState.EXPIRED:
                self._unanswered.add(channel)
                # Another question: it wakes the wallet again.
                self._ask(channel)
            case DelegationState.REFUSED:
                self._session.close(f"no channel goes on against its wallet: {sentence}")


def _sentence(stale: Stale) -> str:
    text = str(stale)
    return text[:1].upper() + text[1:]
