import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import ChannelReestablish, Ping
from lightning_proxy.rpc import ChannelKeys, DelegationKind
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Record
from lightning_proxy.wallet.request import (
    ChannelKeysRequest,
    LeftOpen,
    Refusal,
    UnknownChannelRequest,
)
from lightning_proxy.wallet.signer import Approve, KeySigner
from tests.unit.wallet.samples import (
    OPEN_CHANNEL,
    PEER,
    SEED,
    delegate,
    open_channel,
    request,
)

KEYS = WalletKeys(SEED)
POLICY = Policy(chains=("regtest",))


@pytest_asyncio.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    Record.create(tmp_path / "record", KEYS.node_id)
    async with Record(tmp_path / "record", KEYS.node_id) as record:
        yield record


async def refused(signer: KeySigner, request: ChannelKeysRequest) -> str:
    with pytest.raises(Refusal) as raised:
        await signer.channel_keys(request)
    return raised.value.reason


def by_hand(approve: Approve, record: Record) -> KeySigner:
    policy = msgspec.structs.replace(POLICY, approve_by_hand=True)
    return KeySigner(KEYS, policy, record, approve)


async def test_an_answer_has_fresh_keys_and_the_limits(record: Record) -> None:
    answer = await KeySigner(KEYS, POLICY, record).channel_keys(request())
    (stored,) = await record.channels()
    points = KEYS.channel(0, stored.salt).points()
    assert answer == ChannelKeys(
        funding_pubkey=points.funding_pubkey.hex(),
        revocation_basepoint=points.revocation_basepoint.hex(),
        payment_basepoint=points.payment_basepoint.hex(),
        delayed_payment_basepoint=points.delayed_payment_basepoint.hex(),
        htlc_basepoint=points.htlc_basepoint.hex(),
        first_per_commitment_point=points.first_per_commitment_point.hex(),
        dust_limit_sat=354,
        max_htlc_value_in_flight_msat=1_000_000_000,
        channel_reserve_sat=10_000,
        htlc_minimum_msat=1,
        minimum_depth=1,
        to_self_delay=144,
        max_accepted_htlcs=483,
        channel_type="401000",
    )


async def test_the_same_question_gets_the_same_bytes_even_after_a_restart(
    record: Record, tmp_path: Path
) -> None:
    first = await KeySigner(KEYS, POLICY, record).channel_keys(request(1))
    second = await KeySigner(KEYS, POLICY, record).channel_keys(request(2))
    assert first.funding_pubkey != second.funding_pubkey
    # By now the policy would say no; what was said stays said.
    stricter = msgspec.structs.replace(POLICY, peers=frozenset())
    async with Record(tmp_path / "record", KEYS.node_id) as again:
        repeated = await KeySigner(KEYS, stricter, again).channel_keys(request(1))
    assert msgspec.json.encode(repeated) == msgspec.json.encode(first)


async def test_the_same_question_gets_the_same_no(record: Record) -> None:
    stricter = msgspec.structs.replace(POLICY, peers=frozenset())
    first = await refused(KeySigner(KEYS, stricter, record), request())
    assert await refused(KeySigner(KEYS, POLICY, record), request()) == first


@pytest.mark.parametrize(
    "changed",
    [
        delegate(1, open_channel(funding_satoshis=999_999)),
        delegate(1, session_id="66" * 16),
        delegate(1, peer=KEYS.node_id.hex()),
    ],
    ids=["message", "session", "peer"],
)
async def test_an_id_serves_one_question(record: Record, changed: Any) -> None:
    signer = KeySigner(KEYS, POLICY, record)
    await signer.channel_keys(request(1))
    reason = await refused(signer, ChannelKeysRequest.from_delegate(changed))
    assert "used before, for another question" in reason
    assert await record.channel_indices() == [0]


async def test_the_same_question_at_once_uses_one_index(record: Record) -> None:
    signer = KeySigner(KEYS, POLICY, record)
    answers = await asyncio.gather(*(signer.channel_keys(request()) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert await record.channel_indices() == [0]


@pytest.mark.parametrize(
    ("changes", "reserve"),
    [
        ({"funding_satoshis": 50_000, "channel_reserve_satoshis": 354}, 500),
        # BOLT #2: no less than the opener's dust limit.
        (
            {
                "funding_satoshis": 50_000,
                "channel_reserve_satoshis": 1_062,
                "dust_limit_satoshis": 1_062,
            },
            1_062,
        ),
    ],
)
async def test_the_reserve(record: Record, changes: dict[str, Any], reserve: int) -> None:
    answer = await KeySigner(KEYS, POLICY, record).channel_keys(request(**changes))
    assert answer.channel_reserve_sat == reserve


async def test_a_type_is_echoed_as_it_came_and_none_by_none(record: Record) -> None:
    signer = KeySigner(KEYS, msgspec.structs.replace(POLICY, allow_zeroconf=True), record)
    zeroconf = Features.from_bits(
        [
            Feature.OPTION_STATIC_REMOTEKEY,
            Feature.OPTION_ANCHORS,
            Feature.OPTION_SCID_ALIAS,
            Feature.OPTION_ZEROCONF,
        ]
    ).to_bytes()
    answer = await signer.channel_keys(request(1, channel_type=zeroconf, channel_flags=0))
    assert (answer.channel_type, answer.minimum_depth) == (zeroconf.hex(), 0)
    answer = await signer.channel_keys(request(2, channel_type=None))
    assert (answer.channel_type, answer.minimum_depth) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dust_limit_satoshis": 353}, "dust_limit_satoshis: 353 sat is below 354 sat"),
        ({"max_accepted_htlcs": 484}, "max_accepted_htlcs"),
        ({"push_msat": 1_000_000_001}, "push_msat"),
        ({"funding_pubkey": b"\x02" + bytes(32)}, "funding_pubkey: no point"),
        ({"funding_satoshis": 1 << 24}, "funding_satoshis"),
        ({"funding_satoshis": 10_000, "channel_reserve_satoshis": 354}, "is not within 20000"),
    ],
)
async def test_what_bolt_2_forbids_is_refused_and_uses_no_index(
    record: Record, changes: dict[str, Any], reason: str
) -> None:
    assert reason in await refused(KeySigner(KEYS, POLICY, record), request(**changes))
    assert await record.channel_indices() == []


async def test_a_channel_that_our_own_reserve_would_lock_is_refused(record: Record) -> None:
    """The opener keeps 701 sat after the fee: more than its own reserve, less than ours."""
    dear = msgspec.structs.replace(POLICY, max_feerate_per_kw=250_000)
    wanted = request(funding_satoshis=100_000, feerate_per_kw=87_758, channel_reserve_satoshis=354)
    reason = await refused(KeySigner(KEYS, dear, record), wanted)
    assert "neither side has more than 1000 sat" in reason
    assert await record.channel_indices() == []


async def test_a_days_channels_are_limited(record: Record) -> None:
    signer = KeySigner(KEYS, msgspec.structs.replace(POLICY, max_channels_a_day=2), record)
    await signer.channel_keys(request(1))
    await signer.channel_keys(request(2))
    assert "no more channels today" in await refused(signer, request(3))
    await signer.channel_keys(request(1))  # an old answer is still an answer


async def test_the_owner_is_asked_once_and_obeyed(record: Record) -> None:
    asked: list[str] = []

    async def approve(request: ChannelKeysRequest) -> bool:
        asked.append(request.delegation_id)
        return request.delegation_id.endswith("1")

    signer = by_hand(approve, record)
    await signer.channel_keys(request(1))
    assert "declined" in await refused(signer, request(2))
    await signer.channel_keys(request(1))
    assert "declined" in await refused(signer, request(2))
    assert asked == [request(1).delegation_id, request(2).delegation_id]


async def test_the_owner_is_not_asked_what_the_policy_refuses(record: Record) -> None:
    async def approve(_: ChannelKeysRequest) -> bool:
        raise AssertionError

    assert "funding_satoshis" in await refused(
        by_hand(approve, record), request(funding_satoshis=19_999, channel_reserve_satoshis=354)
    )


def test_somebody_has_to_be_there_to_be_asked(tmp_path: Path) -> None:
    Record.create(tmp_path / "record", KEYS.node_id)
    record = Record(tmp_path / "record", KEYS.node_id)
    with pytest.raises(ValueError, match="nobody is there"):
        KeySigner(KEYS, msgspec.structs.replace(POLICY, approve_by_hand=True), record)
    record.close()


# ---- the envelope ----


def test_the_raw_message_counts_and_not_the_relays_word_for_it() -> None:
    lie = {"name": "open_channel", "funding_satoshis": 1}
    read = ChannelKeysRequest.from_delegate(delegate(decoded=[lie]))
    assert read.open_channel == OPEN_CHANNEL
    assert (read.raw, read.peer) == (OPEN_CHANNEL.encode(), PEER)
    assert not read.is_public
    assert read.chain == "regtest"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"messages": []}, "about one message, not 0"),
        ({"messages": [OPEN_CHANNEL.encode().hex()] * 2}, "about one message, not 2"),
        ({"messages": [Ping(num_pong_bytes=1, ignored=b"").encode().hex()]}, "not about ping"),
        ({"messages": [OPEN_CHANNEL.encode().hex()[:-100]]}, "open_channel."),
        ({"messages": ["1267"]}, "message type 4711 is unknown"),
        ({"channel_id": "00" * 32}, "another channel than its open_channel"),
    ],
)
def test_a_contradictory_envelope_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refusal) as raised:
        ChannelKeysRequest.from_delegate(delegate(**changes))
    assert reason in raised.value.reason


def test_a_digest_covers_all_that_an_answer_depends_on() -> None:
    digests = {
        ChannelKeysRequest.from_delegate(envelope).digest
        for envelope in (
            delegate(1),
            delegate(2, OPEN_CHANNEL, deadline=1.0, sequence=9, decoded=[{}]),  # none of these
            delegate(1, open_channel(push_msat=1)),
            delegate(1, session_id="66" * 16),
            delegate(1, peer=KEYS.node_id.hex()),
        )
    }
    assert len(digests) == 4


async def test_an_old_copy_fails_no_channel_as_unknown(record: Record) -> None:
    signer = KeySigner(KEYS, POLICY, record)
    raw = ChannelReestablish(
        channel_id=b"\x07" * 32,
        next_commitment_number=1,
        next_revocation_number=0,
        your_last_per_commitment_secret=bytes(32),
        my_current_per_commitment_point=PEER,
    ).encode()

    def unknown(number: int) -> UnknownChannelRequest:
        kind, channel_id = DelegationKind.UNKNOWN_CHANNEL, "07" * 32
        envelope = delegate(number, kind=kind, channel_id=channel_id, messages=[raw.hex()])
        return UnknownChannelRequest.from_delegate(envelope)

    await record.change(lambda ledger: ledger.set_outdated("the relay has a channel"))
    with pytest.raises(LeftOpen):
        await signer.unknown_channel(unknown(1))
    # The latest record knows, and says so: the peer gets its money out.
    await record.change(lambda ledger: ledger.set_outdated(None))
    with pytest.raises(Refusal, match="no such channel"):
        await signer.unknown_channel(unknown(1))
