"""The wallet's own chain source: what a relay can't tell it any more."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import DEFAULT_FEATURES
from lightning_proxy.chain import ChainError
from lightning_proxy.rpc import DelegationKind, FundingSeen
from lightning_proxy.wallet.confirmations import OwnChain
from lightning_proxy.wallet.errors import ChannelError
from lightning_proxy.wallet.offer import Offer, offer_channel
from lightning_proxy.wallet.request import Refusal
from tests.unit.wallet.fake_chain import FakeChain
from tests.unit.wallet.openings import KEYS, POLICY, Opening, SigningWallet
from tests.unit.wallet.samples import PEER

READY = DelegationKind.CHANNEL_READY
TRANSACTION = DelegationKind.FUNDING_TRANSACTION
MANY = FundingSeen(1000, 1 << 40)


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
async def wallet(tmp_path: Path, chain: FakeChain) -> AsyncIterator[SigningWallet]:
    own = OwnChain(chain, patience=0.0, interval=0.0)
    policy = msgspec.structs.replace(POLICY, minimum_depth=3)
    async with SigningWallet(tmp_path / "record", policy=policy, chain=own) as wallet:
        yield wallet


@pytest.fixture
async def signed(wallet: SigningWallet) -> Opening:
    opening = Opening(wallet)
    await opening.accept()
    await opening.sign()
    return opening


async def refused(asking: Awaitable[Any]) -> str:
    with pytest.raises(Refusal) as raised:
        await asking
    return raised.value.reason


async def ready(opening: Opening, **options: Any) -> Any:
    return await opening.wallet.ask(READY, opening.channel_id, funding=MANY, **options)


async def test_what_is_deep_enough_is_ready(signed: Opening, chain: FakeChain) -> None:
    chain.show(signed.peer.channel, confirmations=3)
    await ready(signed)
    # What was said stays said, and nobody is asked again.
    asked = chain.asked
    chain.hide()
    await ready(signed)
    assert chain.asked == asked


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({"confirmations": 2}, ["2 confirmations", "3 were agreed"]),
        ({"confirmations": 0}, ["0 confirmations", "3 were agreed"]),
        ({"amount_sat": 999_999}, ["999999 sat", "1000000 sat were agreed"]),
        ({"scriptpubkey": b"\x00\x20" + bytes(32)}, ["0020" + "00" * 32, "and not to 0020"]),
        ({"spent": True}, ["the funding output is spent"]),
    ],
)
async def test_what_the_relay_claims_and_the_chain_does_not_show_is_refused_by_name(
    signed: Opening, chain: FakeChain, changes: dict[str, Any], sentences: list[str]
) -> None:
    chain.show(signed.peer.channel, **changes)
    reason = await refused(ready(signed))
    assert reason.startswith("this wallet's own chain source shows")
    for sentence in sentences:
        assert sentence in reason
    assert (await signed.wallet.stored()).channel().state is ChannelState.SIGNED


async def test_an_outpoint_that_does_not_exist_is_refused(signed: Opening) -> None:
    reason = await refused(ready(signed))
    txid = signed.peer.channel.funding_created.funding_txid[::-1].hex()
    assert reason == f"this wallet's own chain source does not show the funding output {txid}:0"


async def test_a_source_that_does_not_answer_is_not_replaced_by_the_relays_word(
    signed: Opening, chain: FakeChain
) -> None:
    chain.show(signed.peer.channel)
    chain.fault = ChainError("out of order")
    assert await refused(ready(signed)) == (
        "this wallet's own chain source gives no answer: out of order"
    )
    # The relay asks again later, by another id.
    chain.fault = None
    await ready(signed)


async def test_it_waits_for_what_the_relay_saw_earlier(signed: Opening, chain: FakeChain) -> None:
    wallet = signed.wallet
    wallet.restart(chain=OwnChain(chain, patience=60.0, interval=0.0))
    chain.fault = ChainError("out of order")

    def come_round() -> None:
        match chain.asked:
            case 2:
                chain.fault = None
            case 3:
                chain.show(signed.peer.channel, confirmations=1)
            case 4:
                chain.show(signed.peer.channel, confirmations=3)

    chain.on_ask = come_round
    await ready(signed)
    assert chain.asked == 4


async def test_it_waits_no_longer_than_the_relay(signed: Opening, chain: FakeChain) -> None:
    signed.wallet.restart(chain=OwnChain(chain, patience=3600.0, interval=0.0))
    assert "does not show" in await refused(ready(signed, deadline=1.0))


async def test_what_no_waiting_makes_good_is_refused_at_once(
    signed: Opening, chain: FakeChain
) -> None:
    signed.wallet.restart(chain=OwnChain(chain, patience=3600.0, interval=3600.0))
    chain.show(signed.peer.channel, amount_sat=1)
    assert "1 sat" in await refused(ready(signed))


async def test_a_channel_on_a_chain_that_the_source_does_not_show_is_refused_at_first(
    wallet: SigningWallet, chain: FakeChain
) -> None:
    chain.chain = "signet"
    assert "shows signet, and not regtest" in await refused(Opening(wallet).accept())
    with pytest.raises(ChannelError, match="shows signet, and not regtest"):
        await wallet.offer()
    assert await wallet.record.channel_indices() == []


# ---- where the wallet opens ----


async def test_the_wallet_broadcasts_by_itself_and_only_when_both_have_signed(
    wallet: SigningWallet, chain: FakeChain
) -> None:
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    await opening.create()
    assert "funding_signed is missing" in await refused(wallet.ask(TRANSACTION, opening.channel_id))
    assert chain.sent == []
    answer = await opening.release()
    assert answer.transaction is None
    assert chain.sent == [(await wallet.stored()).funding_transaction]


async def test_what_the_chain_rejects_is_told(wallet: SigningWallet, chain: FakeChain) -> None:
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    await opening.create()
    chain.rejects = "bad-txns-inputs-missingorspent"
    assert await refused(opening.release()) == (
        "the funding transaction was rejected: bad-txns-inputs-missingorspent"
    )
    chain.rejects = None
    chain.fault = ChainError("out of order")
    assert "can't be broadcast now: out of order" in await refused(
        wallet.ask(TRANSACTION, opening.channel_id)
    )
    chain.fault = None
    await wallet.ask(TRANSACTION, opening.channel_id)
    assert len(chain.sent) == 1


async def test_the_feerate_is_the_sources_estimate_within_the_policy(
    wallet: SigningWallet, chain: FakeChain
) -> None:
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    assert opening.relay.open_channel.feerate_per_kw == 1_000
    wallet.restart(policy=msgspec.structs.replace(POLICY, max_feerate_per_kw=500))
    opening = Opening(wallet, Role.OPENER)
    await opening.offer()
    assert opening.relay.open_channel.feerate_per_kw == 500
    chain.fault = ChainError("too young")
    with pytest.raises(ChannelError, match="too young"):
        await offer_channel(
            Offer(PEER, 1_000_000),
            chain="regtest",
            features=DEFAULT_FEATURES,
            keys=KEYS,
            policy=POLICY,
            record=wallet.record,
            source=chain,
        )
