"""Onions and returned failures with anything in them, under HMACs that are right."""

import hmac

from coincurve import PrivateKey

from lightning_proxy.bolt.onion import relay_failure, shared_secrets
from lightning_proxy.bolt.onion.sphinx import KeyType, apply_stream, derive_key


def sealed_onion(
    node_id: bytes, session_key: bytes, associated_data: bytes, opened: bytes
) -> bytes:
    """A packet that opens to these `hop_payloads`, for a node that is its first hop."""
    (secret,) = shared_secrets(session_key, [node_id])
    payloads = apply_stream(derive_key(KeyType.RHO, secret), opened)
    tag = hmac.digest(derive_key(KeyType.MU, secret), payloads + associated_data, "sha256")
    return b"\x00" + PrivateKey(session_key).public_key.format() + payloads + tag


def sealed_return(shared_secret: bytes, body: bytes) -> bytes:
    """What an erring node returns whose failure and padding are these bytes."""
    tag = hmac.digest(derive_key(KeyType.UM, shared_secret), body, "sha256")
    return relay_failure(shared_secret, tag + body)
