import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import pytest_asyncio

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet import (
    Backoff,
    ChannelError,
    ChannelOpened,
    ChannelProblem,
    ConnectionLost,
    Event,
    FundingChange,
    FundingChanged,
    KeystoreError,
    PeerConnected,
    PeerUnreachable,
    RecordError,
    ReferenceWallet,
    SessionClosed,
    WalletKeys,
    files,
    keystore,
)
from tests.unit.wallet.openings import CONFIRMED, POLICY, Funds, Opening, SigningWallet
from tests.unit.wallet.play import ByRelay, Play
from tests.unit.wallet.samples import (
    PEER,
    PEER_ADDRESS,
    SEED,
    SESSION_ID,
    session_info,
)
from tests.unit.wallet.scripted_relay import ScriptedRelay

QUICK = Backoff(first=0.001, most=0.01)

E = TypeVar("E", bound=Event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.json"
    files.create(path, "a passphrase", keys=WalletKeys(SEED), cost=10)
    return path


class At:
    """A reference wallet that watches, at a relay that plays along."""

    def __init__(self, wallet: ReferenceWallet, play: Play) -> None:
        self.wallet, self.play = wallet, play
        self.seen: list[Event] = []
        self._events = wallet.watch()

    async def until(self, kind: type[E]) -> E:
        async def look() -> E:
            async for event in self._events:
                self.seen.append(event)
                if isinstance(event, kind):
                    return event
            raise AssertionError("the events ended")

        return await asyncio.wait_for(look(), 10)


@contextlib.asynccontextmanager
async def at_relay(
    path: Path,
    relay: ScriptedRelay,
    listed: list[dict[str, Any]] | None = None,
    sessions: list[dict[str, Any]] | None = None,
    **options: Any,
) -> AsyncIterator[At]:
    welcome = asyncio.create_task(relay.let_in([session_info()] if sessions is None else sessions))
    async with ReferenceWallet(
        path,
        keystore.load(path, "a passphrase"),
        relay.url,
        **{"policy": POLICY, "reconnect_backoff": QUICK, **options},
    ) as wallet:
        play = Play(await welcome, listed or [])
        play.sessions = [session_info()] if sessions is None else sessions
        playing = asyncio.create_task(play.run())
        yield At(wallet, play)
    await playing


async def test_from_a_question_to_an_open_channel(path: Path, relay: ScriptedRelay) -> None:
    async with (
        SimulatedChain() as chain,
        at_relay(path, relay, chain=chain.url, chain_interval=0.01) as at,
        ByRelay(at.play, files.record_path(path)) as by_relay,
    ):
        opening = Opening(by_relay)
        watching = asyncio.create_task(at.until(ChannelOpened))
        await opening.accept()
        script = opening.peer.channel.funding_scriptpubkey
        raw, index = chain.faucet(script, 1_000_000)
        assert index == 0
        await opening.sign(chain.add_transaction(raw))
        chain.mine(1)
        await opening.ready()
        await at.play.tell(opening.peer_ready())
        assert await watching == ChannelOpened(opening.channel_id, PEER)
        while not any(
            isinstance(event, FundingChanged) and event.change is FundingChange.CONFIRMED
            for event in at.seen
        ):
            await at.until(FundingChanged)
        assert await at.wallet.record.peer_addresses() == {PEER: PEER_ADDRESS}
        lost = msgspec.structs.replace(opening.peer.channel.reestablish(), next_commitment_number=9)
        await at.play.tell(lost.encode())
        assert (await at.until(ChannelProblem)).state_lost


async def test_an_owner_opens_a_channel(path: Path, relay: ScriptedRelay) -> None:
    funds = Funds()
    async with (
        at_relay(path, relay, funder=funds) as at,
        ByRelay(at.play, files.record_path(path)) as by_relay,
    ):
        session = at.wallet.client.session(SESSION_ID)
        opening = Opening(by_relay, Role.OPENER)
        watching = asyncio.create_task(at.until(ChannelOpened))
        temporary_id = await at.wallet.open_channel(session, 500_000, 7_000)
        raw = await at.play.offered.get()
        assert raw == (await at.wallet.record.channels())[0].log[0].raw
        opening.relay.send(raw)
        opening.peer.hear(raw)
        wanted = opening.relay.open_channel
        assert (wanted.temporary_channel_id, wanted.channel_flags) == (temporary_id, 0)
        assert (wanted.funding_satoshis, wanted.push_msat) == (500_000, 7_000)
        raw = opening.peer.say(opening.peer.accept_channel(channel_reserve_satoshis=5_000))
        opening.relay.receive(raw)
        answer = await opening.wallet.ask(DelegationKind.FUNDING_CREATED, opening.temporary_id, raw)
        opening.peer.hear(opening.settle(DelegationKind.FUNDING_CREATED, answer))
        assert [wanted.amount_sat for wanted in funds.asked] == [500_000]
        assert (await opening.release()).transaction is not None
        await opening.ready(funding=CONFIRMED)
        await at.play.tell(opening.peer_ready())
        await watching


async def test_opening_needs_somebody_who_pays_and_a_chain(
    path: Path, relay: ScriptedRelay
) -> None:
    async with at_relay(path, relay) as at:
        session = at.wallet.client.session(SESSION_ID)
        with pytest.raises(ChannelError, match="no funder"):
            await at.wallet.open_channel(session, 500_000)
    policy = msgspec.structs.replace(POLICY, chains=("regtest", "signet"))
    async with at_relay(path, relay, funder=Funds(), policy=policy) as at:
        session = at.wallet.client.session(SESSION_ID)
        with pytest.raises(ChannelError, match="Say on which chain"):
            await at.wallet.open_channel(session, 500_000)
        await at.wallet.open_channel(session, 500_000, chain="signet")


@pytest_asyncio.fixture
async def opening(path: Path) -> AsyncIterator[Opening]:
    """A channel in the wallet's record, signed by both."""
    async with SigningWallet(files.record_path(path)) as wallet:
        opening = Opening(wallet)
        await opening.accept()
        await opening.sign()
        await opening.ready()
        await wallet.record.remember_peer(PEER, PEER_ADDRESS)
        yield opening


def listed(opening: Opening, *messages: bytes) -> list[dict[str, Any]]:
    return [
        {
            "channel_id": opening.channel_id.hex(),
            "temporary_channel_id": opening.temporary_id.hex(),
            "peer": PEER.hex(),
            "state": "ready",
            "messages": [message.hex() for message in messages],
        }
    ]


async def test_a_wallet_that_was_away_catches_up_when_it_watches(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    said = listed(opening, opening.peer_ready())
    async with at_relay(path, relay, said) as at:
        assert await at.until(ChannelOpened) == ChannelOpened(opening.channel_id, PEER)
        assert at.play.asked[0] == "channels"


async def test_and_again_when_the_relay_is_there_again(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    async with at_relay(path, relay) as at:
        watching = asyncio.create_task(at.until(ChannelOpened))
        while "slots" not in at.play.asked:
            await asyncio.sleep(0.001)
        await at.play.socket.drop()
        play = Play(await relay.let_in([session_info()]), listed(opening, opening.peer_ready()))
        playing = asyncio.create_task(play.run())
        await watching
    await playing


async def test_it_connects_again_to_those_with_whom_it_has_channels(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    async with at_relay(path, relay) as at:
        at.play.refuse_to_connect = True
        watching = asyncio.create_task(at.until(PeerConnected))
        await at.play.close()
        assert await watching == PeerConnected("77" * 16, PEER)
        assert any(isinstance(event, SessionClosed) for event in at.seen)
        unreachable = [event for event in at.seen if isinstance(event, PeerUnreachable)]
        assert unreachable == [PeerUnreachable(PEER, "Nobody is there.")]


async def test_a_session_that_ended_while_it_was_away_is_made_again(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    async with at_relay(path, relay, sessions=[]) as at:
        assert await at.until(PeerConnected) == PeerConnected("77" * 16, PEER)


async def test_it_leaves_peers_alone_where_it_is_told_to(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    async with at_relay(path, relay, sessions=[], reconnect=False) as at:
        watching = asyncio.create_task(at.until(PeerConnected))
        while "slots" not in at.play.asked:
            await asyncio.sleep(0.001)
        await at.wallet.client.sessions()
        assert at.play.asked == ["channels", "slots", "sessions"]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_without_channels_it_connects_to_nobody(path: Path, relay: ScriptedRelay) -> None:
    async with at_relay(path, relay) as at:
        watching = asyncio.create_task(at.until(SessionClosed))
        await at.play.close()
        await watching
        await at.wallet.client.sessions()
        # The record may be an old one: what the relay has is asked all the same.
        assert set(at.play.asked) <= {"channels", "slots", "sessions"}


async def test_connecting_remembers_where_the_peer_is(
    path: Path, relay: ScriptedRelay, opening: Opening
) -> None:
    await opening.wallet.record.remember_peer(PEER, "elsewhere")
    async with at_relay(path, relay, sessions=[]) as at:
        await at.wallet.connect(PEER_ADDRESS)
        assert await at.wallet.record.peer_addresses() == {PEER: PEER_ADDRESS}


def test_creating_makes_both_files_or_none(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="empty"):
        files.create(tmp_path / "wallet.json", "", cost=10)
    assert not list(tmp_path.iterdir())
    keys = files.create(tmp_path / "wallet.json", "x", cost=10)
    assert {file.name for file in tmp_path.iterdir()} == {"wallet.json", "wallet.json.record"}
    with pytest.raises(RecordError, match="exists already"):
        files.create(tmp_path / "wallet.json", "x", cost=10)
    assert keystore.load(tmp_path / "wallet.json", "x").node_id == keys.node_id


async def test_a_wallet_without_its_record_is_not_used(path: Path, relay: ScriptedRelay) -> None:
    files.record_path(path).unlink()
    with pytest.raises(RecordError, match="missing"):
        await ReferenceWallet(path, WalletKeys(SEED), relay.url).__aenter__()


async def test_a_relay_that_is_not_there_leaves_the_record_closed(
    path: Path, unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(ConnectionLost):
        await ReferenceWallet(path, WalletKeys(SEED), url).__aenter__()
    # SQLite removes these with the last connection.
    assert {file.name for file in path.parent.iterdir()} == {"wallet.json", "wallet.json.record"}
