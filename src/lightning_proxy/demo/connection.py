"""One connection of the demo's peer: the handshake as its responder, `init`, and whole messages."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Features, check_init
from lightning_proxy.bolt.messages import Error, Init, Message, decode, is_known, to_dict
from lightning_proxy.chain import ChainError
from lightning_proxy.demo.lines import Emit
from lightning_proxy.transport import CipherState, PeerTransport
from lightning_proxy.transport.handshake import (
    ACT_ONE_SIZE,
    ACT_THREE_SIZE,
    HandshakeError,
    Responder,
)

#: Seconds for each thing that the other side owes.
_PATIENCE: Final = 10.0
#: Seconds to let the other side read our `init`.
_SETTLE_PATIENCE: Final = 1.0
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

M = TypeVar("M", bound=Message)


class PeerFailed(Exception):
    """The other side did not do what it should; the sentence says what."""


class ConnectionOver(PeerFailed):
    """The connection is over: nothing more will come."""


class Connection:
    """The consumer of one connection's `PeerTransport`; `say` is told what happens on it."""

    #: What both sides offer, once `open` has returned.
    features: Features

    def __init__(self, node_secret: bytes, say: Emit) -> None:
        self._responder = Responder(node_secret)
        self._say = say
        self._messages: asyncio.Queue[bytes | str] = asyncio.Queue(_MAX_WAITING)
        self._heard = asyncio.Event()
        self._transport = PeerTransport(self)

    @property
    def remote_node_id(self) -> bytes:
        """Who is there (33 bytes), once `open` has returned."""
        return self._responder.remote_node_id

    # ---- PeerTransport's consumer ----

    def on_message(self, type: int, view: memoryview, /) -> None:
        """A message came."""
        self._heard.set()
        try:
            self._messages.put_nowait(bytes(view))
        except asyncio.QueueFull:
            self._transport.abort("too many messages")

    def on_closed(self, reason: str, /) -> None:
        """The connection is over."""
        self._heard.set()
        self._say("closed", reason=reason)
        if self._messages.full():
            self._messages.get_nowait()
        self._messages.put_nowait(reason)

    # ---- what is said ----

    async def open(self, connection: socket.socket) -> None:
        """From the accepted socket to both `init`s; raises what `converse_with_all` catches."""
        transport = self._transport
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: transport, connection)
        async with asyncio.timeout(_PATIENCE):
            act_one = await transport.receive_exactly(ACT_ONE_SIZE)
            transport.write_raw(self._responder.act_one(act_one))
            keys = self._responder.act_three(await transport.receive_exactly(ACT_THREE_SIZE))
        self._say("connected", node_id=self.remote_node_id.hex())
        transport.start(
            CipherState(keys.sending_key, keys.chaining_key),
            CipherState(keys.receiving_key, keys.chaining_key),
        )
        self.send(
            Init(
                globalfeatures=b"",
                features=DEFAULT_FEATURES.to_bytes(),
                networks=(CHAIN_HASHES["regtest"],),
            )
        )
        async with asyncio.timeout(_PATIENCE):
            init = await self.receive_one(Init)
        self.features = check_init(init, DEFAULT_FEATURES) & DEFAULT_FEATURES
        await self._settle()

    async def _settle(self) -> None:
        """Let the other side read our `init` before more comes: what it says next shows that.

        Mostly a `gossip_timestamp_filter`, which BOLT #7 leaves to it, so don't wait for long.
        """
        if not self._messages.empty():
            return
        self._heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_PATIENCE):
                await self._heard.wait()

    async def ping(self) -> None:
        """Send a ping and wait for its pong; raises `PeerFailed`, `TimeoutError`."""
        transport = self._transport
        self._say("ping_sent", size=_PING_SIZE)
        transport.send_ping(_PONG_BYTES, _PADDING)
        async with asyncio.timeout(_PATIENCE):
            while transport.awaiting_pong:
                if transport.is_closing:
                    raise PeerFailed("no pong came")
                await asyncio.sleep(_LOOK)
        self._say("pong_received", size=_PONG_SIZE)

    def send(self, message: Message) -> None:
        """Send a message; on a connection that is over nothing happens."""
        if self._transport.is_closing:
            return
        data = message.encode()
        self._say(f"{message.NAME}_sent", size=len(data))
        self._transport.send(data)

    async def receive(self) -> tuple[bytes, Message]:
        """The next message, raw and decoded; those of unknown types are passed over.

        Raises `BoltError`, and `ConnectionOver`.
        """
        while True:
            data = await self._messages.get()
            if isinstance(data, str):
                raise ConnectionOver(f"the connection is over: {data}")
            if not is_known(int.from_bytes(data[:2], "big")):
                continue
            message = decode(data)
            self._say(f"{message.NAME}_received", size=len(data), fields=to_dict(message))
            return data, message

    async def receive_one(self, kind: type[M]) -> M:
        """The next message of this class; an `error` is a failure, what else comes is passed over.

        Raises `PeerFailed`, `BoltError`.
        """
        while True:
            _, message = await self.receive()
            if isinstance(message, Error):
                raise PeerFailed(f"an error came: {text_of(message)}")
            if isinstance(message, kind):
                return message

    async def wait_until_closed(self) -> None:
        """Read on, and do nothing."""
        while isinstance(await self._messages.get(), bytes):
            pass

    def close(self, reason: str) -> None:
        """Hang up, once what was sent has left."""
        self._transport.close(reason)


def text_of(error: Error) -> str:
    """What an `error` says."""
    return error.data.decode("ascii", "replace")


async def converse_with_all(
    node_secret: bytes,
    listening: socket.socket,
    converse: Callable[[Connection], Awaitable[None]],
    say: Emit,
) -> None:
    """Accept connections on a non-blocking socket, for ever; `converse` begins after `init`.

    It may raise `PeerFailed`, `BoltError`, `ChainError`, `ConnectionError` and `TimeoutError`,
    which end its connection.
    """

    async def one(accepted: socket.socket) -> None:
        connection = Connection(node_secret, say)
        try:
            await connection.open(accepted)
            await converse(connection)
        except (PeerFailed, HandshakeError, BoltError, ChainError, ConnectionError) as error:
            say("failed", reason=str(error))
            connection.close("the other side failed")
        except TimeoutError:
            say("failed", reason="the other side did not answer in time")
            connection.close("the other side is late")
        finally:
            connection.close("the conversation is over")

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as conversations:
        while True:
            accepted, _ = await loop.sock_accept(listening)
            conversations.create_task(one(accepted))


def address_of(node_secret: bytes, listening: socket.socket) -> str:
    """Where a node listens, as "pubkey@host:port"."""
    node_id = PrivateKey(node_secret).public_key.format()
    host, port = listening.getsockname()[:2]
    return f"{node_id.hex()}@{host}:{port}"
