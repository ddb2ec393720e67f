"""The channels of one session: what the peer says about them, and what the wallet owes next."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from lightning_proxy.audit import audit
from lightning_proxy.bolt import messages
from lightning_proxy.bolt.channel import SIGNED, Channel, ChannelState, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.relay.asking import offered, question_of, unsettled
from lightning_proxy.relay.book import ChannelBook
from lightning_proxy.relay.channel_messages import (
    FAILING_TYPES,
    LONGEST,
    NOT_GONE_ON_WITH,
    SIGNED_TYPES,
    Channelled,
    channel_id_in,
    text_of,
)
from lightning_proxy.relay.delegation import Delegation, DelegationState
from lightning_proxy.relay.devices import LeaseKey
from lightning_proxy.relay.disk_work import DiskWork
from lightning_proxy.relay.early import Early
from lightning_proxy.relay.fundings import Fundings
from lightning_proxy.relay.given import Given
from lightning_proxy.relay.moving import MovingChannels
from lightning_proxy.relay.questions import ALL_CHANNELS, ReestablishQuestion, opening_errors
from lightning_proxy.relay.slots import SessionSlots
from lightning_proxy.relay.text import printable
from lightning_proxy.relay.unknown import UnknownChannels
from lightning_proxy.rpc import ChannelInfo, DelegationKind, ErrorCode, RpcError

if TYPE_CHECKING:
    from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

#: Both are needed before a channel is worth anything: of more that a peer leaves unfunded, the
#: oldest are forgotten. LDK allows its peers as many.
_MAX_UNFUNDED: Final = 4


class SessionChannels:
    """Made for a session that has channels, or whose peer or wallet offers one."""

    __slots__ = (
        "_book",
        "_busy",
        "_by_id",
        "_delegations",
        "_disk",
        "_early",
        "_failed_early",
        "_fundings",
        "_given",
        "_loading",
        "_session",
        "_slots",
        "_unknown",
        "_warned",
        "moving",
    )

    def __init__(self, session: "Session", book: ChannelBook) -> None:
        self._session = session
        self._disk = DiskWork(session)
        self.moving = MovingChannels(session, book.snapshots, self._disk)
        self._book = book
        #: By the temporary and, once there is one, by the final id.
        self._by_id: dict[bytes, Channel] = {}
        self._delegations: dict[Channel, Delegation] = {}
        #: Those whose next step waits for the disk.
        self._busy: set[Channel] = set()
        self._fundings = Fundings(session, book, self._advance, self._spent)
        self._slots = SessionSlots(session, book.slots)
        self._warned: set[tuple[Channel, bytes]] = set()
        max_open = session.settings.max_open_delegations_per_session
        self._unknown = UnknownChannels(session, max_open)
        self._early = Early()
        #: While they are gone on with: what the wallet said of them.
        self._given: Given | None = None
        #: Whether the channels are being read, and those that the wallet failed meanwhile.
        self._loading = False
        self._failed_early: set[bytes] = set()

    @property
    def open_delegations(self) -> int:
        moving = self.moving.open_delegations
        return len(self._delegations) + self._unknown.open_delegations + moving

    def describe(self) -> list[ChannelInfo]:
        """What the API shows of them."""
        return [
            ChannelInfo(
                channel_id=channel.channel_id.hex(),
                temporary_channel_id=channel.temporary_channel_id.hex(),
                peer=self._session.peer.node_id.hex(),
                session_id=self._session.id,
                state=channel.state,
                funding=self._fundings.of(channel),
                messages=[e.raw.hex() for e in channel.log if e.sender is not channel.role],
            )
            for channel in dict.fromkeys(self._by_id.values())
        ]

    # ---- the connection ----

    def load(self, wallet: bytes, given: Given | None = None) -> None:
        """Go on with the channels that this wallet has with this peer, by what it said of them."""
        self._hold(wallet)
        if not self._loading:
            self._loading = True
            self._disk.read(partial(self._load, wallet, given))

    async def _load(self, wallet: bytes, given: Given | None) -> None:
        peer = self._session.peer.node_id
        channels = await self._book.channels(wallet, peer)
        snapshots = await self._book.stored_snapshots(wallet, peer)
        self._loading = False
        fresh = [each for each in channels if each.channel_id not in self._by_id]
        self.moving.loaded(fresh, snapshots)
        self._by_id |= {each.channel_id: each for each in fresh}
        for channel_id in self._failed_early:
            self.failed_by_wallet(channel_id)
        self._given = given
        if not self._session.is_over:
            for channel in fresh:
                if self._by_id.get(channel.channel_id) is channel:
                    self._fundings.follow(channel)
                    self._advance(channel)
        self._given = None
        self.judge_early()

    def judge_early(self) -> None:
        """Whose they are is known, and the channels are there: now for what the peer has said."""
        for type_, raw in self._early.take():
            if not self._session.is_over:
                self._session.on_message(type_, memoryview(raw))
            elif isinstance(error := messages.decode(raw), messages.Error):
                # The peer failed a channel and hung up: that holds, and the wallet was told.
                self.received_error(error.channel_id, text_of(error))

    def holds_back(self, type_: int, raw: bytes) -> bool:
        """Whether a message about a channel has to wait for the channels, or for their wallet."""
        unadopted = self._session.inbox.node_id is None
        if not self._loading and not (
            unadopted
            and type_ in SIGNED_TYPES | FAILING_TYPES
            and channel_id_in(raw) not in self._by_id
        ):
            return False
        if not self._early.keep(type_, raw, unadopted=unadopted):
            self._session.fail("too many messages about channels at once")
        return True

    def set_raw(self, *, raw: bool) -> None:
        """The wallet speaks for itself from now on, or does so no more."""
        if raw:
            reason = "the wallet subscribed to raw messages: it speaks for itself"
            self._void(reason)
            self.moving.stop(reason)
        else:
            for channel in dict.fromkeys(self._by_id.values()):
                self._advance(channel)

    def _void(self, reason: str) -> None:
        for delegation in list(self._delegations.values()):
            delegation.void(reason)
        self._unknown.void(reason)

    def disconnected(self, reason: str) -> None:
        """The connection is gone: what isn't signed by both is forgotten, the rest is stored."""
        for type_, raw in self._early.take():
            if type_ in SIGNED_TYPES | FAILING_TYPES:
                self._session.pass_on(type_, memoryview(raw))
            if type_ == messages.Error.TYPE and self._loading:
                self._early.keep(type_, raw, unadopted=False)
        self._void(f"the session is over: {reason}")
        self.moving.stop(f"the session is over: {reason}")
        for channel in dict.fromkeys(self._by_id.values()):
            if channel.state not in SIGNED:
                self._remove(channel)
        self._fundings.close()
        wallet = self._session.inbox.node_id
        if wallet is not None:
            pair = wallet, self._session.peer.node_id
            if self._book.holders.get(pair) is self._session:
                del self._book.holders[pair]

    # ---- the peer's messages ----

    def received_open_channel(self, raw: bytes, message: messages.OpenChannel) -> None:
        """A peer offers a channel: ask the wallet."""
        channel_id = message.temporary_channel_id
        session = self._session
        session.say(_log.debug, "open_channel", size=len(raw), channel_id=channel_id.hex())
        if channel_id == ALL_CHANNELS:
            session.fail("open_channel: a temporary_channel_id of zeros means every channel")
        elif channel_id in self._by_id:
            # An `error` for this id would fail the first opening too.
            session.fail("open_channel: this temporary_channel_id is in use")
        elif len(self._delegations) >= session.settings.max_open_delegations_per_session:
            session.fail_channel(channel_id, "too many channels are being opened at once")
        elif not self._has_room():
            session.fail_channel(channel_id, "this node has all the channels it can")
        elif len(raw) > LONGEST[message.TYPE]:
            session.fail_channel(channel_id, "this open_channel is too long")
        else:
            channel = Channel(Role.ACCEPTER, session.features)
            try:
                channel.receive(raw, message)
            except BoltError as error:
                # What BOLT #2 forbids is not worth waking a wallet for.
                session.fail_channel(channel_id, str(error))
                return
            self._by_id[channel_id] = channel
            self._advance(channel)

    def received(self, type_: int, raw: bytes, message: messages.Message) -> None:
        """One of `TYPES` came."""
        assert isinstance(message, Channelled)  # noqa: S101 - for the type checker
        channel_id = channel_id_in(raw)
        channel = self._by_id.get(channel_id)
        if channel is None:
            self._received_for_nothing(channel_id, raw, message)
            return
        if self.moving.takes(channel, raw, message) or not self._takes(channel, raw, message):
            return
        match message:
            case messages.FundingCreated():
                if not self._claims(channel):
                    self._drop(channel, opening_errors(channel, "this outpoint is in use"))
                    return
            case messages.FundingSigned():
                self._store_then(channel, self._signed)
                return
            case messages.ChannelReady():
                self._received_channel_ready(channel, raw)
                return
            case messages.ChannelReestablish():
                self._session.pass_on(type_, memoryview(raw))
                self._retransmit(channel)
        self._advance(channel)

    def received_too_long(self, type_: int, channel_id: bytes) -> None:
        """One of `TYPES` came that is longer than what is kept of it."""
        channel = self._by_id.get(channel_id)
        text = f"this {messages.name_of(type_)} is too long"
        if channel is not None and channel.state not in SIGNED:
            self._drop(channel, opening_errors(channel, text))
        elif channel is None and type_ not in SIGNED_TYPES and not self._loading:
            self._session.fail_channel(channel_id, text)
        else:
            # It may be a live one, which an `error` would fail.
            self._session.fail(text)

    def _takes(self, channel: Channel, raw: bytes, message: Channelled) -> bool:
        """Whether the channel has come further by a message of the peer's."""
        if isinstance(message, messages.ChannelReady) and channel.has_heard(raw):
            # BOLT #2 has it said again on each connection; it is on the disk, and the wallet's.
            return False
        try:
            channel.receive(raw, message)
        except BoltError as error:
            self._broken(channel, raw, message, str(error))
            return False
        return True

    def received_signed(self, type_: int, raw: bytes, message: messages.Message) -> None:
        """Another one of `SIGNED_TYPES` came: where it moves no channel here, the wallet's alone.

        To what a peer begins, better a clear word than a peer that waits for a minute.
        """
        channel_id = channel_id_in(raw)
        channel = self._by_id.get(channel_id)
        if channel is not None and self.moving.takes(channel, raw, message):
            return
        self._session.pass_on(type_, memoryview(raw))
        if channel is None:
            self._ask_about(channel_id, raw)
        elif (data := NOT_GONE_ON_WITH.get(type_)) and (channel, data) not in self._warned:
            self._warned.add((channel, data))
            self._session.tell(messages.Warning(channel_id=channel_id, data=data).encode())

    def find(self, channel_id: bytes) -> Channel | None:
        """The channel with this id."""
        return self._by_id.get(channel_id)

    def check_sent(self, type_: int, raw: bytes) -> None:
        """Raise `RpcError` for what a wallet sends past the state of a channel that moves."""
        channel = self._by_id.get(channel_id_in(raw))
        if channel is not None and self.moving.speaks_for(type_, channel):
            raise RpcError(
                ErrorCode.INVALID_PARAMS, "What moves this channel goes by update_channel."
            )

    def failed_by_wallet(self, channel_id: bytes) -> None:
        """The wallet said `error` of its own accord."""
        if self._loading:
            self._failed_early.add(channel_id)
        channel = self._by_id.get(channel_id)
        if channel is None:
            return
        if channel.state in SIGNED:
            self._end(channel, "this wallet failed it")
        else:
            # The peer has its word already.
            self._drop(channel, [])

    def _spent(self, channel: Channel) -> None:
        self._end(channel, "its funding output was spent: it is being closed on the chain")

    def received_error(self, channel_id: bytes, text: str) -> None:
        """The peer failed a channel."""
        channel = self._by_id.get(channel_id)
        if channel is None:
            return
        if (delegation := self._delegations.get(channel)) is not None:
            delegation.void(f"the peer failed the channel: {text}")
        if channel.state not in SIGNED:
            self._remove(channel)
        elif channel.is_nothing_to_accepter:
            self._remove(channel)
            self._disk.write(partial(self._forget, channel))
        else:
            self._end(channel, f"the peer failed it: {text}")

    def _end(self, channel: Channel, reason: str) -> None:
        """A channel that both have signed fails: it is remembered, and not gone on with.

        BOLT #2: no `channel_reestablish` for it. Some peers would answer by an `error` and hang up,
        each time, with all other channels of theirs.
        """
        if (delegation := self._delegations.get(channel)) is not None:
            delegation.void(reason)
        self.moving.forget(channel, reason)
        self._remove(channel)
        wallet = self._session.inbox.node_id
        if wallet is not None:
            self._disk.write(self._book.fail(wallet, self._session.peer.node_id, channel, reason))

    def _received_for_nothing(
        self, channel_id: bytes, raw: bytes, message: messages.Message
    ) -> None:
        """About a channel that the relay doesn't know; the wallet's record is the authority."""
        if message.TYPE in SIGNED_TYPES:
            self._session.pass_on(message.TYPE, memoryview(raw))
            self._ask_about(channel_id, raw)
        else:
            self._session.fail_channel(channel_id, f"{message.NAME}: unknown channel")

    def _ask_about(self, channel_id: bytes, raw: bytes) -> None:
        """Whether the wallet has a channel that is none here; of one that failed, it knows."""
        if not self._book.is_failed(self._session.inbox.node_id, channel_id):
            self._unknown.received(channel_id, raw)

    def _received_channel_ready(self, channel: Channel, raw: bytes) -> None:
        self._session.pass_on(messages.ChannelReady.TYPE, memoryview(raw))
        if not self._book.sees(channel):
            # Without a chain of our own it is for the wallet to see whether that is true.
            channel.observe(
                channel.funding_scriptpubkey,
                channel.open_channel.funding_satoshis,
                channel.accept_channel.minimum_depth,
            )
        self._store_then(channel, self._advance)

    def _broken(self, channel: Channel, raw: bytes, message: messages.Message, reason: str) -> None:
        """The peer broke a rule: what isn't signed by both fails, a live channel never does."""
        self._session.pass_on(message.TYPE, memoryview(raw))
        text = f"{message.NAME}: {reason}"
        if channel.state not in SIGNED:
            created = message if isinstance(message, messages.FundingCreated) else None
            self._drop(channel, opening_errors(channel, text, created))
        elif not channel.may_be_funded:
            # A peer that lost an unfunded channel says so each time: nothing is at stake, and its
            # other channels need the connection.
            data = printable(text).encode("ascii")
            self._session.tell(messages.Warning(channel_id=channel.channel_id, data=data).encode())
        else:
            self._session.fail(text)

    # ---- the wallet's wishes ----

    def open(self, raw: bytes) -> None:
        """Offer the peer a channel by the wallet's `open_channel`; raises `RpcError`."""
        session = self._session
        channel = offered(raw, session.features)
        if channel.channel_id in self._by_id or channel.channel_id == ALL_CHANNELS:
            raise RpcError(ErrorCode.INVALID_PARAMS, "This temporary_channel_id is in use.")
        if not self._has_room():
            raise RpcError(ErrorCode.LIMIT, "This wallet has all the channels it can.")
        if self._unfunded(channel.role) >= _MAX_UNFUNDED:
            raise RpcError(ErrorCode.LIMIT, "Too many channels are being opened at once.")
        session.send(raw)
        self._by_id[channel.channel_id] = channel

    # ---- what the wallet owes ----

    def _advance(self, channel: Channel) -> None:
        """Ask the wallet for what is next, if it is the wallet's to give."""
        if self._session.raw or channel in self._delegations or channel in self._busy:
            return
        if channel.needs is Need.ACCEPT_CHANNEL and self._slots.may_use:
            self._busy.add(channel)
            self._disk.read(partial(self._accept_with_slot, channel))
        else:
            self._ask(channel)

    async def _accept_with_slot(self, channel: Channel) -> None:
        try:
            raw = await self._slots.accept(channel)
        finally:
            self._busy.discard(channel)
        if self._session.is_over or self._by_id.get(channel.channel_id) is not channel:
            return
        if raw is None:
            self._ask(channel)
            return
        channel.send(raw, messages.decode(raw))
        self._forget_unfunded(channel)
        self._session.tell(raw)

    def _ask(self, channel: Channel) -> None:
        if self._session.raw:
            return
        broadcast = self._broadcast if self._book.sees(channel) else None
        question = question_of(channel, broadcast, self.moving.resume)
        if isinstance(question, ReestablishQuestion) and self._was_given(channel, question):
            return
        if question is not None:
            self._delegations[channel] = self._session.delegate(
                question, unsettled(channel), self._fundings.of(channel), self._over
            )

    def _was_given(self, channel: Channel, question: ReestablishQuestion) -> bool:
        """Whether the wallet has said where the channel stands: then it goes on."""
        session = self._session
        wallet = session.inbox.node_id
        if self._given is None or wallet is None:
            return False
        lease = LeaseKey(wallet, session.peer.node_id, channel.temporary_channel_id)
        replies = self._given.settle(question, lease)
        if replies is None:
            return False
        audit(
            "reestablish_given",
            wallet=wallet,
            device=self._given.device_key,
            session_id=session.id,
            peer=session.peer.node_id,
            channel_id=channel.channel_id,
        )
        self._slots.wallet_came()
        self._re_established(channel, replies)
        return True

    def _re_established(self, channel: Channel, replies: list[bytes]) -> None:
        """The wallet has said where the channel stands, and the relay takes it from there."""
        for reply in replies:
            self._session.tell(reply)
        self._retransmit(channel)
        for type_, raw in self.moving.kept(channel):
            self._session.on_message(type_, memoryview(raw))
        self._advance(channel)

    def _broadcast(self, channel: Channel, transaction: bytes) -> None:
        wallet = self._session.inbox.node_id
        assert wallet is not None  # noqa: S101 - nobody else's answer got us here
        self._book.broadcast(wallet, self._session.peer.node_id, channel, transaction)

    def _over(self, delegation: Delegation, sentence: str, replies: list[bytes]) -> None:
        """The wallet answered, or didn't: the peer gets what follows from that."""
        question, state = delegation.question, delegation.state
        channel = question.channel
        del self._delegations[channel]
        self._session.delegation_over(delegation, sentence)
        if state in (DelegationState.SETTLED, DelegationState.REFUSED):
            self._slots.wallet_came()
        if state is not DelegationState.SETTLED:
            if channel.state not in SIGNED and state is not DelegationState.VOID:
                self._drop(channel, replies)
            elif state is DelegationState.EXPIRED and question.kind is DelegationKind.REESTABLISH:
                self._session.close("the wallet did not re-establish a channel in time")
            return
        match question.kind:
            case DelegationKind.FUNDING_SIGNED | DelegationKind.CHANNEL_READY:
                # A promise is stored before it is given.
                self._store_then(channel, self._signed, replies)
                return
            case DelegationKind.REESTABLISH:
                self._re_established(channel, replies)
                return
            case DelegationKind.CHANNEL_KEYS:
                self._forget_unfunded(channel)
            case DelegationKind.FUNDING_CREATED:
                if not self._claims(channel):
                    self._drop(channel, opening_errors(channel, "this outpoint is in use"))
                    return
        for reply in replies:
            self._session.tell(reply)
        self._advance(channel)

    def _signed(self, channel: Channel) -> None:
        """Both first commitments are signed, and that is on the disk."""
        self._by_id.pop(channel.temporary_channel_id, None)
        if (wallet := self._session.inbox.node_id) is not None:
            self._hold(wallet)
        self._fundings.follow(channel)
        self._advance(channel)

    def _retransmit(self, channel: Channel) -> None:
        """`channel_reestablish` went one way; if it went both, say again what may be lost."""
        ready = channel.retransmit()
        if ready is not None:
            self._session.tell(ready)

    # ---- inside ----

    def _hold(self, wallet: bytes) -> None:
        """From now on, this wallet's channels with this peer are on this connection."""
        pair = wallet, self._session.peer.node_id
        former = self._book.holders.get(pair)
        self._book.holders[pair] = self._session
        if former is not None and former is not self._session:
            # The peer, too, goes by the latest.
            former.close("this wallet connected to the same peer again")

    def _has_room(self) -> bool:
        wallet = self._session.inbox.node_id
        return wallet is None or self._book.has_room(wallet)

    def _unfunded(self, role: Role) -> int:
        channels = dict.fromkeys(self._by_id.values())
        return sum(each.role is role and each.state not in SIGNED for each in channels)

    def _forget_unfunded(self, latest: Channel) -> None:
        """Of channels that were accepted and not funded, keep the latest."""
        accepted = [each for each in self._by_id.values() if each.state is ChannelState.ACCEPTED]
        for channel in accepted[:-_MAX_UNFUNDED]:
            if channel.role is latest.role and channel not in self._delegations:
                self._remove(channel)

    def _drop(self, channel: Channel, errors: list[bytes]) -> None:
        """Fail an opening, and take back what the wallet was asked for it."""
        if (delegation := self._delegations.get(channel)) is not None:
            delegation.void("the opening failed")
        self._remove(channel)
        for error in errors:
            # By an outpoint in use it would name the channel that has it.
            if error[2:34] not in self._by_id:
                self._session.tell(error)

    def _claims(self, channel: Channel) -> bool:
        """Whether the channel's outpoint is its own, here and with every other peer."""
        session = self._session
        if self._by_id.setdefault(channel.channel_id, channel) is not channel:
            return False
        if self._book.claim(session.inbox.node_id, session.peer.node_id, channel.channel_id):
            return True
        del self._by_id[channel.channel_id]
        return False

    def _remove(self, channel: Channel) -> None:
        session = self._session
        if self._by_id.get(channel.channel_id) is channel:
            self._book.release(session.inbox.node_id, session.peer.node_id, channel)
        for channel_id in (channel.temporary_channel_id, channel.channel_id):
            if self._by_id.get(channel_id) is channel:
                del self._by_id[channel_id]
        self._fundings.forget(channel)

    def _store_then(
        self, channel: Channel, go_on: Callable[[Channel], None], replies: list[bytes] | None = None
    ) -> None:
        """Write the channel to disk; only then tell the peer, and go on."""

        session = self._session
        wallet = session.inbox.node_id
        assert wallet is not None  # noqa: S101 - nobody else's answer got us here

        async def store() -> None:
            try:
                await self._book.save(wallet, session.peer.node_id, channel)
            finally:
                self._busy.discard(channel)

        def stored() -> None:
            if self._by_id.get(channel.channel_id) is not channel:
                # It failed while it was being written: nothing of it is gone on with.
                return
            for reply in replies or ():
                session.tell(reply)
            if not session.is_over:
                go_on(channel)

        self._busy.add(channel)
        self._disk.write_for_peer(store, stored)

    async def _forget(self, channel: Channel) -> None:
        wallet = self._session.inbox.node_id
        if wallet is not None:
            await self._book.forget(wallet, self._session.peer.node_id, channel)
