"""The demo's blockchain: simulated, with a faucet, and a miner who works when there is work.

`python -m lightning_proxy.demo.chain` serves Esplora's API, as `chain.simulated` does, and on
another port `POST /` is the faucet. Whatever else is published gets `--blocks` blocks, one every
`--interval` seconds.
"""

import argparse
import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from aiohttp import web

from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.demo.coins import Payment, Wish
from lightning_proxy.demo.lines import emit

_HOST: Final = "127.0.0.1"
#: Seconds between two looks at the mempool.
_LOOK: Final = 0.01


async def _serve_faucet(chain: SimulatedChain) -> tuple[web.AppRunner, str]:
    async def pay(request: web.Request) -> web.Response:
        try:
            wish = msgspec.json.decode(await request.read(), type=Wish)
            script = bytes.fromhex(wish.scriptpubkey)
            transaction, index = chain.faucet(script, wish.amount_sat)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        chain.mine()
        payment = Payment(transaction.hex(), index)
        return web.Response(body=msgspec.json.encode(payment), content_type="application/json")

    app = web.Application()
    app.router.add_post("/", pay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _HOST, 0).start()
    return runner, f"http://{_HOST}:{runner.addresses[0][1]}/"


async def _mine(chain: SimulatedChain, blocks: int, interval: float) -> None:
    """For ever: bury what comes."""
    while True:
        await asyncio.sleep(_LOOK)
        waiting = chain.mempool
        for txid in waiting:
            tx = chain.transaction(txid[::-1])
            emit("transaction", txid=txid[::-1].hex(), size=tx.size if tx else None)
        for _ in range(blocks if waiting else 0):
            await asyncio.sleep(interval)
            chain.mine()
            emit("block_mined", height=chain.tip.height)


async def _run(options: argparse.Namespace) -> None:
    async with SimulatedChain() as chain:
        runner, faucet = await _serve_faucet(chain)
        try:
            emit("listening", url=chain.url, faucet=faucet)
            await _mine(chain, options.blocks, options.interval)
        finally:
            await runner.cleanup()


def main() -> None:
    """Run until interrupted."""
    parser = argparse.ArgumentParser(prog="lightning_proxy.demo.chain", description=__doc__)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--interval", type=float, default=0.5, help="seconds")
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
