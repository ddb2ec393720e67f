"""Those who mean well, and what they see of a flood."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.attack.means import Peer, session
from tests.support.numbered import number_of, numbered
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.receivers import Receiver
from tests.support.relay import RawWallet, RpcFailure, raw_wallet

#: Seconds between two of the peer's pings, each with a message, and between two logins.
_PING_EVERY: Final = 0.02
_LOGIN_EVERY: Final = 0.25
#: Between two dials: as many as a wallet may make for ever.
_DIAL_EVERY: Final = 1.0
#: Seconds for what has to come: who waits longer counts as lost.
_PATIENCE: Final = 15.0
_PING: Final = b"\x00\x12\x00\x01\x00\x00"
_PONG: Final = 0x13
#: From where the honest ones come: a network that no attacker says is his.
_HOME: Final = {"X-Forwarded-For": "192.88.99.1"}


@dataclass
class Seen:
    """During one phase; times in seconds."""

    pings: list[float] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    dials: list[float] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    failed: list[str] = field(default_factory=list)


class Honest:
    """A wallet that is there, with its peer, and one that sleeps: `phase` observes them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._secret, self._sleeper = secrets.token_bytes(32), secrets.token_bytes(32)
        self._peer = ScriptedPeer(secrets.token_bytes(32))
        #: Answers whoever dials it.
        self._dialled = Peer(_silent)
        self._receiver = Receiver()
        self._heard: set[int] = set()
        self._number = 0
        self._some = asyncio.Event()

    @asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        """Both have logged in, and have a session with the peer."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._peer.serve())
            await stack.enter_async_context(self._dialled.serve())
            await stack.enter_async_context(self._receiver.serve())
            async with self._login(self._sleeper) as sleeper:
                _, self._sleepers = await self._session(sleeper)
                await sleeper.call("wake_by_webhook", url=f"{self._receiver.url}/sleeper")
            self._wallet = await stack.enter_async_context(self._login(self._secret))
            _, self._connection = await self._session(self._wallet)
            await self._wallet.call("wake_by_webhook", url=f"{self._receiver.url}/wallet")
            listening = asyncio.create_task(self._listen())
            stack.push_async_callback(_end, listening)
            yield

    def _login(self, secret: bytes) -> Any:
        return raw_wallet(self._url, secret, headers=_HOME)

    async def _session(self, wallet: RawWallet) -> tuple[str, PeerConnection]:
        session_id, connection = await wallet.open_session(self._peer)
        await wallet.call("subscribe", session_id=session_id, raw=True)
        return session_id, connection

    async def _listen(self) -> None:
        while True:
            body = await self._wallet.events.get()
            if body.get("method") == "message":
                self._heard.add(number_of(body["params"]))
                self._some.set()
                if len(self._heard) % 50 == 0:
                    position = body["params"]["position"]
                    await self._wallet.send_json(
                        {
                            "jsonrpc": "2.0",
                            "method": "acknowledge",
                            "params": {"position": position},
                        }
                    )

    async def phase(self, seconds: float) -> Seen:
        """Look for so long."""
        seen = Seen()
        until = time.monotonic() + seconds
        first = self._number
        waking = asyncio.create_task(self._wake(seen))
        await asyncio.gather(
            self._ping(seen, until), self._log_in(seen, until), self._dial(seen, until)
        )
        await waking
        seen.sent += self._number - first
        wanted = set(range(first, self._number))
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not wanted <= self._heard:
                    self._some.clear()
                    await self._some.wait()
        seen.lost += len(wanted - self._heard)
        return seen

    async def _ping(self, seen: Seen, until: float) -> None:
        connection = self._connection
        try:
            while time.monotonic() < until:
                began = time.perf_counter()
                await connection.send(_PING)
                while int.from_bytes((await connection.receive())[:2], "big") != _PONG:
                    pass
                seen.pings.append(time.perf_counter() - began)
                await connection.send(numbered(self._number))
                self._number += 1
                await asyncio.sleep(_PING_EVERY)
        except (EOFError, OSError, TimeoutError) as error:
            seen.failed.append(f"the peer: {error!r}")

    async def _log_in(self, seen: Seen, until: float) -> None:
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                async with self._login(self._secret):
                    seen.logins.append(time.perf_counter() - began)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody got in
                seen.failed.append(f"a login: {error!r}")
            await asyncio.sleep(_LOGIN_EVERY)

    async def _dial(self, seen: Seen, until: float) -> None:
        """A session more, for a moment; who is told to come again later does."""
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                session_id = await session(self._wallet, self._dialled)
                seen.dials.append(time.perf_counter() - began)
                await self._wallet.call("close", session_id=session_id)
            except RpcFailure as failure:
                if failure.code != "limit":
                    seen.failed.append(f"a dial: {failure!r}")
            except (OSError, TimeoutError) as error:
                seen.failed.append(f"a dial: {error!r}")
            await asyncio.sleep(_DIAL_EVERY)

    async def _wake(self, seen: Seen) -> None:
        """Something comes for the wallet that sleeps: it is woken, and finds it."""
        number = 0x8000 | secrets.randbits(14)
        seen.sent += 1
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._sleepers.send(numbered(number))
                while (await self._receiver.pushes.get()).path != "/sleeper":
                    pass
                async with self._login(self._sleeper) as sleeper:
                    params = await sleeper.event_of("message")
                    while number_of(params) != number:
                        params = await sleeper.event_of("message")
                    await sleeper.acknowledge()
        except (EOFError, OSError, TimeoutError, aiohttp.ClientError) as error:
            seen.lost += 1
            seen.failed.append(f"the sleeping wallet: {error!r}")


async def _silent(connection: PeerConnection) -> None:
    """A peer that waits for the other side to go."""
    await connection.reader.read(-1)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
