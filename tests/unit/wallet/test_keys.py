import copy
import hmac
import pickle

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.derivation import FIRST_COMMITMENT_INDEX, per_commitment_secret
from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.transport.handshake import Responder
from lightning_proxy.wallet.keys import WalletKeys
from tests.unit.wallet.samples import PEER, PEER_SECRET, SEED

GROUP_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_secrets_are_hkdf_of_the_seed_by_label() -> None:
    """RFC 5869, written out with HMAC alone."""
    extracted = hmac.digest(b"lightning-proxy wallet v1", SEED, "sha256")
    for label, secret in (
        (b"node", dict(WalletKeys(SEED).private_keys())["node_secret"]),
        (b"channel/7/funding_secret", WalletKeys(SEED).channel(7).funding_secret),
    ):
        first = hmac.digest(extracted, label + b"\x01", "sha256")
        second = hmac.digest(extracted, first + label + b"\x02", "sha256")
        wide = int.from_bytes((first + second)[:48], "big")
        assert secret == (wide % (GROUP_ORDER - 1) + 1).to_bytes(32, "big")


def test_one_seed_gives_the_same_keys_again_and_every_secret_is_its_own() -> None:
    first, again = (list(WalletKeys(SEED).private_keys(range(4))) for _ in range(2))
    assert first == again
    assert len({secret for _, secret in first}) == len(first) == 2 + 4 * 7
    other = dict(WalletKeys(bytes(32)).private_keys(range(4)))
    assert not {secret for _, secret in first} & set(other.values())


def test_points_belong_to_the_secrets() -> None:
    channel = WalletKeys(SEED).channel(3)
    points = channel.points()
    assert points.funding_pubkey == PrivateKey(channel.funding_secret).public_key.format()
    for name in ("revocation", "payment", "delayed_payment", "htlc"):
        secret = getattr(channel, f"{name}_basepoint_secret")
        assert getattr(points, f"{name}_basepoint") == PrivateKey(secret).public_key.format()
    first = per_commitment_secret(channel.per_commitment_seed, FIRST_COMMITMENT_INDEX)
    assert points.first_per_commitment_point == PrivateKey(first).public_key.format()
    second = per_commitment_secret(channel.per_commitment_seed, FIRST_COMMITMENT_INDEX - 1)
    assert channel.per_commitment_point(1) == PrivateKey(second).public_key.format()


def test_the_node_key_signs_messages_and_shakes_hands() -> None:
    keys = WalletKeys(SEED)
    assert recover_message_signer(keys.sign_message("a text"), "a text") == keys.node_id
    initiator, responder = keys.initiator(PEER), Responder(PEER_SECRET)
    responder.act_three(initiator.act_two(responder.act_one(initiator.act_one())))
    assert responder.remote_node_id == keys.node_id


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_32_bytes_and_an_error_does_not_show_it(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes") as raised:
        WalletKeys(b"\xab" * size)
    assert "ab" * 8 not in str(raised.value).replace("\\x", "")


def test_no_secret_is_printed_pickled_or_copied() -> None:
    keys = WalletKeys(SEED)
    channel = keys.channel(0)
    shown = f"{keys!r} {keys} {channel!r} {channel} {vars}"
    for _, secret in keys.private_keys([0]):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    for thing in (keys, channel):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="neither pickled nor copied"):
                pickle.dumps(thing, protocol)
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            copy.deepcopy(thing)


def test_generated_keys_differ() -> None:
    assert WalletKeys.generate().node_id != WalletKeys.generate().node_id
