from collections.abc import Callable

import pytest
from coincurve import PrivateKey
from coincurve.utils import GROUP_ORDER_INT
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.derivation import (
    FIRST_COMMITMENT_INDEX,
    derive_private_key,
    derive_public_key,
    derive_secret,
    per_commitment_secret,
    revocation_private_key,
    revocation_public_key,
)

SCALARS = st.integers(1, GROUP_ORDER_INT - 1).map(lambda number: number.to_bytes(32, "big"))
NO_POINT = b"\x02" + b"\xff" * 32
POINT = PrivateKey(b"\x01" * 32).public_key.format()


def point(secret: bytes) -> bytes:
    return PrivateKey(secret).public_key.format()


@given(base=SCALARS, secret=SCALARS)
def test_secrets_are_those_of_the_public_keys(base: bytes, secret: bytes) -> None:
    derived = derive_private_key(base, point(secret))
    assert point(derived) == derive_public_key(point(base), point(secret))
    revocation = revocation_private_key(base, secret)
    assert point(revocation) == revocation_public_key(point(base), point(secret))
    assert len({base, secret, derived, revocation}) == (3 if base == secret else 4)


@pytest.mark.parametrize("derive", [derive_public_key, revocation_public_key])
@pytest.mark.parametrize("wrong", [b"", POINT[:32], NO_POINT], ids=["empty", "short", "off"])
def test_a_basepoint_is_a_point(derive: Callable[[bytes, bytes], bytes], wrong: bytes) -> None:
    with pytest.raises(ValueError, match="public key"):
        derive(wrong, POINT)


@pytest.mark.parametrize("index", [-1, 1 << 48])
def test_an_index_has_48_bits(index: int) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        per_commitment_secret(bytes(32), index)


@given(
    seed=st.binary(min_size=32, max_size=32),
    index=st.integers(0, FIRST_COMMITMENT_INDEX),
    bits=st.integers(0, 48),
)
def test_a_secret_follows_from_every_prefix_of_its_index(
    seed: bytes, index: int, bits: int
) -> None:
    base = per_commitment_secret(seed, index >> bits << bits)
    assert derive_secret(base, bits, index) == per_commitment_secret(seed, index)
