"""BOLT 4: onions (`sphinx`), what they say to a hop (`payloads`), and how failures come back."""

from lightning_proxy.bolt.onion.codes import FailureCode, FailureFlag
from lightning_proxy.bolt.onion.failures import FAILURES, Failure, OpaqueFailure
from lightning_proxy.bolt.onion.payloads import Payload, PaymentData
from lightning_proxy.bolt.onion.returned import (
    Returned,
    Unreadable,
    malformed_failure,
    read_failure,
    read_malformed,
    relay_failure,
    wrap_failure,
)
from lightning_proxy.bolt.onion.sphinx import (
    Ecdh,
    Hop,
    Onion,
    Peeled,
    construct,
    ecdh_with,
    peel,
    shared_secrets,
)

__all__ = [
    "FAILURES",
    "Ecdh",
    "Failure",
    "FailureCode",
    "FailureFlag",
    "Hop",
    "Onion",
    "OpaqueFailure",
    "Payload",
    "PaymentData",
    "Peeled",
    "Returned",
    "Unreadable",
    "construct",
    "ecdh_with",
    "malformed_failure",
    "peel",
    "read_failure",
    "read_malformed",
    "relay_failure",
    "shared_secrets",
    "wrap_failure",
]
