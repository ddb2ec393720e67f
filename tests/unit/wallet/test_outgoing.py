"""The wallet opens a channel, at the signer: nothing is paid before the way back is signed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from btclib.tx import TxOut

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import FundingCreated, decode
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.errors import ChannelError
from lightning_proxy.wallet.funding import FundingWanted
from lightning_proxy.wallet.offer import Offer, offer_channel
from lightning_proxy.wallet.request import LeftOpen, Refusal
from tests.unit.wallet.openings import KEYS, POLICY, Funds, Opening, SigningWallet, psbt
from tests.unit.wallet.samples import PEER

CREATED = DelegationKind.FUNDING_CREATED
TRANSACTION = DelegationKind.FUNDING_TRANSACTION


@pytest.fixture
async def wallet(tmp_path: Path) -> AsyncIterator[SigningWallet]:
    async with SigningWallet(tmp_path / "record") as wallet:
        yield wallet


@pytest.fixture
def opening(wallet: SigningWallet) -> Opening:
    return Opening(wallet, Role.OPENER)


async def refused(asking: Awaitable[Any]) -> str:
    with pytest.raises(Refusal) as raised:
        await asking
    return raised.value.reason


async def state(wallet: SigningWallet) -> ChannelState:
    return (await wallet.stored()).channel().state


@pytest.mark.parametrize("push_msat", [0, 200_000_000])
@pytest.mark.parametrize("channel_type", ["anchors", "static_remotekey"])
async def test_a_channel_opens_though_the_wallet_restarts_at_every_step(
    wallet: SigningWallet, opening: Opening, channel_type: str, push_msat: int
) -> None:
    await opening.offer(1_000_000, push_msat, channel_type=channel_type)
    wallet.restart()
    answer = await opening.create()
    assert await state(wallet) is ChannelState.CREATED
    wallet.restart()
    released = await opening.release()
    assert released.transaction is not None
    transaction = parse_transaction(bytes.fromhex(released.transaction))
    assert transaction.id[::-1].hex() == answer.funding_txid
    assert transaction.vout[answer.funding_output_index].value == 1_000_000
    wallet.restart()
    opening.relay.published()
    await opening.reestablish()
    wallet.restart()
    ready = await opening.ready(opening.signed)
    secrets = KEYS.channel(0, (await wallet.stored()).salt)
    assert ready.second_per_commitment_point == secrets.per_commitment_point(1).hex()
    await opening.reestablish(opening.signed, opening.peer_ready())
    assert await state(wallet) is ChannelState.READY
    assert opening.peer.channel.state is ChannelState.READY
    stored = await wallet.stored()
    assert [entry.raw for entry in stored.log] == [entry.raw for entry in opening.relay.log]
    assert stored.channel().balance_msat(Role.OPENER) == 1_000_000_000 - push_msat


async def test_the_transaction_is_given_to_nobody_before_the_peer_has_signed(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.offer()
    await opening.create()
    assert "funding_signed is missing" in await refused(wallet.ask(TRANSACTION, opening.channel_id))
    good = opening.peer.funding_signed()
    bad = msgspec.structs.replace(good, signature=bytes(63) + b"\x01")
    reason = await refused(wallet.ask(TRANSACTION, opening.channel_id, bad.encode()))
    assert "funding_signed signs another first commitment" in reason
    assert await state(wallet) is ChannelState.CREATED
    assert (await opening.release()).transaction is not None


async def test_the_owner_is_asked_for_money_once_and_every_answer_stays(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.offer()
    answer = await opening.create()
    released = await opening.release()
    for _ in range(2):
        assert await wallet.ask(CREATED, opening.temporary_id, opening.accepted) == answer
        # Asked again on a later connection, there is nothing new.
        assert await wallet.ask(TRANSACTION, opening.channel_id) == released
        assert await wallet.ask(TRANSACTION, opening.channel_id, opening.signed) == released
        assert wallet.funder is not None
        assert len(wallet.funder.asked) <= 1
        wallet.restart(funder=Funds())
    assert wallet.funder is not None
    assert wallet.funder.asked == []


async def test_another_accept_channel_is_refused(wallet: SigningWallet, opening: Opening) -> None:
    await opening.offer()
    await opening.create()
    other = msgspec.structs.replace(opening.relay.accept_channel, to_self_delay=145).encode()
    for _ in range(2):
        reason = await refused(wallet.ask(CREATED, opening.temporary_id, other))
        assert reason.startswith("another accept_channel than the one in this wallet's record")
        wallet.restart()


class SlowFunds(Funds):
    """Pays when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = asyncio.Event()
        self.gate = asyncio.Event()

    async def fund(self, wanted: FundingWanted) -> bytes:
        self.asking.set()
        await self.gate.wait()
        return await super().fund(wanted)


async def test_while_money_is_on_its_way_nothing_else_is_accepted(
    wallet: SigningWallet, opening: Opening
) -> None:
    funds = SlowFunds()
    wallet.restart(funder=funds)
    await opening.offer()
    accepted = opening.peer.say(opening.peer.accept_channel())
    other = msgspec.structs.replace(decode(accepted), to_self_delay=145).encode()
    asked = [
        asyncio.create_task(wallet.ask(CREATED, opening.temporary_id, accepted, number=number))
        for number in (1, 2)
    ]
    await funds.asking.wait()
    lying = asyncio.create_task(wallet.ask(CREATED, opening.temporary_id, other))
    funds.gate.set()
    first, second = await asyncio.gather(*asked)
    assert first == second
    assert len(funds.asked) == 1
    assert "another accept_channel" in await refused(lying)


async def test_two_processes_that_both_have_money_sign_once(
    wallet: SigningWallet, opening: Opening
) -> None:
    """Both were asked and both paid: one transaction is taken, and the other never leaves."""

    class Other(Funds):
        async def fund(self, wanted: FundingWanted) -> bytes:
            return psbt(TxOut(wanted.amount_sat, wanted.scriptpubkey), tag=9).serialize()

    await opening.offer()
    accepted = opening.peer.say(opening.peer.accept_channel())
    async with SigningWallet(wallet.path) as second:
        second.restart(funder=Other())
        answers = await asyncio.gather(
            wallet.ask(CREATED, opening.temporary_id, accepted),
            second.ask(CREATED, opening.temporary_id, accepted, number=99),
        )
        assert answers[0] == answers[1]
    created = decode((await wallet.stored()).log[-1].raw)
    assert isinstance(created, FundingCreated)
    assert created.funding_txid.hex() == answers[0].funding_txid


async def test_a_device_without_money_leaves_the_question_to_another(
    wallet: SigningWallet, opening: Opening
) -> None:
    wallet.restart(funder=None)
    await opening.offer()
    with pytest.raises(LeftOpen):
        await opening.create()
    accepted = opening.accepted
    wallet.restart(funder=Funds())
    await wallet.ask(CREATED, opening.temporary_id, accepted)


async def test_a_psbt_that_will_not_do_ends_the_opening(
    wallet: SigningWallet, opening: Opening
) -> None:
    class Stingy(Funds):
        async def fund(self, wanted: FundingWanted) -> bytes:
            return psbt(TxOut(wanted.amount_sat - 1, wanted.scriptpubkey)).serialize()

    wallet.restart(funder=Stingy())
    await opening.offer()
    assert "999999 sat to the funding address" in await refused(opening.create())
    assert await state(wallet) is ChannelState.ACCEPTED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"minimum_depth": 145}, "minimum_depth 145 is above 144 blocks"),
        ({"to_self_delay": 1001}, "to_self_delay 1001 is above 1000 blocks"),
        ({"dust_limit_satoshis": 1063}, "dust_limit_satoshis 1063 is above 1062"),
        ({"channel_reserve_satoshis": 200_001}, "more than a 5th of 1000000 sat"),
        ({"max_accepted_htlcs": 0}, "leaves room for no payment"),
        ({"htlc_minimum_msat": 1_000_000_001}, "leaves room for no payment"),
        ({"max_htlc_value_in_flight_msat": 0}, "leaves room for no payment"),
        ({"channel_type": bytes.fromhex("1000")}, "channel_type: not the one of open_channel"),
    ],
)
async def test_what_a_peer_may_not_ask_of_us_is_refused_before_money_is(
    wallet: SigningWallet, opening: Opening, changes: dict[str, Any], reason: str
) -> None:
    wallet.restart(policy=msgspec.structs.replace(POLICY, max_to_self_delay=1000))
    await opening.offer()
    accept = msgspec.structs.replace(opening.peer.accept_channel(), **changes).encode()
    assert reason in await refused(wallet.ask(CREATED, opening.temporary_id, accept))
    assert wallet.funder is not None
    assert wallet.funder.asked == []
    assert await state(wallet) is ChannelState.OFFERED


async def test_accepting_what_was_not_offered_is_refused(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.offer()
    accept = msgspec.structs.replace(
        opening.peer.accept_channel(), temporary_channel_id=b"\x09" * 32
    )
    assert "offered that peer no channel" in await refused(
        wallet.ask(CREATED, b"\x09" * 32, accept.encode())
    )
    assert "offered that peer no channel" in await refused(
        wallet.ask(
            CREATED,
            opening.temporary_id,
            opening.peer.accept_channel().encode(),
            peer=KEYS.node_id.hex(),
        )
    )


async def test_a_transaction_is_not_the_accepters_to_give(wallet: SigningWallet) -> None:
    incoming = Opening(wallet)
    await incoming.accept()
    await incoming.sign(secrets.token_bytes(32))
    assert "no funding transaction for that channel" in await refused(
        wallet.ask(TRANSACTION, incoming.channel_id)
    )


# ---- what is offered ----


@pytest.mark.parametrize(
    ("wish", "options", "reason"),
    [
        ({"funding_sat": 1 << 24}, {}, "funding_satoshis"),
        ({"funding_sat": 100}, {}, "BOLT 2 does not allow such a channel"),
        ({"push_msat": 1_000_000_001}, {}, "push_msat"),
        ({"feerate_per_kw": 25_001}, {}, "above the policy's 25000"),
        ({"feerate_per_kw": 1}, {}, "feerate_per_kw"),
        ({}, {"chain": "litecoin"}, "no chain"),
        ({"announce": True}, {}, "announces no channels"),
        (
            {"channel_type": "anchors"},
            {"features": Features.offering(Feature.OPTION_STATIC_REMOTEKEY)},
            "no anchors",
        ),
    ],
)
async def test_what_can_not_be_offered_is_told_and_uses_no_key(
    wallet: SigningWallet, wish: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    common: dict[str, Any] = {
        "chain": "regtest",
        "features": Features.offering(Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS),
        "keys": KEYS,
        "policy": POLICY,
        "record": wallet.record,
        "source": None,
    }
    with pytest.raises(ChannelError, match=reason):
        await offer_channel(
            Offer(**{"peer": PEER, "funding_sat": 1_000_000, **wish}), **{**common, **options}
        )
    assert await wallet.record.channel_indices() == []


async def test_the_type_is_the_best_that_both_support(wallet: SigningWallet) -> None:
    for features, bits in (
        ((Feature.OPTION_STATIC_REMOTEKEY,), (12,)),
        ((Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS), (12, 22)),
    ):
        message = await offer_channel(
            Offer(PEER, 1_000_000),
            chain="bitcoin",
            features=Features.offering(*features),
            keys=KEYS,
            policy=POLICY,
            record=wallet.record,
            source=None,
        )
        assert message.channel_type is not None
        assert Features.from_bytes(message.channel_type).bits == bits
        assert (message.feerate_per_kw, message.channel_flags) == (2_500, 0)
    assert await wallet.record.channel_indices() == [0, 1]
