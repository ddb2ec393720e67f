"""Whatever a source of the blockchain answers: a valid value or a `ChainError`, nothing else."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.opening import MAXIMUM_MONEY_SAT
from lightning_proxy.chain import ChainError, ChainSource, Output, SourceURL, checks
from lightning_proxy.chain.bitcoind import BitcoindSource
from lightning_proxy.chain.esplora import EsploraSource
from lightning_proxy.chain.http import HttpClient
from lightning_proxy.chain.url import SourceKind
from tests.unit.chain.fakes import (
    GENESIS,
    PRINTED_TXID,
    SCRIPT,
    TRANSACTION,
    TXID,
    FakeNode,
    block_name,
)

HASHES = st.sampled_from([GENESIS, PRINTED_TXID, "00" * 32])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 120),
    st.integers(),
    st.floats(),
    st.sampled_from([0.01, 1e-8, 21e6, 5e-324]),
    HASHES,
    st.just(SCRIPT.hex()),
    st.text(max_size=8),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@dataclass(frozen=True)
class Spoiled:
    """A right answer with one place in it made wrong, or another status, or other bytes."""

    #: Where in the answer: which child at each level, and how deep.
    path: list[int]
    value: Any
    status: int | None
    body: bytes | None

    def apply(self, answer: Any) -> tuple[int, bytes]:
        if self.body is not None:
            return self.status or 200, self.body
        return self.status or 200, json.dumps(self._replace(answer, self.path)).encode()

    def _replace(self, answer: Any, path: list[int]) -> Any:
        if not path or not isinstance(answer, dict | list) or not answer:
            return self.value
        keys = list(answer) if isinstance(answer, dict) else range(len(answer))
        key = keys[path[0] % len(keys)]
        copy = answer.copy()
        copy[key] = self._replace(answer[key], path[1:])
        return copy


SPOILED = st.builds(
    Spoiled,
    st.lists(st.integers(0, 9), max_size=4),
    ANYTHING,
    st.sampled_from([None, None, None, 200, 400, 404, 500, 503]),
    st.none() | st.none() | st.binary(max_size=80),
)
#: By the number of the question.
ANSWERS = st.dictionaries(st.integers(0, 12), SPOILED, max_size=3)
NODES = st.fixed_dictionaries(
    {
        "height": st.integers(108, 112),
        "transaction_height": st.sampled_from([None, 0, 108]),
        "spent_in_block": st.booleans(),
        "spent_in_mempool": st.booleans(),
        "has_index": st.booleans(),
    }
)


class Foreign(HttpClient):
    """A source's server that tells the truth but for some answers."""

    def __init__(self, node: dict[str, Any], answers: dict[int, Spoiled]) -> None:
        self._node = FakeNode()
        for name, value in node.items():
            setattr(self._node, name, value)
        self._answers = answers
        self._asked = 0

    async def get(self, path: str) -> tuple[int, bytes]:
        return self._say(esplora(self._node).get(path))

    async def post(self, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        if content_type == "text/plain":
            return self._say(PRINTED_TXID)
        question = json.loads(body)
        known = {
            "sendrawtransaction": PRINTED_TXID,
            "estimatesmartfee": {"feerate": 0.0001, "blocks": 6},
            "estimatefee": 0.0001,
        }
        reply: dict[str, Any] = {"result": known.get(question["method"]), "error": None}
        if reply["result"] is None:
            try:
                reply["result"] = getattr(self._node, question["method"])(*question["params"])
            except LookupError as error:
                reply["error"] = {"code": -5, "message": str(error)}
        return self._say({**reply, "id": question["id"]})

    def _say(self, answer: Any) -> tuple[int, bytes]:
        spoiled = self._answers.get(self._asked)
        self._asked += 1
        if spoiled is not None:
            return spoiled.apply(answer)
        if isinstance(answer, str):
            return 200, answer.encode()
        return (404, b"") if answer is None else (200, json.dumps(answer).encode())


def esplora(node: FakeNode) -> dict[str, Any]:
    """What Esplora's API would say of the same chain, by path."""
    tip = block_name(node.branch, node.height)
    answers: dict[str, Any] = {
        "/blocks/tip/hash": tip,
        f"/block/{tip}": {"id": tip, "height": node.height},
        "/fee-estimates": {"1": 10.5, "6": 5, "144": 1.0},
    }
    height = node.transaction_height
    if height is None:
        return answers
    status: dict[str, Any] = {"confirmed": False}
    if height:
        block = block_name(node.branch, height)
        status = {"confirmed": True, "block_height": height, "block_hash": block}
        answers[f"/block/{block}/txids"] = node.getblock(block, 1)["tx"]
    output = {"scriptpubkey": SCRIPT.hex(), "value": 1_000_000}
    answers[f"/tx/{PRINTED_TXID}"] = {"vout": [output], "status": status}
    answers[f"/tx/{PRINTED_TXID}/outspend/0"] = {"spent": node.spent_in_mempool}
    return answers


def valid(output: Output | None) -> bool:
    if output is None:
        return True
    assert isinstance(output.scriptpubkey, bytes)
    assert 0 <= output.amount_sat <= MAXIMUM_MONEY_SAT
    assert isinstance(output.spent, bool)
    unconfirmed = output.confirmations == 0
    assert unconfirmed == (output.block_height is None) == (output.transaction_index is None)
    return output.confirmations >= 0


async def tip(source: ChainSource) -> bool:
    found = await source.tip()
    return found.height >= 0 and len(found.block_hash) == 32


async def confirmations(source: ChainSource) -> bool:
    found = await source.confirmations(TXID)
    return found is None or found >= 0


async def output(source: ChainSource) -> bool:
    return valid(await source.output(TXID, 0))


async def fee(source: ChainSource) -> bool:
    return 253 <= await source.fee_estimate(6) <= checks.MAX_FEERATE_PER_KW


async def broadcast(source: ChainSource) -> bool:
    return await source.broadcast(TRANSACTION) == TXID


QUESTIONS = (tip, confirmations, output, fee, broadcast)


def ask(question: Callable[[ChainSource], Coroutine[Any, Any, bool]], source: ChainSource) -> None:
    try:
        assert asyncio.run(question(source))
    except ChainError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("kind", [SourceKind.BITCOIND, SourceKind.BTCD])
@given(node=NODES, answers=ANSWERS)
def test_json_rpc(kind: SourceKind, node: dict[str, Any], answers: dict[int, Spoiled]) -> None:
    for question in QUESTIONS:
        ask(question, BitcoindSource(Foreign(node, answers), kind, "regtest"))


@given(node=NODES, answers=ANSWERS)
def test_esplora(node: dict[str, Any], answers: dict[int, Spoiled]) -> None:
    for question in QUESTIONS:
        ask(question, EsploraSource(Foreign(node, answers), "regtest"))


@given(
    value=st.decimals(allow_nan=True, allow_infinity=True)
    | st.from_regex(r"-?\d{1,40}(\.\d{1,40})?(e-?\d{1,6})?", fullmatch=True)
)
def test_amounts(value: Decimal | str) -> None:
    decimal = Decimal(value)
    try:
        sat = checks.bitcoins(decimal)
    except ChainError:
        return
    assert Decimal(sat) == decimal.scaleb(8)


@given(st.text(max_size=40) | st.binary(max_size=40).map(bytes.hex))
def test_hex(text: str) -> None:
    with contextlib.suppress(ChainError):
        assert checks.hexadecimal(text, "script").hex() == text.lower()


SCHEMES = st.sampled_from(["bitcoind", "bitcoind+https", "btcd", "esplora+http", "http", ""])


@given(
    scheme=SCHEMES,
    rest=st.text(max_size=40) | st.from_regex(r"[a-z:@/?=&%#.0-9\[\]]{0,40}", fullmatch=True),
)
def test_urls(scheme: str, rest: str) -> None:
    try:
        url: Any = SourceURL.parse(f"{scheme}://{rest}")
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert url.host
