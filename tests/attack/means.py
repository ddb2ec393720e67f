"""What every attacker has: networks to come from, sessions without a name, peers of its own."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from coincurve import PrivateKey

from lightning_proxy.transport import CipherState
from lightning_proxy.transport.handshake import Initiator, TransportKeys
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT, handshake_params, raw_wallet

_networks: Final = itertools.count()


def elsewhere() -> dict[str, str]:
    """Headers of a request from a network that nobody came from before."""
    number = next(_networks)
    return {"X-Forwarded-For": f"11.{number >> 8 & 255}.{number & 255}.1"}


def somebody() -> bytes:
    """The id of a node that nobody heard of."""
    return PrivateKey(secrets.token_bytes(32)).public_key.format()


Play = Callable[[PeerConnection], Awaitable[None]]


class Tally:
    """What a flood came to."""

    done = 0
    failed = 0
    last = ""


class Loud(PeerConnection):
    """Seals as fast as the relay does: a slow attacker would say nothing about it."""

    def use(self, keys: TransportKeys) -> None:
        super().use(keys)
        self._fast = CipherState(keys.sending_key, keys.chaining_key)

    async def send(self, *messages: bytes) -> None:
        await self.raw(self._fast.seal_many(messages))
        Tally.done += len(messages)


class Peer(ScriptedPeer):
    """Answers whoever dials it, and then does its worst by itself."""

    def __init__(self, play: Play) -> None:
        super().__init__(secrets.token_bytes(32))
        self._play = play

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Loud(self.node_secret, reader, writer)
        self._all.append(connection)
        try:
            await connection.handshake()
            await connection.receive()
            await connection.send(PEER_INIT)
            await self._play(connection)
        except (EOFError, OSError, TimeoutError):
            # It was cut off.
            pass


async def rest_session(url: str, peer: ScriptedPeer, headers: dict[str, str]) -> bool:
    """A session that no wallet has; False: the relay wanted none."""
    initiator = Initiator(secrets.token_bytes(32), peer.node_id)
    body: dict[str, object] = {"url": peer.address, "message": initiator.act_one().hex()}
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{url}/api/connect", json=body) as response:
            if response.status != 200:
                return False
            connected = await response.json()
        act_three = initiator.act_two(bytes.fromhex(connected["message"]))
        keys = initiator.keys
        body = {
            "message": act_three.hex(),
            "keys": {
                "sending": keys.sending_key.hex(),
                "receiving": keys.receiving_key.hex(),
                "chaining": keys.chaining_key.hex(),
            },
        }
        async with http.post(f"{url}/api/handshake/{connected['id']}", json=body) as response:
            return response.status == 200


@asynccontextmanager
async def wallet(url: str, secret: bytes | None = None, **options: Any) -> AsyncIterator[Any]:
    """One that costs nothing, of a network of its own if none is given (`headers`)."""
    async with raw_wallet(url, secret, **{"headers": elsewhere(), **options}) as there:
        yield there


async def session(there: Any, peer: ScriptedPeer) -> str:
    """A session of a wallet's with a peer that plays by itself; returns its id."""
    initiator = Initiator(there.secret, peer.node_id)
    connected = await there.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
    await there.call("handshake", **handshake_params(initiator, connected))
    session_id: str = connected["session_id"]
    return session_id


async def at_once(count: int, what: Callable[[], Awaitable[object]]) -> None:
    """So many attempts side by side, over and over; whatever becomes of them."""

    async def again() -> None:
        while True:
            try:
                await what()
                Tally.done += 1
            except Exception as error:  # noqa: BLE001 - a flood goes on
                Tally.failed += 1
                Tally.last = repr(error)[:200]
                await asyncio.sleep(0.01)

    await asyncio.gather(*(again() for _ in range(count)))
