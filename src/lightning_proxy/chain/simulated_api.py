"""The part of Esplora's HTTP API that wallets need, served from a simulated chain."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler
from btclib.tx import Tx

from lightning_proxy.chain.source import BroadcastRejected, Tip

# A transaction of the greatest weight that nodes relay, in hex.
_MAX_BODY: Final = 1_000_000

#: Stands between a request and its answer: None lets the chain answer.
Fault: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True, slots=True)
class Block:
    """One block; hashes and txids in the order that explorers print."""

    height: int
    block_hash: bytes
    #: Begins with that of a coinbase, which is nothing but its txid.
    txids: tuple[bytes, ...]


class Chain(Protocol):
    """What is served; txids and hashes in the order that explorers print."""

    @property
    def tip(self) -> Tip: ...
    @property
    def fault(self) -> Fault | None: ...
    @property
    def fee_estimates(self) -> Mapping[int, float]: ...
    def block(self, block_hash: bytes) -> Block | None: ...
    def block_at(self, height: int) -> Block | None: ...
    def block_of(self, txid: bytes) -> Block | None: ...
    def transaction(self, txid: bytes) -> Tx | None: ...
    def spender(self, txid: bytes, index: int) -> tuple[bytes, int] | None: ...
    def add_transaction(self, transaction: bytes) -> bytes: ...


def application(chain: Chain) -> web.Application:
    """What serves this chain."""
    api = _Api(chain)
    app = web.Application(middlewares=[api.fail], client_max_size=_MAX_BODY)
    app.router.add_get("/blocks/tip/height", api.tip_height)
    app.router.add_get("/blocks/tip/hash", api.tip_hash)
    app.router.add_get(r"/block-height/{height:\d+}", api.block_at)
    app.router.add_get("/block/{hash:[0-9a-f]{64}}", api.block)
    app.router.add_get("/block/{hash:[0-9a-f]{64}}/txids", api.block_txids)
    app.router.add_get("/tx/{txid:[0-9a-f]{64}}", api.transaction)
    app.router.add_get("/tx/{txid:[0-9a-f]{64}}/status", api.transaction_status)
    app.router.add_get(r"/tx/{txid:[0-9a-f]{64}}/outspend/{index:\d+}", api.outspend)
    app.router.add_get("/fee-estimates", api.fee_estimates)
    app.router.add_post("/tx", api.broadcast)
    return app


class _Api:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @web.middleware
    async def fail(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._chain.fault is not None:
            answer = await self._chain.fault(request)
            if answer is not None:
                return answer
        return await handler(request)

    async def tip_height(self, _: web.Request) -> web.Response:
        return web.Response(text=str(self._chain.tip.height))

    async def tip_hash(self, _: web.Request) -> web.Response:
        return web.Response(text=self._chain.tip.block_hash.hex())

    async def block_at(self, request: web.Request) -> web.Response:
        block = self._chain.block_at(int(request.match_info["height"]))
        if block is None:
            raise web.HTTPNotFound(text="Block not found")
        return web.Response(text=block.block_hash.hex())

    async def block(self, request: web.Request) -> web.Response:
        block = self._chain.block(bytes.fromhex(request.match_info["hash"]))
        if block is None:
            raise web.HTTPNotFound(text="Block not found")
        return web.json_response(
            {"id": block.block_hash.hex(), "height": block.height, "tx_count": len(block.txids)}
        )

    async def block_txids(self, request: web.Request) -> web.Response:
        block = self._chain.block(bytes.fromhex(request.match_info["hash"]))
        if block is None:
            raise web.HTTPNotFound(text="Block not found")
        return web.json_response([txid.hex() for txid in block.txids])

    async def transaction(self, request: web.Request) -> web.Response:
        txid = bytes.fromhex(request.match_info["txid"])
        tx = self._chain.transaction(txid)
        if tx is None:
            raise web.HTTPNotFound(text="Transaction not found")
        return web.json_response(
            {
                "txid": txid.hex(),
                "version": tx.version,
                "locktime": tx.lock_time,
                "vin": [
                    {
                        "txid": tx_in.prev_out.tx_id.hex(),
                        "vout": tx_in.prev_out.vout,
                        "scriptsig": tx_in.script_sig.hex(),
                        "witness": [item.hex() for item in tx_in.script_witness.stack],
                        "sequence": tx_in.sequence,
                    }
                    for tx_in in tx.vin
                ],
                "vout": [
                    {"scriptpubkey": tx_out.scriptPubKey.hex(), "value": tx_out.value}
                    for tx_out in tx.vout
                ],
                "size": tx.size,
                "weight": tx.weight,
                "status": self._status(txid),
            }
        )

    async def transaction_status(self, request: web.Request) -> web.Response:
        return web.json_response(self._status(bytes.fromhex(request.match_info["txid"])))

    async def outspend(self, request: web.Request) -> web.Response:
        txid = bytes.fromhex(request.match_info["txid"])
        index = int(request.match_info["index"])
        # An outpoint's index has 4 bytes.
        spender = self._chain.spender(txid, index) if index < 1 << 32 else None
        if spender is None:
            return web.json_response({"spent": False})
        spending, spending_input = spender
        return web.json_response(
            {
                "spent": True,
                "txid": spending.hex(),
                "vin": spending_input,
                "status": self._status(spending),
            }
        )

    async def fee_estimates(self, _: web.Request) -> web.Response:
        return web.json_response(
            {str(target): feerate for target, feerate in self._chain.fee_estimates.items()}
        )

    async def broadcast(self, request: web.Request) -> web.Response:
        try:
            txid = self._chain.add_transaction(bytes.fromhex(await request.text()))
        except (BroadcastRejected, ValueError) as error:
            raise web.HTTPBadRequest(text=f"sendrawtransaction RPC error: {error}") from error
        return web.Response(text=txid[::-1].hex())

    def _status(self, txid: bytes) -> dict[str, object]:
        block = self._chain.block_of(txid)
        if block is None:
            return {"confirmed": False}
        return {
            "confirmed": True,
            "block_height": block.height,
            "block_hash": block.block_hash.hex(),
        }
