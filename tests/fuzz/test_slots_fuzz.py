"""Key slots: what is offered fits for relay and wallet alike, and no lie is a channel."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.features import DEFAULT_FEATURES, Feature, Features
from lightning_proxy.bolt.messages import OpenChannel
from lightning_proxy.relay.questions import accept_channel
from lightning_proxy.relay.slots import fits
from lightning_proxy.rpc import Slot, SlotPolicy, SlotUsed
from lightning_proxy.wallet import Policy, PolicyError, Record, WalletKeys
from lightning_proxy.wallet.policy import CHANNEL_TYPES
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal
from lightning_proxy.wallet.slots import make_slots, take_used, within
from tests.support.channels import open_channel

KEYS = WalletKeys.generate()
RULES = Policy(chains=("regtest",))
PEERS = [f"02{number:064x}" for number in range(1, 4)]
#: Few, so that what is offered and what is wanted often meet.
small = st.integers(0, 6)
amounts = small | small | st.integers(0, 2**63 - 1)
types = st.sampled_from(["1000", "401000", "400000401000", "04000000401000", "00401000", ""])
offers = st.builds(
    open_channel,
    funding_satoshis=amounts,
    channel_type=st.one_of(*[types.map(bytes.fromhex)] * 4, st.none(), st.binary(max_size=8)),
)
peers = st.sampled_from(PEERS)
slot_policies = st.builds(
    SlotPolicy,
    min_funding_sat=small.map(lambda amount: amount // 2),
    max_funding_sat=amounts,
    peers=st.none() | st.lists(peers, max_size=3),
    channel_types=st.none() | st.lists(types, max_size=6),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low, high = sorted((draw(small) // 2, draw(amounts)))
    names = st.lists(st.sampled_from([*CHANNEL_TYPES]), min_size=1, unique=True)
    return Policy(
        chains=("regtest",),
        min_funding_sat=low,
        max_funding_sat=high,
        peers=draw(st.none() | st.frozensets(peers)),
        channel_types=tuple(draw(names)),
        allow_scid_alias=draw(st.booleans()),
        allow_zeroconf=draw(st.booleans()),
        # Those of a channel that is too small are not what this is about.
        max_dust_limit_sat=2**62,
    )


@settings(max_examples=1000)
@given(policies(), slot_policies, peers, offers)
@example(RULES, SlotPolicy(max_funding_sat=20_000), PEERS[0], open_channel(funding_satoshis=20_000))
def test_what_fits_a_slot_fits_the_wish_and_the_wallets_policy(
    policy: Policy, wanted: SlotPolicy, peer: str, offer: OpenChannel
) -> None:
    try:
        left = within(policy, wanted)
    except PolicyError:
        left = None
    peer_id, raw = bytes.fromhex(peer), offer.encode()
    # What every node must refuse is not asked about: a reserve of more than the channel, and such.
    roomy = msgspec.structs.replace(offer, channel_reserve_satoshis=0, htlc_minimum_msat=0)
    request = ChannelKeysRequest(
        delegation_id="11" * 16,
        session_id="22" * 16,
        peer=peer_id,
        channel_id=offer.temporary_channel_id,
        raw_messages=(raw,),
        messages=(roomy,),
        deadline=0.0,
    )
    try:
        policy.check(request)
        is_accepted = True
    except Refusal:
        is_accepted = False
    both = is_accepted and fits(wanted, peer_id, offer) and names_a_type(offer)
    assert (left is not None and fits(left, peer_id, offer)) is both


def names_a_type(offer: OpenChannel) -> bool:
    """What a policy may accept without it is not for slots, nor are channels without a depth."""
    if offer.channel_type is None:
        return False
    features = Features.from_bytes(offer.channel_type)
    return features.to_bytes() == offer.channel_type and not features.offers(
        Feature.OPTION_ZEROCONF
    )


@given(slot_policies, peers, offers)
def test_fits_is_what_its_words_say(policy: SlotPolicy, peer: str, offer: OpenChannel) -> None:
    reasons = [
        offer.funding_satoshis < policy.min_funding_sat,
        offer.funding_satoshis > policy.max_funding_sat,
        policy.peers is not None and not any(each == peer for each in policy.peers),
        policy.channel_types is not None
        and not any(
            offer.channel_type is not None and bytes.fromhex(each) == offer.channel_type
            for each in policy.channel_types
        ),
    ]
    assert fits(policy, bytes.fromhex(peer), offer) is not any(reasons)


def judged(used: SlotUsed, folder: Path) -> tuple[str | None, int]:
    """What the wallet that left these says of it, and how many channels it has then."""

    async def run() -> tuple[str | None, int]:
        path = folder / "record"
        path.write_bytes(RECORD)
        async with Record(path, KEYS.node_id) as record:
            reason = await take_used(record, RULES, used, DEFAULT_FEATURES)
            return reason, len(await record.channels())

    return asyncio.run(run())


def left_by() -> tuple[list[Slot], bytes]:
    """Two slots, and the record of the wallet that left them."""

    async def run(path: Path) -> list[Slot]:
        Record.create(path, KEYS.node_id)
        async with Record(path, KEYS.node_id) as record:
            wanted = SlotPolicy(max_funding_sat=2_000_000)
            return await make_slots(record, KEYS, RULES, wanted, 2)

    with TemporaryDirectory() as folder:
        path = Path(folder) / "record"
        return asyncio.run(run(path)), path.read_bytes()


SLOTS, RECORD = left_by()
OFFER = open_channel()
OFFERED = OFFER.encode()
ACCEPTED = accept_channel(SLOTS[0].answer, OFFER.temporary_channel_id, OFFER.channel_type).encode()


def told(offered: bytes, accepted: bytes) -> SlotUsed:
    fields: dict[str, Any] = {
        "slot_id": "11" * 16,
        "session_id": "22" * 16,
        "peer": PEERS[0],
        "channel_id": OFFER.temporary_channel_id.hex(),
        "open_channel": offered.hex(),
        "accept_channel": accepted.hex(),
    }
    return SlotUsed(**fields)


@settings(max_examples=40)
@given(st.binary(max_size=400), st.binary(max_size=400))
@example(OFFERED, b"")
@example(b"", ACCEPTED)
@example(ACCEPTED, OFFERED)
def test_any_words_about_a_slot_are_no_channel(offered: bytes, accepted: bytes) -> None:
    assume((offered, accepted) != (OFFERED, ACCEPTED))
    with TemporaryDirectory() as folder:
        reason, channels = judged(told(offered, accepted), Path(folder))
    assert reason
    assert channels == 0


@settings(max_examples=60)
@given(st.integers(0, len(ACCEPTED) - 1), st.integers(1, 255))
def test_a_changed_answer_is_no_channel(position: int, flip: int) -> None:
    changed = bytearray(ACCEPTED)
    changed[position] ^= flip
    with TemporaryDirectory() as folder:
        reason, channels = judged(told(OFFERED, bytes(changed)), Path(folder))
    assert reason
    assert channels == 0


def test_the_true_words_are_a_channel(tmp_path: Path) -> None:
    assert judged(told(OFFERED, ACCEPTED), tmp_path) == (None, 1)
