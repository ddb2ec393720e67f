"""A channel that lives is never given up here, whatever a peer says about it.

BOLT #2, "Message Retransmission": a node remembers a channel until its end is on the chain.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import ChannelReady, Error
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.relay.store import ChannelStore, StoredChannel
from tests.e2e.test_channels import (
    SECRET,
    Incoming,
    delegated,
    lose,
    received,
    reestablish_answer,
)
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import RawWallet, raw_wallet, relay


@pytest.fixture(params=["chain", "no chain"])
async def wallet(
    request: pytest.FixtureRequest, chain: SimulatedChain, tmp_path: Path
) -> AsyncIterator[RawWallet]:
    settings: dict[str, Any] = {"store": str(tmp_path / "relay.sqlite")}
    if request.param == "chain":
        settings |= {"chain": chain.url, "chain_interval": 0.02}
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as connected:
        yield connected


async def opened(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> tuple[Incoming, PeerConnection]:
    """A channel that is ready."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    chain.mine()
    opening.peer.confirm()
    # Without a chain of its own, the relay asks on the peer's word.
    ready = opening.peer.say(opening.peer.channel_ready())
    await connection.send(ready)
    opening.wallet.hear(ready)
    await opening.ready(wallet, connection, await delegated(wallet, "channel_ready"))
    (info,) = await wallet.call("channels")
    while info["state"] != "ready":
        (info,) = await wallet.call("channels")
    return opening, connection


@pytest.mark.parametrize("reconnected", [False, True])
async def test_an_error_does_not_make_it_forgotten(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, *, reconnected: bool
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    if reconnected:
        await lose(wallet, connection)
        _, connection = await wallet.open_session(peer)
        await opening.reestablish(wallet, connection)
    channel_id = opening.peer.channel.channel_id
    error = Error(channel_id=channel_id, data=b"internal error").encode()
    await connection.send(error)
    while (await wallet.event_of("message"))["message"] != error.hex():
        pass
    while (info := (await wallet.call("channels"))[0])["state"] != "failed":
        pass
    assert info["channel_id"] == channel_id.hex()
    assert info["failure"] == "the peer failed it: internal error"
    await lose(wallet, connection)
    assert await wallet.call("channels") == [info]
    # BOLT #2: nobody says `channel_reestablish` for it, and nobody answers the peer's.
    _, connection = await wallet.open_session(peer)
    opening.peer.channel.disconnected()
    await connection.send(opening.peer.channel.reestablish().encode())
    await connection.send(b"\x00\x12\x00\x03\x00\x00")
    assert (await connection.receive())[:2] == b"\x00\x13"
    await wallet.quiet_but("message")


async def test_an_error_before_the_peer_saw_the_funding_does_not_either(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    """`channel_ready` went one way: whoever said it has seen the funding transaction."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    opening.peer.confirm()
    await connection.send(opening.peer.say(opening.peer.channel_ready()))
    await wallet.event_of("message")
    await lose(wallet, connection)
    _, connection = await wallet.open_session(peer)
    await delegated(wallet, "reestablish")
    channel_id = opening.peer.channel.channel_id
    await connection.send(Error(channel_id=channel_id, data=b"no").encode())
    await wallet.event_of("message")
    (info,) = await wallet.call("channels")
    assert info["channel_id"] == channel_id.hex()


async def test_what_was_pushed_into_an_unfunded_channel_is_not_given_up(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    """Its opener can fund it after it said `error`: part of it would be the wallet's."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection, push_msat=200_000_000)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    channel_id = opening.peer.channel.channel_id
    await connection.send(Error(channel_id=channel_id, data=b"no").encode())
    await wallet.event_of("message")
    (info,) = await wallet.call("channels")
    assert info["channel_id"] == channel_id.hex()


async def test_an_unfunded_channel_in_which_nothing_is_ours_is_forgotten(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    created = opening.peer.say(opening.peer.funding_created())
    await connection.send(created)
    opening.wallet.hear(created)
    await opening.sign(wallet, connection, await delegated(wallet, "funding_signed"))
    assert len(await wallet.call("channels")) == 1
    channel_id = opening.peer.channel.channel_id
    await connection.send(Error(channel_id=channel_id, data=b"no").encode())
    await wallet.event_of("message")
    while await wallet.call("channels"):
        pass


async def test_a_peer_that_wants_it_closed_by_force_is_disconnected(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    """LDK asks so: both numbers 0, and no secret (eclair 1730). `error` is the wallet's to say."""
    opening, connection = await opened(wallet, peer, chain)
    await lose(wallet, connection)
    session_id, connection = await wallet.open_session(peer)
    opening.peer.channel.disconnected()
    question = await delegated(wallet, "reestablish")
    says = opening.peer.channel.reestablish()
    zero = msgspec.structs.replace(says, next_commitment_number=0)
    await connection.send(zero.encode())
    await wallet.answer(question, reestablish_answer(opening.wallet))
    warning = await received(connection, PeerWarning)
    assert warning.channel_id == bytes(32)
    assert b"closed by force" in warning.data
    closed = await wallet.event_of("closed")
    assert closed["session_id"] == session_id
    assert "closed by force" in closed["reason"]
    (info,) = await wallet.call("channels")
    assert info["state"] == "ready"


async def test_the_wallet_may_fail_it(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    (info,) = await wallet.call("channels")
    error = Error(channel_id=opening.peer.channel.channel_id, data=b"as the owner wants")
    await wallet.call("send", session_id=info["session_id"], message=error.encode().hex())
    assert await received(connection, Error) == error
    while (info := (await wallet.call("channels"))[0])["state"] != "failed":
        pass
    assert info["failure"] == "this wallet failed it"


async def test_a_channel_that_failed_takes_no_other_down(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    alive, connection = await opened(wallet, peer, chain)
    dead = Incoming(chain)
    await dead.accept(wallet, connection)
    await dead.sign(wallet, connection, await dead.create(wallet, connection))
    chain.mine()
    dead.peer.confirm()
    await connection.send(dead.peer.say(dead.peer.channel_ready()))
    await dead.ready(wallet, connection, await delegated(wallet, "channel_ready"))
    channel_id = dead.peer.channel.channel_id
    await connection.send(Error(channel_id=channel_id, data=b"closed by force").encode())
    await wallet.event_of("message")
    for _ in range(2):
        await lose(wallet, connection)
        _, connection = await wallet.open_session(peer)
        # Asked for one, by one.
        await alive.reestablish(wallet, connection)
        await received(connection, ChannelReady)
        await wallet.quiet_but("message")
    states = {info["channel_id"]: info["state"] for info in await wallet.call("channels")}
    assert states == {
        alive.peer.channel.channel_id.hex(): "ready",
        channel_id.hex(): "failed",
    }


async def test_a_spent_funding_output_ends_it(
    peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"chain": chain.url, "chain_interval": 0.02}
    settings["store"] = str(tmp_path / "relay.sqlite")
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        opening, connection = await opened(wallet, peer, chain)
        await lose(wallet, connection)
    channel = opening.peer.channel
    commitment = channel.commitments[Role.ACCEPTER]
    signed = [
        opening.peer.sign(commitment.unsigned),
        opening.wallet.sign(commitment.unsigned),
    ]
    chain.add_transaction(commitment.signed(*signed))
    chain.mine()
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        while (info := (await wallet.call("channels"))[0])["state"] != "failed":
            pass
        assert "was spent" in info["failure"]


async def test_a_channel_ready_that_is_repeated_costs_nothing(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer may say it as often as it likes: it is stored once, and told once."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    saved = 0
    save = ChannelStore.save

    async def counting(store: ChannelStore, channel: StoredChannel) -> bool:
        nonlocal saved
        saved += 1
        return await save(store, channel)

    monkeypatch.setattr(ChannelStore, "save", counting)
    opening.peer.confirm()
    ready = opening.peer.say(opening.peer.channel_ready())
    for _ in range(500):
        await connection.send(ready)
    await connection.send(b"\x00\x12\x00\x03\x00\x00")
    while (await connection.receive())[:2] != b"\x00\x13":
        pass
    assert saved == 1
    told = 0
    while not wallet.events.empty():
        told += (await wallet.event_body())["method"] == "message"
    assert told == 1


async def test_an_outpoint_that_another_peer_has_is_refused_before_anybody_is_asked(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    taken = opening.peer.channel.funding_created
    async with ScriptedPeer(b"\x22" * 32).serve() as second:
        _, other = await wallet.open_session(second)
        thief = Incoming(chain)
        await thief.accept(wallet, other)
        created = thief.peer.funding_created(taken.funding_txid, taken.funding_output_index)
        await other.send(created.encode())
        errors = [await received(other, Error), await received(other, Error)]
        assert all(b"this outpoint is in use" in error.data for error in errors)
        # Nor can it do anything to it.
        channel_id = opening.peer.channel.channel_id
        await other.send(Error(channel_id=channel_id, data=b"mine").encode())
        await wallet.event_of("message")
        (info,) = await wallet.call("channels")
        assert (info["channel_id"], info["state"]) == (channel_id.hex(), "ready")
        assert info["peer"] == peer.node_id.hex()
    await wallet.event_of("closed")
    await lose(wallet, connection)
    _, connection = await wallet.open_session(peer)
    await opening.reestablish(wallet, connection)


async def test_an_outpoint_of_a_live_channel_does_not_fail_it(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    opening, connection = await opened(wallet, peer, chain)
    taken = opening.peer.channel.funding_created
    again = Incoming(chain)
    await again.accept(wallet, connection)
    created = again.peer.funding_created(taken.funding_txid, taken.funding_output_index)
    await connection.send(created.encode())
    error = await received(connection, Error)
    assert error.channel_id == again.peer.channel.temporary_channel_id
    await connection.send(b"\x00\x12\x00\x03\x00\x00")
    assert (await connection.receive())[:2] == b"\x00\x13"
    (info,) = await wallet.call("channels")
    assert info["state"] == "ready"
