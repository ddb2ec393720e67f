"""Finds the addresses of a name, without a thread: one that never resolves holds up nobody."""

import asyncio
from ipaddress import ip_address
from socket import AF_UNSPEC, SOCK_STREAM, AddressFamily
from typing import Any, Final, Self

import aiodns

#: Seconds for a name server to answer, and how often it is asked: together less than a dial gets.
_TIMEOUT: Final = 2.0
_TRIES: Final = 2


class Resolver:
    """Use as an async context manager; `options` are aiodns's, such as `nameservers`."""

    def __init__(self, **options: Any) -> None:
        self._options = {"timeout": _TIMEOUT, "tries": _TRIES, **options}

    async def __aenter__(self) -> Self:
        self._resolver = aiodns.DNSResolver(**self._options)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resolver.close()

    async def resolve(self, host: str, port: int, family: AddressFamily = AF_UNSPEC) -> list[str]:
        """The addresses, in the order in which to try them; raises `OSError`.

        What is an address already is its own.
        """
        try:
            return [str(ip_address(host))]
        except ValueError:
            pass
        try:
            query = self._resolver.getaddrinfo(host, family=family, port=port, type=SOCK_STREAM)
            query.add_done_callback(_had)
            found = await query
        # The latter for what can't be a name.
        except (aiodns.error.DNSError, ValueError) as error:
            raise OSError(f"{host} could not be resolved: {error.args[-1]}") from None
        return list(dict.fromkeys(node.addr[0].decode() for node in found.nodes))


def _had(query: "asyncio.Future[Any]") -> None:
    """Nobody may wait for it any more."""
    if not query.cancelled():
        query.exception()
