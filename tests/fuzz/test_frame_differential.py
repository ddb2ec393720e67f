"""The Cython path against `reference.py`, under random sizes, splits and rotations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_proxy.transport import CipherState, DecryptionError
from lightning_proxy.transport.reference import ReferenceCipherState

pytestmark = pytest.mark.usefixtures("each_kernel")

keys = st.binary(min_size=32, max_size=32)
# Close to 998, so that a rotation falls into most examples.
nonces = st.integers(0, 499).map(lambda n: 2 * n) | st.sampled_from([990, 992, 994, 996, 998])
sizes = st.integers(0, 300) | st.sampled_from([1024, 4096, 65535])


@given(keys, keys, nonces, st.lists(sizes, max_size=12), st.data())
@settings(deadline=None)
def test_both_directions(
    key: bytes, chaining_key: bytes, nonce: int, sizes: list[int], data: st.DataObject
) -> None:
    fast, slow = (
        CipherState(key, chaining_key, nonce),
        ReferenceCipherState(key, chaining_key, nonce),
    )
    messages = [bytes([i]) * size for i, size in enumerate(sizes)]
    stream = fast.seal_many(messages)
    assert stream == b"".join(slow.seal(message) for message in messages)
    assert fast.export() == slow.export()

    opener, oracle = (
        CipherState(key, chaining_key, nonce),
        ReferenceCipherState(key, chaining_key, nonce),
    )
    pieces = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    opened: list[bytes] = []
    buffer = b""
    for start, end in zip([0, *pieces], [*pieces, len(stream)], strict=True):
        buffer += stream[start:end]
        result = opener.open(buffer)
        assert result == oracle.open(buffer)
        opened += result[0]
        buffer = buffer[result[1] :]
    assert opened == messages
    assert buffer == b""
    assert opener.export() == oracle.export() == fast.export()


@given(keys, keys, st.binary(max_size=400), st.binary(max_size=200))
@settings(deadline=None)
def test_forged_bytes_open_nothing(
    key: bytes, chaining_key: bytes, noise: bytes, message: bytes
) -> None:
    receiving = CipherState(key, chaining_key)
    genuine = CipherState(key, chaining_key).seal(message)
    stream = genuine + noise
    try:
        messages, used = receiving.open(stream)
    except DecryptionError as error:
        messages, used = error.messages, len(genuine)
        assert len(noise) >= 18
    assert messages == [message]
    assert used == len(genuine)
