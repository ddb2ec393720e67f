"""Bitcoin Core's JSON-RPC and btcd's: what is asked, what is believed, when it is asked again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lightning_proxy.chain import BroadcastRejected, ChainError, ChainSource, Output, open_source
from tests.unit.chain.fakes import (
    PRINTED_TXID,
    SCRIPT,
    TRANSACTION,
    TXID,
    FakeNode,
    RawJson,
    block_name,
    serving,
)
from tests.unit.chain.test_rejections import THERE

CONFIRMED = Output(SCRIPT, 1_000_000, 3, 108, 2, spent=False)


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def source(node: FakeNode) -> AsyncIterator[ChainSource]:
    async with serving(node.answer) as address:
        source = await open_source(f"bitcoind://u:p@{address}")
        node.calls.clear()
        yield source
        await source.close()


@pytest.fixture
async def btcd(node: FakeNode) -> AsyncIterator[ChainSource]:
    async with serving(node.answer) as address:
        source = await open_source(f"btcd+http://u:p@{address}")
        yield source
        await source.close()


def replace(output: Output, **changes: Any) -> Output:
    fields = {name: getattr(output, name) for name in Output.__slots__}
    return Output(**{**fields, **changes})


def on_call(method: str, number: int, change: Callable[[], None]) -> Callable[[str], None]:
    """Changes the node just before its answer to the n-th call of a method."""
    left = number

    def before(called: str) -> None:
        nonlocal left
        left -= called == method
        if left == 0 and called == method:
            change()

    return before


async def test_confirmed(node: FakeNode, source: ChainSource) -> None:
    assert source.chain == "regtest"
    assert (await source.tip()).height == 110
    assert (await source.tip()).block_hash.hex() == block_name("a", 110)
    assert await source.output(TXID, 0) == CONFIRMED
    assert await source.confirmations(TXID) == 3


async def test_a_block_is_read_once(node: FakeNode, source: ChainSource) -> None:
    for height in (110, 111, 112):
        node.height = height
        assert await source.output(TXID, 0) == replace(CONFIRMED, confirmations=height - 107)
    assert node.called("getblock") == 1


async def test_in_the_mempool(node: FakeNode, source: ChainSource) -> None:
    node.transaction_height = 0
    unconfirmed = Output(SCRIPT, 1_000_000, 0, None, None, spent=False)
    assert await source.output(TXID, 0) == unconfirmed
    assert await source.confirmations(TXID) == 0
    node.spent_in_mempool = True
    assert await source.output(TXID, 0) == replace(unconfirmed, spent=True)


async def test_spent(node: FakeNode, source: ChainSource) -> None:
    node.spent_in_mempool = True
    assert await source.output(TXID, 0) == replace(CONFIRMED, spent=True)
    node.spent_in_mempool, node.spent_in_block = False, True
    assert await source.output(TXID, 0) == replace(CONFIRMED, spent=True)


async def test_unknown(node: FakeNode, source: ChainSource) -> None:
    assert await source.output(TXID, 1) is None
    assert await source.output(bytes(32), 0) is None
    assert await source.confirmations(bytes(32)) is None
    node.transaction_height = None
    assert await source.output(TXID, 0) is None


async def test_without_an_index_what_was_seen_is_found_when_spent(
    node: FakeNode, source: ChainSource
) -> None:
    node.has_index = False
    assert await source.output(TXID, 0) == CONFIRMED
    node.spent_in_block = True
    assert await source.output(TXID, 0) == replace(CONFIRMED, spent=True)
    assert await source.confirmations(TXID) == 3
    assert ("getrawtransaction", [PRINTED_TXID, 1, block_name("a", 108)]) in node.calls


async def test_without_an_index_a_transaction_is_found_by_an_unspent_output(
    node: FakeNode, source: ChainSource
) -> None:
    node.has_index = False
    assert await source.confirmations(TXID) == 3
    node.spent_in_block = True
    assert await source.confirmations(TXID) == 3


async def test_without_an_index_what_was_never_seen_unspent_is_unknown(
    node: FakeNode, source: ChainSource
) -> None:
    node.has_index, node.spent_in_block = False, True
    assert await source.output(TXID, 0) is None
    assert await source.confirmations(TXID) is None


async def test_a_block_that_was_replaced_proves_nothing(
    node: FakeNode, source: ChainSource
) -> None:
    node.has_index = False
    assert await source.output(TXID, 0) == CONFIRMED
    # Bitcoin Core still finds the transaction in the stale block, with no confirmation.
    node.branch, node.spent_in_block = "b", True
    stale = {"vout": [{"value": 0.01, "scriptPubKey": {"hex": SCRIPT.hex()}}], "confirmations": 0}
    answer = node.getrawtransaction

    def find(txid: str, verbose: int, block_hash: str | None = None) -> dict[str, Any]:
        return stale if block_hash == block_name("a", 108) else answer(txid, verbose, block_hash)

    node.getrawtransaction = find  # type: ignore[method-assign]
    assert await source.output(TXID, 0) is None


@pytest.mark.parametrize("method", ["gettxout", "getblockhash", "getblock", "gettxspendingprevout"])
async def test_a_reorg_in_the_middle(node: FakeNode, source: ChainSource, method: str) -> None:
    def reorganize() -> None:
        node.branch, node.height, node.transaction_height = "b", 111, 109

    node.before = on_call(method, 1, reorganize)
    assert await source.output(TXID, 0) == replace(CONFIRMED, block_height=109)


async def test_a_reorg_that_takes_it_out(node: FakeNode, source: ChainSource) -> None:
    def reorganize() -> None:
        node.branch, node.transaction_height = "b", 0

    node.before = on_call("getblock", 1, reorganize)
    assert await source.output(TXID, 0) == Output(SCRIPT, 1_000_000, 0, None, None, spent=False)


async def test_a_shorter_chain_in_the_middle(node: FakeNode, source: ChainSource) -> None:
    def invalidate() -> None:
        node.branch, node.height, node.transaction_height = "b", 105, 0
        node.errors["getblockhash"] = (-8, "Block height out of range")

    node.before = on_call("getblockhash", 1, invalidate)
    output = await source.output(TXID, 0)
    assert output is not None
    assert output.block_height is None


async def test_a_block_in_the_middle(node: FakeNode, source: ChainSource) -> None:
    def grow() -> None:
        node.height += 1

    node.before = on_call("getrawtransaction", 1, grow)
    assert await source.confirmations(TXID) == 4


async def test_a_chain_that_never_rests(node: FakeNode, source: ChainSource) -> None:
    def before(method: str) -> None:
        node.height += method == "getblockchaininfo"

    node.before = before
    with pytest.raises(ChainError, match="changes faster than it answers"):
        await source.output(TXID, 0)
    assert node.called("gettxout") == 5


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("getblockchaininfo", {"blocks": -1, "bestblockhash": "00" * 32}),
        ("getblockchaininfo", {"blocks": 1 << 24, "bestblockhash": "00" * 32}),
        ("getblockchaininfo", {"blocks": 110.5, "bestblockhash": "00" * 32}),
        ("getblockchaininfo", {"blocks": True, "bestblockhash": "00" * 32}),
        ("getblockchaininfo", {"blocks": 110, "bestblockhash": "00" * 31}),
        ("getblockchaininfo", {"blocks": 110, "bestblockhash": "zz" * 32}),
        ("getblockchaininfo", {"blocks": 110}),
        ("getblockchaininfo", [110]),
        ("getblockhash", None),
        ("getblockhash", "00"),
        ("getblock", {"tx": PRINTED_TXID}),
        ("getblock", {"tx": [1, 2]}),
        ("getblock", {"tx": []}),
        ("getblock", {"tx": ["00" * 32] * 100_000 + [PRINTED_TXID]}),
        ("gettxout", 5),
        ("gettxout", []),
        ("gettxspendingprevout", []),
        ("gettxspendingprevout", [{}, {}]),
        ("gettxspendingprevout", [{"spendingtxid": 1}]),
        ("gettxspendingprevout", {"spendingtxid": None}),
    ],
)
async def test_no_sense(node: FakeNode, source: ChainSource, method: str, answer: Any) -> None:
    node.answers[method] = answer
    with pytest.raises(ChainError):
        await source.output(TXID, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("confirmations", -1),
        ("confirmations", 112),
        ("confirmations", 1 << 70),
        ("confirmations", "3"),
        ("value", -0.01),
        ("value", 21_000_001),
        ("value", 1e-9),
        ("value", RawJson("NaN")),
        ("value", "NaN"),
        ("value", RawJson("1e999999")),
        ("value", None),
        ("scriptPubKey", {"hex": "0"}),
        ("scriptPubKey", {"hex": "00 20"}),
        ("scriptPubKey", {"asm": "0"}),
        ("bestblock", 5),
    ],
)
async def test_no_output(node: FakeNode, source: ChainSource, field: str, value: Any) -> None:
    unspent = node.gettxout(PRINTED_TXID, 0, False)
    assert unspent is not None
    node.answers["gettxout"] = {**unspent, field: value}
    with pytest.raises(ChainError):
        await source.output(TXID, 0)


async def test_amounts_are_exact(node: FakeNode, source: ChainSource) -> None:
    unspent = node.gettxout(PRINTED_TXID, 0, False)
    assert unspent is not None
    for value, sat in ((0.1, 10_000_000), (20999999.9769, 2_099_999_997_690_000), (1e-8, 1)):
        node.answers["gettxout"] = {**unspent, "value": value}
        assert await source.output(TXID, 0) == replace(CONFIRMED, amount_sat=sat)


async def test_a_node_too_old(node: FakeNode, source: ChainSource) -> None:
    node.errors["gettxspendingprevout"] = (-32601, "Method not found")
    with pytest.raises(ChainError, match="gettxspendingprevout: Method not found"):
        await source.output(TXID, 0)


@pytest.mark.parametrize(
    "method", ["getblockchaininfo", "gettxout", "getblockhash", "getblock", "gettxspendingprevout"]
)
async def test_a_node_that_starts_up(node: FakeNode, source: ChainSource, method: str) -> None:
    node.errors[method] = (-28, "Loading block index\u2026")
    with pytest.raises(ChainError, match="Loading block index"):
        await source.output(TXID, 0)


async def test_what_is_no_outpoint_is_not_asked_for(node: FakeNode, source: ChainSource) -> None:
    for txid, index in ((bytes(31), 0), (TXID, -1), (TXID, 1 << 32)):
        with pytest.raises(ValueError, match=r"31 bytes|no output's index"):
            await source.output(txid, index)
    with pytest.raises(ValueError, match="31 bytes"):
        await source.confirmations(bytes(31))
    with pytest.raises(ValueError, match="0 blocks"):
        await source.fee_estimate(0)
    assert node.calls == []


async def test_fees(node: FakeNode, source: ChainSource) -> None:
    node.answers["estimatesmartfee"] = {"feerate": 0.00012345, "blocks": 6}
    assert await source.fee_estimate(6) == 3_087
    assert await source.fee_estimate(1_000_000) == 3_087
    assert [params for _, params in node.calls] == [[6], [1008]]
    node.answers["estimatesmartfee"] = {"errors": ["Insufficient data"], "blocks": 6}
    assert await source.fee_estimate(6) == 253
    source.chain = "bitcoin"
    with pytest.raises(ChainError, match="no fee estimate"):
        await source.fee_estimate(6)


@pytest.mark.parametrize("feerate", [-0.0001, 1.1, "NaN", "Infinity", None, [], RawJson("1e99999")])
async def test_no_fees(node: FakeNode, source: ChainSource, feerate: Any) -> None:
    source.chain = "bitcoin"
    node.answers["estimatesmartfee"] = {"feerate": feerate}
    with pytest.raises(ChainError):
        await source.fee_estimate(6)


async def test_btcds_fees(node: FakeNode, btcd: ChainSource) -> None:
    # A float32 that went through a float64.
    node.answers["estimatefee"] = 0.00012345000869128853
    assert await btcd.fee_estimate(1_000_000) == 3_087
    assert node.calls[-1] == ("estimatefee", [25])
    node.errors["estimatefee"] = (-32603, "not enough blocks have been observed")
    assert await btcd.fee_estimate(6) == 253
    node.errors["estimatefee"] = (-32601, "Method not found")
    with pytest.raises(ChainError, match="Method not found"):
        await btcd.fee_estimate(6)


async def test_btcd_is_not_asked_to_look_in_a_block(node: FakeNode, btcd: ChainSource) -> None:
    node.has_index = False
    assert await btcd.output(TXID, 0) == CONFIRMED
    node.spent_in_block = True
    assert await btcd.output(TXID, 0) is None
    asked = [params for method, params in node.calls if method == "getrawtransaction"]
    assert asked == [[PRINTED_TXID, 1]]


async def test_broadcast(node: FakeNode, source: ChainSource) -> None:
    node.answers["sendrawtransaction"] = PRINTED_TXID
    assert await source.broadcast(TRANSACTION) == TXID
    assert node.calls == [("sendrawtransaction", [TRANSACTION.hex()])]


async def test_broadcast_of_what_is_there(node: FakeNode, source: ChainSource) -> None:
    for code in (-25, -26, -27):
        node.errors["sendrawtransaction"] = (code, "TX rejected: already have transaction")
        assert await source.broadcast(TRANSACTION) == TXID
    # Whose outputs are all spent, so that it can't be found.
    node.transaction_height = None
    assert await source.broadcast(TRANSACTION) == TXID


@pytest.mark.parametrize("reason", THERE)
async def test_broadcast_of_what_is_there_and_can_not_be_found(
    node: FakeNode, source: ChainSource, reason: str
) -> None:
    node.transaction_height = None
    for code in (-25, -26, -27):
        node.errors["sendrawtransaction"] = (code, reason)
        assert await source.broadcast(TRANSACTION) == TXID


async def test_broadcast_rejected(node: FakeNode, source: ChainSource) -> None:
    node.transaction_height = None
    for code in (-22, -25, -26):
        node.errors["sendrawtransaction"] = (code, "min relay fee not met\x1b[2J")
        with pytest.raises(BroadcastRejected, match=r"^min relay fee not met \[2J$"):
            await source.broadcast(TRANSACTION)


async def test_broadcast_undecided(node: FakeNode, source: ChainSource) -> None:
    node.errors["sendrawtransaction"] = (-28, "Loading block index")
    with pytest.raises(ChainError, match="Loading") as error:
        await source.broadcast(TRANSACTION)
    assert not isinstance(error.value, BroadcastRejected)
    node.errors.clear()
    for answer in ("00" * 32, "", 5, None):
        node.answers["sendrawtransaction"] = answer
        with pytest.raises(ChainError):
            await source.broadcast(TRANSACTION)


@pytest.mark.parametrize("junk", [b"", b"\x00", TRANSACTION[:-1], TRANSACTION + b"\x00"])
async def test_no_transaction(node: FakeNode, source: ChainSource, junk: bytes) -> None:
    with pytest.raises(ValueError, match="no transaction"):
        await source.broadcast(junk)
    assert node.calls == []
