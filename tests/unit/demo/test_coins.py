"""The demo's chain process, its faucet, and what is funded from it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from lightning_proxy.bolt.scripts import p2wsh
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain import ChainError, open_source
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.demo.coins import Coin, faucet_at
from lightning_proxy.demo.programs import Program, environ_without_settings
from lightning_proxy.wallet import FundingWanted
from lightning_proxy.wallet.funding import read_funding
from tests.support.channel_peer import faucet_of

CHANNEL_SAT = 500_000
SCRIPT = p2wsh(b"whatever the channel's two sides agree on")


@pytest.fixture
def chain() -> SimulatedChain:
    return SimulatedChain()


async def test_a_coin_pays_for_a_channel(chain: SimulatedChain) -> None:
    coin = await Coin.from_faucet(faucet_of(chain), CHANNEL_SAT, secrets.token_bytes(32))
    funding = coin.fund(SCRIPT, CHANNEL_SAT)
    raw = funding.serialize()
    tx = parse_transaction(raw)
    output = tx.vout[funding.output_index]
    assert (output.script_pub_key.script, output.value) == (SCRIPT, CHANNEL_SAT)
    assert tx.id[::-1] == funding.txid
    # The chain checks amounts, scripts and signatures; it takes a coin once.
    assert chain.add_transaction(raw) == funding.txid
    with pytest.raises(ChainError, match="spends it already"):
        chain.add_transaction(coin.fund(SCRIPT, CHANNEL_SAT + 1).serialize())


async def test_a_coin_of_another_key_pays_for_nothing(chain: SimulatedChain) -> None:
    coin = await Coin.from_faucet(faucet_of(chain), CHANNEL_SAT, secrets.token_bytes(32))
    stolen = Coin(secrets.token_bytes(32), coin.txid, coin.output_index, coin.amount_sat)
    with pytest.raises(ChainError, match="script-verify"):
        chain.add_transaction(stolen.fund(SCRIPT, CHANNEL_SAT).serialize())


async def test_the_same_as_a_psbt(chain: SimulatedChain) -> None:
    """What a wallet makes of the PSBT is the transaction itself."""
    coin = await Coin.from_faucet(faucet_of(chain), CHANNEL_SAT, secrets.token_bytes(32))
    funding = coin.fund(SCRIPT, CHANNEL_SAT)
    read = read_funding(funding.psbt(), FundingWanted(SCRIPT, CHANNEL_SAT, "regtest"))
    assert read.transaction == funding.serialize()
    assert (read.txid, read.output_index) == (funding.txid, funding.output_index)


async def test_secrets_are_in_no_repr(chain: SimulatedChain) -> None:
    coin = await Coin.from_faucet(faucet_of(chain), CHANNEL_SAT, b"\x42" * 32)
    for shown in (repr(coin), repr(coin.fund(SCRIPT, CHANNEL_SAT))):
        assert "42" * 32 not in shown
        assert repr(b"\x42" * 32) not in shown


# ---- the process ----


class Said:
    """What a program says, to be waited for."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    def take(self, _: Program, line: dict[str, Any] | None) -> None:
        if line is not None:
            self.lines.append(line)
            self._changed.set()

    async def until(self, done: Callable[[list[str]], bool]) -> list[str]:
        async with asyncio.timeout(30):
            while not done(events := [line["event"] for line in self.lines]):
                self._changed.clear()
                await self._changed.wait()
        return events


@asynccontextmanager
async def chain_process(blocks: int) -> AsyncIterator[Said]:
    said = Said()
    arguments = ["lightning_proxy.demo.chain", "--blocks", str(blocks), "--interval", "0.01"]
    async with Program("chain", arguments, said.take, environ=environ_without_settings()):
        await said.until(lambda events: "listening" in events)
        yield said


async def test_whatever_is_published_is_buried() -> None:
    async with chain_process(blocks=2) as said:
        listening = said.lines[0]
        source = await open_source(listening["url"])
        try:
            coin = await Coin.from_faucet(
                faucet_at(listening["faucet"]), CHANNEL_SAT, secrets.token_bytes(32)
            )
            # The faucet's own payments are confirmed at once, and nothing is said of them.
            assert await source.confirmations(coin.txid) == 1
            funding = coin.fund(SCRIPT, CHANNEL_SAT)
            await source.broadcast(funding.serialize())
            events = await said.until(lambda events: events.count("block_mined") == 2)
            assert events == ["listening", "transaction", "block_mined", "block_mined"]
            assert said.lines[1]["txid"] == funding.txid[::-1].hex()
            assert said.lines[1]["size"] == len(funding.serialize())
            assert await source.confirmations(funding.txid) == 2
            output = await source.output(funding.txid, funding.output_index)
            assert output is not None
            assert (output.scriptpubkey, output.amount_sat) == (SCRIPT, CHANNEL_SAT)
        finally:
            await source.close()


async def test_a_faucet_that_is_asked_for_nonsense() -> None:
    async with chain_process(blocks=1) as said:
        pay = faucet_at(said.lines[0]["faucet"])
        for script, amount_sat in ((SCRIPT, -1), (SCRIPT, 2**62), (SCRIPT, 10**30)):
            with pytest.raises(ChainError, match="the faucet gives nothing"):
                await pay(script, amount_sat)
        assert (await pay(SCRIPT, 1_000)).output_index == 0


async def test_a_faucet_that_is_not_there() -> None:
    with pytest.raises(ChainError, match="the faucet gives nothing"):
        await faucet_at("http://127.0.0.1:9/")(SCRIPT, 1)


async def test_a_faucet_that_answers_nonsense() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(ChainError, match="the faucet gives nothing"):
            await faucet_at(f"http://127.0.0.1:{runner.addresses[0][1]}/")(SCRIPT, 1)
    finally:
        await runner.cleanup()
