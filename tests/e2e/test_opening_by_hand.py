"""`wallet open` at a real relay: given up, killed, begun again, and beside a `wallet watch`."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from btclib.tx import TxOut

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    ChannelReady,
    Error,
    FundingCreated,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet import Record, WalletKeys, files
from lightning_proxy.wallet.record import StoredChannel
from tests.support.funder import SimulatedFunder
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import raw_wallet, relay, take
from tests.unit.wallet.program import Program

KEYS = WalletKeys(b"\x0d" * 32)
PASSPHRASE = "a passphrase"
SECRET = dict(KEYS.private_keys())["node_secret"]


class Owner:
    """Runs `lightning-proxy wallet` with one wallet's file."""

    def __init__(self, folder: Path, url: str) -> None:
        self.file = folder / "wallet.json"
        files.create(self.file, PASSPHRASE, keys=KEYS, cost=10)
        self._policy = folder / "policy.toml"
        self._policy.write_text('chains = ["regtest"]\n')
        self._url = url

    @asynccontextmanager
    async def run(self, *arguments: str) -> AsyncIterator[Program]:
        program = await Program.start(
            *arguments,
            *("--relay", self._url, "--policy", str(self._policy), "--json"),
            LIGHTNING_PROXY_WALLET_FILE=str(self.file),
            LIGHTNING_PROXY_WALLET_PASSPHRASE=PASSPHRASE,
        )
        try:
            yield program
        finally:
            if program.process.returncode is None:
                program.process.kill()
                await program.process.communicate()

    async def channels(self) -> list[StoredChannel]:
        async with Record(files.record_path(self.file), KEYS.node_id) as record:
            return await record.channels()


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
async def server(chain: SimulatedChain, tmp_path: Path) -> AsyncIterator[Server]:
    store = str(tmp_path / "relay.sqlite")
    async with relay(chain=chain.url, chain_interval=0.02, store=store) as running:
        yield running


@pytest.fixture
def owner(server: Server, tmp_path: Path) -> Owner:
    return Owner(tmp_path, server.url)


async def hear(side: Side, connection: PeerConnection, kind: type[Message]) -> None:
    raw = await connection.receive()
    assert isinstance(decode(raw), kind), decode(raw)
    side.hear(raw)


async def failed(connection: PeerConnection) -> bytes:
    """The channel that the peer is told to fail."""
    error = decode(await connection.receive())
    assert isinstance(error, Error), error
    return error.channel_id


async def accept(connection: PeerConnection) -> Side:
    side = Side(Role.ACCEPTER)
    await hear(side, connection, OpenChannel)
    reserve = side.channel.open_channel.funding_satoshis // 100
    answer = side.accept_channel(channel_reserve_satoshis=reserve)
    await connection.send(side.say(answer))
    return side


def psbt_for(chain: SimulatedChain, side: Side) -> str:
    channel = side.channel
    output = TxOut(channel.open_channel.funding_satoshis, channel.funding_scriptpubkey)
    return SimulatedFunder(chain).psbt([output])


async def at_the_relay(server: Server) -> list[str]:
    """The states of the wallet's channels there."""
    async with raw_wallet(server.url, SECRET) as wallet:
        return [channel["state"] for channel in await wallet.call("channels")]


async def asked_for(program: Program, side: Side) -> None:
    """What the owner is to pay is this channel's, and no other's."""
    wanted = await program.until("funding_wanted")
    channel = side.channel
    assert wanted["amount_sat"] == channel.open_channel.funding_satoshis
    assert wanted["scriptpubkey"] == channel.funding_scriptpubkey.hex()
    assert wanted["temporary_channel_id"] == channel.temporary_channel_id.hex()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_who_gives_an_opening_up_fails_it_at_the_peer(
    server: Server, peer: ScriptedPeer, owner: Owner, number: signal.Signals
) -> None:
    async with owner.run("open", peer.address, "500000") as program:
        connection = await take(peer)
        side = await accept(connection)
        await asked_for(program, side)
        program.process.send_signal(number)
        assert await failed(connection) == side.channel.temporary_channel_id
        assert (await program.end())[0] == 130
    assert await at_the_relay(server) == []
    (stored,) = await owner.channels()
    assert stored.failure == "its owner gave the opening up"
    # And nothing of it is in the way of another.
    async with owner.run("open", peer.address, "700000") as program:
        await asked_for(program, await accept(connection))


async def test_after_a_kill_the_next_one_fails_the_old_and_asks_for_its_own(
    peer: ScriptedPeer, owner: Owner
) -> None:
    async with owner.run("open", peer.address, "500000") as program:
        connection = await take(peer)
        old = await accept(connection)
        await asked_for(program, old)
        program.process.kill()
        await program.process.wait()
    assert list(owner.file.parent.glob("*.opening-*"))
    async with owner.run("open", peer.address, "700000") as program:
        assert await failed(connection) == old.channel.temporary_channel_id
        side = await accept(connection)
        # Whatever the relay asks first: never the old one's.
        await asked_for(program, side)
        before, after = await owner.channels()
        assert before.failure == "its owner gave the opening up"
        assert after.failure is None
        program.process.send_signal(signal.SIGTERM)
        assert (await program.end())[0] == 130
    assert not list(owner.file.parent.glob("*.opening-*"))


async def test_two_openings_at_once_are_left_alone(peer: ScriptedPeer, owner: Owner) -> None:
    async with owner.run("open", peer.address, "500000") as first:
        connection = await take(peer)
        one = await accept(connection)
        await asked_for(first, one)
        async with owner.run("open", peer.address, "700000") as second:
            # No `error`: that one is under way.
            await asked_for(second, await accept(connection))
        assert [stored.failure for stored in await owner.channels()] == [None, None]


async def test_what_is_signed_for_is_not_given_up(
    server: Server, chain: SimulatedChain, peer: ScriptedPeer, owner: Owner
) -> None:
    async with owner.run("open", peer.address, "500000") as program:
        connection = await take(peer)
        side = await accept(connection)
        await asked_for(program, side)
        program.type(psbt_for(chain, side) + "\n")
        await hear(side, connection, FundingCreated)
        program.process.send_signal(signal.SIGTERM)
        code, _, err = await program.end()
        assert code == 130
        assert "the opening is not given up" in err
    assert await at_the_relay(server) == ["created"]
    # What is left to do any process of this wallet's does.
    async with owner.run("watch", "--approve", "policy"):
        await connection.send(side.say(side.funding_signed()))
        async with asyncio.timeout(20):
            while not chain.mempool:
                await asyncio.sleep(0.01)
    (stored,) = await owner.channels()
    assert stored.channel().state is ChannelState.SIGNED
    assert stored.failure is None


async def test_an_open_beside_a_watch_says_what_really_happened(
    chain: SimulatedChain, peer: ScriptedPeer, owner: Owner
) -> None:
    async with owner.run("watch", "--approve", "policy") as watching:
        await watching.until("watching")
        async with owner.run("open", peer.address, "500000", "--wait") as program:
            connection = await take(peer)
            side = await accept(connection)
            await asked_for(program, side)
            program.type(psbt_for(chain, side) + "\n")
            await hear(side, connection, FundingCreated)
            await connection.send(side.say(side.funding_signed()))
            await program.until("released")
            async with asyncio.timeout(20):
                while not chain.mempool:
                    await asyncio.sleep(0.01)
            chain.mine(side.channel.accept_channel.minimum_depth)
            await hear(side, connection, ChannelReady)
            side.confirm()
            await connection.send(side.say(side.channel_ready()))
            assert (await program.until("channel_opened"))["peer"] == peer.node_id.hex()
            assert (await program.end())[0] == 0
        assert (await watching.until("channel_opened"))["peer"] == peer.node_id.hex()


async def test_a_peers_words_are_not_taken_for_the_wallets(
    peer: ScriptedPeer, owner: Owner
) -> None:
    words = b"no room\nFund the channel with exactly 1 sat to bcrt1qattacker:\x1b[2J"
    program = await Program.start(
        *("open", peer.address, "500000", "--relay", owner._url, "--policy", str(owner._policy)),
        LIGHTNING_PROXY_WALLET_FILE=str(owner.file),
        LIGHTNING_PROXY_WALLET_PASSPHRASE=PASSPHRASE,
    )
    connection = await take(peer)
    side = Side(Role.ACCEPTER)
    await hear(side, connection, OpenChannel)
    error = Error(channel_id=side.channel.temporary_channel_id, data=words)
    await connection.send(error.encode())
    code, out, err = await program.end()
    assert code == 1
    shown = "no room?Fund the channel with exactly 1 sat to bcrt1qattacker:?[2J"
    assert err == f'Error: The peer failed the channel: "{shown}".\n'
    assert not [line for line in out.splitlines() if line.startswith("Fund")]
    # It is no "offered" channel any more.
    (stored,) = await owner.channels()
    assert stored.failure == f'the peer failed it: "{shown}"'
