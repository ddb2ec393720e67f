"""Servers of which a test writes every word, and a transaction for them to speak of."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from btclib.tx import OutPoint, Tx, TxIn, TxOut

from lightning_proxy.bolt.chains import CHAIN_HASHES

GENESIS = CHAIN_HASHES["regtest"][::-1].hex()
SCRIPT = b"\x00\x20" + b"\x5c" * 32
TRANSACTION = Tx(
    2, 0, [TxIn(OutPoint(b"\x11" * 32, 0), b"", 0)], [TxOut(1_000_000, SCRIPT)]
).serialize(include_witness=True)
PRINTED_TXID = Tx.parse(TRANSACTION).id.hex()
TXID = bytes.fromhex(PRINTED_TXID)[::-1]


def block_name(branch: str, height: int) -> str:
    """A block's hash, as explorers print it."""
    if height == 0:
        return GENESIS
    return hashlib.sha256(f"{branch} {height}".encode()).hexdigest()


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Answers every request; gives host and port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        yield f"127.0.0.1:{server.port}"


class FakeNode:
    """A node's JSON-RPC over a chain of one transaction, in the shapes that Bitcoin Core sends.

    A test changes its fields, and whatever it answers by `answers` (the whole result), `errors`
    (code and message), or `before` (called with each method before it is answered).
    """

    def __init__(self) -> None:
        self.branch = "a"
        self.height = 110
        #: None: unknown; 0: in the mempool.
        self.transaction_height: int | None = 108
        self.spent_in_block = False
        self.spent_in_mempool = False
        self.has_index = True
        self.answers: dict[str, Any] = {}
        self.errors: dict[str, tuple[int, str]] = {}
        self.before: Callable[[str], None] = lambda _: None
        self.calls: list[tuple[str, list[Any]]] = []
        self.authorization = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.authorization = request.headers.get("Authorization", "")
        question = json.loads(await request.text())
        method, params = question["method"], question["params"]
        self.calls.append((method, params))
        self.before(method)
        error = self.errors.get(method)
        result = None
        if error is None:
            try:
                known = method in self.answers
                result = self.answers[method] if known else getattr(self, method)(*params)
            except LookupError as unknown:
                error = (-5, str(unknown))
        reply: dict[str, Any] = {"result": result, "error": None, "id": question["id"]}
        if error is not None:
            reply = {
                "result": None,
                "error": {"code": error[0], "message": error[1]},
                "id": question["id"],
            }
        # A string is JSON as it stands: for numbers that Python would not write.
        text = json.dumps(reply)
        if isinstance(result, RawJson):
            text = text.replace(json.dumps(result), result)
        return web.Response(
            text=text, status=200 if error is None else 500, content_type="application/json"
        )

    def called(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    @property
    def confirmations(self) -> int:
        return self.height - self.transaction_height + 1 if self.transaction_height else 0

    def getblockchaininfo(self) -> dict[str, Any]:
        return {
            "chain": "regtest",
            "blocks": self.height,
            "headers": self.height,
            "bestblockhash": block_name(self.branch, self.height),
            "initialblockdownload": False,
        }

    def getblockhash(self, height: int) -> str:
        return block_name(self.branch, height)

    def getblock(self, block_hash: str, verbosity: int) -> dict[str, Any]:
        assert verbosity == 1
        txids = ["00" * 32, "01" * 32]
        height = self.transaction_height
        if height and block_hash == block_name(self.branch, height):
            txids.append(PRINTED_TXID)
        return {"hash": block_hash, "tx": txids}

    def gettxout(self, txid: str, index: int, include_mempool: bool) -> dict[str, Any] | None:
        assert not include_mempool
        here = txid == PRINTED_TXID and index == 0
        if not here or not self.transaction_height or self.spent_in_block:
            return None
        return {
            "bestblock": block_name(self.branch, self.height),
            "confirmations": self.confirmations,
            "value": 0.01,
            "scriptPubKey": {"asm": "0 5c5c", "hex": SCRIPT.hex(), "type": "witness_v0_scripthash"},
            "coinbase": False,
        }

    def getrawtransaction(
        self, txid: str, verbose: int, block_hash: str | None = None
    ) -> dict[str, Any]:
        assert verbose == 1
        height = self.transaction_height
        if txid != PRINTED_TXID or height is None:
            raise LookupError("No such mempool or blockchain transaction")
        transaction: dict[str, Any] = {
            "txid": txid,
            "vout": [{"value": 0.01, "n": 0, "scriptPubKey": {"hex": SCRIPT.hex()}}],
        }
        if height == 0:
            return transaction
        block = block_name(self.branch, height)
        if not self.has_index and block_hash != block:
            raise LookupError("No such mempool transaction")
        return {**transaction, "blockhash": block, "confirmations": self.confirmations}

    def gettxspendingprevout(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (output,) = outputs
        return [{**output, "spendingtxid": "22" * 32} if self.spent_in_mempool else output]


class RawJson(str):
    """What an answer shall have word for word."""

    __slots__ = ()
