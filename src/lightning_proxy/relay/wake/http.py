"""Calls the URLs that wallets name, and only those that may be called."""

import asyncio
import email.utils
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lightning_proxy.http import Answer, Client
from lightning_proxy.networks import is_loopback
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.text import printable
from lightning_proxy.relay.wake.adapter import (
    Delivered,
    Failed,
    Gone,
    Notice,
    Outcome,
    Say,
    Spared,
)
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import ErrorCode, RpcError

#: Bytes of an answer that are read: its beginning is for the wallet, if for anybody.
_MAX_ANSWER: Final = 4096
#: Characters of it that a wallet is shown.
_MAX_REASON: Final = 200
_LETTERS: Final = re.compile(r"[\x21-\x7e]+")
#: Seconds; a receiver may not put a wallet to sleep for ever.
_MAX_RETRY_AFTER: Final = 3600.0
#: A POST's body, and its headers.
Letter = tuple[bytes, dict[str, str]]


class GuardedHttp:
    """Use as an async context manager.

    The address is checked after the name was resolved, and that very address is called: a name
    that means something else a moment later gains nothing. Redirects are not followed.
    """

    def __init__(self, policy: DialPolicy, resolver: Resolver, settings: WakeSettings) -> None:
        self._policy = policy
        self._resolver = resolver
        self._settings = settings
        #: Calls to a host, those that wait for their turn too.
        self._calls: Counter[str] = Counter()
        self._host_slots: dict[str, asyncio.Semaphore] = {}
        self._slots = asyncio.Semaphore(settings.max_concurrent)

    async def __aenter__(self) -> Self:
        self._client = Client(
            self._settings.timeout,
            _MAX_ANSWER,
            resolver=_GuardedResolver(self._policy, self._resolver),
            use_dns_cache=False,
            # `_turn` limits them: who waits in there would already be timed.
            limit=0,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def check(self, url: str) -> str:
        """The host of a URL that may be called, as far as that shows without resolving it.

        Raises `RpcError` (invalid_params, address_forbidden).
        """
        # It is called letter for letter: what a URL may not hold would get into the request's line.
        if not _LETTERS.fullmatch(url):
            raise RpcError(
                ErrorCode.INVALID_PARAMS, "Encode a URL's spaces and letters that are not ASCII."
            )
        try:
            parsed = URL(url, encoded=True)
            host = parsed.host
        except ValueError:
            host = None
        if host is None or parsed.user is not None or parsed.password is not None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "Write a URL like https://host/path.")
        if parsed.fragment:
            raise RpcError(ErrorCode.INVALID_PARAMS, "A URL to be called has no fragment.")
        if not (parsed.scheme == "https" or (parsed.scheme == "http" and is_loopback(host))):
            raise RpcError(ErrorCode.INVALID_PARAMS, "Only https:// is called.")
        try:
            literal = ip_address(host)
        except ValueError:
            # "127.1", "2130706433": no name, and the system's resolver takes it for an address.
            if host.rstrip(".").rpartition(".")[2].isdigit():
                raise RpcError(
                    ErrorCode.INVALID_PARAMS, "Write an address with all four numbers, in decimal."
                ) from None
            return host
        if not self._policy.allows(literal):
            raise RpcError(ErrorCode.ADDRESS_FORBIDDEN, "This relay does not call that address.")
        return host

    async def post(
        self,
        url: str,
        say: Say,
        write: Callable[[Notice], Awaitable[Letter]],
        *,
        gone: frozenset[int] = frozenset(),
    ) -> Outcome:
        """POST what is written of what there is to say when the turn has come.

        Never raises for what the receiver does, only what `write` does. `gone`: statuses that say
        so.
        """
        try:
            host = self.check(url)
        except RpcError as error:
            return Failed(error.sentence)
        async with AsyncExitStack() as stack:
            try:
                # Who waits longer is better off with the next attempt.
                async with asyncio.timeout(self._settings.timeout):
                    await stack.enter_async_context(self._turn(host))
            except TimeoutError:
                return Failed("too many wallets are woken there at once")
            notice = say()
            if notice is None:
                return Spared()
            return await self._post(url, await write(notice), gone)

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """First the host's slot: a wait for a slow one takes no other's place."""
        self._calls[host] += 1
        host_slots = self._host_slots.setdefault(
            host, asyncio.Semaphore(self._settings.max_concurrent_per_host)
        )
        try:
            async with host_slots, self._slots:
                yield
        finally:
            self._calls[host] -= 1
            if not self._calls[host]:
                del self._calls[host], self._host_slots[host]

    async def _post(self, url: str, letter: Letter, gone: frozenset[int]) -> Outcome:
        # The URL as it was registered: the receiver checks the signature over just this.
        try:
            answer = await self._client.ask("POST", URL(url, encoded=True), *letter)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed(_why(error))
        return _outcome(answer, gone)


class _Forbidden(OSError):
    """The name resolves to addresses that are not called."""


class _GuardedResolver(AbstractResolver):
    def __init__(self, policy: DialPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        allowed = [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._resolver.resolve(host, port, family)
            if self._policy.allows(ip_address(address))
        ]
        if not allowed:
            raise _Forbidden("this relay does not call that address")
        return allowed

    async def close(self) -> None:
        pass


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    for cause in (error, error.__cause__):
        if isinstance(cause, _Forbidden):
            return str(cause)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name can't be resolved"
    return f"it can't be reached ({type(error).__name__})"


def _outcome(answer: Answer, gone: frozenset[int]) -> Outcome:
    if 200 <= answer.status < 300:
        return Delivered()
    why = f"it answered with HTTP status {answer.status}"
    # Push services say what is wrong with a token or a subscription.
    words = " ".join(answer.body.decode("utf-8", "replace").split())
    words = printable(words[:_MAX_REASON])
    if answer.status in gone:
        return Gone(why, words)
    return Failed(why, words, _retry_after(answer.headers.get("Retry-After")))


def _retry_after(value: str | None) -> float | None:
    """RFC 9110 §10.2.3: seconds, or a date."""
    if value is None:
        return None
    try:
        seconds = float(int(value))
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)
