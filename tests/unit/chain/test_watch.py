"""Who watches an output hears of each change once, whatever happens to the source or to others."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from lightning_proxy.chain import ChainError, Output, OutputWatch, Tip, open_source
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.chain.watch import CONCURRENCY
from tests.unit.chain.fakes import SCRIPT

NEVER = 3600.0


class ScriptedSource:
    """A source whose answers are the test's fields."""

    chain = "regtest"

    def __init__(self) -> None:
        self.height = 100
        self.branch = 0
        #: What of an outpoint is left out isn't known.
        self.outputs: dict[tuple[bytes, int], Output] = {}
        self.silent: set[tuple[bytes, int]] = set()
        self.error: Exception | None = None
        self.asked: list[tuple[bytes, int]] = []
        self.tips_asked = 0
        self.at_once = self.most_at_once = 0

    async def tip(self) -> Tip:
        self.tips_asked += 1
        if self.error is not None:
            raise self.error
        return Tip(self.height, bytes([self.branch]) * 28 + self.height.to_bytes(4))

    async def output(self, txid: bytes, index: int) -> Output | None:
        self.asked.append((txid, index))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if (txid, index) in self.silent:
            raise ChainError("no answer")
        return self.outputs.get((txid, index))

    async def confirmations(self, txid: bytes) -> int | None:
        raise NotImplementedError

    async def fee_estimate(self, target_blocks: int) -> int:
        raise NotImplementedError

    async def broadcast(self, transaction: bytes) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def name(number: int) -> bytes:
    return number.to_bytes(32)


def deep(confirmations: int, *, spent: bool = False) -> Output:
    return Output(SCRIPT, 5_000, confirmations, 100 if confirmations else None, None, spent)


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
async def watch(source: ScriptedSource) -> AsyncIterator[OutputWatch]:
    async with OutputWatch(source, interval=NEVER) as watch:
        await watch.poke()
        yield watch


class Listener(list[Output | None]):
    """Everything that a callback was told."""

    def new(self) -> list[Output | None]:
        heard = list(self)
        self.clear()
        return heard


async def test_a_life(source: ScriptedSource, watch: OutputWatch) -> None:
    heard = Listener()
    watch.watch(name(1), 0, heard.append)
    await watch.poke()
    assert heard.new() == []  # unknown from the beginning is no news
    life = [deep(0), deep(1), deep(2), deep(2, spent=True), deep(0), None, deep(1)]
    for output in life:
        if output is None:
            source.outputs.clear()
        else:
            source.outputs[name(1), 0] = output
        for _ in range(2):
            await watch.poke()
        assert heard.new() == [output]


async def test_a_new_one_is_asked_for_at_once(source: ScriptedSource, watch: OutputWatch) -> None:
    told = asyncio.get_running_loop().create_future()
    source.outputs[name(1), 7] = deep(3)
    watch.watch(name(1), 7, told.set_result)
    assert await told == deep(3)
    assert source.asked == [(name(1), 7)]


async def test_no_question_while_the_chain_rests(source: ScriptedSource) -> None:
    async with OutputWatch(source, interval=0.0) as watch:
        heard = Listener()
        watch.watch(name(1), 0, heard.append)
        while source.tips_asked < 20:
            await asyncio.sleep(0)
        assert source.asked == [(name(1), 0)]
        # Another block of the same height is another tip.
        source.branch, source.outputs[name(1), 0] = 1, deep(1)
        while not heard:
            await asyncio.sleep(0)
        assert heard == [deep(1)]
        seen = source.tips_asked
        while source.tips_asked < seen + 20:
            await asyncio.sleep(0)
        assert len(source.asked) == 2


async def test_two_listeners_one_question(source: ScriptedSource, watch: OutputWatch) -> None:
    first, second = Listener(), Listener()
    one = watch.watch(name(1), 0, first.append)
    source.outputs[name(1), 0] = deep(1)
    await watch.poke()
    other = watch.watch(name(1), 0, second.append)
    await watch.poke()
    assert (first.new(), second.new()) == ([deep(1)], [deep(1)])
    source.asked.clear()
    source.outputs[name(1), 0] = deep(2)
    await watch.poke()
    assert source.asked == [(name(1), 0)]
    assert (first.new(), second.new()) == ([deep(2)], [deep(2)])
    one.unwatch()
    one.unwatch()
    source.outputs[name(1), 0] = deep(3)
    await watch.poke()
    assert (first.new(), second.new()) == ([], [deep(3)])
    other.unwatch()
    source.asked.clear()
    await watch.poke()
    assert source.asked == []


async def test_unwatched_while_asked_for(source: ScriptedSource, watch: OutputWatch) -> None:
    heard = Listener()
    watched = watch.watch(name(1), 0, heard.append)
    await watch.poke()
    source.outputs[name(1), 0] = deep(1)
    source.asked.clear()
    look = watch.poke()
    while not source.asked:
        await asyncio.sleep(0)
    watched.unwatch()
    await look
    assert heard == []


async def test_a_listener_that_fails(source: ScriptedSource, watch: OutputWatch) -> None:
    def fail(_: Output | None) -> None:
        raise RuntimeError("not today")

    heard = Listener()
    watch.watch(name(1), 0, fail)
    watch.watch(name(1), 0, heard.append)
    source.outputs[name(1), 0] = deep(1)
    with capture_logs() as logs:
        await watch.poke()
    assert heard.new() == [deep(1)]
    (log,) = logs
    assert (log["log_level"], log["txid"]) == ("error", name(1)[::-1].hex())


async def test_a_listener_that_watches_and_unwatches(
    source: ScriptedSource, watch: OutputWatch
) -> None:
    heard = Listener()
    source.outputs = {(name(1), 0): deep(1), (name(2), 0): deep(2)}

    def move_on(_: Output | None) -> None:
        watched.unwatch()
        watch.watch(name(2), 0, heard.append)

    watched = watch.watch(name(1), 0, move_on)
    await watch.poke()
    await watch.poke()
    assert heard == [deep(2)]


async def test_thousands(source: ScriptedSource, watch: OutputWatch) -> None:
    heard = Listener()
    source.outputs = {(name(number), 0): deep(1) for number in range(3_000)}
    for number in range(3_000):
        watch.watch(name(number), 0, heard.append)
    await watch.poke()
    assert len(heard) == 3_000
    assert source.most_at_once == CONCURRENCY


@pytest.mark.parametrize("error", [ChainError("gone"), RuntimeError("a bug of the source")])
async def test_a_source_that_fails_and_comes_back(source: ScriptedSource, error: Exception) -> None:
    heard = Listener()
    with capture_logs() as logs:
        async with OutputWatch(source, interval=0.0) as watch:
            watch.watch(name(1), 0, heard.append)
            await watch.poke()
            source.error = error
            for _ in range(5):
                await watch.poke()
            source.outputs[name(1), 0] = deep(1)
            source.error = None
            while not heard:
                await watch.poke()
    assert heard == [deep(1)]
    assert [log["log_level"] for log in logs] == ["warning", "info"]
    assert str(error) in logs[0]["error"]


async def test_it_fails_for_everything(source: ScriptedSource, watch: OutputWatch) -> None:
    heard = Listener()
    source.outputs = {(name(number), 0): deep(1) for number in range(100)}
    source.silent = set(source.outputs)
    for number in range(100):
        watch.watch(name(number), 0, heard.append)
    with capture_logs() as logs:
        await watch.poke()
        await watch.poke()
        # Not one by one until the last has failed.
        assert len(source.asked) <= 2 * 2 * CONCURRENCY
        source.silent.clear()
        await watch.poke()
    assert len(heard) == 100
    assert [log["log_level"] for log in logs] == ["warning", "info"]


async def test_one_that_fails_is_asked_for_again(source: ScriptedSource) -> None:
    heard = Listener()
    source.outputs = {(name(number), 0): deep(1) for number in range(10)}
    source.silent = {(name(3), 0)}
    with capture_logs() as logs:
        async with OutputWatch(source, interval=0.0) as watch:
            for number in range(10):
                watch.watch(name(number), 0, heard.append)
            while source.asked.count((name(3), 0)) < 5:
                await asyncio.sleep(0)
            # The others have been told, and with the chain at rest were not asked for again.
            assert len(heard) == 9
            assert len(source.asked) < 20
            source.silent.clear()
            while len(heard) < 10:
                await asyncio.sleep(0)
    (log,) = logs
    assert (log["txid"], log["error"]) == (name(3)[::-1].hex(), "no answer")


async def test_many_that_fail_dont_starve_the_others(
    source: ScriptedSource, watch: OutputWatch
) -> None:
    heard = Listener()
    source.outputs = {(name(number), 0): deep(1) for number in range(120)}
    source.silent = {(name(number), 0) for number in range(100)}
    for number in range(120):
        watch.watch(name(number), 0, heard.append)
    for _ in range(100):
        await watch.poke()
    assert heard == [deep(1)] * 20
    source.outputs = {(name(number), 0): deep(2) for number in range(120)}
    await watch.poke()
    assert heard[20:] == [deep(2)] * 20


async def test_what_is_no_outpoint_is_not_watched(watch: OutputWatch) -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        watch.watch(bytes(31), 0, print)


async def test_pokes_are_answered_at_the_end(source: ScriptedSource) -> None:
    async with OutputWatch(source, interval=NEVER) as watch:
        poke = watch.poke()
    assert poke.done()


async def test_a_given_up_poke_is_no_harm(watch: OutputWatch) -> None:
    watch.poke().cancel()
    await watch.poke()


async def test_a_reorg_of_the_simulated_chain() -> None:
    async with SimulatedChain() as chain:
        chain.mine(3)
        source = await open_source(chain.url)
        heard = Listener()
        chain.faucet(SCRIPT, 5_000)
        (txid,) = chain.mempool
        async with OutputWatch(source, interval=NEVER) as watch:
            watch.watch(txid, 0, heard.append)
            await watch.poke()
            chain.mine(2)
            await watch.poke()
            assert [output and output.confirmations for output in heard.new()] == [0, 2]
            chain.reorg(2)
            await watch.poke()
            assert [output and output.confirmations for output in heard.new()] == [0]
            chain.mine()
            await watch.poke()
            (again,) = heard.new()
            assert again == Output(SCRIPT, 5_000, 1, 7, 1, spent=False)
            chain.reorg(1, keep=False)
            await watch.poke()
            assert heard.new() == [None]
        await source.close()
