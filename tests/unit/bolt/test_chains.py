"""The chain hashes, computed again from each chain's genesis block."""

import struct
from hashlib import sha256

import pytest

from lightning_proxy.bolt.chains import CHAIN_HASHES, chain_name

_SATOSHI = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
_TESTNET4 = "7aa0a7ae1e223414cb807e40cd57e667b718e42aaf9306db9102fe28912b7b4e"
# The Merkle root as printed, then time, bits and nonce of the header.
GENESIS = {
    "bitcoin": (_SATOSHI, 1231006505, 0x1D00FFFF, 2083236893),
    "testnet": (_SATOSHI, 1296688602, 0x1D00FFFF, 414098458),
    "testnet4": (_TESTNET4, 1714777860, 0x1D00FFFF, 393743547),
    "signet": (_SATOSHI, 1598918400, 0x1E0377AE, 52613770),
    "simnet": (_SATOSHI, 1401292357, 0x207FFFFF, 2),
    "regtest": (_SATOSHI, 1296688602, 0x207FFFFF, 2),
}


def test_every_chain_is_checked() -> None:
    assert set(GENESIS) == set(CHAIN_HASHES)


@pytest.mark.parametrize("name", GENESIS)
def test_chain_hash_is_the_hash_of_the_genesis_block(name: str) -> None:
    merkle_root, time, bits, nonce = GENESIS[name]
    header = struct.pack(
        "<I32s32sIII", 1, bytes(32), bytes.fromhex(merkle_root)[::-1], time, bits, nonce
    )
    assert sha256(sha256(header).digest()).digest() == CHAIN_HASHES[name]
    assert chain_name(CHAIN_HASHES[name]) == name


def test_another_chain_has_no_name() -> None:
    assert chain_name(bytes(32)) is None
