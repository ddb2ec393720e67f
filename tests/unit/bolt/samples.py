"""An opening that BOLT 2 allows, as lnd begins it."""

from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel


def point(number: int) -> bytes:
    return PrivateKey(number.to_bytes(32, "big")).public_key.format()


#: option_anchors and option_static_remotekey, bits 22 and 12.
ANCHORS = bytes.fromhex("401000")

OPEN_CHANNEL = OpenChannel(
    chain_hash=CHAIN_HASHES["regtest"],
    temporary_channel_id=bytes(range(32)),
    funding_satoshis=1_000_000,
    push_msat=0,
    dust_limit_satoshis=354,
    max_htlc_value_in_flight_msat=990_000_000,
    channel_reserve_satoshis=10_000,
    htlc_minimum_msat=1,
    feerate_per_kw=253,
    to_self_delay=144,
    max_accepted_htlcs=483,
    funding_pubkey=point(1),
    revocation_basepoint=point(2),
    payment_basepoint=point(3),
    delayed_payment_basepoint=point(4),
    htlc_basepoint=point(5),
    first_per_commitment_point=point(6),
    channel_flags=0,
    upfront_shutdown_script=b"",
    channel_type=ANCHORS,
)

ACCEPT_CHANNEL = AcceptChannel(
    temporary_channel_id=OPEN_CHANNEL.temporary_channel_id,
    dust_limit_satoshis=354,
    max_htlc_value_in_flight_msat=1_000_000_000,
    channel_reserve_satoshis=10_000,
    htlc_minimum_msat=1,
    minimum_depth=3,
    to_self_delay=144,
    max_accepted_htlcs=483,
    funding_pubkey=point(11),
    revocation_basepoint=point(12),
    payment_basepoint=point(13),
    delayed_payment_basepoint=point(14),
    htlc_basepoint=point(15),
    first_per_commitment_point=point(16),
    upfront_shutdown_script=b"",
    channel_type=ANCHORS,
)
