"""What a wallet learns of its channels without being asked: from messages, lists and the chain."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.messages import Message, Ping, decode
from lightning_proxy.chain import ChainError
from lightning_proxy.rpc import ChannelInfo, DelegationKind, FundingSeen
from lightning_proxy.wallet.channels import WalletChannels
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.events import (
    ChannelOpened,
    ChannelProblem,
    Event,
    FundingChange,
    FundingChanged,
)
from lightning_proxy.wallet.overview import OWN_CHAIN, RELAY, ChannelView, overview
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.request import LeftOpen
from tests.unit.wallet.fake_chain import FakeChain
from tests.unit.wallet.openings import KEYS, POLICY, Funds, Opening, SigningWallet
from tests.unit.wallet.samples import PEER


@pytest.fixture
async def wallet(tmp_path: Path) -> AsyncIterator[SigningWallet]:
    async with SigningWallet(tmp_path / "record") as wallet:
        yield wallet


@pytest.fixture
async def opening(wallet: SigningWallet) -> Opening:
    """Signed by both; the peer opened."""
    opening = Opening(wallet)
    await opening.accept(push_msat=200_000_000)
    await opening.sign()
    return opening


@pytest.fixture
def events() -> list[Event]:
    return []


@asynccontextmanager
async def attentive(
    wallet: SigningWallet, events: list[Event], chain: FakeChain | None = None
) -> AsyncIterator[WalletChannels]:
    own = None if chain is None else OwnChain(chain, patience=0.0, interval=0.0)
    async with WalletChannels(wallet.record, events.append, own, watch_interval=3600.0) as channels:
        yield channels


async def look(channels: WalletChannels) -> None:
    assert channels._watch is not None
    await channels._watch.poke()


def info(opening: Opening, *messages: bytes, **changes: Any) -> ChannelInfo:
    fields = {
        "channel_id": opening.channel_id.hex(),
        "temporary_channel_id": opening.temporary_id.hex(),
        "peer": PEER.hex(),
        "state": "signed",
        "messages": [message.hex() for message in messages],
    }
    return ChannelInfo(**{**fields, **changes})


async def hear(channels: WalletChannels, raw: bytes, peer: bytes = PEER) -> None:
    await channels.received(peer, raw, decode(raw))


def raw_of(message: Message, **changes: Any) -> bytes:
    return msgspec.structs.replace(message, **changes).encode()


# ---- messages ----


async def test_the_peers_readiness_opens_the_channel_once(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    await opening.ready()
    raw = opening.peer_ready()
    async with attentive(wallet, events) as channels:
        for _ in range(2):
            await hear(channels, raw)
    assert events == [ChannelOpened(opening.channel_id, PEER)]
    assert (await wallet.stored()).channel().state is ChannelState.READY
    async with attentive(wallet, events) as channels:
        await hear(channels, raw)
    assert len(events) == 1


async def test_our_own_answer_may_open_it(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    async with attentive(wallet, events) as channels:
        await hear(channels, opening.peer_ready())
        assert events == []
        await opening.ready()
        await channels.look(PEER, opening.channel_id)
        assert events == [ChannelOpened(opening.channel_id, PEER)]
        await channels.look(PEER, b"\x09" * 32)


async def test_another_second_point_is_told_and_not_taken(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    raw = opening.peer_ready()
    lied = raw_of(opening.peer.channel_ready(), second_per_commitment_point=KEYS.node_id)
    async with attentive(wallet, events) as channels:
        await hear(channels, raw)
        await hear(channels, lied)
    (problem,) = events
    assert isinstance(problem, ChannelProblem)
    assert "second_per_commitment_point" in problem.reason
    assert not problem.state_lost
    assert (await wallet.stored()).log[-1].raw == raw


async def test_where_the_peer_stands_is_compared(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    honest = opening.peer.channel.reestablish()
    async with attentive(wallet, events) as channels:
        await hear(channels, honest.encode())
        assert events == []
        await hear(channels, raw_of(honest, next_commitment_number=2))
        await hear(channels, raw_of(honest, next_revocation_number=1))
        await hear(channels, raw_of(honest, next_commitment_number=0))
        await hear(channels, raw_of(honest, channel_id=b"\x09" * 32))
        await hear(channels, honest.encode(), KEYS.node_id)
        await channels.received(PEER, b"", Ping(num_pong_bytes=0, ignored=b""))
    problems = [event for event in events if isinstance(event, ChannelProblem)]
    assert len(problems) == len(events)
    assert [problem.state_lost for problem in problems] == [True, True, False, True, True]
    assert "record does not have" in problems[3].reason


# ---- the relay's list ----


async def test_a_wallet_that_was_away_catches_up(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    await opening.ready()
    told = [entry.raw for entry in opening.relay.log if entry.sender is Role.OPENER]
    told.append(opening.peer_ready())
    async with attentive(wallet, events) as channels:
        for _ in range(2):
            await channels.catch_up([info(opening, *told)])
    assert events == [ChannelOpened(opening.channel_id, PEER)]


async def test_an_opener_that_was_away_gets_its_signature(
    wallet: SigningWallet, events: list[Event]
) -> None:
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    await opening.create()
    signed = opening.peer.say(opening.peer.funding_signed())
    async with attentive(wallet, events) as channels:
        bad = raw_of(decode(signed), signature=bytes(64))
        await channels.catch_up([info(opening, opening.accepted, bad)])
        (problem,) = events
        assert isinstance(problem, ChannelProblem)
        assert "signs another first commitment" in problem.reason
        await channels.catch_up([info(opening, opening.accepted, signed)])
    assert len(events) == 1
    assert (await wallet.stored()).channel().state is ChannelState.SIGNED


async def test_what_calls_for_an_answer_waits_for_its_question(
    wallet: SigningWallet, events: list[Event]
) -> None:
    opening = Opening(wallet)
    await opening.accept()
    created = opening.another_created(secrets.token_bytes(32)).encode()
    async with attentive(wallet, events) as channels:
        await channels.catch_up([info(opening, opening.relay.log[0].raw, created)])
        # The relay knows its final id already.
        final = {"channel_id": "09" * 32}
        await channels.catch_up([info(opening, opening.relay.log[0].raw, created, **final)])
    assert events == []
    assert (await wallet.stored()).channel().state is ChannelState.ACCEPTED


async def test_what_contradicts_the_record_is_told_and_never_taken(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    before = await wallet.stored()
    another = opening.another_created(secrets.token_bytes(32)).encode()
    async with attentive(wallet, events) as channels:
        await channels.catch_up(
            [
                info(opening, another),
                info(opening, b"\x00\x24" + bytes(3)),
                info(opening, b"\x12\x67"),
                info(opening, opening.created, channel_id="09" * 32),
                info(opening, opening.created, peer=KEYS.node_id.hex()),
                info(opening, channel_id="09" * 32),
            ]
        )
    reasons = [event.reason for event in events if isinstance(event, ChannelProblem)]
    assert len(reasons) == len(events) == 6
    assert "a second signature for a first commitment is never made" in reasons[0]
    assert "channel_ready." in reasons[1]
    assert "4711" in reasons[2]
    assert reasons[3] == reasons[4] == reasons[5]
    assert "that this wallet's record does not have" in reasons[3]
    assert await wallet.stored() == before


# ---- the chain ----


async def test_the_owner_is_told_what_becomes_of_the_funding(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    chain = FakeChain()
    channel = opening.peer.channel
    async with attentive(wallet, events, chain) as channels:
        await look(channels)
        assert events == []
        for changes in (
            {"confirmations": 0},
            {"confirmations": 1},
            {"confirmations": 2},
            {"confirmations": 0},
            None,
            {"confirmations": 3},
            {"spent": True},
            {"amount_sat": 1},
        ):
            if changes is None:
                chain.hide()
            else:
                chain.show(channel, **changes)
            await look(channels)
    changes_told = [
        (event.change, event.confirmations)
        for event in events
        if isinstance(event, FundingChanged) and event.channel_id == opening.channel_id
    ]
    assert changes_told == [
        (FundingChange.SEEN, 0),
        (FundingChange.CONFIRMED, 1),
        (FundingChange.SEEN, 0),
        (FundingChange.GONE, 0),
        (FundingChange.CONFIRMED, 3),
        (FundingChange.SPENT, 6),
        (FundingChange.DIFFERS, 6),
    ]
    assert isinstance(events[-1], FundingChanged)
    assert "1 sat" in events[-1].detail


async def test_a_channel_is_watched_from_its_signature_on(
    wallet: SigningWallet, events: list[Event]
) -> None:
    chain = FakeChain()
    opening = Opening(wallet)
    await opening.accept()
    async with attentive(wallet, events, chain) as channels:
        await opening.sign()
        chain.show(opening.peer.channel)
        await channels.look(PEER, opening.channel_id)
        await look(channels)
    assert events == [FundingChanged(opening.channel_id, FundingChange.CONFIRMED, 6)]


async def test_another_chains_source_watches_nothing(
    wallet: SigningWallet, opening: Opening, events: list[Event]
) -> None:
    chain = FakeChain()
    chain.chain = "signet"
    chain.show(opening.peer.channel)
    async with attentive(wallet, events, chain) as channels:
        await look(channels)
    assert events == []


async def test_a_funding_transaction_that_never_left_is_sent_again(
    wallet: SigningWallet, events: list[Event]
) -> None:
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    await opening.create()
    chain = FakeChain()
    async with attentive(wallet, events, chain) as channels:
        await look(channels)
        assert chain.sent == []
    await opening.release()
    transaction = (await wallet.stored()).funding_transaction
    chain.fault = ChainError("out of order")
    async with attentive(wallet, events, chain):
        await asyncio.sleep(0)
    chain.fault = None
    async with attentive(wallet, events, chain) as channels:
        await look(channels)
        assert chain.sent == [transaction]
    await opening.ready()
    async with attentive(wallet, events, chain) as channels:
        await look(channels)
    assert chain.sent == [transaction]


# ---- the list ----


async def view(wallet: SigningWallet, policy: Policy = POLICY, **options: Any) -> ChannelView:
    (shown,) = await overview(await wallet.record.channels(), policy, **options)
    return shown


async def test_an_overview_of_a_channel_by_whoever_knows(
    wallet: SigningWallet, opening: Opening
) -> None:
    shown = await view(wallet)
    assert (shown.channel_id, shown.peer) == (opening.channel_id.hex(), PEER.hex())
    assert (shown.role, shown.state, shown.description) == (
        "accepter",
        "signed",
        "waiting for confirmations",
    )
    assert (shown.chain, shown.public, shown.capacity_sat) == ("regtest", False, 1_000_000)
    assert shown.channel_type == "option_static_remotekey, option_anchors"
    assert (shown.confirmations_needed, shown.funding) == (1, None)
    listed = [info(opening, funding=FundingSeen(5))]
    shown = await view(wallet, listed=listed)
    assert shown.funding is not None
    assert (shown.funding.source, shown.funding.confirmations) == (RELAY, 5)
    # The wallet's own source counts more.
    chain = FakeChain()
    shown = await view(wallet, listed=listed, source=chain)
    assert shown.funding is not None
    assert (shown.funding.source, shown.funding.confirmations) == (OWN_CHAIN, None)


async def test_what_was_pushed_counts_when_the_chain_shows_it(
    wallet: SigningWallet, opening: Opening
) -> None:
    chain = FakeChain()
    unproved = (0, 200_000_000)
    proved = (200_000_000, 0)
    trusting = msgspec.structs.replace(POLICY, trust_relay_for_push=True)
    listed = [info(opening, funding=FundingSeen(5))]
    for options, expected in (
        ({}, unproved),
        ({"listed": listed}, unproved),
        ({"source": chain}, unproved),
        ({"policy": trusting}, proved),
    ):
        shown = await view(wallet, **options)
        assert (shown.our_balance_msat, shown.unproved_msat) == expected
        assert shown.peer_balance_msat == 800_000_000
    for changes, expected in (
        ({"confirmations": 0}, unproved),
        ({"amount_sat": 1}, unproved),
        ({"spent": True}, unproved),
        ({}, proved),
    ):
        chain.show(opening.peer.channel, **changes)
        shown = await view(wallet, source=chain)
        assert (shown.our_balance_msat, shown.unproved_msat) == expected


async def test_states_in_words(wallet: SigningWallet) -> None:
    opening = Opening(wallet, Role.OPENER)
    chain = FakeChain()
    words = []

    async def note() -> None:
        shown = await view(wallet, source=chain)
        assert shown.our_balance_msat == 1_000_000_000
        words.append(shown.description)

    await opening.offer()
    await note()
    # The owner has not paid yet.
    wallet.restart(funder=None)
    with pytest.raises(LeftOpen):
        await opening.create()
    await note()
    wallet.restart(funder=Funds())
    created = await wallet.ask(
        DelegationKind.FUNDING_CREATED, opening.temporary_id, opening.accepted
    )
    opening.peer.hear(opening.settle(DelegationKind.FUNDING_CREATED, created))
    await note()
    await opening.release()
    await note()
    await opening.ready()
    await note()
    async with attentive(wallet, []) as channels:
        await hear(channels, opening.peer_ready())
    await note()
    for changes in ({"spent": True}, {"amount_sat": 1}):
        chain.show(opening.peer.channel, **changes)
        await note()
    assert words == [
        "offered",
        "accepted, not funded yet",
        "funded, not signed by the peer yet",
        "waiting for confirmations",
        "waiting for the peer's channel_ready",
        "open",
        "closed on the chain",
        "funding is not what was agreed",
    ]
