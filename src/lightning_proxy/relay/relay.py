"""The relay as a whole: whose sessions there are, and the few things that can be done with them."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Final, Self

import structlog

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel import SIGNED, ChannelState
from lightning_proxy.bolt.errors import AddressError
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import Init
from lightning_proxy.chain import ChainSource, open_source
from lightning_proxy.relay.book import ChannelBook
from lightning_proxy.relay.counters import Counters
from lightning_proxy.relay.delegation import Deadlines
from lightning_proxy.relay.devices import Devices, LeaseKey
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.dialler import Dialler
from lightning_proxy.relay.given import Given
from lightning_proxy.relay.half_open import HalfOpen
from lightning_proxy.relay.inbox import Inbox, Office
from lightning_proxy.relay.journal import Journal
from lightning_proxy.relay.keepalive import keep_alive
from lightning_proxy.relay.own_init import OwnInit
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.session import Session
from lightning_proxy.relay.settings import RelaySettings
from lightning_proxy.relay.shares import NOBODY, Owner, Shares
from lightning_proxy.relay.slots import Slots
from lightning_proxy.relay.store import IN_MEMORY, Database, StoreError
from lightning_proxy.relay.store.inbox import InboxStore
from lightning_proxy.relay.strangers import Strangers
from lightning_proxy.relay.wake.waker import Waker
from lightning_proxy.rpc import (
    ChannelInfo,
    DelegationKind,
    DirectionState,
    ErrorCode,
    LeaseLost,
    Notification,
    RpcError,
    SessionInfo,
    UpdateChannel,
)
from lightning_proxy.transport import CipherState, Pace
from lightning_proxy.transport.handshake import HandshakeError, check_act_one

_log = structlog.get_logger()

#: Read from the disk in one go: a page of a hundred, and whether there is another.
_CHANNELS_AT_ONCE: Final = 101
#: The states of a channel that is not stored yet.
_OPENING: Final = frozenset(set(ChannelState) - SIGNED)
#: Within the time that a session without a wallet has.
_AGE_LOOKS: Final = 100
#: Seconds after which a network may ask again for a session more.
_RETRY: Final = 60.0


class Relay:
    """Use as an async context manager; leaving it closes every session.

    Every method that names a session takes the inbox of who asks: `session_unknown` is the answer
    for a session of somebody else's.
    """

    def __init__(self, settings: RelaySettings, *, is_local: bool) -> None:
        self.settings = settings
        self.counters = Counters()
        policy = DialPolicy(settings.dial, relay_is_local=is_local)
        self._resolver = Resolver()
        pace = Pace(settings.bytes_per_session, settings.bytes_per_session_burst)
        self._dialler = Dialler(settings.dial, policy, self._resolver, pace)
        self._deadlines = {kind: Deadlines(settings.deadline_of(kind)) for kind in DelegationKind}
        self._database = Database(settings.store or IN_MEMORY)
        self.devices = Devices(self._database, settings.max_devices_per_wallet)
        self.waker = Waker(settings.wake, policy, self._resolver, self._database)
        self.strangers = Strangers(
            self._database, settings.forget_strangers_after, self._here, self._forget_strangers
        )
        self._sessions: dict[str, Session] = {}
        self._inboxes: dict[bytes, Inbox] = {}
        self._forgetting: dict[bytes, asyncio.TimerHandle] = {}
        self._unadopted = Shares()
        self._half_open = HalfOpen()
        self._shutting_down = False
        self._emptied = asyncio.Event()
        # One bound method for all sessions, which keep it.
        self._on_over = self._over
        default_init = Init(
            globalfeatures=b"",
            features=DEFAULT_FEATURES.to_bytes(),
            networks=tuple(CHAIN_HASHES[name] for name in settings.networks) or None,
        )
        self._default_init = OwnInit.read(default_init.encode())

    async def __aenter__(self) -> Self:
        """Raises `StoreError`, `ChainError`, `WakeError`, `ValueError` for a chain's URL."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._resolver)
            # Before the database, which counts its runs: an attempt is none.
            source = await self._open_source(stack)
            await stack.enter_async_context(self._database)
            self._book = await stack.enter_async_context(
                ChannelBook(
                    self.settings, self._database, self.devices.leases, self._tell_wallet, source
                )
            )
            store = InboxStore(self._database)
            self.journal = Journal(store, self._database.run)
            await stack.enter_async_context(self.waker)
            await self.devices.load()
            self._office = Office(
                self.settings, self.counters, self.journal, self.waker, self.devices.leases
            )
            waiting = await store.recover(self.journal.positions)
            keepalive = asyncio.create_task(
                keep_alive(
                    self._sessions.values, self.settings.ping_interval, self.settings.pong_timeout
                )
            )
            stack.push_async_callback(_cancel, keepalive)
            stack.push_async_callback(_cancel, asyncio.create_task(self._end_unadopted()))
            stack.push_async_callback(_cancel, asyncio.create_task(self.strangers.run()))
            stack.push_async_callback(self._close_sessions)
            # Left first: what was held when the relay went is what the next run reports as lost.
            await stack.enter_async_context(self.journal)
            stack.push_async_callback(self._finish_answers)
            for node_id, notifications in waiting.items():
                inbox = self.inbox_of(node_id)
                inbox.restore(notifications)
                inbox.wake()
                self.forget_if_idle(inbox)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._shutting_down = True
        await self._stack.aclose()

    async def _open_source(self, stack: AsyncExitStack) -> ChainSource | None:
        if self.settings.chain is None:
            return None
        source = await open_source(self.settings.chain)
        stack.push_async_callback(source.close)
        return source

    async def _finish_answers(self) -> None:
        """Let wallets that are there answer what they were asked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.answers_timeout):
                while any(i.is_attended and i.delegations for i in self._inboxes.values()):
                    self._office.settled.clear()
                    await self._office.settled.wait()

    async def _close_sessions(self) -> None:
        for session in list(self._sessions.values()):
            session.close("the relay is shutting down")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.close_timeout):
                while self._sessions:
                    self._emptied.clear()
                    await self._emptied.wait()
        for timer in self._forgetting.values():
            timer.cancel()

    # ---- wallets ----

    def inbox_of(self, node_id: bytes) -> Inbox:
        """The inbox of this wallet, made if need be."""
        if (timer := self._forgetting.pop(node_id, None)) is not None:
            timer.cancel()
        inbox = self._inboxes.get(node_id)
        if inbox is None:
            inbox = self._inboxes[node_id] = self._new_inbox(node_id)
        return inbox

    def _tell_wallet(self, node_id: bytes, notification: Notification) -> None:
        inbox = self.inbox_of(node_id)
        inbox.notify(notification)
        self.forget_if_idle(inbox)

    def forget_if_idle(self, inbox: Inbox) -> None:
        """Let go of a wallet that has nothing here; of one for which messages wait, later."""
        node_id = inbox.node_id
        if node_id is None or not inbox.is_idle or self._inboxes.get(node_id) is not inbox:
            return
        if inbox.is_empty:
            del self._inboxes[node_id]
        elif node_id not in self._forgetting:
            self._forgetting[node_id] = asyncio.get_running_loop().call_later(
                self.settings.forget_after, self._forget, node_id, inbox
            )

    def _forget(self, node_id: bytes, inbox: Inbox) -> None:
        del self._forgetting[node_id]
        inbox.hand_over()
        self.forget_if_idle(inbox)

    def unadopted_inbox(self) -> Inbox:
        """A fresh inbox for one session made over REST."""
        return self._new_inbox(None)

    def _here(self) -> set[bytes]:
        return {node_id for node_id, inbox in self._inboxes.items() if not inbox.is_idle}

    def _forget_strangers(self, node_ids: Iterable[bytes]) -> None:
        """The disk has nothing of theirs any more."""
        for node_id in node_ids:
            self.waker.forget(node_id)
            self.slots.forget(node_id)
            self.devices.forget(node_id)
            if (inbox := self._inboxes.get(node_id)) is not None:
                inbox.hand_over()
                self.forget_if_idle(inbox)

    def knows(self, node_id: bytes) -> bool:
        """Whether this wallet has anything here."""
        return (
            node_id in self._inboxes
            or self._book.has_any(node_id)
            or self.slots.has_any(node_id)
            or self.devices.has_any(node_id)
            or bool(self.waker.targets(node_id))
        )

    @property
    def identity(self) -> str:
        """Of the inboxes: as long as their database lives."""
        return self._database.identity

    @property
    def wallets(self) -> int:
        """How many wallets have something here."""
        return len(self._inboxes)

    @property
    def stored_channels(self) -> int:
        """Channels on disk, of all wallets."""
        return self._book.total

    @property
    def slots(self) -> Slots:
        """The key slots of all wallets."""
        return self._book.slots

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for wallets that are away."""
        return self._office.queued_bytes

    def sessions(self) -> Iterator[Session]:
        """All sessions, of all wallets."""
        yield from self._sessions.values()

    def inboxes(self) -> Iterator[Inbox]:
        """Those of all wallets that have something here."""
        yield from self._inboxes.values()

    # ---- sessions ----

    async def connect(
        self, inbox: Inbox, peer: str, act_one: bytes, owner: Owner = NOBODY
    ) -> tuple[Session, bytes]:
        """Dial a peer ("pubkey@host:port") for a wallet; returns the session and act two.

        `owner` is whose share of dials and sessions it takes.

        Raises `RpcError`: invalid_params, limit, address_forbidden, peer_*, shutting_down.
        """
        try:
            address = parse(peer)
        except AddressError as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"The peer's address: {error}.") from None
        try:
            # Whoever listens there hears BOLT 8, and nothing else that a wallet may think of.
            check_act_one(act_one)
        except HandshakeError as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"Act one is none: {error}.") from None
        self._check_room(inbox, owner)
        session = Session(
            address,
            inbox,
            self.settings,
            self.counters,
            self._deadlines,
            self._book,
            self._on_over,
        )
        self._sessions[session.id] = session
        self._half_open.begun(owner, session)
        inbox.add(session)
        if inbox.node_id is None:
            session.network = sys.intern(owner.network)
            self._unadopted.change(Owner(session.network), 1)
        return session, await session.dial(self._dialler, act_one, owner)

    async def handshake(
        self,
        session: Session,
        act_three: bytes,
        sending: DirectionState,
        receiving: DirectionState,
        init: bytes | None = None,
        *,
        commitments: bool = False,
        given: Given | None = None,
    ) -> bytes:
        """Finish a session's handshake; returns the peer's `init`. Raises `RpcError`."""
        session.commitments = commitments
        session.given = given
        own_init = self._default_init if init is None else OwnInit.read(init)
        answer = await session.shake_hands(
            act_three, _cipher(sending), _cipher(receiving), own_init
        )
        self._half_open.ended(session)
        await self._hold(session)
        return answer

    async def _hold(self, session: Session) -> None:
        """Make sure that the wallet will be told if this session is lost; raises `StoreError`."""
        node_id = session.inbox.node_id
        if node_id is None or session.is_over:
            return
        self.journal.held(session.id, node_id, str(session.peer))
        try:
            await self.journal.flush()
        except StoreError:
            session.close("the relay can't write its state")
            raise

    def find(self, inbox: Inbox, session_id: str) -> Session:
        """A session of this wallet's; raises `RpcError` (session_unknown)."""
        session = inbox.sessions.get(session_id)
        if session is None:
            raise _unknown()
        return session

    def find_unadopted(self, session_id: str) -> Session:
        """A session made over REST and not yet adopted; raises `RpcError` (session_unknown)."""
        session = self._sessions.get(session_id)
        if session is None or session.inbox.node_id is not None:
            raise _unknown()
        return session

    async def adopt(self, inbox: Inbox, session_id: str) -> SessionInfo:
        """Give an unadopted session to this wallet; idempotent for its owner."""
        if session_id not in inbox.sessions:
            session = self.find_unadopted(session_id)
            self._check_wallets_room(inbox)
            inbox.adopt(session)
            self._unadopted.change(Owner(session.network), -1)
            await self._hold(session)
        return self.find(inbox, session_id).describe()

    async def take_over(self, inbox: Inbox, device_key: bytes, channel_id: bytes) -> int:
        """This device settles for a channel from now on; returns the fencing number.

        The device that did before is told. Raises `RpcError` (invalid_params), `StoreError`.
        """
        assert inbox.node_id is not None  # noqa: S101 - only wallets ask
        async for info in self.channels(inbox):
            if channel_id.hex() in (info.channel_id, info.temporary_channel_id):
                break
        else:
            raise RpcError(ErrorCode.INVALID_PARAMS, "This wallet has no such channel.")
        temporary_id = bytes.fromhex(info.temporary_channel_id)
        channel = LeaseKey(inbox.node_id, bytes.fromhex(info.peer), temporary_id)
        former = self.devices.leases.holder(channel)
        fencing = await self.devices.leases.take_over(
            channel, device_key, is_stored=info.state not in _OPENING
        )
        for socket in inbox.sockets:
            if socket.device_key == former != device_key:
                socket.notify(LeaseLost(info.temporary_channel_id, fencing))
        return fencing

    async def update_channel(self, inbox: Inbox, device_key: bytes, wanted: UpdateChannel) -> None:
        """Returns once what this device says is stored, and has left; raises `RpcError`."""
        assert inbox.node_id is not None  # noqa: S101 - only wallets ask
        session = self.find(inbox, wanted.session_id)
        channels = session.own_channels
        channel = None if channels is None else channels.find(bytes.fromhex(wanted.channel_id))
        if channels is None or channel is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "This session has no such channel.")
        lease = LeaseKey(inbox.node_id, session.peer.node_id, channel.temporary_channel_id)
        self.devices.leases.check(lease, device_key)
        words = [bytes.fromhex(message) for message in wanted.messages]
        await channels.moving.update(channel, wanted.heard, wanted.said, words)
        self.devices.leases.settled(lease, device_key)

    async def revoke_device(self, inbox: Inbox, device_key: bytes) -> None:
        """Raises `RpcError` (invalid_params), `StoreError`."""
        assert inbox.node_id is not None  # noqa: S101 - only wallets ask
        await self.devices.revoke(inbox.node_id, device_key)
        for socket in inbox.sockets:
            if socket.device_key == device_key:
                socket.hang_up("this device was revoked")

    async def acknowledge(self, inbox: Inbox, position: int) -> None:
        """The wallet has all up to this position, and won't be told again; raises `StoreError`."""
        inbox.acknowledge(position)
        await self.journal.flush()

    async def channels(self, inbox: Inbox, after: bytes = b"") -> AsyncIterator[ChannelInfo]:
        """This wallet's channels behind this id, in the order of theirs; raises `StoreError`.

        On a connection or not. They are read a few at a time: a wallet may have many.
        """
        assert inbox.node_id is not None  # noqa: S101 - only wallets ask
        while True:
            live = {
                bytes.fromhex(info.channel_id): info
                for session in inbox.sessions.values()
                for info in session.describe_channels()
            }
            stored = await self._book.some_channels(inbox.node_id, after, _CHANNELS_AT_ONCE)
            last = stored[-1].channel_id if len(stored) == _CHANNELS_AT_ONCE else None
            found = {each.channel_id: each.describe() for each in stored} | {
                channel_id: info
                for channel_id, info in live.items()
                if channel_id > after and (last is None or channel_id <= last)
            }
            for channel_id in sorted(found):
                yield found[channel_id]
            if last is None:
                break
            after = last

    # ---- inside ----

    def _new_inbox(self, node_id: bytes | None) -> Inbox:
        return Inbox(node_id, self._office)

    def _check_room(self, inbox: Inbox, owner: Owner) -> None:
        if self._shutting_down:
            raise RpcError(ErrorCode.SHUTTING_DOWN, "This relay is shutting down; try again later.")
        if inbox.node_id is not None:
            self._check_wallets_room(inbox)
        else:
            self._check_unadopted(Owner(owner.network))
        if len(self._sessions) >= self.settings.max_sessions:
            self._half_open.make_room(owner)

    def _check_unadopted(self, owner: Owner) -> None:
        """Of too many sessions that no wallet has, one goes: of the network that has most."""
        settings = self.settings
        network, _ = self._unadopted.of(owner)
        if owner.network and network >= settings.max_unadopted_sessions_per_network:
            raise RpcError(
                ErrorCode.LIMIT,
                "Your network has all the REST sessions it may; authenticate over the websocket.",
                retry_after=_RETRY,
            )
        if self._unadopted.total < settings.max_unadopted_sessions:
            return
        largest = self._unadopted.pays(owner)
        if largest == owner:
            raise RpcError(
                ErrorCode.LIMIT,
                "This relay holds all the REST sessions it can; authenticate over the websocket.",
                retry_after=_RETRY,
            )
        for session in self._sessions.values():
            if session.inbox.node_id is None and session.network == largest.network:
                session.abort("its network has most of the REST sessions, and there are too many")
                return

    async def _end_unadopted(self) -> None:
        """Sessions that no wallet adopts end, for ever."""
        while True:
            await asyncio.sleep(self.settings.unadopted_for / _AGE_LOOKS)
            before = time.time() - self.settings.unadopted_for
            for session in list(self._sessions.values()):
                # In the order in which they were made.
                if session.created > before:
                    break
                if session.inbox.node_id is None:
                    session.close("no wallet adopted it in time")

    def _check_wallets_room(self, inbox: Inbox) -> None:
        if len(inbox.sessions) >= self.settings.max_sessions_per_wallet:
            raise RpcError(
                ErrorCode.LIMIT,
                f"This wallet has {len(inbox.sessions)} sessions open already; close one.",
            )

    def _over(self, session: Session) -> None:
        del self._sessions[session.id]
        self._half_open.ended(session)
        self.journal.ended(session.id)
        session.inbox.remove(session)
        if session.inbox.node_id is None:
            self._unadopted.change(Owner(session.network), -1)
            # Nobody will ever come for what waited there; its bytes are others' to use.
            session.inbox.hand_over()
        self.forget_if_idle(session.inbox)
        if not self._sessions:
            self._emptied.set()


def _unknown() -> RpcError:
    return RpcError(
        ErrorCode.SESSION_UNKNOWN, "There is no such session: it is over, or not this wallet's."
    )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _cipher(direction: DirectionState) -> CipherState:
    return CipherState(
        bytes.fromhex(direction.key), bytes.fromhex(direction.chaining_key), direction.nonce
    )
