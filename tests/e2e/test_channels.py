"""A channel opens through the relay, both ways, and lives on over reconnections and restarts."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from btclib.tx import Tx, TxIn

from lightning_proxy.api import Server
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingSigned,
    Message,
    UpdateFee,
    decode,
)
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.bolt.opening import channel_id_of, short_channel_id
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.relay.store import ChannelStore, StoreError
from tests.support.channels import open_channel
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import WAIT, RawWallet, RpcFailure, raw_wallet, relay

M = TypeVar("M", bound=Message)

SECRET = b"\x77" * 32
FUNDING_SAT = 1_000_000


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    async with SimulatedChain() as simulated:
        yield simulated


@pytest.fixture
def settings(chain: SimulatedChain, tmp_path: Path) -> dict[str, Any]:
    store = str(tmp_path / "relay.sqlite")
    return {"chain": chain.url, "chain_interval": 0.02, "store": store}


@pytest.fixture
async def server(settings: dict[str, Any]) -> AsyncIterator[Server]:
    async with relay(**settings) as running:
        yield running


@pytest.fixture
async def wallet(server: Server) -> AsyncIterator[RawWallet]:
    async with raw_wallet(server.url, SECRET) as connected:
        yield connected


async def delegated(wallet: RawWallet, kind: str) -> dict[str, Any]:
    """The next question, which has to be of this kind; what the wallet is told is skipped."""
    while True:
        body = await wallet.event_body()
        if body["method"] in ("message", "session_lost", "voided"):
            continue
        assert body["method"] == "delegate", body
        assert body["params"]["kind"] == kind, body
        params: dict[str, Any] = body["params"]
        return params


async def received(connection: PeerConnection, kind: type[M]) -> M:
    message = decode(await connection.receive())
    assert isinstance(message, kind), message
    return message


async def lose(wallet: RawWallet, connection: PeerConnection) -> None:
    """The peer's end breaks, and the wallet hears of it."""
    await connection.close()
    await wallet.event_of("closed")


class Incoming:
    """A peer opens a channel to a wallet, step by step; each side has its own state machine."""

    def __init__(self, chain: SimulatedChain) -> None:
        self.chain = chain
        self.peer, self.wallet = Side(Role.OPENER), Side(Role.ACCEPTER)

    async def accept(self, wallet: RawWallet, connection: PeerConnection, **changes: Any) -> None:
        raw = self.peer.say(self.peer.open_channel(funding_satoshis=FUNDING_SAT, **changes))
        await connection.send(raw)
        question = await delegated(wallet, "channel_keys")
        self.wallet.hear(bytes.fromhex(question["messages"][-1]))
        await wallet.answer(question, self.wallet.channel_keys())
        accept = await connection.receive()
        self.peer.hear(accept)
        assert self.wallet.say(self.wallet.accept_channel()) == accept

    async def create(self, wallet: RawWallet, connection: PeerConnection) -> dict[str, Any]:
        """Up to the question for `funding_signed`."""
        script = self.peer.channel.funding_scriptpubkey
        self.transaction, index = self.chain.faucet(script, FUNDING_SAT)
        txid = parse_transaction(self.transaction).id[::-1]
        raw = self.peer.say(self.peer.funding_created(txid, index))
        await connection.send(raw)
        question = await delegated(wallet, "funding_signed")
        assert question["messages"] == [raw.hex()]
        assert question["channel_id"] == self.peer.channel.temporary_channel_id.hex()
        self.wallet.hear(raw)
        return question

    async def sign(
        self, wallet: RawWallet, connection: PeerConnection, question: dict[str, Any]
    ) -> None:
        signed = self.wallet.funding_signed()
        self.wallet.say(signed)
        await wallet.answer(question, {"signature": signed.signature.hex()})
        raw = await connection.receive()
        assert decode(raw) == signed
        self.peer.hear(raw)
        assert self.peer.channel.state is ChannelState.SIGNED

    async def ready(
        self, wallet: RawWallet, connection: PeerConnection, question: dict[str, Any]
    ) -> None:
        """Answer `channel_ready`; the peer's is next."""
        assert question["channel_id"] == self.wallet.channel.channel_id.hex()
        self.wallet.confirm()
        ready = self.wallet.channel_ready(alias=7)
        self.wallet.say(ready)
        answer = {"second_per_commitment_point": ready.second_per_commitment_point.hex()}
        await wallet.answer(question, {**answer, "alias": 7})
        raw = await connection.receive()
        assert decode(raw) == ready
        self.peer.hear(raw)

    async def finish(self, wallet: RawWallet, connection: PeerConnection) -> None:
        self.peer.confirm()
        raw = self.peer.say(self.peer.channel_ready())
        await connection.send(raw)
        while (await wallet.event("message"))["message"] != raw.hex():
            pass  # channel_reestablish
        assert self.peer.channel.state is ChannelState.READY

    async def reestablish(self, wallet: RawWallet, connection: PeerConnection) -> None:
        """A new connection, of which both sides have said `init`."""
        self.peer.channel.disconnected()
        question = await delegated(wallet, "reestablish")
        assert question["channel_id"] == self.peer.channel.channel_id.hex()
        await connection.send(self.peer.say(self.peer.channel.reestablish()))
        await wallet.answer(question, reestablish_answer(self.wallet))
        raw = await connection.receive()
        assert decode(raw) == self.wallet.channel.reestablish()
        self.peer.hear(raw)


def reestablish_answer(side: Side) -> dict[str, Any]:
    says = side.channel.reestablish()
    return {
        "next_commitment_number": says.next_commitment_number,
        "next_revocation_number": says.next_revocation_number,
        "your_last_per_commitment_secret": says.your_last_per_commitment_secret.hex(),
        "my_current_per_commitment_point": says.my_current_per_commitment_point.hex(),
    }


async def test_a_peer_opens_a_channel(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, settings: dict[str, Any]
) -> None:
    session_id, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    assert question["messages"]
    assert question["funding"] is None
    await opening.sign(wallet, connection, question)
    await wallet.quiet()
    chain.mine()
    question = await delegated(wallet, "channel_ready")
    assert question["messages"] == []
    scid = short_channel_id(chain.tip.height, 1, 0)
    assert question["funding"] == {"confirmations": 1, "short_channel_id": scid}
    await opening.ready(wallet, connection, question)
    await opening.finish(wallet, connection)
    (info,) = await wallet.call("channels")
    assert info == {
        "channel_id": opening.peer.channel.channel_id.hex(),
        "temporary_channel_id": opening.peer.channel.temporary_channel_id.hex(),
        "peer": peer.node_id.hex(),
        "session_id": session_id,
        "state": "ready",
        "funding": question["funding"],
        "messages": [e.raw.hex() for e in opening.peer.channel.log if e.sender is Role.OPENER],
    }


async def test_a_wallet_opens_a_channel(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    session_id, connection = await wallet.open_session(peer)
    ours, theirs = Side(Role.OPENER), Side(Role.ACCEPTER)
    raw = ours.say(ours.open_channel(funding_satoshis=FUNDING_SAT))
    await wallet.call("open_channel", session_id=session_id, message=raw.hex())
    assert await connection.receive() == raw
    theirs.hear(raw)
    accept = theirs.say(theirs.accept_channel())
    await connection.send(accept)

    question = await delegated(wallet, "funding_created")
    assert question["messages"] == [accept.hex()]
    ours.hear(accept)
    elsewhere = SimulatedChain()
    transaction, index = elsewhere.faucet(ours.channel.funding_scriptpubkey, FUNDING_SAT)
    created = ours.funding_created(parse_transaction(transaction).id[::-1], index)
    ours.say(created)
    answer = {"funding_txid": created.funding_txid.hex(), "funding_output_index": index}
    await wallet.answer(question, {**answer, "signature": created.signature.hex()})
    raw = await connection.receive()
    assert decode(raw) == created
    theirs.hear(raw)

    signed = theirs.say(theirs.funding_signed())
    await connection.send(signed)
    question = await delegated(wallet, "funding_transaction")
    assert question["messages"] == [signed.hex()]
    ours.hear(signed)
    # The wallet broadcasts by itself, through the same chain.
    chain._sources.update(elsewhere._sources)
    await wallet.answer(question, {"transaction": transaction.hex()})
    ours.channel.published()
    while not chain.mempool:
        await wallet.call("sessions")
    chain.mine()
    question = await delegated(wallet, "channel_ready")
    ours.confirm()
    ready = ours.channel_ready()
    ours.say(ready)
    point = ready.second_per_commitment_point.hex()
    await wallet.answer(question, {"second_per_commitment_point": point})
    raw = await connection.receive()
    assert decode(raw) == ready
    theirs.hear(raw)
    theirs.confirm()
    await connection.send(theirs.say(theirs.channel_ready()))
    await wallet.event("message")
    assert theirs.channel.state is ChannelState.READY


async def test_a_transaction_that_the_chain_refuses_for_now_goes_with_a_later_block(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    session_id, connection = await wallet.open_session(peer)
    ours, theirs = Side(Role.OPENER), Side(Role.ACCEPTER)
    raw = ours.say(ours.open_channel(funding_satoshis=FUNDING_SAT))
    await wallet.call("open_channel", session_id=session_id, message=raw.hex())
    theirs.hear(await connection.receive())
    accept = theirs.say(theirs.accept_channel())
    await connection.send(accept)
    question = await delegated(wallet, "funding_created")
    ours.hear(accept)
    elsewhere = SimulatedChain()
    elsewhere.mine(10)
    transaction, _ = elsewhere.faucet(ours.channel.funding_scriptpubkey, FUNDING_SAT)
    now = parse_transaction(transaction)
    coin = now.vin[0]
    # Not before the block after the next one.
    tx_in = TxIn(coin.prev_out, b"", 0, coin.script_witness)
    later = Tx(now.version, chain.tip.height + 1, [tx_in], now.vout)
    created = ours.funding_created(later.id[::-1], 0)
    ours.say(created)
    answer = {"funding_txid": created.funding_txid.hex(), "funding_output_index": 0}
    await wallet.answer(question, {**answer, "signature": created.signature.hex()})
    theirs.hear(await connection.receive())
    await connection.send(theirs.say(theirs.funding_signed()))
    chain._sources.update(elsewhere._sources)
    question = await delegated(wallet, "funding_transaction")
    raw = later.serialize(include_witness=True)
    await wallet.answer(question, {"transaction": raw.hex()})
    refused = await wallet.event("funding_refused")
    assert refused == {
        "channel_id": theirs.channel.channel_id.hex(),
        "peer": peer.node_id.hex(),
        "reason": "sendrawtransaction RPC error: non-final",
        "final": False,
    }
    assert not chain.mempool
    chain.mine()
    while not chain.mempool:
        await wallet.call("sessions")
    chain.mine()
    await delegated(wallet, "channel_ready")


async def test_the_peer_comes_back_at_each_step(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    # Signed, and lost before it confirmed.
    await lose(wallet, connection)
    _, connection = await wallet.open_session(peer)
    await opening.reestablish(wallet, connection)
    chain.mine()
    question = await delegated(wallet, "channel_ready")
    # Lost with the question open: it is asked again.
    await connection.close()
    assert (await wallet.event_of("voided"))["id"] == question["id"]
    await wallet.event_of("closed")
    _, connection = await wallet.open_session(peer)
    await opening.reestablish(wallet, connection)
    await opening.ready(wallet, connection, await delegated(wallet, "channel_ready"))
    # Our channel_ready may be lost on its way: it is said again, the same, and nobody is asked.
    await lose(wallet, connection)
    _, connection = await wallet.open_session(peer)
    await opening.reestablish(wallet, connection)
    assert decode(await connection.receive()) == opening.wallet.channel_ready(alias=7)
    await opening.finish(wallet, connection)
    await lose(wallet, connection)
    _, connection = await wallet.open_session(peer)
    await opening.reestablish(wallet, connection)
    await received(connection, ChannelReady)
    await connection.send(opening.peer.channel_ready().encode())
    await wallet.quiet_but("message")


@pytest.mark.parametrize("step", ["signed", "asked", "answered", "ready"])
async def test_the_relay_restarts_at_each_step(
    settings: dict[str, Any], peer: ScriptedPeer, chain: SimulatedChain, step: str
) -> None:
    opening = Incoming(chain)
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        await opening.accept(wallet, connection)
        await opening.sign(wallet, connection, await opening.create(wallet, connection))
        if step != "signed":
            chain.mine()
            question = await delegated(wallet, "channel_ready")
        if step in ("answered", "ready"):
            await opening.ready(wallet, connection, question)
        if step == "ready":
            await opening.finish(wallet, connection)
    if step == "signed":
        chain.mine()
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        (info,) = await wallet.call("channels")
        assert "session_id" not in info
        assert info["state"] == ("ready" if step == "ready" else "signed")
        _, connection = await wallet.open_session(peer)
        await opening.reestablish(wallet, connection)
        if step in ("answered", "ready"):
            await received(connection, ChannelReady)
        else:
            await opening.ready(wallet, connection, await delegated(wallet, "channel_ready"))
        if step != "ready":
            await opening.finish(wallet, connection)
        (info,) = await wallet.call("channels")
        while info["state"] != "ready":
            (info,) = await wallet.call("channels")
        assert info["session_id"]


async def test_what_is_not_signed_by_both_is_forgotten(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    await connection.close()
    await wallet.event("voided")
    assert await wallet.call("channels") == []
    _, connection = await wallet.open_session(peer)
    await wallet.event_of("closed")
    # The answer comes too late, and harms nobody.
    await wallet.answer(question, {"signature": opening.wallet.signature.hex()})
    assert (await wallet.event("rejected"))["code"] == "delegation_over"
    # The peer is told about a channel that nobody knows.
    await connection.send(opening.peer.funding_created().encode())
    error = await received(connection, Error)
    assert error.channel_id == opening.peer.channel.temporary_channel_id


async def test_a_signature_that_does_not_hold_never_leaves(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    for wrong in (bytes(64), b"\xff" * 64, opening.peer.signature):
        await wallet.answer(question, {"signature": wrong.hex()})
        rejected = await wallet.event("rejected")
        assert (rejected["id"], rejected["code"]) == (question["id"], "answer_invalid")
    await opening.sign(wallet, connection, question)


async def test_a_peers_signature_that_does_not_hold_never_reaches_the_wallet(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    created = opening.peer.funding_created()
    temporary = opening.peer.channel.temporary_channel_id
    spoiled = created.encode()[:-1] + bytes([created.encode()[-1] ^ 1])
    await connection.send(spoiled)
    final = channel_id_of(created.funding_txid, created.funding_output_index)
    for channel_id in (temporary, final):
        error = await received(connection, Error)
        assert error.channel_id == channel_id
    assert b"funding_created signs another first commitment" in error.data
    assert (await wallet.event("message"))["message"] == spoiled.hex()
    await wallet.quiet()
    # The opening is over, the session isn't.
    await connection.send(created.encode())
    assert b"unknown channel" in (await received(connection, Error)).data


async def test_a_refused_funding_created_fails_the_channel_under_both_ids(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    await wallet.refuse(question, "no")
    channel = opening.peer.channel
    errors = [await received(connection, Error) for _ in range(2)]
    assert errors == [
        Error(channel_id=channel_id, data=b"no")
        for channel_id in (channel.temporary_channel_id, channel.channel_id)
    ]
    assert await wallet.call("channels") == []


async def test_a_refused_channel_ready_is_asked_again_with_the_next_block(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    chain.mine()
    question = await delegated(wallet, "channel_ready")
    await wallet.refuse(question, "not on my chain")
    await wallet.quiet()
    chain.mine()
    again = await delegated(wallet, "channel_ready")
    assert again["id"] != question["id"]
    assert again["funding"]["confirmations"] == 2
    await opening.ready(wallet, connection, again)


async def test_a_reorganisation_before_channel_ready(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    chain.mine()
    question = await delegated(wallet, "channel_ready")
    chain.reorg(1)
    info = (await wallet.call("channels"))[0]
    while info.get("funding", {}).get("confirmations") != 0:
        info = (await wallet.call("channels"))[0]
    # Too early now: the relay doesn't let the answer pass.
    answer = {"second_per_commitment_point": opening.wallet.keys.per_commitment_point(1).hex()}
    await wallet.answer(question, answer)
    rejected = await wallet.event("rejected")
    assert rejected["code"] == "answer_invalid"
    assert "confirmations" in rejected["reason"]
    chain.mine()
    info = (await wallet.call("channels"))[0]
    while not info["funding"]["confirmations"]:
        info = (await wallet.call("channels"))[0]
    await wallet.answer(question, answer)
    await received(connection, ChannelReady)


async def test_an_output_that_is_not_what_was_agreed_is_never_ready(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    script = opening.peer.channel.funding_scriptpubkey
    transaction, index = chain.faucet(script, FUNDING_SAT - 1)
    txid = parse_transaction(transaction).id[::-1]
    raw = opening.peer.say(opening.peer.funding_created(txid, index))
    await connection.send(raw)
    question = await delegated(wallet, "funding_signed")
    opening.wallet.hear(raw)
    await opening.sign(wallet, connection, question)
    outspend = asyncio.Event()
    looks = asyncio.Semaphore(0)

    async def see(request: web.Request) -> None:
        if "/outspend/" in request.path:
            outspend.set()
        elif outspend.is_set():
            looks.release()

    chain.fault = see
    chain.mine(3)
    async with asyncio.timeout(WAIT):
        await outspend.wait()
        # What comes of that is known long before so many more looks at the tip.
        for _ in range(10):
            await looks.acquire()
    await wallet.quiet()


async def test_a_disk_that_fails_disconnects_and_promises_nothing(
    wallet: RawWallet,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(ChannelStore, "save", fail)
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    await wallet.answer(question, {"signature": opening.wallet.signature.hex()})
    # No funding_signed went out.
    assert await connection.closed() == b""
    assert "state" in (await wallet.event("closed"))["reason"]


@pytest.mark.parametrize("is_funded", [False, True])
async def test_a_peer_that_claims_another_state_gets_a_warning(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain, is_funded: bool
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    if not is_funded:
        chain.mine()
        chain.reorg(1, keep=False)
    await opening.sign(wallet, connection, question)
    if is_funded:
        chain.mine()
        await delegated(wallet, "channel_ready")
    await connection.close()
    await wallet.event_of("closed")
    _, connection = await wallet.open_session(peer)
    opening.peer.channel.disconnected()
    claims = ChannelReestablish(
        channel_id=opening.peer.channel.channel_id,
        next_commitment_number=0 if not is_funded else 9,
        next_revocation_number=0,
        your_last_per_commitment_secret=bytes(32),
        my_current_per_commitment_point=opening.peer.points["first_per_commitment_point"],
    )
    await delegated(wallet, "reestablish")
    if is_funded:
        while not (await wallet.call("channels"))[0].get("funding"):
            pass
    await connection.send(claims.encode())
    warning = await received(connection, PeerWarning)
    assert b"next_commitment_number" in warning.data
    # The wallet gets it as it came: its own record says whose fault this is.
    assert (await wallet.event("message"))["message"] == claims.encode().hex()
    if is_funded:
        # In doubt on a live channel: hang up, and fail nothing.
        assert "next_commitment_number" in (await wallet.event_of("closed"))["reason"]
    else:
        # LDK says this of a channel that it forgot, then fails it; that must not cost the session.
        await connection.send(open_channel().encode())
        await wallet.refuse(await delegated(wallet, "channel_keys"), "no")
        await received(connection, Error)


async def test_an_unfunded_channel_that_the_peer_failed_is_forgotten(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    chain.fault = None
    await opening.accept(wallet, connection)
    script = secrets.token_bytes(32)
    raw = opening.peer.say(opening.peer.funding_created(script))
    await connection.send(raw)
    question = await delegated(wallet, "funding_signed")
    opening.wallet.hear(raw)
    await opening.sign(wallet, connection, question)
    assert len(await wallet.call("channels")) == 1
    error = Error(channel_id=opening.peer.channel.channel_id, data=b"changed my mind")
    await connection.send(error.encode())
    assert (await wallet.event("message"))["message"] == error.encode().hex()
    while await wallet.call("channels"):
        pass


async def test_a_second_connection_to_the_same_peer_takes_the_channels_over(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    first, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    _, second = await wallet.open_session(peer)
    closed = await wallet.event("closed")
    assert (closed["session_id"], "again" in closed["reason"]) == (first, True)
    await opening.reestablish(wallet, second)


async def test_wallets_do_not_see_each_others_channels(
    server: Server, wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    session_id, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    async with raw_wallet(server.url) as other:
        assert await other.call("channels") == []
        raw = Side(Role.OPENER).open_channel().encode().hex()
        with pytest.raises(RpcFailure) as failure:
            await other.call("open_channel", session_id=session_id, message=raw)
        assert failure.value.code == "session_unknown"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"funding_satoshis": 1 << 24}, "large channels"), ({"push_msat": 1 << 40}, "push_msat")],
)
async def test_an_open_channel_of_the_wallets_that_bolt_2_forbids(
    wallet: RawWallet, peer: ScriptedPeer, changes: dict[str, int], sentence: str
) -> None:
    session_id, connection = await wallet.open_session(peer)
    raw = Side(Role.OPENER).open_channel(**changes).encode().hex()
    with pytest.raises(RpcFailure, match=sentence):
        await wallet.call("open_channel", session_id=session_id, message=raw)
    with pytest.raises(RpcFailure, match="That is a message funding_signed"):
        signed = FundingSigned(channel_id=bytes(32), signature=bytes(64))
        await wallet.call("open_channel", session_id=session_id, message=signed.encode().hex())
    # Nothing of it went to the peer.
    right = Side(Role.OPENER).open_channel().encode()
    await wallet.call("open_channel", session_id=session_id, message=right.hex())
    assert await connection.receive() == right


async def test_accepted_and_unfunded_channels_are_bounded(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    openings = [Incoming(chain) for _ in range(6)]
    for opening in openings:
        await opening.accept(wallet, connection)
    assert len(await wallet.call("channels")) == 4
    await connection.send(openings[0].peer.funding_created().encode())
    error = await received(connection, Error)
    assert error.channel_id == openings[0].peer.channel.temporary_channel_id
    question = await openings[-1].create(wallet, connection)
    await openings[-1].sign(wallet, connection, question)


async def test_a_payment_gets_a_warning_and_reaches_the_wallet(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    await opening.sign(wallet, connection, await opening.create(wallet, connection))
    channel_id = opening.peer.channel.channel_id
    offers = [UpdateFee(channel_id=channel_id, feerate_per_kw=rate).encode() for rate in (1, 2)]
    await connection.send(*offers)
    for raw in offers:
        assert (await wallet.event("message"))["message"] == raw.hex()
    warning = await received(connection, PeerWarning)
    assert warning.channel_id == channel_id
    assert b"payments" in warning.data
    # Once is enough, and the session goes on.
    await connection.send(open_channel().encode())
    await wallet.refuse(await delegated(wallet, "channel_keys"), "no")
    await received(connection, Error)


async def test_a_wallet_has_so_many_channels_at_most(
    settings: dict[str, Any], peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    async with (
        relay(**settings, max_channels_per_wallet=1) as server,
        raw_wallet(server.url, SECRET) as wallet,
    ):
        session_id, connection = await wallet.open_session(peer)
        opening = Incoming(chain)
        await opening.accept(wallet, connection)
        await opening.sign(wallet, connection, await opening.create(wallet, connection))
        await connection.send(open_channel().encode())
        assert b"all the channels it can" in (await received(connection, Error)).data
        raw = Side(Role.OPENER).open_channel().encode().hex()
        with pytest.raises(RpcFailure, match="all the channels it can"):
            await wallet.call("open_channel", session_id=session_id, message=raw)
        assert server.relay.stored_channels == 1


@pytest.mark.parametrize("is_funded", [False, True])
async def test_a_channel_that_was_never_funded_is_forgotten_after_two_weeks(
    settings: dict[str, Any],
    peer: ScriptedPeer,
    chain: SimulatedChain,
    monkeypatch: pytest.MonkeyPatch,
    is_funded: bool,
) -> None:
    async with relay(**settings) as server, raw_wallet(server.url, SECRET) as wallet:
        _, connection = await wallet.open_session(peer)
        opening = Incoming(chain)
        await opening.accept(wallet, connection)
        await opening.sign(wallet, connection, await opening.create(wallet, connection))
        if not is_funded:
            chain.mine()
            chain.reorg(1, keep=False)
        await lose(wallet, connection)
        monkeypatch.setattr("lightning_proxy.relay.book._UNFUNDED_FOR", -1.0)
        _, connection = await wallet.open_session(peer)
        if is_funded:
            await opening.reestablish(wallet, connection)
        else:
            while await wallet.call("channels"):
                pass
            # The peer, too, may hear that nobody knows it any more.
            opening.peer.channel.disconnected()
            await connection.send(opening.peer.channel.reestablish().encode())
            await wallet.event("message")


async def test_what_was_asked_for_an_opening_that_failed_is_taken_back(
    wallet: RawWallet, peer: ScriptedPeer, chain: SimulatedChain
) -> None:
    """The peer goes on before it has our signature: none leaves any more, and none is stored."""
    _, connection = await wallet.open_session(peer)
    opening = Incoming(chain)
    await opening.accept(wallet, connection)
    question = await opening.create(wallet, connection)
    early = ChannelReady(
        channel_id=opening.peer.channel.channel_id,
        second_per_commitment_point=opening.peer.keys.per_commitment_point(1),
    )
    await connection.send(early.encode())
    await received(connection, Error)
    await received(connection, Error)
    assert (await wallet.event_of("voided"))["id"] == question["id"]
    await wallet.answer(question, {"signature": opening.wallet.funding_signed().signature.hex()})
    assert (await wallet.event_of("rejected"))["code"] == "delegation_over"
    assert await wallet.call("channels") == []
