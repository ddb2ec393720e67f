"""An `open_channel` that BOLT #2 allows, and an answer to it that it allows too."""

import secrets
from typing import Any

from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.messages import OpenChannel

ANCHORS = bytes.fromhex("401000")


def point() -> bytes:
    return PrivateKey().public_key.format()


def open_channel(**changes: Any) -> OpenChannel:
    """As lnd opens 1,000,000 sat on a test chain."""
    fields: dict[str, Any] = {
        "chain_hash": CHAIN_HASHES["regtest"],
        "temporary_channel_id": secrets.token_bytes(32),
        "funding_satoshis": 1_000_000,
        "push_msat": 0,
        "dust_limit_satoshis": 354,
        "max_htlc_value_in_flight_msat": 990_000_000,
        "channel_reserve_satoshis": 10_000,
        "htlc_minimum_msat": 1,
        "feerate_per_kw": 253,
        "to_self_delay": 144,
        "max_accepted_htlcs": 483,
        "funding_pubkey": point(),
        "revocation_basepoint": point(),
        "payment_basepoint": point(),
        "delayed_payment_basepoint": point(),
        "htlc_basepoint": point(),
        "first_per_commitment_point": point(),
        "channel_flags": 1,
        "upfront_shutdown_script": b"",
        "channel_type": ANCHORS,
    }
    return OpenChannel(**{**fields, **changes})


def channel_keys(**changes: Any) -> dict[str, Any]:
    """The answer to `channel_keys` as JSON."""
    fields: dict[str, Any] = {
        "funding_pubkey": point().hex(),
        "revocation_basepoint": point().hex(),
        "payment_basepoint": point().hex(),
        "delayed_payment_basepoint": point().hex(),
        "htlc_basepoint": point().hex(),
        "first_per_commitment_point": point().hex(),
        "dust_limit_sat": 354,
        "max_htlc_value_in_flight_msat": 990_000_000,
        "channel_reserve_sat": 10_000,
        "htlc_minimum_msat": 1,
        "minimum_depth": 3,
        "to_self_delay": 144,
        "max_accepted_htlcs": 483,
        "channel_type": ANCHORS.hex(),
    }
    return {**fields, **changes}
