"""The relay publishes a wallet's funding transaction: until it is seen, or its channel failed.

What funds a channel that failed is money that only a force-close brings back.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from btclib.tx import Tx, TxIn

from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import Error
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.relay.store import ChannelStore, StoredChannel
from lightning_proxy.relay.store.inbox import Changes, InboxStore
from tests.e2e.test_channels import FUNDING_SAT, SECRET, delegated, lose, reestablish_answer
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay

FAR = 1_000


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
def settings(chain: SimulatedChain, tmp_path: Path) -> dict[str, Any]:
    store = str(tmp_path / "relay.sqlite")
    return {"chain": chain.url, "chain_interval": 0.02, "store": store}


@pytest.fixture
async def wallet(settings: dict[str, Any]) -> AsyncIterator[RawWallet]:
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as connected:
        yield connected


class Posts:
    """Each transaction that is handed to the chain: counted, and held while `may_pass` is unset."""

    def __init__(self, chain: SimulatedChain) -> None:
        self.count = 0
        self.looks = 0
        self.changed = asyncio.Event()
        self.may_pass = asyncio.Event()
        self.may_pass.set()
        chain.fault = self._take

    async def _take(self, request: web.Request) -> web.Response | None:
        if request.method == "POST":
            self.count += 1
            self.changed.set()
            await self.may_pass.wait()
        elif request.path == "/blocks/tip/hash":
            self.looks += 1
            self.changed.set()
        return None

    async def until(self, *, count: int = 0, looks: int = 0) -> None:
        async with asyncio.timeout(10):
            while self.count < count or self.looks < looks:
                self.changed.clear()
                await self.changed.wait()


class Outgoing:
    """A wallet opens a channel to a peer, up to the question for the funding transaction."""

    def __init__(self, chain: SimulatedChain) -> None:
        self.chain = chain
        self.wallet, self.peer = Side(Role.OPENER), Side(Role.ACCEPTER)

    @property
    def channel(self) -> Channel:
        return self.peer.channel

    async def until_signed(
        self, wallet: RawWallet, session_id: str, connection: PeerConnection, locked: int = FAR
    ) -> None:
        """Up to the peer's `funding_signed`, for a transaction that is locked so many blocks."""
        raw = self.wallet.say(self.wallet.open_channel(funding_satoshis=FUNDING_SAT))
        await wallet.call("open_channel", session_id=session_id, message=raw.hex())
        self.peer.hear(await connection.receive())
        accept = self.peer.say(self.peer.accept_channel())
        await connection.send(accept)
        question = await delegated(wallet, "funding_created")
        self.wallet.hear(accept)
        elsewhere = SimulatedChain()
        script = self.wallet.channel.funding_scriptpubkey
        now = parse_transaction(elsewhere.faucet(script, FUNDING_SAT)[0])
        self.chain._sources.update(elsewhere._sources)
        tx_in = TxIn(now.vin[0].prev_out, b"", 0, now.vin[0].script_witness)
        later = Tx(now.version, self.chain.tip.height + locked, [tx_in], now.vout)
        self.transaction = later.serialize(include_witness=True)
        created = self.wallet.funding_created(later.id[::-1], 0)
        self.wallet.say(created)
        answer = {"funding_txid": created.funding_txid.hex(), "funding_output_index": 0}
        await wallet.answer(question, {**answer, "signature": created.signature.hex()})
        self.peer.hear(await connection.receive())
        signed = self.peer.say(self.peer.funding_signed())
        self.wallet.hear(signed)
        await connection.send(signed)

    async def publish(self, wallet: RawWallet) -> dict[str, Any]:
        """Answer the question for the transaction; which question it was."""
        question = await delegated(wallet, "funding_transaction")
        await wallet.answer(question, {"transaction": self.transaction.hex()})
        return question

    async def fail(self, wallet: RawWallet, connection: PeerConnection) -> None:
        channel_id = self.channel.channel_id
        await connection.send(Error(channel_id=channel_id, data=b"internal error").encode())
        await self.has_failed(wallet)

    async def has_failed(self, wallet: RawWallet) -> None:
        while (await wallet.call("channels"))[0]["state"] != "failed":
            pass


async def waiting(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> tuple[Outgoing, PeerConnection]:
    """A channel whose funding transaction the chain does not take yet."""
    session_id, connection = await wallet.open_session(peer)
    opening = Outgoing(chain)
    await opening.until_signed(wallet, session_id, connection)
    await opening.publish(wallet)
    assert not (await wallet.event_of("funding_refused"))["final"]
    return opening, connection


async def told_of_funding(wallet: RawWallet) -> bool:
    """Whether anything that was said until now is about that."""
    await wallet.call("sessions")
    bodies = []
    while not wallet.events.empty():
        bodies.append(await wallet.event_body())
    return any(body["method"] == "funding_refused" for body in bodies)


async def none_follows(wallet: RawWallet, chain: SimulatedChain, posts: Posts) -> None:
    """No block brings another attempt."""
    count = posts.count
    chain.mine(FAR + 1)
    await posts.until(looks=posts.looks + 5)
    assert posts.count == count
    assert not chain.mempool
    await wallet.quiet_but("message")


async def test_a_channel_that_failed_is_not_funded(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    posts = Posts(chain)
    opening, connection = await waiting(wallet, peer, chain)
    await opening.fail(wallet, connection)
    refused = await wallet.event_of("funding_refused")
    assert refused == {
        "channel_id": opening.channel.channel_id.hex(),
        "peer": peer.node_id.hex(),
        "reason": "it is published no more, for the channel failed: the peer failed it: "
        "internal error",
        "final": True,
    }
    await none_follows(wallet, chain, posts)


async def test_a_channel_that_the_wallet_failed_is_not_funded(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    posts = Posts(chain)
    opening, _ = await waiting(wallet, peer, chain)
    (session,) = await wallet.call("sessions")
    error = Error(channel_id=opening.channel.channel_id, data=b"no").encode()
    await wallet.call("send", session_id=session["session_id"], message=error.hex())
    refused = await wallet.event_of("funding_refused")
    assert refused["final"]
    assert "this wallet failed it" in refused["reason"]
    await none_follows(wallet, chain, posts)


@pytest.mark.parametrize("locked", [0, FAR])
async def test_it_fails_while_the_chain_is_being_told(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, locked: int
) -> None:
    """What became of that call is waited for, and said."""
    posts = Posts(chain)
    posts.may_pass.clear()
    session_id, connection = await wallet.open_session(peer)
    opening = Outgoing(chain)
    await opening.until_signed(wallet, session_id, connection, locked)
    await opening.publish(wallet)
    await posts.until(count=1)
    await opening.fail(wallet, connection)
    posts.may_pass.set()
    refused = await wallet.event_of("funding_refused")
    is_published = not locked
    assert refused["final"] is not is_published
    assert "the channel failed" in refused["reason"]
    assert ("being published, and it is" in refused["reason"]) is is_published
    assert bool(chain.mempool) is is_published
    assert posts.count == 1
    await wallet.quiet_but("message")


@pytest.mark.parametrize("is_told", [True, False])
async def test_after_a_restart(
    settings: dict[str, Any],
    peer: ScriptedPeer,
    chain: SimulatedChain,
    monkeypatch: pytest.MonkeyPatch,
    is_told: bool,
) -> None:
    """It failed, and whether the wallet heard of it or the relay was killed first: once."""
    posts = Posts(chain)
    written = asyncio.Event()
    write = InboxStore.write

    async def write_or_not(store: InboxStore, changes: Changes) -> None:
        if is_told:
            await write(store, changes)
            if changes.given_up:
                written.set()

    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        opening, connection = await waiting(wallet, peer, chain)
        monkeypatch.setattr(InboxStore, "write", write_or_not)
        await opening.fail(wallet, connection)
        assert (await wallet.event_of("funding_refused"))["final"]
        if is_told:
            await asyncio.wait_for(written.wait(), 10)
            await wallet.acknowledge()
        await lose(wallet, connection)
    monkeypatch.setattr(InboxStore, "write", write)
    for restart in range(2):
        async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
            _, connection = await wallet.open_session(peer)
            if restart == 0 and not is_told:
                refused = await wallet.event_of("funding_refused")
                assert refused["final"]
                assert "the peer failed it: internal error" in refused["reason"]
                await wallet.acknowledge()
            if restart:
                await none_follows(wallet, chain, posts)
            (info,) = await wallet.call("channels")
            assert info["state"] == "failed"
            assert not await told_of_funding(wallet)
            await lose(wallet, connection)
            await wallet.acknowledge()


async def test_it_fails_after_a_restart_and_before_anybody_publishes_again(
    settings: dict[str, Any], peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        opening, connection = await waiting(wallet, peer, chain)
        await wallet.acknowledge()
    posts = Posts(chain)
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        await delegated(wallet, "reestablish")
        await opening.fail(wallet, connection)
        refused = await wallet.event_of("funding_refused")
        assert refused["final"]
        assert "the peer failed it" in refused["reason"]
        await none_follows(wallet, chain, posts)


async def test_a_channel_that_lives_is_published_again_after_a_restart(
    settings: dict[str, Any], peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        opening, connection = await waiting(wallet, peer, chain)
        await wallet.acknowledge()
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        opening.wallet.channel.disconnected()
        question = await delegated(wallet, "reestablish")
        await wallet.answer(question, reestablish_answer(opening.wallet))
        await opening.publish(wallet)
        chain.mine(FAR)
        while not chain.mempool:
            await wallet.event_of("funding_refused") if not wallet.events.empty() else None
            await wallet.call("sessions")
        chain.mine()
        while (await wallet.event_body())["method"] != "delegate":
            pass
        # Published and seen, it is no more to be told of, whatever becomes of the channel.
        await opening.fail(wallet, connection)
        assert not await told_of_funding(wallet)


async def test_a_wallet_has_so_many_places_at_most(
    wallet: RawWallet,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lightning_proxy.relay.broadcasts._MAX_A_WALLET", 1)
    opening, connection = await waiting(wallet, peer, chain)
    (session,) = await wallet.call("sessions")
    another = Outgoing(chain)
    await another.until_signed(wallet, session["session_id"], connection)
    question = await another.publish(wallet)
    rejected = await wallet.event_of("rejected")
    assert (rejected["id"], rejected["code"]) == (question["id"], "limit")
    assert "wait for the chain" in rejected["reason"]
    # The place is free again with the first one's end, and the question is still open.
    await connection.send(Error(channel_id=opening.channel.channel_id, data=b"no").encode())
    assert (await wallet.event_of("funding_refused"))["final"]
    await wallet.answer(question, {"transaction": another.transaction.hex()})
    refused = await wallet.event_of("funding_refused")
    assert refused["channel_id"] == another.channel.channel_id.hex()
    assert not refused["final"]


async def test_a_channel_that_fails_while_it_is_written_is_not_gone_on_with(
    wallet: RawWallet,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()
    save = ChannelStore.save

    async def slowly(store: ChannelStore, channel: StoredChannel) -> bool:
        writing.set()
        await go_on.wait()
        return await save(store, channel)

    monkeypatch.setattr(ChannelStore, "save", slowly)
    session_id, connection = await wallet.open_session(peer)
    opening = Outgoing(chain)
    await opening.until_signed(wallet, session_id, connection)
    await asyncio.wait_for(writing.wait(), 10)
    error = Error(channel_id=opening.channel.channel_id, data=b"no").encode()
    await wallet.call("send", session_id=session_id, message=error.hex())
    go_on.set()
    await opening.has_failed(wallet)
    await wallet.quiet()
