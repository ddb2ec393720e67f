"""BOLT #4's vector of a failure that the fifth hop returns, and the keys it goes by."""

from lightning_proxy.bolt.onion import (
    Returned,
    read_failure,
    relay_failure,
    shared_secrets,
    wrap_failure,
)
from lightning_proxy.bolt.onion.failures import TemporaryNodeFailure, decode
from lightning_proxy.bolt.onion.sphinx import KeyType, derive_key
from tests.support.data import load_json

VECTOR = load_json("bolt04_onion_error_test.json")
HOPS = VECTOR["generate"]["hops"]
SECRETS = [bytes.fromhex(hop["hop_shared_secret"]) for hop in HOPS]
FAILURE = decode(bytes.fromhex(VECTOR["generate"]["failure_message"]))


def test_keys() -> None:
    session_key = bytes.fromhex(VECTOR["generate"]["session_key"])
    node_ids = [bytes.fromhex(hop["pubkey"]) for hop in HOPS]
    assert list(shared_secrets(session_key, node_ids)) == SECRETS
    for hop, secret in zip(HOPS, SECRETS, strict=True):
        assert derive_key(KeyType.AMMAG, secret).hex() == hop["ammag_key"]
    assert derive_key(KeyType.UM, SECRETS[-1]).hex() == HOPS[-1]["um_key"]


def test_the_failure_comes_back() -> None:
    assert TemporaryNodeFailure() == FAILURE
    reason = wrap_failure(SECRETS[-1], FAILURE)
    # The vector has what is wrapped without its HMAC.
    assert relay_failure(SECRETS[-1], reason)[32:].hex() == HOPS[-1]["payload"]
    for secret in reversed(SECRETS[:-1]):
        reason = relay_failure(secret, reason)
    assert reason.hex() == VECTOR["errorpacket"]
    assert read_failure(SECRETS, reason) == Returned(hop=4, failure=FAILURE)
