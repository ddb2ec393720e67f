"""A transaction that a node refuses for now is tried again with each block."""

import asyncio

import pytest

from lightning_proxy.chain import BroadcastRejected, ChainError, publish
from lightning_proxy.chain.simulated import SimulatedChain
from tests.support.channels import point
from tests.unit.wallet.fake_chain import FakeChain

INTERVAL = 0.002


def transaction() -> bytes:
    raw, _ = SimulatedChain().faucet(b"\x00\x14" + point()[:20], 1_000)
    return raw


async def test_it_goes_with_the_block_that_lets_it() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "non-final"
    task = asyncio.create_task(publish(chain, transaction(), refused.append, interval=INTERVAL))
    for _ in range(3):
        while not refused:
            await asyncio.sleep(INTERVAL)
        chain.height += 1
        await asyncio.sleep(5 * INTERVAL)
    assert not task.done()
    # One word for one reason, however often it was tried.
    assert [str(error) for error in refused] == ["non-final"]
    chain.rejects = None
    chain.height += 1
    assert await task
    assert len(chain.sent) == 1


async def test_without_a_block_it_is_not_tried_again_at_once() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "non-final"
    task = asyncio.create_task(publish(chain, transaction(), refused.append, interval=INTERVAL))
    while not refused:
        await asyncio.sleep(INTERVAL)
    chain.rejects = None
    for _ in range(10):
        await asyncio.sleep(INTERVAL)
    assert not chain.sent
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_final_refusal_ends_it() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "bad-txns-in-belowout"
    assert not await publish(chain, transaction(), refused.append, interval=INTERVAL)
    assert [error.is_final for error in refused] == [True]


async def test_each_new_reason_is_told_and_a_dead_source_is_none() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.fault = ChainError("warming up")
    task = asyncio.create_task(publish(chain, transaction(), refused.append, interval=INTERVAL))
    while chain.asked < 4:
        await asyncio.sleep(INTERVAL)
    assert not refused
    chain.fault, chain.rejects = None, "mempool min fee not met"
    while len(refused) < 1:
        await asyncio.sleep(INTERVAL)
    chain.rejects = "non-final"
    chain.height += 1
    while len(refused) < 2:
        await asyncio.sleep(INTERVAL)
    chain.rejects = None
    chain.height += 1
    assert await task


async def test_other_numbers_are_no_other_reason() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "mempool min fee not met, 110 < 500"
    task = asyncio.create_task(publish(chain, transaction(), refused.append, interval=INTERVAL))
    while not refused:
        await asyncio.sleep(INTERVAL)
    for fee in (600, 700):
        chain.rejects = f"mempool min fee not met, 110 < {fee}"
        tries = chain.tried
        chain.height += 1
        while chain.tried == tries:
            await asyncio.sleep(INTERVAL)
    chain.rejects = "non-final"
    chain.height += 1
    while len(refused) < 2:
        await asyncio.sleep(INTERVAL)
    assert [str(error) for error in refused] == ["mempool min fee not met, 110 < 500", "non-final"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_end_is_told_in_words() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "non-final"
    publishing = publish(chain, transaction(), refused.append, interval=INTERVAL, seconds=INTERVAL)
    chain.on_ask = lambda: setattr(chain, "height", chain.height + 1)
    assert not await publishing
    *_, last = refused
    assert last.is_final
    assert "given up" in str(last)
    assert "non-final" in str(last)


async def test_a_source_that_is_never_there_is_told_in_the_end() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.fault = ChainError("no route to host")
    assert not await publish(chain, transaction(), refused.append, seconds=0.0)
    assert [error.is_final for error in refused] == [True]
    assert "can't be reached" in str(refused[0])


async def test_stopped_it_hands_nothing_over_any_more() -> None:
    chain, refused = FakeChain(), list[BroadcastRejected]()
    chain.rejects = "non-final"
    stopped = asyncio.Event()
    task = asyncio.create_task(
        publish(chain, transaction(), refused.append, interval=3600.0, stopped=stopped)
    )
    while not refused:
        await asyncio.sleep(INTERVAL)
    chain.rejects = None
    stopped.set()
    assert not await task
    assert (len(refused), chain.sent) == (1, [])


@pytest.mark.parametrize("at", range(1, 3))
async def test_stopped_while_the_source_is_asked(at: int) -> None:
    """First for its tip: nothing is handed over. Then with the transaction: it was."""
    chain = FakeChain()
    stopped = asyncio.Event()

    def stop() -> None:
        if chain.asked == at:
            stopped.set()

    chain.on_ask = stop
    is_published = await publish(chain, transaction(), list[object]().append, stopped=stopped)
    assert (is_published, len(chain.sent)) == (at == 2, at - 1)
