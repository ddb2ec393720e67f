"""Failures: their codes and fields, the way back, and what origin and hops make of a bad one."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import MalformedMessage, RequirementError
from lightning_proxy.bolt.messages import UpdateFailMalformedHtlc
from lightning_proxy.bolt.onion import (
    FAILURES,
    Failure,
    FailureCode,
    FailureFlag,
    OpaqueFailure,
    Returned,
    Unreadable,
    malformed_failure,
    read_failure,
    read_malformed,
    relay_failure,
    wrap_failure,
)
from lightning_proxy.bolt.onion.failures import (
    FeeInsufficient,
    IncorrectOrUnknownPaymentDetails,
    InvalidOnionBlinding,
    InvalidOnionHmac,
    InvalidOnionPayload,
    MppTimeout,
    TemporaryChannelFailure,
    UnknownNextPeer,
    decode,
)
from tests.support.onions import sealed_return
from tests.unit.bolt.strategies import values_of

SECRETS = [bytes([number]) * 32 for number in range(1, 6)]
UNREADABLE = Unreadable(hop=None, reason="no hop's HMAC is right")
DETAILS = IncorrectOrUnknownPaymentDetails(htlc_msat=100_000, height=800_000)

# BOLT #4's list of codes, each as it stands there.
BOLT_4 = {
    "temporary_node_failure": "NODE|2",
    "permanent_node_failure": "PERM|NODE|2",
    "required_node_feature_missing": "PERM|NODE|3",
    "invalid_onion_version": "BADONION|PERM|4",
    "invalid_onion_hmac": "BADONION|PERM|5",
    "invalid_onion_key": "BADONION|PERM|6",
    "temporary_channel_failure": "UPDATE|7",
    "permanent_channel_failure": "PERM|8",
    "required_channel_feature_missing": "PERM|9",
    "unknown_next_peer": "PERM|10",
    "amount_below_minimum": "UPDATE|11",
    "fee_insufficient": "UPDATE|12",
    "incorrect_cltv_expiry": "UPDATE|13",
    "expiry_too_soon": "UPDATE|14",
    "incorrect_or_unknown_payment_details": "PERM|15",
    "final_incorrect_cltv_expiry": "18",
    "final_incorrect_htlc_amount": "19",
    "channel_disabled": "UPDATE|20",
    "expiry_too_far": "21",
    "invalid_onion_payload": "PERM|22",
    "mpp_timeout": "23",
    "invalid_onion_blinding": "BADONION|PERM|24",
}
FLAGS = {"BADONION": 0x8000, "PERM": 0x4000, "NODE": 0x2000, "UPDATE": 0x1000}


def returned(hop: int, failure: Failure) -> bytes:
    """What the origin gets of a failure at this hop."""
    return back(hop, wrap_failure(SECRETS[hop], failure))


def back(hop: int, reason: bytes) -> bytes:
    for secret in reversed(SECRETS[:hop]):
        reason = relay_failure(secret, reason)
    return reason


def test_every_code_of_bolt_4() -> None:
    assert {code.name.lower(): int(code) for code in FailureCode} == {
        name: sum(FLAGS[part] if part in FLAGS else int(part) for part in text.split("|"))
        for name, text in BOLT_4.items()
    }
    assert set(FAILURES) == set(FailureCode)
    for code, cls in FAILURES.items():
        # invalid_onion_hmac is InvalidOnionHmac.
        assert cls.__name__.lower() == FailureCode(code).name.lower().replace("_", "")


@pytest.mark.parametrize("cls", FAILURES.values(), ids=lambda cls: cls.__name__)
def test_round_trip(cls: type[Failure]) -> None:
    @settings(max_examples=20, deadline=None)
    @given(st.builds(cls, **{name: values_of(kind) for name, kind in cls.FIELDS.items()}))
    def round_trip(failure: Failure) -> None:
        data = failure.encode()
        assert int.from_bytes(data[:2], "big") == failure.code
        assert decode(data) == failure
        # BOLT #4: what follows is ignored, TLV records or not.
        assert decode(data + b"\x00\x01") == failure
        if cls.FIELDS:
            assert decode(data[:-1]) == OpaqueFailure(failure_code=failure.code, data=data[2:-1])

    round_trip()


def test_as_bolt_4_writes_them() -> None:
    assert DETAILS.encode().hex() == "400f00000000000186a0000c3500"
    fee = FeeInsufficient(htlc_msat=1, channel_update=b"ab")
    assert fee.encode().hex() == "100c000000000000000100026162"
    assert InvalidOnionPayload(type=301, offset=7).encode().hex() == "4016fd012d0007"
    assert TemporaryChannelFailure(channel_update=b"").encode().hex() == "10070000"


def test_flags() -> None:
    assert DETAILS.flags == FailureFlag.PERM
    assert MppTimeout().flags == FailureFlag(0)
    assert OpaqueFailure(failure_code=0xF0FF, data=b"").flags == FailureFlag(0xF000)
    assert FailureFlag.BADONION in InvalidOnionHmac(sha256_of_onion=bytes(32)).flags


def test_what_has_no_code_is_no_failure() -> None:
    for data in (b"", b"\x20"):
        with pytest.raises(MalformedMessage, match="failure_code"):
            decode(data)
    # Codes that BOLT 4 has given up, and one that nobody knows.
    for code in (0x4010, 17, 0x0FFF):
        failure = decode(code.to_bytes(2, "big") + b"x")
        assert failure == OpaqueFailure(failure_code=code, data=b"x")
        assert failure.encode() == code.to_bytes(2, "big") + b"x"


def test_values_that_do_not_fit() -> None:
    with pytest.raises(MalformedMessage, match="height"):
        IncorrectOrUnknownPaymentDetails(htlc_msat=1, height=1 << 32).encode()
    with pytest.raises(MalformedMessage, match="failure_code"):
        OpaqueFailure(failure_code=1 << 16, data=b"").encode()


@pytest.mark.parametrize("hop", range(5))
def test_the_origin_knows_which_hop(hop: int) -> None:
    reason = returned(hop, DETAILS)
    assert len(reason) == 292
    assert read_failure(SECRETS, reason) == Returned(hop=hop, failure=DETAILS)


def test_a_long_failure_is_not_cut() -> None:
    long = TemporaryChannelFailure(channel_update=bytes(300))
    reason = returned(2, long)
    assert len(reason) == 32 + 2 + 304 + 2
    assert read_failure(SECRETS, reason) == Returned(hop=2, failure=long)


@pytest.mark.parametrize("position", [0, 31, 32, 100, 291])
def test_spoilt_on_the_way(position: int) -> None:
    reason = bytearray(returned(3, DETAILS))
    reason[position] ^= 1
    assert read_failure(SECRETS, bytes(reason)) == Unreadable(
        hop=None, reason="no hop's HMAC is right"
    )


@pytest.mark.parametrize("reason", [b"", bytes(31), bytes(32), bytes(292), bytes(65535)])
def test_no_return_packet(reason: bytes) -> None:
    assert read_failure(SECRETS, reason) == UNREADABLE
    assert read_failure([], reason) == UNREADABLE


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00", b"\x00\x00\x00\x00", b"\x00\x01\x20\x00\x00", b"\xff\xff", b"\x00\x02\x20\x02"],
)
def test_a_hop_that_writes_nonsense_is_found(body: bytes) -> None:
    outcome = read_failure(SECRETS, back(1, sealed_return(SECRETS[1], body)))
    assert isinstance(outcome, Unreadable)
    assert outcome.hop == 1


def test_which_hop_failed_makes_no_difference_to_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BOLT #4: 27 rounds, wherever it failed and however long the route is."""
    rounds: list[int] = []

    def counted(key: bytes, data: bytes) -> bytes:
        rounds.append(len(data))
        return relay_failure(key, data)

    reasons = [returned(hop, DETAILS) for hop in range(5)]
    monkeypatch.setattr("lightning_proxy.bolt.onion.returned.relay_failure", counted)
    work = []
    for secrets, reason in [*((SECRETS, reason) for reason in reasons), (SECRETS[:2], bytes(292))]:
        rounds.clear()
        read_failure(secrets, reason)
        work.append(list(rounds))
    assert work == [[292] * 27] * 6


def test_nobody_answers_for_the_rounds_after_the_last_hop() -> None:
    """Whoever knows what those rounds work with could have written this; it isn't a hop's."""
    reason = back(len(SECRETS), sealed_return(bytes(32), b"\x00\x02\x20\x02\x00\x00"))
    assert read_failure(SECRETS, reason) == UNREADABLE


def malformed(code: int, digest: bytes) -> UpdateFailMalformedHtlc:
    return UpdateFailMalformedHtlc(
        channel_id=bytes(32), id=0, sha256_of_onion=digest, failure_code=code
    )


def test_a_peer_that_can_not_open_the_onion() -> None:
    onion = b"onion"
    digest = sha256(onion).digest()
    message = malformed(FailureCode.INVALID_ONION_HMAC, digest)
    assert malformed_failure(message) == InvalidOnionHmac(sha256_of_onion=digest)
    assert read_malformed(message, onion) == Returned(
        hop=0, failure=InvalidOnionHmac(sha256_of_onion=digest)
    )
    # A hop before it returns the failure as its own.
    reason = back(1, wrap_failure(SECRETS[1], malformed_failure(message)))
    assert read_failure(SECRETS, reason) == Returned(hop=1, failure=malformed_failure(message))
    assert read_malformed(message, b"another") == Unreadable(
        hop=None, reason="the first hop was given another onion than was sent"
    )
    # BOLT #2 lets a hop of a blinded path leave the hash out.
    hidden = malformed(FailureCode.INVALID_ONION_BLINDING, bytes(32))
    failure = InvalidOnionBlinding(sha256_of_onion=bytes(32))
    assert read_malformed(hidden, onion) == Returned(hop=0, failure=failure)
    unknown = malformed_failure(malformed(0xC0FF, digest))
    assert unknown == OpaqueFailure(failure_code=0xC0FF, data=digest)


@pytest.mark.parametrize("code", [0, UnknownNextPeer.CODE, 0x7FFF])
def test_malformed_without_badonion(code: int) -> None:
    with pytest.raises(RequirementError, match="without BADONION"):
        malformed_failure(malformed(code, bytes(32)))
    with pytest.raises(RequirementError, match="without BADONION"):
        read_malformed(malformed(code, bytes(32)), b"")
