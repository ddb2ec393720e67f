"""Handshakes that strangers begin and never finish keep nobody out."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

from lightning_proxy.relay.settings import DialSettings
from lightning_proxy.transport.handshake import Initiator
from tests.support.peer import ScriptedPeer
from tests.support.relay import ACT_ONE, RawWallet, RpcFailure, raw_wallet, relay

MOST = 12


async def begin(wallet: RawWallet, address: str) -> "asyncio.Task[object]":
    """Dial a peer that says nothing."""
    return asyncio.create_task(wallet.call("connect", peer=address, act_one=ACT_ONE))


async def half_open(wallet: RawWallet, peer: ScriptedPeer) -> str:
    """A session that has its act two, and waits for act three."""
    initiator = Initiator(wallet.secret, peer.node_id)
    connecting = asyncio.create_task(
        wallet.call("connect", peer=peer.address, act_one=initiator.act_one().hex())
    )
    connection = await peer.accept()
    shaking = asyncio.create_task(connection.handshake())
    session_id: str = (await connecting)["session_id"]
    shaking.cancel()
    await asyncio.gather(shaking, return_exceptions=True)
    return session_id


async def test_strangers_that_wait_for_act_two(peer: ScriptedPeer) -> None:
    """Two wallets fill the relay; an honest one gets each session that it wants."""
    async with (
        relay(max_sessions=MOST, dial=DialSettings(act_two_timeout=600)) as server,
        ScriptedPeer(b"\x22" * 32).serve() as silent,
        raw_wallet(server.url) as one,
        raw_wallet(server.url) as other,
        raw_wallet(server.url) as honest,
    ):
        begun = [await begin(each, silent.address) for each in (one, other) * (MOST // 2)]
        for _ in begun:
            await silent.accept()
        assert len(list(server.relay.sessions())) == MOST
        for number in range(3):
            await honest.open_session(peer)
            assert len(await honest.call("sessions")) == number + 1
        assert len(list(server.relay.sessions())) <= MOST
        assert sum(each.done() for each in begun) == 3
        for each in begun:
            each.cancel()
        outcomes = await asyncio.gather(*begun, return_exceptions=True)
        assert sum(isinstance(each, RpcFailure) for each in outcomes) == 3


async def test_strangers_with_a_key_each_that_wait_for_act_three(peer: ScriptedPeer) -> None:
    async with relay(max_sessions=MOST, act_three_timeout=600) as server, AsyncExitStack() as stack:
        strangers = [
            await stack.enter_async_context(raw_wallet(server.url, secrets.token_bytes(32)))
            for _ in range(MOST)
        ]
        for each in strangers:
            await half_open(each, peer)
        honest = await stack.enter_async_context(raw_wallet(server.url))
        session_id, _ = await honest.open_session(peer)
        # Who began first had most time.
        left = [len(await each.call("sessions")) for each in strangers]
        assert left == [0] + [1] * (MOST - 1)
        assert [each["session_id"] for each in await honest.call("sessions")] == [session_id]


async def test_who_holds_most_of_them_is_refused(peer: ScriptedPeer) -> None:
    async with (
        relay(max_sessions=3, act_three_timeout=600) as server,
        raw_wallet(server.url) as honest,
        raw_wallet(server.url) as stranger,
    ):
        session_id, _ = await honest.open_session(peer)
        for _ in range(2):
            await half_open(stranger, peer)
        with pytest.raises(RpcFailure) as refused:
            await stranger.call("connect", peer=peer.address, act_one=ACT_ONE)
        assert refused.value.code == "limit"
        assert [each["session_id"] for each in await honest.call("sessions")] == [session_id]


async def test_a_session_that_ends_while_its_peer_is_dialled(
    peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends once, and its peer is not kept."""
    async with (
        relay(max_sessions=1) as server,
        raw_wallet(server.url) as stranger,
        raw_wallet(server.url) as honest,
    ):
        dialler = server.relay._dialler
        dial, reached, go_on = dialler.dial, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: object) -> object:
            transport = await dial(*arguments)  # type: ignore[arg-type]
            if not reached.is_set():
                reached.set()
                await go_on.wait()
            return transport

        monkeypatch.setattr(dialler, "dial", slow)
        begun = await begin(stranger, peer.address)
        await reached.wait()
        left = await peer.accept()
        await honest.open_session(peer)
        go_on.set()
        with pytest.raises(RpcFailure) as refused:
            await begun
        assert refused.value.code == "limit"
        assert await left.closed() == b""
        assert len(list(server.relay.sessions())) == 1
        assert server.relay.counters.sessions_closed == 1
