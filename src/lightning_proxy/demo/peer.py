"""The built-in peer: a Lightning node of few words, which wants to open a channel.

`python -m lightning_proxy.demo.peer` listens; with whoever connects it exchanges `init`, then pings
it, then sends `open_channel` and judges the `accept_channel` that comes back.
"""

import argparse
import asyncio
import secrets
import socket
from contextlib import suppress
from typing import Final, TypeVar

import uvloop
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features, check_init
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    Error,
    GossipTimestampFilter,
    Init,
    Message,
    OpenChannel,
    decode,
    is_known,
    to_dict,
)
from lightning_proxy.bolt.opening import check_accept_channel
from lightning_proxy.demo.lines import emit
from lightning_proxy.transport import CipherState, PeerTransport
from lightning_proxy.transport.handshake import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    HandshakeError,
    Responder,
)

#: Seconds for each thing that the other side owes; people take their time with `accept_channel`.
_PATIENCE: Final = 10.0
_ACCEPT_PATIENCE: Final = 60.0
_FILTER_PATIENCE: Final = 1.0
#: How often to look whether the pong came, which `PeerTransport` deals with by itself.
_LOOK: Final = 0.005
#: Bytes that the ping asks for, and that it brings.
_PONG_BYTES: Final = 8
_PADDING: Final = 16
#: Type, length and ignored bytes (BOLT #1).
_PONG_SIZE: Final = 4 + _PONG_BYTES
_PING_SIZE: Final = 6 + _PADDING
#: Messages that wait to be looked at; who sends more is hung up on.
_MAX_WAITING: Final = 64

#: BOLT #2: a channel type is its features' even bits.
_ANCHORS: Final = Features.from_bits((Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS))

M = TypeVar("M", bound=Message)


class PeerFailed(Exception):
    """The other side did not do what it should; the sentence says what."""


class Conversation:
    """The consumer of one connection's `PeerTransport`, and what is said on it."""

    def __init__(self, node_secret: bytes) -> None:
        self._responder = Responder(node_secret)
        self._messages: asyncio.Queue[bytes | str] = asyncio.Queue(_MAX_WAITING)
        self._transport = PeerTransport(self)

    async def run(self, connection: socket.socket) -> None:
        """Everything, from the accepted socket to `accept_channel`; says how it ended."""
        loop = asyncio.get_running_loop()
        transport = self._transport
        await loop.connect_accepted_socket(lambda: transport, connection)
        try:
            await self._shake_hands()
            features = await self._exchange_init()
            await self._wait_for_filter()
            await self._ping()
            await self._open_channel(features)
            await self._wait_until_closed()
        except (PeerFailed, HandshakeError, BoltError, ConnectionError) as error:
            emit("failed", reason=str(error))
            transport.close("the other side failed")
        except TimeoutError:
            emit("failed", reason="the other side did not answer in time")
            transport.close("the other side is late")

    # ---- PeerTransport's consumer ----

    def on_message(self, type: int, view: memoryview, /) -> None:
        """A message came."""
        try:
            self._messages.put_nowait(bytes(view))
        except asyncio.QueueFull:
            self._transport.abort("too many messages")

    def on_closed(self, reason: str, /) -> None:
        """The connection is over."""
        emit("closed", reason=reason)
        if self._messages.full():
            self._messages.get_nowait()
        self._messages.put_nowait(reason)

    # ---- the conversation ----

    async def _shake_hands(self) -> None:
        transport = self._transport
        async with asyncio.timeout(_PATIENCE):
            act_one = await transport.receive_exactly(ACT_ONE_SIZE)
            transport.write_raw(self._responder.act_one(act_one))
            keys = self._responder.act_three(await transport.receive_exactly(ACT_THREE_SIZE))
        emit("connected", node_id=self._responder.remote_node_id.hex())
        transport.start(
            CipherState(keys.sending_key, keys.chaining_key),
            CipherState(keys.receiving_key, keys.chaining_key),
        )

    async def _exchange_init(self) -> Features:
        """Returns the features that both sides offer."""
        self._send(
            Init(
                globalfeatures=b"",
                features=DEFAULT_FEATURES.to_bytes(),
                networks=(CHAIN_HASHES["regtest"],),
            )
        )
        async with asyncio.timeout(_PATIENCE):
            theirs = check_init(await self._receive(Init), DEFAULT_FEATURES)
        return Features.offering(
            *(item for item in Feature if theirs.offers(item) and DEFAULT_FEATURES.offers(item))
        )

    async def _wait_for_filter(self) -> None:
        """Let the other side read our `init` before more comes: the filter is its answer to that.

        BOLT #7 leaves it to the other side whether it sends one, so don't wait for long.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_FILTER_PATIENCE):
                await self._receive(GossipTimestampFilter)

    async def _ping(self) -> None:
        transport = self._transport
        emit("ping_sent", size=_PING_SIZE)
        transport.send_ping(_PONG_BYTES, _PADDING)
        async with asyncio.timeout(_PATIENCE):
            while transport.awaiting_pong:
                if transport.is_closing:
                    raise PeerFailed("no pong came")
                await asyncio.sleep(_LOOK)
        emit("pong_received", size=_PONG_SIZE)

    async def _open_channel(self, features: Features) -> None:
        open_channel = _make_open_channel()
        self._send(open_channel)
        async with asyncio.timeout(_ACCEPT_PATIENCE):
            accept_channel = await self._receive(AcceptChannel)
        check_accept_channel(open_channel, accept_channel, features)
        emit("done")

    async def _wait_until_closed(self) -> None:
        while isinstance(await self._messages.get(), bytes):
            pass

    def _send(self, message: Message) -> None:
        data = message.encode()
        emit(f"{message.NAME}_sent", size=len(data))
        self._transport.send(data)

    async def _receive(self, kind: type[M]) -> M:
        """The next message of this class; an `error` is a failure, what else comes is passed over.

        Raises `PeerFailed`, `BoltError`.
        """
        while True:
            data = await self._messages.get()
            if isinstance(data, str):
                raise PeerFailed(f"the connection ended before {kind.NAME} came: {data}")
            if not is_known(int.from_bytes(data[:2], "big")):
                continue
            message = decode(data)
            emit(f"{message.NAME}_received", size=len(data), fields=to_dict(message))
            if isinstance(message, Error):
                raise PeerFailed(f"an error came: {message.data.decode('ascii', 'replace')}")
            if isinstance(message, kind):
                return message


def _make_open_channel() -> OpenChannel:
    """A public channel of 1,000,000 sat with keys of its own, as lnd would ask for it."""
    return OpenChannel(
        chain_hash=CHAIN_HASHES["regtest"],
        temporary_channel_id=secrets.token_bytes(32),
        funding_satoshis=1_000_000,
        push_msat=0,
        dust_limit_satoshis=354,
        max_htlc_value_in_flight_msat=990_000_000,
        channel_reserve_satoshis=10_000,
        htlc_minimum_msat=1,
        feerate_per_kw=253,
        to_self_delay=144,
        max_accepted_htlcs=483,
        funding_pubkey=_point(),
        revocation_basepoint=_point(),
        payment_basepoint=_point(),
        delayed_payment_basepoint=_point(),
        htlc_basepoint=_point(),
        first_per_commitment_point=_point(),
        channel_flags=1,
        upfront_shutdown_script=b"",
        channel_type=_ANCHORS.to_bytes(),
    )


def _point() -> bytes:
    return PrivateKey().public_key.format()


async def _serve(host: str, port: int) -> None:
    node = PrivateKey()
    loop = asyncio.get_running_loop()
    with socket.create_server((host, port)) as listening:
        listening.setblocking(False)
        port = listening.getsockname()[1]
        emit("listening", address=f"{node.public_key.format().hex()}@{host}:{port}")
        async with asyncio.TaskGroup() as conversations:
            while True:
                connection, _ = await loop.sock_accept(listening)
                conversations.create_task(Conversation(node.secret).run(connection))


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(prog="lightning_proxy.demo.peer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9735, help="0: a free one")
    options = parser.parse_args()
    try:
        uvloop.run(_serve(options.host, options.port))
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise SystemExit(f"{options.host} port {options.port}: {error.strerror}") from None


if __name__ == "__main__":
    main()
