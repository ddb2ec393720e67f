"""An `open_channel` that BOLT #2 allows, and an answer to it that it allows too."""

import secrets
from typing import Any

import msgspec
from coincurve import PrivateKey

from lightning_proxy.bolt.messages import OpenChannel
from tests.unit.bolt.samples import ANCHORS, OPEN_CHANNEL


def point() -> bytes:
    return PrivateKey().public_key.format()


def open_channel(**changes: Any) -> OpenChannel:
    """As lnd opens 1,000,000 sat on a test chain, with a temporary id of its own."""
    fresh = {"temporary_channel_id": secrets.token_bytes(32), **changes}
    return msgspec.structs.replace(OPEN_CHANNEL, **fresh)


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
