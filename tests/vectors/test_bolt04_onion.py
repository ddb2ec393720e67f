"""BOLT #4's vectors of onions: one of payloads of many sizes, and one into a blinded path."""

from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.codec import Reader, bigsize
from lightning_proxy.bolt.onion import Hop, PaymentData, construct, ecdh_with, payloads, peel
from tests.support.data import load_json

ONION = load_json("bolt04_onion_test.json")
BLINDED = load_json("bolt04_blinded_payment_onion_test.json")


def hop_of(case: dict[str, Any]) -> Hop:
    """The vectors' payloads have their length in front."""
    reader = Reader("payload", bytes.fromhex(case["payload"]))
    assert bigsize.read(reader, "length") == reader.left
    return Hop(bytes.fromhex(case["pubkey"]), reader.rest())


HOPS = [hop_of(case) for case in ONION["generate"]["hops"]]
ASSOCIATED_DATA = bytes.fromhex(ONION["generate"]["associated_data"])
BLINDED_HOPS = [hop_of(case) for case in BLINDED["generate"]["full_route"]["hops"]]
BLINDED_DATA = bytes.fromhex(BLINDED["generate"]["associated_data"])


def test_the_vectors_are_all_there() -> None:
    assert (len(HOPS), len(ONION["decode"])) == (5, 5)
    assert (len(BLINDED_HOPS), len(BLINDED["decrypt"]["hops"])) == (5, 5)


def test_construction() -> None:
    session_key = bytes.fromhex(ONION["generate"]["session_key"])
    onion = construct(HOPS, session_key, ASSOCIATED_DATA)
    assert onion.packet.hex() == ONION["onion"]


def test_every_hop_peels() -> None:
    packet = bytes.fromhex(ONION["onion"])
    for hop, key in zip(HOPS, ONION["decode"], strict=True):
        assert PrivateKey(bytes.fromhex(key)).public_key.format() == hop.node_id
        peeled = peel(packet, ecdh_with(bytes.fromhex(key)), ASSOCIATED_DATA)
        assert peeled.payload == hop.payload
        final = hop is HOPS[-1]
        assert (peeled.next_packet is None) == final
        assert payloads.decode(peeled.payload, final=final).encode() == hop.payload
        packet = peeled.next_packet or b""


def test_payloads() -> None:
    first = payloads.decode(HOPS[0].payload, final=False)
    assert (first.amt_to_forward, first.outgoing_cltv_value) == (15_000, 1_500)
    assert first.short_channel_id == 1
    last = payloads.decode(HOPS[-1].payload, final=True)
    assert (last.amt_to_forward, last.outgoing_cltv_value) == (10_000, 1_000)
    assert last.payment_data == PaymentData(
        payment_secret=bytes.fromhex(
            "24a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f61704"
        ),
        total_msat=10_000,
    )
    assert [type_ for type_, _ in last.unknown_tlvs] == [301]


def test_construction_into_a_blinded_path() -> None:
    session_key = bytes.fromhex(BLINDED["generate"]["session_key"])
    onion = construct(BLINDED_HOPS, session_key, BLINDED_DATA)
    assert onion.packet.hex() == BLINDED["generate"]["onion"]


@pytest.mark.parametrize("index", range(5), ids=["Alice", "Bob", "Carol", "Dave", "Eve"])
def test_hops_of_a_blinded_path(index: int) -> None:
    case = BLINDED["decrypt"]["hops"][index]
    # From Bob on, each hop sends the next one its path key.
    text = BLINDED["decrypt"]["hops"][index - 1].get("next_path_key") if index else None
    path_key = None if text is None else bytes.fromhex(text)
    assert (path_key is not None) == (case["alias"] in {"Carol", "Dave", "Eve"})
    ecdh = ecdh_with(bytes.fromhex(case["node_privkey"]))
    peeled = peel(bytes.fromhex(case["onion"]), ecdh, BLINDED_DATA, path_key=path_key)
    assert peeled.payload == BLINDED_HOPS[index].payload
    if index < 4:
        assert peeled.next_packet is not None
        assert peeled.next_packet.hex() == BLINDED["decrypt"]["hops"][index + 1]["onion"]
    payload = payloads.decode(peeled.payload, final=index == 4, path_key=path_key is not None)
    assert payload.encode() == peeled.payload
    if index == 4:
        assert (payload.amt_to_forward, payload.outgoing_cltv_value) == (100_000, 749_000)
        assert payload.total_msat == payload.total_amount_msat == 150_000
