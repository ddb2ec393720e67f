"""What a wallet may ask on its websocket, once it has authenticated: a method, a handler each."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lightning_proxy.relay import Inbox, Relay, StoreError
from lightning_proxy.rpc import (
    Acknowledge,
    AddSlots,
    Adopt,
    ChannelInfo,
    Channels,
    Close,
    Connect,
    Connected,
    Done,
    ErrorCode,
    Handshake,
    HandshakeDone,
    OpenChannel,
    RemoveSlot,
    RemoveWakeTarget,
    RpcError,
    Send,
    SessionInfo,
    Sessions,
    SetPresence,
    SlotInfo,
    Slots,
    Subscribe,
    WakeByWebhook,
    WakeByWebPush,
    WakeKind,
    WakeTarget,
    WakeTargets,
    WakeTest,
)

T = TypeVar("T")

#: The type of the parameters, and what takes them; a handler may be a coroutine function.
Methods = dict[str, tuple[type, Callable[[Any], Any]]]


def methods_of(relay: Relay, inbox: Inbox) -> Methods:
    """All that this wallet may ask for."""
    tables = (_SessionMethods, _WakeMethods, _SlotMethods)
    return {
        name: method for table in tables for name, method in table(relay, inbox).table().items()
    }


class _SessionMethods:
    """Its sessions, what it says to their peers, and what it was told."""

    def __init__(self, relay: Relay, inbox: Inbox) -> None:
        self._relay = relay
        self._inbox = inbox

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
        session, act_two = await self._relay.connect(
            self._inbox, wanted.peer, bytes.fromhex(wanted.act_one)
        )
        return Connected(session.id, act_two.hex())

    async def _handshake(self, wanted: Handshake) -> HandshakeDone:
        init = await kept(
            self._relay.handshake(
                self._relay.find(self._inbox, wanted.session_id),
                bytes.fromhex(wanted.act_three),
                wanted.sending,
                wanted.receiving,
                None if wanted.init is None else bytes.fromhex(wanted.init),
            )
        )
        return HandshakeDone(init.hex())

    async def _adopt(self, wanted: Adopt) -> SessionInfo:
        return await kept(self._relay.adopt(self._inbox, wanted.session_id))

    def _sessions(self, _: Sessions) -> list[SessionInfo]:
        return [session.describe() for session in self._inbox.sessions.values()]

    def _close(self, wanted: Close) -> Done:
        self._relay.find(self._inbox, wanted.session_id).close("the wallet closed the session")
        return Done()

    def _send(self, wanted: Send) -> Done:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.send(bytes.fromhex(wanted.message))
        return Done()

    def _subscribe(self, wanted: Subscribe) -> SessionInfo:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.subscribe(wanted.raw, frozenset(wanted.short_channel_ids))
        return session.describe()

    def _set_presence(self, wanted: SetPresence) -> SessionInfo:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.set_presence(wanted)
        return session.describe()

    def _open_channel(self, wanted: OpenChannel) -> Done:
        session = self._relay.find(self._inbox, wanted.session_id)
        session.open_channel(bytes.fromhex(wanted.message))
        return Done()

    async def _channels(self, _: Channels) -> list[ChannelInfo]:
        return await kept(self._relay.channels(self._inbox))

    async def _acknowledge(self, wanted: Acknowledge) -> Done:
        await kept(self._relay.acknowledge(self._inbox, wanted.position))
        return Done()


class _WakeMethods:
    """Where it is woken."""

    def __init__(self, relay: Relay, inbox: Inbox) -> None:
        assert inbox.node_id is not None  # noqa: S101 - it has authenticated
        self._waker = relay.waker
        self._wallet = inbox.node_id

    def table(self) -> Methods:
        return {
            "wake_by_webhook": (WakeByWebhook, self._by_webhook),
            "wake_by_web_push": (WakeByWebPush, self._by_web_push),
            "wake_targets": (WakeTargets, self._targets),
            "remove_wake_target": (RemoveWakeTarget, self._remove),
            "test_wake": (WakeTest, self._test),
        }

    async def _by_webhook(self, wanted: WakeByWebhook) -> WakeTarget:
        return await kept(self._waker.add(self._wallet, WakeKind.WEBHOOK, wanted))

    async def _by_web_push(self, wanted: WakeByWebPush) -> WakeTarget:
        return await kept(self._waker.add(self._wallet, WakeKind.WEB_PUSH, wanted))

    def _targets(self, _: WakeTargets) -> list[WakeTarget]:
        return self._waker.targets(self._wallet)

    async def _remove(self, wanted: RemoveWakeTarget) -> Done:
        await kept(self._waker.remove(self._wallet, wanted.target_id))
        return Done()

    async def _test(self, _: WakeTest) -> list[WakeTarget]:
        return await self._waker.test(self._wallet)


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

    async def _list(self, _: Slots) -> list[SlotInfo]:
        return await kept(self._slots.list(self._wallet))

    async def _remove(self, wanted: RemoveSlot) -> Done:
        await kept(self._slots.remove(self._wallet, wanted.slot_id))
        return Done()


async def kept(work: Awaitable[T]) -> T:
    """What has to be on the disk before the wallet is told that it is."""
    try:
        return await work
    except StoreError:
        raise RpcError(
            ErrorCode.UNAVAILABLE,
            "The relay can't write its state at the moment; try again later.",
        ) from None
