"""Points, and signmessage signatures as other nodes make them."""

from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.errors import SignatureError
from lightning_proxy.bolt.keys import is_point, recover_message_signer, sign_message
from tests.support.data import load_json
from tests.unit.bolt.samples import point

VECTORS = load_json("signmessage.json")
SECRETS = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"


@pytest.mark.parametrize("case", VECTORS["signed"], ids=lambda case: case["text"])
def test_signing_gives_what_ldk_gives(case: dict[str, Any]) -> None:
    assert sign_message(bytes.fromhex(case["secret"]), case["text"]) == case["signature"]


@pytest.mark.parametrize("case", VECTORS["recovered"], ids=lambda case: case["node_id"][:8])
def test_signatures_of_other_nodes(case: dict[str, Any]) -> None:
    assert recover_message_signer(case["signature"], case["text"]).hex() == case["node_id"]


@settings(deadline=None)
@given(SECRETS, st.text(alphabet=st.characters(codec="utf-8"), max_size=50))
def test_round_trip(secret: bytes, text: str) -> None:
    node_id = PrivateKey(secret).public_key.format()
    signature = sign_message(secret, text)
    assert len(signature) == 104
    assert recover_message_signer(signature, text) == node_id


def test_another_text_has_another_signer() -> None:
    signature = sign_message(bytes(31) + b"\x01", "connect")
    assert recover_message_signer(signature, "Connect") != point(1)


@pytest.mark.parametrize(
    ("signature", "sentence"),
    [
        ("", "104 characters, not 0"),
        ("y" * 103, "104 characters, not 103"),
        ("y" * 10**6, "104 characters, not 1000000"),
        ("l" + "y" * 103, "zbase32's characters"),
        ("D" + "y" * 103, "zbase32's characters"),
        ("é" + "y" * 103, "zbase32's characters"),
        # All zero: the header byte is 0.
        ("y" * 104, "first byte is 31 to 34, not 0"),
        ("rc" + "y" * 102, "first byte is 31 to 34, not 35"),
        # 31 and zeros: r and s are zero.
        ("d9" + "y" * 102, "no key can have made"),
        # 31 and ones: r and s are above the group's order.
        ("d9" + "9" * 102, "no key can have made"),
    ],
)
def test_malformed_signatures(signature: str, sentence: str) -> None:
    with pytest.raises(SignatureError) as caught:
        recover_message_signer(signature, "text")
    assert sentence in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=ZBASE32, min_size=104, max_size=104), st.sampled_from(["", "d9", "ez"]))
def test_any_signature_is_refused_or_someones(signature: str, header: str) -> None:
    try:
        signer = recover_message_signer(header + signature[len(header) :], "text")
    except SignatureError:
        return
    assert is_point(signer)


@pytest.mark.parametrize(
    ("data", "valid"),
    [
        (point(1), True),
        (b"\x03" + point(1)[1:], True),
        (b"\x02" + bytes(32), False),
        (b"\x02" + b"\xff" * 32, False),
        (b"\x04" + point(1)[1:], False),
        (point(1)[:-1], False),
        (point(1) + b"\x00", False),
        (b"", False),
        (PrivateKey(bytes(31) + b"\x01").public_key.format(compressed=False), False),
    ],
)
def test_is_point(data: bytes, valid: bool) -> None:
    assert is_point(data) is valid
