"""Wallets that dial what never answers keep no other wallet from its peer."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from coincurve import PrivateKey

from lightning_proxy.api import Server
from lightning_proxy.relay import DialSettings
from lightning_proxy.transport.handshake import Initiator
from tests.support.black_hole import black_hole
from tests.support.peer import ScriptedPeer
from tests.support.relay import RawWallet, RpcFailure, raw_wallet, relay


@pytest.fixture
def hole() -> Iterator[int]:
    with black_hole() as port:
        yield port


def dial_hole(wallet: RawWallet, port: int) -> asyncio.Task[object]:
    """Of a node that nobody dialled before."""
    node_id = PrivateKey(secrets.token_bytes(32)).public_key.format()
    initiator = Initiator(wallet.secret, node_id)
    address = f"{node_id.hex()}@127.0.0.1:{port}"
    return asyncio.create_task(
        wallet.call("connect", peer=address, act_one=initiator.act_one().hex())
    )


async def under_way(server: Server, count: int) -> None:
    async with asyncio.timeout(10):
        while len(list(server.relay.sessions())) < count:
            await asyncio.sleep(0.01)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with relay(dial=DialSettings(max_concurrent=6, timeout=8.0)) as running:
        yield running


async def test_an_honest_wallet_gets_its_peer_at_once(
    server: Server, peer: ScriptedPeer, hole: int
) -> None:
    async with (
        raw_wallet(server.url) as one,
        raw_wallet(server.url) as two,
        raw_wallet(server.url) as three,
        raw_wallet(server.url) as honest,
    ):
        attackers = (one, two, three)
        floods = [dial_hole(each, hole) for _ in range(10) for each in attackers]
        # Four gave way to each other already.
        await under_way(server, 20)
        await honest.open_session(peer)
        # It took a place of theirs, who are told when to come again.
        async with asyncio.timeout(10):
            done, _ = await asyncio.wait(floods, return_when=asyncio.FIRST_COMPLETED)
        failures = [task.exception() for task in done]
        assert all(isinstance(each, RpcFailure) and each.code == "limit" for each in failures), (
            failures
        )
        for each in floods:
            each.cancel()
        await asyncio.gather(*floods, return_exceptions=True)


async def test_waiting_for_a_place_is_not_the_peers_failure(peer: ScriptedPeer, hole: int) -> None:
    settings = DialSettings(max_concurrent=1, timeout=0.5, backoff_first=1000.0)
    async with relay(dial=settings) as server, raw_wallet(server.url) as wallet:
        holes = [dial_hole(wallet, hole) for _ in range(3)]
        await under_way(server, 3)
        answering = asyncio.create_task(_answer(peer))
        act_one = Initiator(wallet.secret, peer.node_id).act_one().hex()
        # However often it has to be asked for again, the peer is never said to be the reason.
        async with asyncio.timeout(20):
            while True:
                try:
                    await wallet.call("connect", peer=peer.address, act_one=act_one)
                except RpcFailure as failure:
                    assert failure.code == "limit", failure
                    await asyncio.sleep(0.05)
                else:
                    break
        answering.cancel()
        await asyncio.gather(answering, *holes, return_exceptions=True)


async def _answer(peer: ScriptedPeer) -> None:
    await (await peer.accept()).handshake()
