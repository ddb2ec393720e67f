"""Who is pushed to: a webhook's receiver, and a push service with the browser behind it."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import http_ece
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from multidict import CIMultiDictProxy

WAIT = 10.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Push:
    """One POST that came."""

    path: str
    headers: CIMultiDictProxy[str]
    body: bytes


class Receiver:
    """An HTTP server; `pushes` came, and `answer` says what it answers with (default: 200)."""

    def __init__(self) -> None:
        self.pushes: asyncio.Queue[Push] = asyncio.Queue()
        self.answer: Answer | None = None

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.pushes.put_nowait(Push(request.path, request.headers, body))
        return web.Response() if self.answer is None else await self.answer(request)

    def answers(self, status: int, **options: Any) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, **options)

        self.answer = answer

    async def push(self) -> Push:
        """The next one."""
        return await asyncio.wait_for(self.pushes.get(), WAIT)

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", ssl: SSLContext | None = None
    ) -> AsyncIterator["Receiver"]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._post)
        server = TestServer(app, host=host, scheme="http" if ssl is None else "https")
        await server.start_server(ssl=ssl)
        assert server.port is not None
        self.port = server.port
        self.url = f"{server.scheme}://{host}:{server.port}"
        try:
            yield self
        finally:
            await server.close()


class Browser:
    """A `PushSubscription`'s keys, and what a browser does with a push (RFC 8291)."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)

    def subscription(self, endpoint: str) -> dict[str, str]:
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {"endpoint": endpoint, "p256dh": b64(point), "auth": b64(self._auth)}

    def open(self, push: Push) -> Any:
        """The JSON in a push; raises where it isn't for this browser."""
        assert push.headers["Content-Encoding"] == "aes128gcm"
        plain = http_ece.decrypt(push.body, private_key=self._key, auth_secret=self._auth)
        return json.loads(plain)


def check_vapid(push: Push, public_key: str, audience: str, now: float) -> dict[str, Any]:
    """What a push service checks (RFC 8292): the token's signature, for whom and until when."""
    scheme, _, rest = push.headers["Authorization"].partition(" ")
    assert scheme == "vapid"
    values = dict(item.strip().split("=", 1) for item in rest.split(","))
    assert values["k"] == public_key
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(public_key))
    signed, _, signature = values["t"].rpartition(".")
    raw = unb64(signature)
    half = len(raw) // 2
    der = encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
    point.verify(der, signed.encode(), ec.ECDSA(SHA256()))
    header, claims = (json.loads(unb64(part)) for part in signed.split("."))
    assert header["alg"] == "ES256"
    assert claims["aud"] == audience
    assert now < claims["exp"] <= now + 24 * 3600
    result: dict[str, Any] = claims
    return result


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
