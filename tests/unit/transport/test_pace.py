"""A peer that talks as fast as it can takes its turn, as all others do, and has a budget."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from lightning_proxy.transport import Pace, PeerTransport
from tests.unit.transport.test_peer import (
    INIT,
    Far,
    Recorder,
    connect,
    message,
    ping,
    started,
)

#: Small messages of one flood: far more than a turn has, and less than a socket's buffer.
_MANY = 500
#: Of these, what a session delivers in a turn, and a bit more.
_TURN = 40


@asynccontextmanager
async def session(pace: Pace) -> AsyncIterator[tuple[PeerTransport, Far, Recorder]]:
    recorder = Recorder()
    peer, far = await connect(recorder, pace)
    started(peer)
    try:
        yield peer, far, recorder
    finally:
        # Who is not read is not seen to go.
        peer.abort("the test is over")
        far.writer.transport.abort()
        await recorder.wait_closed()


def flood(far: Far, each: bytes, count: int = _MANY) -> None:
    far.writer.write(
        far.sending.seal(INIT) + b"".join(far.sending.seal(each) for _ in range(count))
    )


async def test_a_flood_is_interrupted_by_whoever_else_has_something_to_say() -> None:
    pace = Pace()
    async with session(pace) as (_, loud, flooded), session(pace) as (_, quiet, other):
        heard: list[int] = []
        other.on_each = lambda _: heard.append(len(flooded.messages))

        def speak(_: bytes) -> None:
            if len(flooded.messages) == 1:
                quiet.writer.write(quiet.sending.seal(message(1001)))

        flooded.on_each = speak
        flood(loud, message(1003))
        await other.wait_messages(1)
        assert heard[0] < _MANY
        # And nothing of it is lost.
        assert await flooded.wait_messages(_MANY + 1) == [INIT, *[message(1003)] * _MANY]


async def test_pings_have_their_turns_too() -> None:
    pace = Pace()
    async with session(pace) as (peer, loud, flooded), session(pace) as (_, quiet, other):
        answered: list[int] = []
        other.on_each = lambda _: answered.append(peer.pings_received)
        flooded.on_each = lambda _: quiet.writer.write(quiet.sending.seal(message(1001)))
        flood(loud, ping(0), 2000)
        await other.wait_messages(1)
        assert answered[0] < 2000
        for _ in range(2000):
            assert await loud.receive() == b"\x00\x13\x00\x00"


async def test_many_floods_share_a_few_turns_a_tick() -> None:
    pace = Pace()
    floods = 16
    most = 0

    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(session(pace)) for _ in range(floods)]
        total = 0

        def count(_: bytes) -> None:
            nonlocal total
            total += 1

        ticking = True

        def tick(before: int) -> None:
            nonlocal most
            most = max(most, total - before)
            if ticking:
                asyncio.get_running_loop().call_soon(tick, total)

        for _, _, recorder in sessions:
            recorder.on_each = count
        tick(0)
        for _, far, _ in sessions:
            flood(far, message(1003))
        for _, _, recorder in sessions:
            await recorder.wait_messages(_MANY + 1)
        ticking = False
    assert most < floods * _TURN


async def test_a_largest_message_fits_a_turn() -> None:
    async with session(Pace()) as (_, far, recorder):
        sent = [message(1001, 65_535)] * 5
        await far.write(b"".join(far.sending.seal(each) for each in sent))
        assert await recorder.wait_messages(5) == sent


@pytest.mark.parametrize("each", [message(1003), ping(500)], ids=["messages", "pings"])
async def test_who_has_spent_his_budget_is_not_read(each: bytes) -> None:
    # For a while: with a budget that grows by a byte a second, that is for good.
    async with session(Pace(rate=1.0, burst=100_000.0)) as (peer, far, _):
        flood(far, each)
        await _settled(lambda: peer.messages_received)
        assert peer.messages_received < _MANY
        assert peer.is_behind


async def test_a_budget_grows_again_and_nothing_is_lost() -> None:
    async with session(Pace(rate=2_000_000.0, burst=40_000.0)) as (peer, far, recorder):
        flood(far, message(1003))
        assert await recorder.wait_messages(_MANY + 1) == [INIT, *[message(1003)] * _MANY]
        async with asyncio.timeout(20):
            while peer.is_behind:
                await asyncio.sleep(0.001)


async def test_a_burst_within_the_budget_comes_at_once() -> None:
    async with session(Pace(rate=1.0, burst=1_000_000.0)) as (peer, far, recorder):
        flood(far, message(1003))
        await recorder.wait_messages(_MANY + 1)
        assert not peer.is_behind


async def test_who_is_gone_leaves_the_queue_to_the_others() -> None:
    pace = Pace()
    async with session(pace) as (peer, far, flooded), session(pace) as (_, other_far, other):
        flooded.on_each = lambda _: peer.abort("enough") if len(flooded.messages) == 35 else None
        flood(far, message(1003))
        flood(other_far, message(1003))
        await other.wait_messages(_MANY + 1)
        assert await flooded.wait_closed() == "enough"
        assert len(flooded.messages) == 35


async def _settled(count: Callable[[], int]) -> None:
    """Wait until this has not changed for many ticks."""
    before, same = -1, 0
    async with asyncio.timeout(20):
        while same < 200 or not before:
            await asyncio.sleep(0)
            now = count()
            before, same = (now, same + 1) if now == before else (now, 0)
