"""Esplora's HTTP API: the real client asks the simulated chain, and servers that talk nonsense."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from lightning_proxy.chain import BroadcastRejected, ChainError, ChainSource, Output, open_source
from lightning_proxy.chain.simulated import SimulatedChain
from tests.unit.chain.fakes import SCRIPT, TRANSACTION, TXID
from tests.unit.chain.test_rejections import THERE


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as chain:
        chain.mine(5)
        yield chain


@pytest.fixture
async def source(chain: SimulatedChain) -> AsyncIterator[ChainSource]:
    source = await open_source(chain.url)
    yield source
    await source.close()


@pytest.fixture
def txid(chain: SimulatedChain) -> bytes:
    chain.faucet(SCRIPT, 1_000_000)
    return chain.mempool[0]


def at(path: str, number: int, change: Callable[[], Any]) -> Callable[[web.Request], Any]:
    """Changes the chain just before the answer to the n-th question about a path."""
    left = number

    async def fault(request: web.Request) -> None:
        nonlocal left
        if path in request.path:
            left -= 1
            if left == 0:
                change()

    return fault


def saying(path: str, body: str, status: int = 200) -> Callable[[web.Request], Awaitable[Any]]:
    """Answers every question about a path so."""

    async def fault(request: web.Request) -> web.Response | None:
        return web.Response(text=body, status=status) if path in request.path else None

    return fault


async def test_from_the_mempool_into_the_chain(
    chain: SimulatedChain, source: ChainSource, txid: bytes
) -> None:
    assert source.chain == "regtest"
    assert await source.output(txid, 0) == Output(SCRIPT, 1_000_000, 0, None, None, spent=False)
    assert await source.confirmations(txid) == 0
    chain.mine(3)
    assert await source.tip() == chain.tip
    assert await source.output(txid, 0) == Output(SCRIPT, 1_000_000, 3, 6, 1, spent=False)
    assert await source.confirmations(txid) == 3


async def test_unknown(source: ChainSource, txid: bytes) -> None:
    assert await source.output(txid, 1) is None
    assert await source.output(bytes(32), 0) is None
    assert await source.confirmations(bytes(32)) is None


@pytest.mark.parametrize("path", ["/tx/", "/outspend/", "/txids"])
async def test_a_reorg_in_the_middle(
    chain: SimulatedChain, source: ChainSource, txid: bytes, path: str
) -> None:
    chain.mine(2)

    def reorganize() -> None:
        chain.reorg(2)
        chain.mine()

    chain.fault = at(path, 1, reorganize)
    # It was in block 6; after the reorg of 6 and 7, it is in block 9.
    assert await source.output(txid, 0) == Output(SCRIPT, 1_000_000, 1, 9, 1, spent=False)


async def test_a_reorg_that_forgets_it(
    chain: SimulatedChain, source: ChainSource, txid: bytes
) -> None:
    chain.mine(2)
    chain.fault = at("/outspend/", 1, lambda: chain.reorg(2, keep=False))
    assert await source.output(txid, 0) is None


async def test_a_chain_that_never_rests(
    chain: SimulatedChain, source: ChainSource, txid: bytes
) -> None:
    async def fault(request: web.Request) -> None:
        if request.path.startswith("/tx/"):
            chain.mine()

    chain.fault = fault
    with pytest.raises(ChainError, match="changes faster than it answers"):
        await source.confirmations(txid)


async def test_the_tip_is_looked_up_once(chain: SimulatedChain, source: ChainSource) -> None:
    asked = []

    async def fault(request: web.Request) -> None:
        asked.append(request.path)

    chain.fault = fault
    assert await source.tip() == await source.tip() == chain.tip
    assert asked.count("/blocks/tip/hash") == 2
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/blocks/tip/hash", "00"),
        ("/blocks/tip/hash", "<html></html>"),
        ("/blocks/tip/hash", "é"),
        # A block that the server doesn't know itself.
        ("/blocks/tip/hash", "00" * 32),
        ("/block/", '{"id": "00", "height": 6}'),
        ("/block/", "[]"),
        ("/txids", "[]"),
        ("/txids", "{}"),
        ("/txids", "[5]"),
        ("/outspend/", "null"),
        ("/outspend/", "{}"),
        ("/outspend/", '{"spent": 1}'),
    ],
)
async def test_no_sense(
    chain: SimulatedChain, source: ChainSource, txid: bytes, path: str, body: str
) -> None:
    chain.mine()
    chain.fault = saying(path, body)
    with pytest.raises(ChainError):
        await source.output(txid, 0)


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('{"scriptpubkey": "00", "value": -1}', '{"confirmed": false}'),
        ('{"scriptpubkey": "00", "value": 2100000000000001}', '{"confirmed": false}'),
        ('{"scriptpubkey": "00", "value": 1e400}', '{"confirmed": false}'),
        ('{"scriptpubkey": "00", "value": NaN}', '{"confirmed": false}'),
        ('{"scriptpubkey": "00", "value": 0.5}', '{"confirmed": false}'),
        ('{"scriptpubkey": "0x", "value": 1}', '{"confirmed": false}'),
        ('{"value": 1}', '{"confirmed": false}'),
        ('{"scriptpubkey": "00", "value": 1}', '{"confirmed": "yes"}'),
        ('{"scriptpubkey": "00", "value": 1}', '{"confirmed": true}'),
        ('{"scriptpubkey": "00", "value": 1}', '{"confirmed": true, "block_height": 3}'),
        (
            '{"scriptpubkey": "00", "value": 1}',
            '{"confirmed": true, "block_height": -1, "block_hash": "' + "00" * 32 + '"}',
        ),
        # Above the tip.
        (
            '{"scriptpubkey": "00", "value": 1}',
            '{"confirmed": true, "block_height": 999, "block_hash": "' + "00" * 32 + '"}',
        ),
    ],
)
async def test_no_output(
    chain: SimulatedChain, source: ChainSource, txid: bytes, output: str, status: str
) -> None:
    async def fault(request: web.Request) -> web.Response | None:
        if request.path != f"/tx/{txid[::-1].hex()}":
            return None
        return web.Response(text=f'{{"vout": [{output}], "status": {status}}}')

    chain.fault = fault
    with pytest.raises(ChainError):
        await source.output(txid, 0)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_a_server_in_trouble(
    chain: SimulatedChain, source: ChainSource, txid: bytes, status: int
) -> None:
    for path in ("/blocks/tip/hash", "/tx/", "/fee-estimates"):
        chain.fault = saying(path, "<html>later</html>", status)
        with pytest.raises(ChainError, match=f"HTTP status {status}"):
            await (source.fee_estimate(2) if "fee" in path else source.output(txid, 0))


async def test_fees(chain: SimulatedChain, source: ChainSource) -> None:
    chain.fee_estimates = {2: 20.5, 6: 10.0, 144: 1.0}
    expected = {1: 5_125, 2: 5_125, 5: 5_125, 6: 2_500, 100: 2_500, 144: 253, 9_999: 253}
    assert {target: await source.fee_estimate(target) for target in expected} == expected
    chain.fee_estimates = {}
    assert await source.fee_estimate(6) == 253
    source.chain = "bitcoin"
    with pytest.raises(ChainError, match="no fee estimate"):
        await source.fee_estimate(6)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "5",
        '{"1": null}',
        '{"soon": 5}',
        '{"1": -5}',
        '{"1": 1e99}',
        '{"1": "NaN"}',
        '{"1": NaN}',
    ],
)
async def test_no_fees(chain: SimulatedChain, source: ChainSource, body: str) -> None:
    chain.fault = saying("/fee-estimates", body)
    with pytest.raises(ChainError):
        await source.fee_estimate(6)


async def test_broadcast(chain: SimulatedChain, source: ChainSource) -> None:
    async with SimulatedChain() as other:
        raw, index = other.faucet(SCRIPT, 5_000)
    # The other chain's faucet spends what isn't on this one.
    with pytest.raises(BroadcastRejected, match="bad-txns-inputs-missingorspent"):
        await source.broadcast(raw)
    raw, index = chain.faucet(SCRIPT, 5_000)
    txid = await source.broadcast(raw)
    assert chain.mempool == (txid,)
    chain.mine()
    assert await source.broadcast(raw) == txid
    output = await source.output(txid, index)
    assert output is not None
    assert output.amount_sat == 5_000


async def test_broadcast_undecided(chain: SimulatedChain, source: ChainSource) -> None:
    for status, body in ((500, ""), (404, ""), (200, "00"), (200, "00" * 32)):
        chain.fault = saying("/tx", body, status)
        with pytest.raises(ChainError) as error:
            await source.broadcast(TRANSACTION)
        assert not isinstance(error.value, BroadcastRejected)
    with pytest.raises(ValueError, match="no transaction"):
        await source.broadcast(b"no transaction")


async def test_a_server_that_calls_it_bad_though_it_has_it(
    chain: SimulatedChain, source: ChainSource
) -> None:
    raw, _ = chain.faucet(SCRIPT, 5_000)

    async def fault(request: web.Request) -> web.Response | None:
        if request.method == "POST":
            return web.Response(text="bad-txns-inputs-missingorspent", status=400)
        return None

    chain.fault = fault
    assert await source.broadcast(raw) == chain.mempool[0]
    with pytest.raises(BroadcastRejected, match="bad-txns-inputs-missingorspent"):
        await source.broadcast(TRANSACTION)


@pytest.mark.parametrize("reason", THERE)
async def test_a_server_whose_index_is_behind_its_node(
    chain: SimulatedChain, source: ChainSource, reason: str
) -> None:
    async def fault(request: web.Request) -> web.Response | None:
        if request.method == "POST":
            return web.Response(text=reason, status=400)
        return None

    chain.fault = fault
    assert await source.broadcast(TRANSACTION) == TXID
    assert TXID not in chain.mempool
