"""A name server (RFC 1035) that says what a test wants, or nothing at all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from lightning_proxy.relay.resolver import Resolver

_HEADER: Final = 12
_A, _IN = 1, 1
_RESPONSE: Final = 0x8180  # a response, recursion was wanted and is to be had
#: The IPv4 addresses of a name; None: silence.
Answer = Callable[[str], list[str] | None]


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        labels, at = [], _HEADER
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        question = data[_HEADER : at + 5]
        is_ipv4 = int.from_bytes(question[-4:-2], "big") == _A
        addresses = self._answer(".".join(labels)) if is_ipv4 else []
        if addresses is None:
            return
        counts = (_RESPONSE, 1, len(addresses), 0, 0)
        records = (
            # The name is the question's; no time to live.
            b"\xc0\x0c" + _pair(_A, _IN) + bytes(4) + _pair(4) + socket.inet_aton(each)
            for each in addresses
        )
        self._transport.sendto(data[:2] + _pair(*counts) + question + b"".join(records), address)


def _pair(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


@asynccontextmanager
async def resolver(answer: Answer) -> AsyncIterator[Resolver]:
    """A resolver that asks only this one; names in the system's hosts file come first."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Protocol(answer), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        async with Resolver(nameservers=["127.0.0.1"], udp_port=port) as asking:
            yield asking
    finally:
        transport.close()
