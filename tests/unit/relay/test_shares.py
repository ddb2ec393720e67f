"""Who has most gives way; who has little always finds a place."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lightning_proxy.relay.shares import Owner, Places, Shares
from lightning_proxy.rpc import ErrorCode, RpcError

EVE = Owner("cb0071", b"eve")
MALLORY = Owner("cb0071", b"mallory")
ALICE = Owner("c63364", b"alice")


def test_the_largest_is_the_largest_wallet_of_the_largest_network() -> None:
    shares = Shares()
    shares.change(ALICE, 5)
    shares.change(EVE, 3)
    assert shares.largest() == ALICE
    shares.change(MALLORY, 4)
    assert shares.largest() == MALLORY
    shares.change(MALLORY, -4)
    assert shares.largest() == ALICE
    assert (shares.total, shares.of(EVE), shares.of(MALLORY)) == (8, (3, 3), (3, 0))


def test_who_pays() -> None:
    shares = Shares()
    assert shares.pays(ALICE) == ALICE
    shares.change(EVE, 2)
    shares.change(MALLORY, 1)
    assert shares.pays(ALICE) == EVE
    # Nothing is won by passing it to and fro.
    assert shares.pays(MALLORY) == MALLORY
    shares.change(ALICE, 2)
    assert shares.pays(ALICE) == ALICE


def test_amounts_are_right_whatever_happened() -> None:
    dice = random.Random(3)
    shares = Shares()
    amounts: dict[Owner, int] = {}
    owners = [Owner(f"n{n % 5}", bytes([n])) for n in range(20)]
    for _ in range(5000):
        owner = dice.choice(owners)
        by = dice.randint(-min(3, amounts.get(owner, 0)), 4)
        if by:
            shares.change(owner, by)
            amounts[owner] = amounts.get(owner, 0) + by
        networks: dict[str, int] = {}
        for each, amount in amounts.items():
            networks[each.network] = networks.get(each.network, 0) + amount
        if any(amounts.values()):
            found = shares.largest()
            assert networks[found.network] == max(networks.values())
            assert amounts[found] == max(
                amount for each, amount in amounts.items() if each.network == found.network
            )
        assert shares.total == sum(amounts.values())
    assert len(shares._networks._heap) < 200
    assert all(len(each._heap) < 200 for each in shares._wallets.values())


class Work:
    """Takes places until told otherwise."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.inside: list[Owner] = []
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self, owner: Owner) -> None:
        async with self.places.place(owner):
            self.inside.append(owner)
            try:
                await self.go.wait()
            finally:
                self.inside.remove(owner)

    def start(self, owner: Owner, count: int = 1) -> list[asyncio.Task[None]]:
        started = [asyncio.create_task(self.run(owner)) for _ in range(count)]
        self.tasks += started
        return started


@asynccontextmanager
async def work(count: int, most: int = 1000, patience: float = 100.0) -> AsyncIterator[Work]:
    working = Work(Places(count, most, patience))
    yield working
    working.go.set()
    await asyncio.gather(*working.tasks, return_exceptions=True)
    # All places are free again, whoever came and went how.
    places = working.places
    assert places._inside == places._held.total == places._wanted.total == 0
    assert not places._scopes
    assert not places._waiting


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_whoever_holds_most_gives_way() -> None:
    async with work(10) as working:
        hogs = working.start(EVE, 10)
        await settle()
        (honest,) = working.start(ALICE)
        await settle()
        assert working.inside.count(ALICE) == 1
        assert working.inside.count(EVE) == 9
        (gone,) = [task for task in hogs if task.done()]
        error = gone.exception()
        assert isinstance(error, RpcError)
        assert error.error is ErrorCode.LIMIT
        assert error.retry_after is not None
        assert not honest.done()


async def test_wallets_that_cost_nothing_are_one_network() -> None:
    async with work(10) as working:
        for number in range(50):
            working.start(Owner("cb0071", bytes([number])))
        await settle()
        for place in range(1, 6):
            working.start(Owner("c63364", bytes([place])))
            await settle()
            assert sum(owner.network == "c63364" for owner in working.inside) == place
        # Half each is fair.
        working.start(ALICE)
        await settle()
        assert sum(owner.network == "c63364" for owner in working.inside) == 5


async def test_who_has_least_is_next() -> None:
    carol = Owner(ALICE.network, b"carol")
    async with work(3) as working:
        working.start(EVE)
        working.start(MALLORY)
        (leaving,) = working.start(ALICE)
        await settle()
        working.start(Owner(EVE.network, b"trudy"))
        await settle()
        working.start(carol)
        await settle()
        assert working.inside == [EVE, MALLORY, ALICE]
        leaving.cancel()
        await settle()
        assert working.inside == [EVE, MALLORY, carol]


async def test_the_queue_is_bounded_and_its_largest_holder_goes() -> None:
    async with work(2, most=6) as working:
        working.start(ALICE, 1)
        working.start(EVE, 1)
        await settle()
        hogs = working.start(MALLORY, 4)
        await settle()
        (honest,) = working.start(Owner("0a0000", b"carol"))
        await settle()
        assert sum(task.done() for task in hogs) == 1
        assert isinstance(hogs[-1].exception(), RpcError)
        assert not honest.done()


async def test_patience_ends() -> None:
    async with work(1, patience=0.01) as working:
        working.start(EVE)
        await settle()
        with pytest.raises(RpcError) as failure:
            await working.run(EVE)
        assert failure.value.error is ErrorCode.LIMIT
        assert failure.value.retry_after is not None


async def test_who_gives_up_leaves_no_trace() -> None:
    async with work(1) as working:
        (inside,) = working.start(EVE)
        await settle()
        (waiting,) = working.start(EVE)
        await settle()
        waiting.cancel()
        await settle()
        assert waiting.cancelled()
        # Let in, and cancelled before it knew.
        (unlucky,) = working.start(EVE)
        await settle()
        inside.cancel()
        unlucky.cancel()
        await settle()
        working.start(ALICE)
        await settle()
        assert working.inside == [ALICE]


async def test_a_timeout_of_the_work_is_its_own() -> None:
    places = Places(1, 10, 1.0)
    with pytest.raises(TimeoutError):
        async with places.place(EVE):
            raise TimeoutError
