"""Calls the URLs that wallets name, and only those that may be called."""

import asyncio
import email.utils
import socket
import time
from collections import Counter
from ipaddress import ip_address
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lightning_proxy.relay.dialler import DialPolicy
from lightning_proxy.relay.wake.adapter import Delivered, Failed, Gone, Outcome
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import ErrorCode, RpcError

#: Bytes of an answer that are read; nothing in it is of interest.
_MAX_ANSWER: Final = 4096
#: Pushes that may wait for one host beside those under way; of more, each fails and comes later.
_MAX_WAITING: Final = 2000
#: Seconds; a receiver may not put a wallet to sleep for ever.
_MAX_RETRY_AFTER: Final = 3600.0


class GuardedHttp:
    """Use as an async context manager.

    The address is checked after the name was resolved, and that very address is called: a name
    that means something else a moment later gains nothing. Redirects are not followed.
    """

    def __init__(self, policy: DialPolicy, settings: WakeSettings) -> None:
        self._policy = policy
        self._settings = settings
        self._waiting: Counter[str] = Counter()
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_GuardedResolver(self._policy),
                use_dns_cache=False,
                limit=self._settings.max_concurrent,
            ),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def check(self, url: str) -> str:
        """The host of a URL that may be called, as far as that shows without resolving it.

        Raises `RpcError` (invalid_params, address_forbidden).
        """
        try:
            parsed = URL(url)
            host = parsed.host
        except ValueError:
            host = None
        if host is None or parsed.user is not None or parsed.password is not None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "Write a URL like https://host/path.")
        if parsed.fragment:
            raise RpcError(ErrorCode.INVALID_PARAMS, "A URL to be called has no fragment.")
        if not (parsed.scheme == "https" or (parsed.scheme == "http" and _is_loopback(host))):
            raise RpcError(ErrorCode.INVALID_PARAMS, "Only https:// is called.")
        try:
            literal = ip_address(host)
        except ValueError:
            return host
        if not self._policy.allows(literal):
            raise RpcError(ErrorCode.ADDRESS_FORBIDDEN, "This relay does not call that address.")
        return host

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        """POST; never raises for what the receiver does."""
        try:
            host = self.check(url)
        except RpcError as error:
            return Failed(error.sentence)
        if self._waiting[host] >= _MAX_WAITING:
            return Failed("too many wallets are woken there at once")
        self._waiting[host] += 1
        slots = self._slots.setdefault(
            host, asyncio.Semaphore(self._settings.max_concurrent_per_host)
        )
        try:
            async with slots:
                return await self._post(url, body, headers)
        finally:
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host], self._slots[host]

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        try:
            async with self._session.post(
                # As it was registered: the receiver checks the signature over just this.
                URL(url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                await response.content.read(_MAX_ANSWER)
                # What is longer is not waited for, nor is its connection used again.
                if not response.content.at_eof():
                    response.close()
                return _outcome(response)
        except TimeoutError:
            return Failed("it did not answer in time")
        except _Forbidden as error:
            return Failed(str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, _Forbidden):
                return Failed(str(error.__cause__))
            return Failed(f"it can't be reached ({type(error).__name__})")


class _Forbidden(OSError):
    """The name resolves to addresses that are not called."""


class _GuardedResolver(AbstractResolver):
    def __init__(self, policy: DialPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family
        )
        addresses = dict.fromkeys((item[0], str(item[4][0])) for item in found)
        allowed = [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=each_family,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for each_family, address in addresses
            if self._policy.allows(ip_address(address))
        ]
        if not allowed:
            raise _Forbidden("this relay does not call that address")
        return allowed

    async def close(self) -> None:
        pass


def _is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine by its spelling; the policy decides all the same."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    if 200 <= response.status < 300:
        return Delivered()
    why = f"it answered with HTTP status {response.status}"
    # RFC 8030 §7.3 has 404 for a subscription that is over, and many services say 410.
    if response.status in (404, 410):
        return Gone(why)
    return Failed(why, _retry_after(response.headers.get("Retry-After")))


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
