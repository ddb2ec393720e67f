"""What a wallet may ask on its websocket, once it has authenticated: a method, a handler each."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakValueDictionary

from msgspec import structs

from lightning_proxy.api.limits import Limits
from lightning_proxy.api.lists import listed, listed_in_order
from lightning_proxy.networks import block_of
from lightning_proxy.relay import Inbox, Relay, StoreError
from lightning_proxy.relay.given import Given
from lightning_proxy.relay.shares import Owner
from lightning_proxy.rpc import (
    Acknowledge,
    AddDevice,
    AddSlots,
    Adopt,
    ChannelInfo,
    ChannelPage,
    Channels,
    Close,
    Connect,
    Connected,
    DeviceInfo,
    DevicePage,
    DeviceRight,
    Devices,
    Done,
    ErrorCode,
    Handshake,
    HandshakeDone,
    Lease,
    OpenChannel,
    RemoveSlot,
    RemoveWakeTarget,
    RevokeDevice,
    RpcError,
    Send,
    SessionInfo,
    SessionPage,
    Sessions,
    SetPresence,
    SlotInfo,
    SlotPage,
    Slots,
    Subscribe,
    TakeOver,
    UpdateChannel,
    WakeByWebhook,
    WakeByWebPush,
    WakeKind,
    WakeTarget,
    WakeTargetPage,
    WakeTargets,
    WakeTest,
)

T = TypeVar("T")

#: Of all of a wallet's sessions: ten for each channel that it may have.
_MAX_SHORT_CHANNEL_IDS: Final = 10_000

#: The type of the parameters, and what takes them; a handler may be a coroutine function.
Methods = dict[str, tuple[type, Callable[[Any], Any]]]


#: What a device needs for each; with None it is the node key alone that may.
RIGHTS: Final[dict[str, DeviceRight | None]] = {
    **dict.fromkeys(("sessions", "channels", "slots", "wake_targets", "devices"), DeviceRight.SEE),
    **dict.fromkeys(
        (
            "acknowledge",
            "send",
            "open_channel",
            "take_over",
            "add_slots",
            "remove_slot",
            "update_channel",
        ),
        DeviceRight.ANSWER,
    ),
    **dict.fromkeys(
        ("wake_by_webhook", "wake_by_web_push", "remove_wake_target", "test_wake"),
        DeviceRight.ANSWER,
    ),
    **dict.fromkeys(
        ("connect", "handshake", "adopt", "close", "subscribe", "set_presence"),
        DeviceRight.CONNECT,
    ),
    "add_device": None,
    "revoke_device": None,
}


def methods_of(
    relay: Relay,
    inbox: Inbox,
    device_key: bytes,
    rights: frozenset[DeviceRight],
    limits: Limits,
    address: str,
) -> Methods:
    """All that may be asked for this wallet from this address, and what `rights` leave of it."""
    return (
        _SessionMethods(
            relay,
            inbox,
            limits,
            address,
            device_key if DeviceRight.ANSWER in rights else None,
        ).table()
        | _WakeMethods(relay, inbox, sees=DeviceRight.SEE in rights).table()
        | _SlotMethods(relay, inbox).table()
        | _DeviceMethods(relay, inbox, device_key).table()
    )


def check_right(name: str, rights: frozenset[DeviceRight], *, is_node: bool) -> None:
    """Raise `RpcError` (forbidden) where a device may not ask for this method."""
    right = RIGHTS[name]
    if right is None and not is_node:
        raise RpcError(ErrorCode.FORBIDDEN, "Only the wallet's node key may do that.")
    if right is not None and right not in rights:
        raise RpcError(ErrorCode.FORBIDDEN, f"This device lacks the right {right.value!r}.")


class _SessionMethods:
    """Its sessions, what it says to their peers, and what it was told.

    `answers_as` is the key of the device that asks, where it may answer, too.
    """

    #: Wallets (node ids) of which a list of channels is being made.
    _listing: ClassVar[WeakValueDictionary[bytes, asyncio.Lock]] = WeakValueDictionary()

    def __init__(
        self,
        relay: Relay,
        inbox: Inbox,
        limits: Limits,
        address: str,
        answers_as: bytes | None,
    ) -> None:
        assert inbox.node_id is not None  # noqa: S101 - it has authenticated
        self._relay = relay
        self._inbox = inbox
        self._limits = limits
        self._wallet = inbox.node_id
        self._address = address
        self._answers_as = answers_as

    def table(self) -> Methods:
        return {
            "connect": (Connect, self._connect),
            "handshake": (Handshake, self._handshake),
            "adopt": (Adopt, self._adopt),
            "sessions": (Sessions, self._sessions),
            "close": (Close, self._close),
            "send": (Send, self._send),
            "subscribe": (Subscribe, self._subscribe),
            "set_presence": (SetPresence, self._set_presence),
            "open_channel": (OpenChannel, self._open_channel),
            "channels": (Channels, self._channels),
            "acknowledge": (Acknowledge, self._acknowledge),
        }

    async def _connect(self, wanted: Connect) -> Connected:
        self._limits.dial(self._wallet, self._address)
        try:
            session, act_two = await self._relay.connect(
                self._inbox,
                wanted.peer,
                bytes.fromhex(wanted.act_one),
                Owner(block_of(self._address) or "", self._wallet),
            )
        except RpcError as error:
            self._limits.failed_dial(self._wallet, self._address, error)
            raise
        return Connected(session.id, act_two.hex())

    async def _handshake(self, wanted: Handshake) -> HandshakeDone:
        given = None
        if wanted.standings and self._answers_as is not None:
            given = Given(self._relay.devices.leases, self._answers_as, wanted.standings)
        init = await kept(
            self._relay.handshake(
                self._relay.find(self._inbox, wanted.session_id),
                bytes.fromhex(wanted.act_three),
                wanted.sending,
                wanted.receiving,
                None if wanted.init is None else bytes.fromhex(wanted.init),
                commitments=wanted.commitments,
                given=given,
            )
        )
        return HandshakeDone(init.hex())

    async def _adopt(self, wanted: Adopt) -> SessionInfo:
        return await kept(self._relay.adopt(self._inbox, wanted.session_id))

    def _sessions(self, wanted: Sessions) -> list[SessionInfo] | SessionPage:
        sessions = (session.describe() for session in self._inbox.sessions.values())
        return listed(wanted, sessions, SessionPage, "session_id")

    def _close(self, wanted: Close) -> Done:
        self._relay.find(self._inbox, wanted.session_id).close("the wallet closed the session")
        return Done()

    def _send(self, wanted: Send) -> Done:
        session = self._relay.find(self._inbox, wanted.session_id)
        message = bytes.fromhex(wanted.message)
        self._limits.send(self._wallet, len(message))
        session.send(message)
        return Done()

    def _subscribe(self, wanted: Subscribe) -> SessionInfo:
        session = self._relay.find(self._inbox, wanted.session_id)
        named = sum(
            len(each.short_channel_ids)
            for each in self._inbox.sessions.values()
            if each is not session
        )
        if named + len(wanted.short_channel_ids) > _MAX_SHORT_CHANNEL_IDS:
            raise RpcError(ErrorCode.LIMIT, "This wallet wants updates of too many channels.")
        session.subscribe(wanted.raw, wanted.short_channel_ids)
        return session.describe()

    def _set_presence(self, wanted: SetPresence) -> SessionInfo:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.set_presence(wanted)
        return session.describe()

    def _open_channel(self, wanted: OpenChannel) -> Done:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.open_channel(bytes.fromhex(wanted.message))
        return Done()

    async def _channels(self, wanted: Channels) -> list[ChannelInfo] | ChannelPage:
        # One at a time, on whichever socket: each takes as much as a frame does.
        async with self._listing.setdefault(self._wallet, asyncio.Lock()):
            channels = self._relay.channels(self._inbox, bytes.fromhex(wanted.after or ""))
            return await kept(listed_in_order(wanted, channels, ChannelPage, "channel_id"))

    async def _acknowledge(self, wanted: Acknowledge) -> Done:
        await kept(self._relay.acknowledge(self._inbox, wanted.position))
        return Done()


class _WakeMethods:
    """Where it is woken. Who may not see that may arrange it all the same."""

    def __init__(self, relay: Relay, inbox: Inbox, *, sees: bool) -> None:
        assert inbox.node_id is not None  # noqa: S101 - it has authenticated
        self._waker = relay.waker
        self._wallet = inbox.node_id
        self._sees = sees

    def table(self) -> Methods:
        return {
            "wake_by_webhook": (WakeByWebhook, self._by_webhook),
            "wake_by_web_push": (WakeByWebPush, self._by_web_push),
            "wake_targets": (WakeTargets, self._targets),
            "remove_wake_target": (RemoveWakeTarget, self._remove),
            "test_wake": (WakeTest, self._test),
        }

    async def _by_webhook(self, wanted: WakeByWebhook) -> WakeTarget:
        return await self._add(WakeKind.WEBHOOK, wanted)

    async def _by_web_push(self, wanted: WakeByWebPush) -> WakeTarget:
        return await self._add(WakeKind.WEB_PUSH, wanted)

    async def _add(self, kind: WakeKind, wanted: WakeByWebhook | WakeByWebPush) -> WakeTarget:
        target = await kept(self._waker.add(self._wallet, kind, wanted))
        if self._sees:
            return target
        # It may have been there: how that went is not this device's to know.
        return structs.replace(target, last_attempt=None, last_success=None, failure=None)

    def _targets(self, wanted: WakeTargets) -> list[WakeTarget] | WakeTargetPage:
        return listed(wanted, self._waker.targets(self._wallet), WakeTargetPage, "target_id")

    async def _remove(self, wanted: RemoveWakeTarget) -> Done:
        await kept(self._waker.remove(self._wallet, wanted.target_id))
        return Done()

    async def _test(self, _: WakeTest) -> list[WakeTarget]:
        targets = await self._waker.test(self._wallet)
        return targets if self._sees else []


class _SlotMethods:
    """What it leaves for peers that open channels meanwhile."""

    def __init__(self, relay: Relay, inbox: Inbox) -> None:
        assert inbox.node_id is not None  # noqa: S101 - it has authenticated
        self._slots = relay.slots
        self._wallet = inbox.node_id

    def table(self) -> Methods:
        return {
            "add_slots": (AddSlots, self._add),
            "slots": (Slots, self._list),
            "remove_slot": (RemoveSlot, self._remove),
        }

    async def _add(self, wanted: AddSlots) -> list[SlotInfo]:
        return await kept(self._slots.add(self._wallet, wanted.slots))

    async def _list(self, wanted: Slots) -> list[SlotInfo] | SlotPage:
        slots = await kept(self._slots.list(self._wallet))
        return listed(wanted, slots, SlotPage, "slot_id")

    async def _remove(self, wanted: RemoveSlot) -> Done:
        await kept(self._slots.remove(self._wallet, wanted.slot_id))
        return Done()


class _DeviceMethods:
    """Who else may act for it, who settles for which channel, and what that one says there."""

    def __init__(self, relay: Relay, inbox: Inbox, device_key: bytes) -> None:
        assert inbox.node_id is not None  # noqa: S101 - it has authenticated
        self._relay = relay
        self._inbox = inbox
        self._wallet = inbox.node_id
        self._device_key = device_key

    def table(self) -> Methods:
        return {
            "add_device": (AddDevice, self._add),
            "devices": (Devices, self._list),
            "revoke_device": (RevokeDevice, self._revoke),
            "take_over": (TakeOver, self._take_over),
            "update_channel": (UpdateChannel, self._update_channel),
        }

    async def _add(self, wanted: AddDevice) -> DeviceInfo:
        return await kept(self._relay.devices.add(self._wallet, wanted))

    def _list(self, wanted: Devices) -> list[DeviceInfo] | DevicePage:
        sockets = Counter(socket.device_key.hex() for socket in self._inbox.sockets)
        devices = (
            structs.replace(info, sockets=sockets[info.device_key])
            for info in self._relay.devices.list(self._wallet)
        )
        return listed(wanted, devices, DevicePage, "device_key")

    async def _revoke(self, wanted: RevokeDevice) -> Done:
        device_key = bytes.fromhex(wanted.device_key)
        await kept(self._relay.revoke_device(self._inbox, device_key))
        return Done()

    async def _take_over(self, wanted: TakeOver) -> Lease:
        channel_id = bytes.fromhex(wanted.channel_id)
        return Lease(await kept(self._relay.take_over(self._inbox, self._device_key, channel_id)))

    async def _update_channel(self, wanted: UpdateChannel) -> Done:
        await self._relay.update_channel(self._inbox, self._device_key, wanted)
        return Done()


async def kept(work: Awaitable[T]) -> T:
    """What has to be on the disk before the wallet is told that it is.

    Who hangs up meanwhile doesn't break it off: a database that is cancelled at work loses its
    connection, and one in memory all that it has.
    """
    try:
        return await asyncio.shield(work)
    except StoreError:
        raise RpcError(
            ErrorCode.UNAVAILABLE,
            "The relay can't write its state at the moment; try again later.",
        ) from None
