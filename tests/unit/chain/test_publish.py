"""A transaction that a node refuses for now is tried again with each block."""

import asyncio

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
