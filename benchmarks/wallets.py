"""Wallets for load: pre-encoded requests over plain sockets, by REST and by the websocket.

They read of an answer what they need and compare the rest; a client for real use is in
`lightning_proxy.wallet`. The websocket's masking key is zero, which costs the relay as much as any.
"""

import asyncio
import base64
import secrets
import struct
from collections.abc import Callable, Iterator
from typing import Final, cast

import msgspec
from coincurve import PrivateKey

from benchmarks.rehearsed import ACT_ONE, ACT_THREE, ACT_TWO, INIT, KEYS
from lightning_proxy import rpc
from lightning_proxy.bolt.keys import sign_message
from lightning_proxy.rpc import authentication_text

_ID_SIZE: Final = 32
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
_PING: Final = 0x89
_PONG: Final = 0x8A


class WalletFailed(Exception):
    """The relay said something else than expected."""


def _post(path: str, host: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class RestWallet(asyncio.Protocol):
    """One keep-alive connection: sets up a session with each peer of `peers`, one at a time.

    `finished` is done when there are no more; wallets may share the iterator.
    """

    _CONNECTED: Final = b'","message":"' + ACT_TWO.hex().encode() + b'"}'
    _SHAKEN: Final = b'{"message":"' + INIT.hex().encode() + b'"}'
    _BODY: Final = msgspec.json.encode(
        {
            "message": ACT_THREE.hex(),
            "keys": {
                "sending": KEYS.receiving_key.hex(),
                "receiving": KEYS.sending_key.hex(),
                "chaining": KEYS.chaining_key.hex(),
            },
        }
    )

    def __init__(self, host: str) -> None:
        self._host = host
        self._handshake = _post("/api/handshake/%s", host, self._BODY).split(b"%s")
        self._connects: dict[str, bytes] = {}
        self._answer = b""
        self._connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def set_up(self, peers: Iterator[str]) -> asyncio.Future[None]:
        """Begin; the future is done when there are no more peers."""
        self._peers = peers
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connect()
        return self._finished

    def _connect(self) -> None:
        peer = next(self._peers, None)
        if peer is None:
            self._finished.set_result(None)
            return
        request = self._connects.get(peer)
        if request is None:
            body = msgspec.json.encode({"url": peer, "message": ACT_ONE.hex()})
            request = self._connects[peer] = _post("/api/connect", self._host, body)
        self._connected = False
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b'"}'):
            return
        answer, self._answer = self._answer, b""
        expected = self._SHAKEN if self._connected else self._CONNECTED
        if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(expected)):
            self._finished.set_exception(WalletFailed(answer.decode()))
        elif self._connected:
            self._connect()
        else:
            self._connected = True
            end = len(answer) - len(expected)
            self._transport.write(answer[end - _ID_SIZE : end].join(self._handshake))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(WalletFailed("the relay closed the connection"))


class SocketWallet(asyncio.Protocol):
    """One authenticated websocket: `send` JSON-RPC, get `on_text` for each message.

    `secret` is the node key (fresh, if nothing is said), `heard` the `on_text` from the welcome on.
    """

    def __init__(
        self, url: str, secret: bytes | None = None, heard: Callable[[bytes], None] | None = None
    ) -> None:
        self._url = url
        self._secret = secret or secrets.token_bytes(32)
        self._heard = heard
        self._host = url.partition("//")[2]
        self._buffer = b""
        self._upgraded = False
        self.on_text: Callable[[bytes], None] = self._log_in
        self.authenticated: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport.write(
            f"GET {rpc.PATH} HTTP/1.1\r\nHost: {self._host}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {rpc.SUBPROTOCOL}\r\n\r\n".encode()
        )

    def send(self, text: bytes) -> None:
        """One text frame."""
        self._send_frame(_TEXT, text)

    def close(self) -> None:
        """Hang up."""
        self._send_frame(_CLOSE, b"")
        self._transport.close()

    def _send_frame(self, first: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((first, 0x80 | size)) if size < 126 else struct.pack(">BBH", first, 254, size)
        self._transport.write(b"".join((head, b"\0\0\0\0", payload)))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, end = 0, len(data)
        if not self._upgraded:
            at = data.find(b"\r\n\r\n") + 4
            if at == 3:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101 "):
                raise WalletFailed(data.decode())
            self._upgraded = True
        while end - at >= 4:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                raise WalletFailed("a frame of more than 65,535 bytes")
            if start + size > end:
                break
            first, at = data[at], start + size
            if first == _TEXT:
                self.on_text(data[start:at])
            elif first == _PING:
                self._send_frame(_PONG, data[start:at])
            elif first == _CLOSE:
                self._transport.close()
            else:
                raise WalletFailed(f"a frame of the type {first:x}: {data[start:at]!r}")
        self._buffer = data[at:]

    def _log_in(self, text: bytes) -> None:
        """Answer the challenge, then wait for the welcome."""
        said = msgspec.json.decode(text)
        if "result" in said:
            self.authenticated.set_result(None)
            self.on_text = self._heard or self.on_text
            return
        if said.get("method") != "challenge":
            raise WalletFailed(text.decode())
        params = {
            "node_id": PrivateKey(self._secret).public_key.format().hex(),
            "signature": sign_message(
                self._secret, authentication_text(self._url, said["params"]["challenge"])
            ),
        }
        self.send(rpc.encode_request(0, "authenticate", params).encode())


async def socket_wallet(
    url: str,
    port: int,
    secret: bytes | None = None,
    heard: Callable[[bytes], None] | None = None,
) -> SocketWallet:
    """A wallet with a node key of its own, authenticated; the rest is `SocketWallet`'s."""
    loop = asyncio.get_running_loop()
    _, wallet = await loop.create_connection(
        lambda: SocketWallet(url, secret, heard), "127.0.0.1", port
    )
    await wallet.authenticated
    return wallet


class SocketSetUps:
    """Sets up sessions over one wallet's websocket, so many at a time.

    A request's id tells the step: even ids ask `connect`, odd ones `handshake`.
    """

    _CONNECT: Final = (
        '{"jsonrpc":"2.0","id":%d,"method":"connect","params":{"peer":"%s","act_one":"'
        + ACT_ONE.hex()
        + '"}}'
    )
    _KEY: Final = '{"key":"%s","nonce":0,"chaining_key":"' + KEYS.chaining_key.hex() + '"}'
    _HANDSHAKE: Final = (
        '{"jsonrpc":"2.0","id":%d,"method":"handshake","params":{"session_id":"%s","act_three":"'
        + ACT_THREE.hex()
        + f'","sending":{_KEY % KEYS.receiving_key.hex()}'
        + f',"receiving":{_KEY % KEYS.sending_key.hex()}}}}}'
    )
    _CONNECTED: Final = b'","act_two":"' + ACT_TWO.hex().encode() + b'"},"jsonrpc":"2.0"}'
    _SHAKEN: Final = b'"result":{"init":"' + INIT.hex().encode() + b'"},"jsonrpc":"2.0"}'

    def __init__(self, wallet: SocketWallet) -> None:
        self._wallet = wallet
        wallet.on_text = self._on_text

    def set_up(self, peers: Iterator[str], in_flight: int) -> asyncio.Future[None]:
        """Begin; the future is done when there are no more peers."""
        self._peers = peers
        self._number = self._under_way = 0
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for _ in range(in_flight):
            self._connect()
        return self._finished

    def _connect(self) -> None:
        peer = next(self._peers, None)
        if peer is not None:
            self._under_way += 1
            self._wallet.send((self._CONNECT % (self._number, peer)).encode())
            self._number += 2
        elif self._under_way == 0 and not self._finished.done():
            self._finished.set_result(None)

    def _on_text(self, text: bytes) -> None:
        if text.endswith(self._CONNECTED):
            number = int(text[len('{"id":') : text.index(b",")])
            end = len(text) - len(self._CONNECTED)
            session_id = text[end - _ID_SIZE : end].decode()
            self._wallet.send((self._HANDSHAKE % (number + 1, session_id)).encode())
        elif text.endswith(self._SHAKEN):
            self._under_way -= 1
            self._connect()
        elif b'"method":"closed"' not in text:
            self._finished.set_exception(WalletFailed(text.decode()))
