"""Dials to a peer that is down: few, by one at a time, and everybody learns when to come again."""

import asyncio

import pytest

from lightning_proxy.bolt.address import NodeAddress, parse
from lightning_proxy.relay import DialSettings
from lightning_proxy.relay import redial as redial_module
from lightning_proxy.relay.redial import PeerGate
from lightning_proxy.rpc import ErrorCode, RpcError

NODE = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
ADDRESS = parse(f"{NODE}@127.0.0.1:9735")
OTHER = parse(f"{NODE}@127.0.0.2:9735")


def gate(**settings: object) -> PeerGate:
    return PeerGate(DialSettings(**settings))  # type: ignore[arg-type]


async def fail(at: PeerGate, address: NodeAddress = ADDRESS) -> None:
    with pytest.raises(RpcError, match="down"):
        async with at.turn(address):
            raise RpcError(ErrorCode.PEER_UNREACHABLE, "down")


async def refused(at: PeerGate, address: NodeAddress = ADDRESS) -> RpcError:
    with pytest.raises(RpcError) as refusal:
        async with at.turn(address):
            raise AssertionError("it was let through")
    return refusal.value


async def test_after_a_failure_a_peer_is_left_alone_for_a_while() -> None:
    at = gate(backoff_first=50.0)
    await fail(at)
    error = await refused(at)
    assert error.error is ErrorCode.PEER_UNREACHABLE
    assert error.retry_after is not None
    assert error.retry_after > 0
    # Another address is another matter.
    async with at.turn(OTHER):
        pass


async def test_the_pause_doubles_up_to_the_most_and_a_success_ends_it() -> None:
    at = gate(backoff_first=0.001, backoff_most=0.004)
    for _ in range(5):
        await fail(at)
        await asyncio.sleep(0.006)
    async with at.turn(ADDRESS):
        pass
    async with at.turn(ADDRESS), at.turn(ADDRESS):
        pass


async def test_one_dial_finds_out_whether_a_peer_is_back() -> None:
    at = gate(backoff_first=0.001)
    await fail(at)
    await asyncio.sleep(0.003)
    async with at.turn(ADDRESS):
        await refused(at)
    async with at.turn(ADDRESS), at.turn(ADDRESS):
        pass


async def test_those_that_failed_together_are_one_failure() -> None:
    at = gate(backoff_first=50.0)
    under_way = asyncio.Event()

    async def dial() -> None:
        async with at.turn(ADDRESS):
            await under_way.wait()
            raise RpcError(ErrorCode.PEER_UNREACHABLE, "down")

    dials = [asyncio.create_task(dial()) for _ in range(20)]
    await asyncio.sleep(0)
    under_way.set()
    assert all(
        isinstance(outcome, RpcError)
        for outcome in await asyncio.gather(*dials, return_exceptions=True)
    )
    assert at._peers[ADDRESS].failures == 1


async def test_dials_to_one_peer_are_few_at_once_and_the_queue_is_short() -> None:
    at = gate(max_concurrent_per_peer=2, max_waiting_per_peer=4)
    inside, most = 0, 0
    go = asyncio.Event()

    async def dial() -> None:
        nonlocal inside, most
        async with at.turn(ADDRESS):
            inside += 1
            most = max(most, inside)
            await go.wait()
            inside -= 1

    dials = [asyncio.create_task(dial()) for _ in range(4)]
    await asyncio.sleep(0)
    error = await refused(at)
    assert error.error is ErrorCode.LIMIT
    assert error.retry_after is not None
    async with at.turn(OTHER):
        pass
    go.set()
    await asyncio.gather(*dials)
    assert most == 2


async def test_who_gives_way_to_others_says_nothing_about_the_peer() -> None:
    at = gate(backoff_first=50.0)
    with pytest.raises(RpcError, match="busy"):
        async with at.turn(ADDRESS):
            raise RpcError(ErrorCode.LIMIT, "busy", retry_after=1.0)
    async with at.turn(ADDRESS):
        pass


async def test_who_gives_up_says_nothing_about_the_peer() -> None:
    at = gate(backoff_first=50.0)
    with pytest.raises(asyncio.CancelledError):
        async with at.turn(ADDRESS):
            raise asyncio.CancelledError
    async with at.turn(ADDRESS):
        pass


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redial_module, "_MAX_PEERS", 10)
    at = gate()
    for port in range(1, 50):
        async with at.turn(parse(f"{NODE}@127.0.0.1:{port}")):
            pass
    assert len(at._peers) == 10
