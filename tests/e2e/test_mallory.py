"""A relay that lies, over the wire: the real wallet says no, names the lie, and signs nothing else.

Every field of both opening messages, both ways, is in tests/unit/wallet/test_lying_relay.py.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from btclib.tx import TxOut

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import (
    ChannelReady,
    Error,
    FundingCreated,
    FundingSigned,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet.events import ChannelProblem
from tests.support.channels import point
from tests.support.funder import SimulatedFunder
from tests.support.mallory import Frame, Mallory, mallory
from tests.support.opening import Side
from tests.support.peer import ScriptedPeer
from tests.support.watched import (
    FUNDING_SAT,
    POLICY,
    connect,
    offer,
    open_signed,
    watched_wallet,
)

PUSH_MSAT = 300_000_000


@pytest.fixture
async def liar() -> AsyncIterator[Mallory]:
    async with mallory() as relay:
        yield relay


@pytest.fixture
async def chain() -> AsyncIterator[SimulatedChain]:
    """The wallet's own view of the chain, which is none of the relay's."""
    async with SimulatedChain() as simulated:
        yield simulated


def refused(frame: Frame) -> str:
    """The reason that a wallet gives."""
    assert frame["error"]["code"] == -32010, frame
    reason: str = frame["error"]["message"]
    return reason


def second_funding(side: Side) -> FundingCreated:
    """Another outpoint for the same first commitment, signed by a peer that is in the plot."""
    created = FundingCreated(
        temporary_channel_id=side.channel.temporary_channel_id,
        funding_txid=secrets.token_bytes(32),
        funding_output_index=0,
        signature=bytes(64),
    )
    unsigned = side.channel.commitments_of(created)[Role.ACCEPTER].unsigned
    return msgspec.structs.replace(created, signature=side.sign(unsigned))


def change(frame: Frame, field: str, value: Any) -> Frame:
    """A question whose one message says something else."""
    message = decode(bytes.fromhex(frame["params"]["messages"][-1]))
    lie = msgspec.structs.replace(message, **{field: value})
    return {**frame, "params": {**frame["params"], "messages": [lie.encode().hex()]}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("funding_pubkey", None),
        ("payment_basepoint", None),
        ("revocation_basepoint", None),
        ("funding_satoshis", FUNDING_SAT + 1000),
        ("push_msat", PUSH_MSAT + 1000),
        ("feerate_per_kw", 500),
        ("to_self_delay", 1000),
        ("channel_type", bytes.fromhex("1000")),
    ],
)
async def test_she_changes_the_peers_open_channel(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path, field: str, value: Any
) -> None:
    def lie(frame: Frame) -> list[Frame]:
        if frame.get("params", {}).get("kind") == "channel_keys":
            return [change(frame, field, value or point())]
        return [frame]

    def keep_it_up(frame: Frame) -> list[Frame]:
        # accept_channel repeats the type: the peer has to see its own.
        if field == "channel_type" and "channel_type" in frame.get("result", {}):
            frame["result"]["channel_type"] = "401000"
        return [frame]

    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        liar.to_wallet, liar.to_relay = lie, keep_it_up
        side = Side(Role.OPENER)
        await offer(side, connection, push_msat=PUSH_MSAT)
        await connection.send(side.say(side.funding_created()))
        error = decode(await connection.receive())
        assert isinstance(error, Error)
        assert b"signature: funding_created signs another first commitment" in error.data
        assert not liar.signatures
        await connection.receive()  # the same for the final id
        # An honest opening is none the worse for it.
        liar.to_wallet = lambda frame: [frame]
        liar.to_relay = lambda frame: [frame]
        await open_signed(connection)
        assert len(liar.signatures) == 1


@pytest.mark.parametrize("field", ["funding_pubkey", "payment_basepoint"])
async def test_she_changes_what_the_wallet_accepts(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path, field: str
) -> None:
    def lie(frame: Frame) -> list[Frame]:
        if field in frame.get("result", {}):
            frame["result"][field] = point().hex()
        return [frame]

    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        liar.to_relay = lie
        side = Side(Role.OPENER)
        await offer(side, connection)
        # Peer and honest relay agree, about a channel that is not the wallet's.
        await connection.send(side.say(side.funding_created()))
        error = decode(await connection.receive())
        assert isinstance(error, Error)
        assert b"funding_created signs another first commitment" in error.data
        assert not liar.signatures


async def test_an_htlc_basepoint_is_refused_at_its_first_use(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path
) -> None:
    """Nothing signed in an opening depends on it; the first payment's signature does."""
    lie = point()

    def change_it(frame: Frame) -> list[Frame]:
        if frame.get("params", {}).get("kind") == "channel_keys":
            return [change(frame, "htlc_basepoint", lie)]
        return [frame]

    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        liar.to_wallet = change_it
        side = await open_signed(connection)
        ours = await watched.channel()
        assert ours.open_channel.htlc_basepoint == lie
        assert side.first_payment(side.channel) != side.first_payment(ours)


async def test_she_repeats_questions(liar: Mallory, peer: ScriptedPeer, tmp_path: Path) -> None:
    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        await open_signed(connection)
        for question in list(liar.asked.values()):
            first = liar.said[question["id"]]
            assert await liar.repeat(question) == first
            # Under another id: the same answer, from the record.
            params = {**question["params"], "id": secrets.token_hex(16)}
            again = await liar.repeat({**question, "id": params["id"], "params": params})
            assert again["result"] == first["result"]
        assert len(liar.signatures) == 1
        # An old id for another question.
        old = list(liar.asked.values())[-1]
        other = change(old, "funding_txid", secrets.token_bytes(32))
        assert "used before, for another question" in refused(await liar.repeat(other))


@pytest.mark.parametrize("restarts", [False, True])
async def test_she_wants_a_second_signature_with_the_same_number(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path, restarts: bool
) -> None:
    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        side = await open_signed(connection)
        if not restarts:
            await second_signature(liar, side)
    if restarts:
        async with watched_wallet(liar.url, tmp_path):
            await second_signature(liar, side)
    assert len(liar.signatures) == 1


async def second_signature(liar: Mallory, side: Side) -> None:
    created = second_funding(side)
    answer = await liar.ask(
        "funding_signed",
        channel_id=created.temporary_channel_id.hex(),
        messages=[created.encode().hex()],
    )
    assert "a second signature for a first commitment is never made" in refused(answer)


async def test_she_asks_out_of_order(liar: Mallory, peer: ScriptedPeer, tmp_path: Path) -> None:
    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        (session,) = await watched.wallet.client.sessions()
        stranger = Side(Role.OPENER)
        stranger.say(stranger.open_channel())
        about = {
            "session_id": session.session_id,
            "peer": peer.node_id.hex(),
            "channel_id": stranger.channel.temporary_channel_id.hex(),
        }
        accepter = Side(Role.ACCEPTER)
        accepter.hear(stranger.channel.log[0].raw)
        stranger.hear(accepter.say(accepter.accept_channel()))
        created = second_funding(stranger).encode().hex()
        answer = await liar.ask("funding_signed", **about, messages=[created])
        assert "has accepted no channel of that temporary id" in refused(answer)
        for kind in ("channel_ready", "reestablish", "funding_transaction"):
            answer = await liar.ask(kind, **about)
            assert "has no channel of that id" in refused(answer)
        # With a channel that is accepted, and not signed.
        side = Side(Role.OPENER)
        await offer(side, connection)
        created_id = side.channel.temporary_channel_id.hex()
        for kind in ("channel_ready", "reestablish"):
            answer = await liar.ask(kind, **{**about, "channel_id": created_id})
            refused(answer)
        assert not liar.signatures


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ("nothing there", "does not show"),
        ("another script", "pays to the script"),
        ("another amount", f"{FUNDING_SAT} sat were agreed"),
        ("spent", "spent"),
        ("unconfirmed", "confirmation"),
    ],
)
async def test_she_claims_confirmations(
    liar: Mallory,
    peer: ScriptedPeer,
    chain: SimulatedChain,
    tmp_path: Path,
    lie: str,
    words: str,
) -> None:
    async with watched_wallet(liar.url, tmp_path, chain) as watched:
        connection = await connect(watched, peer)
        side = Side(Role.OPENER)
        await offer(side, connection)
        script, amount = side.channel.funding_scriptpubkey, FUNDING_SAT
        if lie == "another script":
            script = script[:2] + secrets.token_bytes(32)
        if lie == "another amount":
            amount += 1
        if lie == "spent":
            # Anybody can spend it, which a funding output's script would forbid.
            script = b"\x51"
        transaction, index = chain.faucet(script, amount)
        txid = parse_transaction(transaction).id[::-1]
        if lie == "nothing there":
            txid = secrets.token_bytes(32)
        if lie != "unconfirmed":
            chain.mine(3)
        await connection.send(side.say(side.funding_created(txid, index)))
        side.hear(await connection.receive())
        answer = await liar.ask(
            "channel_ready",
            channel_id=side.channel.channel_id.hex(),
            funding={"confirmations": 100, "short_channel_id": 1 << 40},
        )
        reason = refused(answer)
        if lie != "spent":
            assert words in reason, reason
        assert (await watched.channel()).state is ChannelState.SIGNED


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_without_a_chain_of_its_own(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path, is_trusted: bool
) -> None:
    """What the README says: the owner may believe the relay, and can't know better then."""
    policy = msgspec.structs.replace(POLICY, trust_relay_for_confirmations=is_trusted)
    async with watched_wallet(liar.url, tmp_path, policy=policy) as watched:
        connection = await connect(watched, peer)
        side = await open_signed(connection)
        answer = await liar.ask(
            "channel_ready",
            channel_id=side.channel.channel_id.hex(),
            funding={"confirmations": 100, "short_channel_id": 1 << 40},
        )
        if is_trusted:
            side.hear(
                ChannelReady(
                    channel_id=side.channel.channel_id,
                    second_per_commitment_point=bytes.fromhex(
                        answer["result"]["second_per_commitment_point"]
                    ),
                ).encode()
            )
        else:
            assert "no chain source of its own" in refused(answer)


async def test_she_wants_the_money_before_the_peer_has_signed(
    liar: Mallory, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    funder = SimulatedFunder(chain)
    async with watched_wallet(liar.url, tmp_path, funder=funder) as watched:
        connection = await connect(watched, peer)
        (session,) = await watched.wallet.client.sessions()
        handle = watched.wallet.client.session(session.session_id)
        await watched.wallet.open_channel(handle, FUNDING_SAT)
        side = Side(Role.ACCEPTER)
        raw = await connection.receive()
        assert isinstance(decode(raw), OpenChannel)
        side.hear(raw)
        await connection.send(side.say(side.accept_channel()))
        side.hear(await connection.receive())
        final = side.channel.channel_id
        for messages in (
            [],
            [FundingSigned(channel_id=final, signature=bytes(64)).encode().hex()],
            [FundingSigned(channel_id=final, signature=b"\x01" * 64).encode().hex()],
        ):
            answer = await liar.ask(
                "funding_transaction", channel_id=final.hex(), messages=messages
            )
            reason = refused(answer)
            assert "funding_signed" in reason
        stored = (await watched.wallet.record.channels())[-1]
        assert stored.funding_transaction is not None
        assert stored.funding_transaction.hex() not in str(liar.said)
        assert not chain.mempool
        # The peer's true signature sets it free.
        await connection.send(side.say(side.funding_signed()))
        while stored.funding_transaction.hex() not in str(liar.said):
            await asyncio.sleep(0.01)


async def test_she_changes_the_peers_accept_channel(
    liar: Mallory, peer: ScriptedPeer, chain: SimulatedChain, tmp_path: Path
) -> None:
    """The wallet pays to a script that the peer has no part in, and nothing is broadcast."""

    def lie(frame: Frame) -> list[Frame]:
        if frame.get("params", {}).get("kind") == "funding_created":
            return [change(frame, "funding_pubkey", point())]
        return [frame]

    funder = SimulatedFunder(chain)
    async with watched_wallet(liar.url, tmp_path, funder=funder) as watched:
        connection = await connect(watched, peer)
        (session,) = await watched.wallet.client.sessions()
        handle = watched.wallet.client.session(session.session_id)
        liar.to_wallet = lie
        await watched.wallet.open_channel(handle, FUNDING_SAT)
        side = Side(Role.ACCEPTER)
        side.hear(await connection.receive())
        await connection.send(side.say(side.accept_channel()))
        while not liar.signatures:
            await asyncio.sleep(0.01)
        # The honest relay, as the peer would, sees that the signature is for something else.
        (wanted,) = funder.paid
        assert wanted.scriptpubkey != side.channel.funding_scriptpubkey
        stored = (await watched.wallet.record.channels())[-1]
        assert stored.funding_transaction is not None
        paid = parse_transaction(stored.funding_transaction).vout
        assert [TxOut(FUNDING_SAT, wanted.scriptpubkey)] == paid[:1]
        assert not chain.mempool


async def test_she_tells_of_what_never_was(
    liar: Mallory, peer: ScriptedPeer, tmp_path: Path
) -> None:
    async with watched_wallet(liar.url, tmp_path) as watched:
        connection = await connect(watched, peer)
        side = await open_signed(connection)
        (session,) = await watched.wallet.client.sessions()
        before = (await watched.channel()).log
        ready = ChannelReady(
            channel_id=side.channel.channel_id,
            second_per_commitment_point=b"\x02" + b"\xff" * 32,
        )
        await liar.tell(
            "message", session_id=session.session_id, sequence=50, message=ready.encode().hex()
        )
        while not any(isinstance(event, ChannelProblem) for event in watched.events):
            await asyncio.sleep(0.01)
        assert (await watched.channel()).log == before
        for method, params in (
            ("voided", {"id": "00" * 16, "reason": "because"}),
            ("rejected", {"id": "00" * 16, "code": "answer_invalid", "reason": "because"}),
            ("closed", {"session_id": "00" * 16, "reason": "because"}),
        ):
            await liar.tell(method, **params)
        # The wallet is still there, and as it was.
        question = list(liar.asked.values())[-1]
        assert await liar.repeat(question) == liar.said[question["id"]]
