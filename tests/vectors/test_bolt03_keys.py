"""BOLT #3's vectors of keys (appendix E) and of per-commitment secrets (appendix D)."""

from typing import Any

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.derivation import (
    derive_private_key,
    derive_public_key,
    per_commitment_secret,
    revocation_private_key,
    revocation_public_key,
)
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.secrets_store import SecretsStore
from tests.support.data import load_json

KEYS = [
    {name: bytes.fromhex(value) for name, value in case.items()}
    for case in load_json("bolt03_keys.json")["cases"]
]
_SECRETS = load_json("bolt03_secrets.json")["cases"]
GENERATION = [case for case in _SECRETS if case["name"].startswith("generate_from_seed")]
STORAGE = [case for case in _SECRETS if case["name"].startswith("insert_secret")]


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def test_the_vectors_are_all_there() -> None:
    assert (len(KEYS), len(GENERATION), len(STORAGE)) == (1, 5, 9)
    assert len(_SECRETS) == len(GENERATION) + len(STORAGE)
    assert sum(len(case["values"]) for case in STORAGE) == 3 * 56


@pytest.mark.parametrize("case", KEYS, ids=["appendix E"])
def test_derived_keys(case: dict[str, bytes]) -> None:
    basepoint, point = case["base_point"], case["per_commitment_point"]
    assert PrivateKey(case["base_secret"]).public_key.format() == basepoint
    assert PrivateKey(case["per_commitment_secret"]).public_key.format() == point
    assert derive_public_key(basepoint, point) == case["localpubkey"]
    assert derive_private_key(case["base_secret"], point) == case["localprivkey"]
    assert revocation_public_key(basepoint, point) == case["revocationpubkey"]
    assert (
        revocation_private_key(case["base_secret"], case["per_commitment_secret"])
        == case["revocationprivkey"]
    )


@pytest.mark.parametrize("case", GENERATION, ids=lambda case: case["name"])
def test_generation(case: dict[str, Any]) -> None:
    values = dict(case["values"])
    assert per_commitment_secret(unhex(values["seed"]), int(values["I"], 0)) == unhex(
        values["output"]
    )


@pytest.mark.parametrize("case", STORAGE, ids=lambda case: case["name"])
def test_storage(case: dict[str, Any]) -> None:
    store = SecretsStore()
    values = case["values"]
    for (_, index), (_, secret), (_, outcome) in zip(
        values[0::3], values[1::3], values[2::3], strict=True
    ):
        if outcome == "OK":
            store.insert(int(index), unhex(secret))
            assert store.secret(int(index)) == unhex(secret)
        else:
            assert outcome == "ERROR"
            with pytest.raises(RequirementError, match="per_commitment_secret"):
                store.insert(int(index), unhex(secret))
