"""A name with several addresses: each gets its chance within the one time limit (RFC 8305)."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.relay import DialSettings
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.dialler import Dialler
from lightning_proxy.rpc import ErrorCode, RpcError
from tests.support import name_server
from tests.unit.bolt.samples import OPEN_CHANNEL


class Nobody:
    def on_message(self, type: int, view: memoryview) -> None: ...
    def on_closed(self, reason: str) -> None: ...


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[socket.socket]:
    with socket.create_server((host, port)) as server:
        server.setblocking(False)
        yield server


def port_of(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def was_reached(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """A full queue: what comes gets no answer at all."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                filler.connect(server.getsockname())
        yield


async def dial(addresses: list[str], port: int, **settings: Any) -> None:
    chosen = DialSettings(**{"allow_loopback": True, "timeout": 3.0, **settings})
    policy = DialPolicy(chosen, relay_is_local=True)
    async with name_server.resolver(lambda _: addresses) as resolver:
        dialler = Dialler(chosen, policy, resolver)
        peer = NodeAddress(OPEN_CHANNEL.funding_pubkey, "peer.example", port)
        transport = await dialler.dial(peer, Nobody())
        transport.abort("the test is over")


BOTH = ["127.0.0.2", "127.0.0.3"]


async def test_a_black_hole_does_not_hide_the_next_address() -> None:
    with listening("127.0.0.3") as server, black_hole("127.0.0.2", port_of(server)):
        await dial(BOTH, port_of(server))
        assert was_reached(server)


async def test_a_refusal_moves_on_at_once() -> None:
    with listening("127.0.0.3") as server:
        await dial(BOTH, port_of(server), attempt_delay=10, timeout=3)
        assert was_reached(server)


async def test_the_first_to_answer_wins() -> None:
    with listening("127.0.0.2") as first, listening("127.0.0.3", port_of(first)) as second:
        await dial(BOTH, port_of(first))
        assert was_reached(first)
        assert not was_reached(second)


async def test_an_address_that_is_forbidden_is_never_tried() -> None:
    with listening("127.0.0.2") as first, listening("127.0.0.3", port_of(first)) as second:
        await dial(BOTH, port_of(first), deny=["127.0.0.2/32"])
        assert not was_reached(first)
        assert was_reached(second)


async def test_nobody_there(unused_tcp_port: int) -> None:
    with pytest.raises(RpcError) as raised:
        await dial(BOTH, unused_tcp_port)
    assert raised.value.error is ErrorCode.PEER_UNREACHABLE


async def test_one_time_limit_for_all(unused_tcp_port: int) -> None:
    port = unused_tcp_port
    with (
        black_hole("127.0.0.2", port),
        black_hole("127.0.0.3", port),
        pytest.raises(RpcError) as raised,
    ):
        await dial(BOTH, port, timeout=0.5)
    assert raised.value.error is ErrorCode.PEER_TIMEOUT
