"""The peer that pays: a node with a channel to each wallet, which rebuilds and signs for real."""

import asyncio
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final, cast

from benchmarks.moving.channels import AMOUNT_MSAT, PEER_NODE_ID, PEER_SECRET, Channel, preimage_of
from benchmarks.moving.process import Answer
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.bolt.messages import (
    ChannelReady,
    ChannelReestablish,
    Init,
    Message,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.bolt.onion import Hop, Payload, PaymentData, construct
from lightning_proxy.relay.channel_messages import FAILING_TYPES
from lightning_proxy.transport import CipherState
from lightning_proxy.transport.handshake import ACT_ONE_SIZE, ACT_THREE_SIZE, Responder
from tests.support.moving import Mover

_INIT: Final = Init(globalfeatures=b"", features=DEFAULT_FEATURES.to_bytes()).encode()
#: Loopback addresses: one has too few ports for many sessions.
_HOSTS: Final = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
_EXPIRY: Final = 500_144
_SESSION_KEY: Final = b"\x77" * 32


class _Payments:
    """One channel, on one connection."""

    def __init__(self, channel: Channel, send: Callable[[bytes], None]) -> None:
        self._wallet = channel.wallet
        self._send = send
        self.mover: Mover = channel.mover(Role.OPENER)
        self.channel_id = channel.channel_id
        self._prepared: list[tuple[bytes, bytes]] = []
        self.wanted = 0
        self.under_way = 0
        self.on_paid: Callable[[_Payments], None] = lambda _: None
        self.on_quiet: Callable[[_Payments], None] = lambda _: None

    def prepare(self, count: int) -> None:
        """Make so many onions ahead: their maker is not what is measured."""
        first = self.mover.snapshot.ours.next_htlc_id + len(self._prepared)
        for number in range(first, first + count):
            payment_hash = sha256(preimage_of(self.channel_id, number)).digest()
            payload = Payload(
                amt_to_forward=AMOUNT_MSAT,
                outgoing_cltv_value=_EXPIRY,
                payment_data=PaymentData(payment_secret=bytes(32), total_msat=AMOUNT_MSAT),
            )
            hop = Hop(self._wallet, payload.encode())
            onion = construct([hop], _SESSION_KEY, payment_hash).packet
            self._prepared.append((payment_hash, onion))

    def pay(self) -> None:
        """Offer what is wanted, and sign for it as soon as that may be."""
        while self.under_way < self.wanted:
            if not self._prepared:
                self.prepare(1)
            payment_hash, onion = self._prepared.pop(0)
            self._say(
                self.mover.add(
                    AMOUNT_MSAT, payment_hash, cltv_expiry=_EXPIRY, onion_routing_packet=onion
                )
            )
            self.under_way += 1
        self.owe()

    def hear(self, raw: bytes) -> None:
        message = decode(raw)
        if isinstance(message, ChannelReady):
            # Once more, for a connection before any payment.
            return
        for again in self.mover.hear(raw):
            self._send(again)
        if isinstance(message, UpdateFulfillHtlc):
            self.under_way -= 1
            self.on_paid(self)

    def owe(self) -> None:
        """Say what is owed for what was heard, and for what was said."""
        if self.mover.snapshot.owes_revocation:
            self._say(self.mover.revoke_and_ack())
        if self.mover.is_connected and self.mover.snapshot.may_commit:
            self._say(self.mover.commitment_signed())
        if self.mover.snapshot.is_quiet:
            self.on_quiet(self)

    def _say(self, message: Message) -> None:
        self._send(self.mover.say(message))


class _Connection(asyncio.Protocol):
    def __init__(self, peer: "_Peer") -> None:
        self._peer = peer
        self._responder: Responder | None = Responder(PEER_SECRET)
        self._buffer = b""
        self._wanted = ACT_ONE_SIZE
        self._payments: _Payments | None = None
        self._said: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        raise RuntimeError("the relay hung up")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._responder is not None and len(self._buffer) >= self._wanted:
            act, self._buffer = self._buffer[: self._wanted], self._buffer[self._wanted :]
            if self._wanted == ACT_ONE_SIZE:
                self._transport.write(self._responder.act_one(act))
                self._wanted = ACT_THREE_SIZE
                continue
            keys = self._responder.act_three(act)
            self._responder = None
            self._sending = CipherState(keys.sending_key, keys.chaining_key)
            self._receiving = CipherState(keys.receiving_key, keys.chaining_key)
        if self._responder is None:
            messages, used = self._receiving.open(self._buffer)
            self._buffer = self._buffer[used:]
            for raw in messages:
                self._hear(bytes(raw))
            if self._payments is not None:
                self._payments.pay()
            self.flush()

    def send(self, raw: bytes) -> None:
        self._said.append(self._sending.seal(raw))

    def flush(self) -> None:
        """One write for all that was said."""
        if self._said:
            self._transport.write(b"".join(self._said))
            self._said.clear()

    def _hear(self, raw: bytes) -> None:
        type_ = int.from_bytes(raw[:2], "big")
        if type_ in FAILING_TYPES:
            raise RuntimeError(f"the relay said {decode(raw)}")
        if type_ == Init.TYPE:
            self.send(_INIT)
        elif type_ == ChannelReestablish.TYPE:
            payments = self._peer.payments_of(raw[2:34], self)
            self.send(payments.mover.reconnect())
            payments.hear(raw)
            self._payments = payments
        elif self._payments is not None:
            self._payments.hear(raw)


class _Peer:
    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = {each.channel_id: each for each in channels}
        self.connected: dict[_Payments, _Connection] = {}

    def payments_of(self, channel_id: bytes, connection: _Connection) -> _Payments:
        payments = _Payments(self._channels[channel_id], connection.send)
        payments.mover.disconnect()
        self.connected[payments] = connection
        return payments

    def _pay(self, payments: _Payments, wanted: int) -> None:
        payments.wanted = wanted
        payments.pay()
        self.connected[payments].flush()

    async def load(self, under_way: int, seconds: float, ahead: int) -> tuple[int, float]:
        """So many payments at once on each channel; how many were paid, and the seconds it took."""
        paid = 0

        def count(_: _Payments) -> None:
            nonlocal paid
            paid += 1

        for each in self.connected:
            each.prepare(ahead)
            each.on_paid = count
        started = time.perf_counter()
        for each in self.connected:
            self._pay(each, under_way)
        await asyncio.sleep(seconds)
        for each in self.connected:
            each.wanted = 0
        await _until(lambda: not any(each.under_way for each in self.connected))
        elapsed, total = time.perf_counter() - started, paid
        await _until(lambda: all(each.mover.snapshot.is_quiet for each in self.connected))
        return total, elapsed

    async def one_at_a_time(self, count: int) -> list[tuple[float, float]]:
        """Of each payment on one channel, the milliseconds to its preimage, and to its end."""
        payments = next(iter(self.connected))
        payments.prepare(count)
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(count):
            paid: asyncio.Future[float] = loop.create_future()
            quiet: asyncio.Future[float] = loop.create_future()

            def on_paid(each: _Payments, paid: asyncio.Future[float] = paid) -> None:
                each.wanted = 0
                paid.set_result(time.perf_counter())

            def on_quiet(
                _: _Payments,
                paid: asyncio.Future[float] = paid,
                quiet: asyncio.Future[float] = quiet,
            ) -> None:
                if paid.done() and not quiet.done():
                    quiet.set_result(time.perf_counter())

            payments.on_paid, payments.on_quiet = on_paid, on_quiet
            started = time.perf_counter()
            self._pay(payments, 1)
            ended = await quiet
            times.append((1000 * (paid.result() - started), 1000 * (ended - started)))
        return times


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - after what is measured
        await asyncio.sleep(0.002)


async def peer(channels: list[Channel]) -> Answer:
    """Listens; answers `addresses`, `connected`, `load` and `one_at_a_time`."""
    own = _Peer(channels)
    loop = asyncio.get_running_loop()
    addresses = []
    for host in _HOSTS:
        server = await loop.create_server(lambda: _Connection(own), host, 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        addresses.append(f"{PEER_NODE_ID.hex()}@{host}:{port}")

    async def answer(what: str, *arguments: Any) -> Any:
        match what:
            case "addresses":
                return addresses
            case "connected":
                return sum(each.mover.is_connected for each in own.connected)
            case "load":
                return await own.load(*arguments)
            case "one_at_a_time":
                return await own.one_at_a_time(*arguments)
        raise ValueError(what)

    return answer
