"""BOLT #3's commitment and HTLC transactions, byte for byte: appendix C, and F with anchors."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from btclib.script.engine import verify_transaction
from btclib.tx import Tx, TxOut
from coincurve import PrivateKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from lightning_proxy.bolt.commitment import (
    ChannelParameters,
    Commitment,
    CommitmentState,
    Htlc,
    Role,
    build_commitment,
)
from lightning_proxy.bolt.derivation import derive_private_key
from lightning_proxy.bolt.scripts import p2wsh
from tests.support.data import load_json

_CASES = load_json("bolt03_commitments.json")["cases"]
COMMON: dict[str, str] = _CASES[0]["values"]
STATIC_REMOTEKEY = _CASES[1:]
ANCHORS = load_json("bolt03_commitments_anchors.json")["cases"]


@dataclass(frozen=True)
class Side:
    funding_pubkey: bytes
    revocation_basepoint: bytes
    payment_basepoint: bytes
    delayed_payment_basepoint: bytes
    htlc_basepoint: bytes
    dust_limit_satoshis: int
    to_self_delay: int


@dataclass(frozen=True)
class Case:
    """One case of either appendix, in one form."""

    anchors: bool
    state: CommitmentState
    dust_limit_satoshis: int
    #: DER, without the hash type.
    remote_signature: bytes
    remote_htlc_signatures: list[bytes]
    commitment: bytes


def secret(name: str) -> bytes:
    # Written with the byte that marks a compressed key.
    data = bytes.fromhex(COMMON[name])
    assert len(data) == 33
    assert data[32] == 1
    return data[:32]


def point(name: str) -> bytes:
    return bytes.fromhex(COMMON[name])


def preimage(number: int) -> bytes:
    return bytes.fromhex(COMMON[f"htlc_{number}_payment_preimage"])


def htlcs(*numbers: int) -> tuple[Htlc, ...]:
    """The local node is the opener throughout."""
    return tuple(
        Htlc(
            offered_by={"local->remote": Role.OPENER, "remote->local": Role.ACCEPTER}[
                COMMON[f"htlc_{number}_direction"]
            ],
            id=number,
            amount_msat=int(COMMON[f"htlc_{number}_amount_msat"]),
            payment_hash=sha256(preimage(number)).digest(),
            cltv_expiry=int(COMMON[f"htlc_{number}_expiry"]),
        )
        for number in numbers
    )


def htlcs_of(name: str) -> tuple[Htlc, ...]:
    if "no HTLCs" in name:
        return ()
    return htlcs(1, 5, 6) if "same amount and preimage" in name else htlcs(0, 1, 2, 3, 4)


def state(name: str, feerate: int, to_local_msat: int, to_remote_msat: int) -> CommitmentState:
    return CommitmentState(
        commitment_number=int(COMMON["commitment_number"]),
        feerate_per_kw=feerate,
        to_opener_msat=to_local_msat,
        to_accepter_msat=to_remote_msat,
        htlcs=htlcs_of(name),
    )


def parameters(case: Case) -> ChannelParameters:
    return ChannelParameters(
        opener=Side(
            funding_pubkey=point("local_funding_pubkey"),
            # Not among the vectors, nor in the local node's commitment.
            revocation_basepoint=point("local_payment_basepoint"),
            payment_basepoint=point("local_payment_basepoint"),
            delayed_payment_basepoint=point("local_delayed_payment_basepoint"),
            htlc_basepoint=point("local_htlc_basepoint"),
            dust_limit_satoshis=case.dust_limit_satoshis,
            to_self_delay=0,
        ),
        accepter=Side(
            funding_pubkey=point("remote_funding_pubkey"),
            revocation_basepoint=point("remote_revocation_basepoint"),
            payment_basepoint=point("remote_payment_basepoint"),
            delayed_payment_basepoint=point("remote_payment_basepoint"),
            htlc_basepoint=point("remote_htlc_basepoint"),
            dust_limit_satoshis=0,
            to_self_delay=int(COMMON["local_delay"]),
        ),
        funding_txid=bytes.fromhex(COMMON["funding_tx_id"])[::-1],
        funding_output_index=int(COMMON["funding_output_index"]),
        funding_satoshis=int(COMMON["funding_amount_satoshi"]),
        anchors=case.anchors,
    )


def built(case: Case) -> Commitment:
    return build_commitment(
        parameters(case), Role.OPENER, case.state, point("local_per_commitment_point")
    )


def der(signature: bytes) -> bytes:
    return cdata_to_der(deserialize_compact(signature))


def htlc_secret(basepoint_secret: str) -> bytes:
    # The vectors' HTLC basepoints are their payment basepoints.
    return derive_private_key(secret(basepoint_secret), point("local_per_commitment_point"))


def check_commitment(case: Case) -> bytes:
    """Signs as both sides; gives the transaction."""
    commitment = built(case)
    ours = commitment.unsigned.sign(secret("local_funding_privkey"))
    theirs = commitment.unsigned.sign(secret("remote_funding_privkey"))
    assert der(theirs) == case.remote_signature
    assert commitment.unsigned.verify(point("remote_funding_pubkey"), theirs)
    assert not commitment.unsigned.verify(point("local_funding_pubkey"), theirs)
    signed = commitment.signed(ours, theirs)
    assert signed == case.commitment
    assert Tx.parse(signed).id[::-1] == commitment.unsigned.txid
    funding = TxOut(
        commitment.parameters.funding_satoshis, p2wsh(commitment.parameters.funding_script)
    )
    verify_transaction([funding], Tx.parse(signed))
    return signed


def check_htlc_transactions(case: Case) -> list[bytes]:
    """Signs as both sides, in the order of the outputs; gives the transactions."""
    commitment = built(case)
    assert len(commitment.htlc_transactions) == len(case.remote_htlc_signatures)
    signed = []
    for transaction, expected in zip(
        commitment.htlc_transactions, case.remote_htlc_signatures, strict=True
    ):
        theirs = transaction.unsigned.sign(
            htlc_secret("remote_payment_basepoint_secret"), transaction.remote_hash_type
        )
        assert der(theirs) == expected
        assert transaction.unsigned.verify(
            point("remote_htlcpubkey"), theirs, transaction.remote_hash_type
        )
        ours = transaction.unsigned.sign(htlc_secret("local_payment_basepoint_secret"))
        known = preimage(transaction.htlc.id) if transaction.success else b""
        raw = transaction.signed(theirs, ours, known)
        spent = commitment.unsigned.tx.vout[transaction.output_index]
        verify_transaction([spent], Tx.parse(raw))
        signed.append(raw)
    return signed


def static_remotekey_case(raw: dict[str, Any]) -> Case:
    pairs = [(name.strip(), value) for name, value in raw["values"]]
    values = dict(pairs)
    signatures = [bytes.fromhex(value) for name, value in pairs if name == "remote_htlc_signature"]
    assert len(signatures) == int(values["num_htlcs"])
    return Case(
        anchors=False,
        state=state(
            raw["name"],
            int(values["local_feerate_per_kw"]),
            int(values["to_local_msat"]),
            int(values["to_remote_msat"]),
        ),
        dust_limit_satoshis=int(COMMON["local_dust_limit_satoshi"]),
        remote_signature=bytes.fromhex(values["remote_signature"]),
        remote_htlc_signatures=signatures,
        commitment=bytes.fromhex(values["output commit_tx"]),
    )


def anchors_case(raw: dict[str, Any]) -> Case:
    assert raw["UseTestHtlcs"] is ("no HTLCs" not in raw["Name"])
    return Case(
        anchors=True,
        state=state(raw["Name"], raw["FeePerKw"], raw["LocalBalance"], raw["RemoteBalance"]),
        dust_limit_satoshis=raw["DustLimitSatoshis"],
        remote_signature=bytes.fromhex(raw["RemoteSigHex"]),
        remote_htlc_signatures=[bytes.fromhex(htlc["RemoteSigHex"]) for htlc in raw["HtlcDescs"]],
        commitment=bytes.fromhex(raw["ExpectedCommitmentTxHex"]),
    )


def test_the_vectors_are_all_there() -> None:
    assert (len(STATIC_REMOTEKEY), len(ANCHORS)) == (16, 9)
    htlc_count = sum(int(dict(case["values"])["num_htlcs"]) for case in STATIC_REMOTEKEY)
    assert (htlc_count, sum(len(case["HtlcDescs"]) for case in ANCHORS)) == (33, 15)


def test_keys() -> None:
    keys = built(static_remotekey_case(STATIC_REMOTEKEY[0])).keys
    assert keys.revocationpubkey == point("local_revocation_pubkey")
    assert keys.local_delayedpubkey == point("local_delayedpubkey")
    assert keys.local_htlcpubkey == point("local_htlcpubkey")
    assert keys.remote_htlcpubkey == point("remote_htlcpubkey")
    assert keys.remotepubkey == point("remote_payment_basepoint")
    for name, public in [
        ("local_privkey", "local_htlcpubkey"),
        ("local_delayed_privkey", "local_delayedpubkey"),
        ("local_funding_privkey", "local_funding_pubkey"),
        ("remote_funding_privkey", "remote_funding_pubkey"),
    ]:
        assert PrivateKey(secret(name)).public_key.format() == point(public)
    assert htlc_secret("local_payment_basepoint_secret") == secret("local_privkey")
    assert htlc_secret("remote_payment_basepoint_secret") == secret("remote_privkey")


@pytest.mark.parametrize("raw", STATIC_REMOTEKEY, ids=lambda raw: raw["name"])
def test_static_remotekey(raw: dict[str, Any]) -> None:
    case = static_remotekey_case(raw)
    check_commitment(case)
    values = {name.strip(): value for name, value in raw["values"]}
    commitment = built(case)
    ours = commitment.unsigned.sign(secret("local_funding_privkey"))
    assert der(ours).hex() == values["local_signature"]
    # The last case names no fees.
    if "base commitment transaction fee" in values:
        assert commitment.base_fee_sat == int(values["base commitment transaction fee"])
        assert commitment.fee_sat == int(values["actual commitment transaction fee"])
    else:
        assert raw is STATIC_REMOTEKEY[-1]


@pytest.mark.parametrize("raw", STATIC_REMOTEKEY, ids=lambda raw: raw["name"])
def test_static_remotekey_htlc_transactions(raw: dict[str, Any]) -> None:
    case = static_remotekey_case(raw)
    check_htlc_transactions(case)
    # The vectors give the signatures, which cover all of a transaction.
    ours = [
        der(transaction.unsigned.sign(htlc_secret("local_payment_basepoint_secret"))).hex()
        for transaction in built(case).htlc_transactions
    ]
    assert ours == [value for name, value in raw["values"] if name == "local_htlc_signature "]


@pytest.mark.parametrize("raw", ANCHORS, ids=lambda raw: raw["Name"])
def test_anchors(raw: dict[str, Any]) -> None:
    case = anchors_case(raw)
    check_commitment(case)
    assert [signed.hex() for signed in check_htlc_transactions(case)] == [
        htlc["ResolutionTxHex"] for htlc in raw["HtlcDescs"]
    ]
