"""The chain in memory keeps the rules that demo and tests rely on."""

import hashlib
from typing import Any

import pytest
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from coincurve import PrivateKey

from lightning_proxy.bolt.signing import UnsignedTransaction, witness_signature
from lightning_proxy.chain import BroadcastRejected
from lightning_proxy.chain.simulated import SimulatedChain

KEY = PrivateKey(b"\x07" * 32)
CHECKSIG = b"\x21" + KEY.public_key.format() + b"\xac"
# Either by the key, or by anybody after three blocks.
WITH_DELAY = b"\x63" + CHECKSIG + b"\x67\x53\xb2\x68"
FINAL = 0xFFFFFFFF


def p2wsh(script: bytes) -> bytes:
    return b"\x00\x20" + hashlib.sha256(script).digest()


def funded(chain: SimulatedChain, script: bytes = CHECKSIG, amount_sat: int = 100_000) -> bytes:
    """The txid of a payment to a script, which waits in the mempool."""
    raw, index = chain.faucet(p2wsh(script), amount_sat)
    assert index == 0
    return Tx.parse(raw).id[::-1]


def spending(
    txid: bytes,
    pays_sat: int = 90_000,
    *,
    script: bytes = CHECKSIG,
    sequence: int = FINAL,
    locktime: int = 0,
    secret: bytes = KEY.secret,
    witness: list[bytes] | None = None,
) -> bytes:
    unsigned = UnsignedTransaction.spending(
        txid,
        0,
        script,
        100_000,
        sequence=sequence,
        locktime=locktime,
        outputs=[TxOut(pays_sat, p2wsh(CHECKSIG))],
    )
    signature = witness_signature(unsigned.sign(secret))
    return unsigned.serialize([signature] if witness is None else witness)


def refuse(chain: SimulatedChain, transaction: bytes, reason: str) -> None:
    before = chain.mempool
    with pytest.raises(BroadcastRejected, match=reason):
        chain.add_transaction(transaction)
    assert chain.mempool == before


def block_of(chain: SimulatedChain, txid: bytes) -> int | None:
    block = chain.block_of(txid[::-1])
    return None if block is None else block.height


def test_blocks() -> None:
    chain = SimulatedChain()
    assert chain.tip.height == 0
    hashes = chain.mine(3)
    assert len(set(hashes)) == 3
    assert (chain.tip.height, chain.tip.block_hash) == (3, hashes[-1])
    found = [chain.block_at(height) for height in range(1, 4)]
    assert [block.block_hash for block in found if block] == hashes
    assert chain.block_at(4) is None
    assert chain.block_at(-1) is None


def test_a_payment_is_mined_and_spent() -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    spender = chain.add_transaction(spending(txid))
    assert list(chain.mempool) == [txid, spender]
    # Parent and child fit into one block.
    chain.mine()
    assert (block_of(chain, txid), block_of(chain, spender)) == (1, 1)
    assert list(chain.mempool) == []
    assert chain.spender(txid[::-1], 0) == (spender[::-1], 0)
    assert chain.spender(spender[::-1], 0) is None
    block = chain.block_at(1)
    assert block is not None
    assert block.txids[1:] == (txid[::-1], spender[::-1])


def test_the_same_again_is_no_harm() -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    raw = spending(txid)
    assert chain.add_transaction(raw) == chain.add_transaction(raw)
    chain.mine()
    chain.add_transaction(raw)
    assert chain.mempool == ()


def test_what_is_refused() -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    refuse(chain, b"", "decode")
    refuse(chain, b"\x02\x00\x00\x00 no transaction", "decode")
    refuse(chain, spending(b"\x11" * 32), "missingorspent")
    refuse(chain, spending(txid, 100_001), "mandatory")
    refuse(chain, spending(txid, secret=b"\x08" * 32), "mandatory")
    refuse(chain, spending(txid, witness=[]), "mandatory")
    refuse(chain, spending(txid, locktime=1, sequence=0), "^non-final$")
    spender = chain.add_transaction(spending(txid))
    refuse(chain, spending(txid, 80_000), f"conflict: {spender[::-1].hex()} spends it")
    chain.mine()
    refuse(chain, spending(txid, 80_000), "spends it")
    second_output = Tx(2, 0, [TxIn(OutPoint(txid[::-1], 1), b"", FINAL)], [TxOut(1, b"\x51")])
    refuse(chain, second_output.serialize(include_witness=True), "missingorspent")


def test_a_locktime_has_to_pass() -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    chain.mine(2)
    refuse(chain, spending(txid, locktime=3, sequence=0), "^non-final$")
    # Final inputs take the lock away.
    chain.mine()
    chain.add_transaction(spending(txid, locktime=3, sequence=0xFFFFFFFE))


def test_a_relative_lock_has_to_pass() -> None:
    chain = SimulatedChain()
    txid = funded(chain, WITH_DELAY)
    delayed = spending(txid, script=WITH_DELAY, sequence=3, witness=[b""])
    early = spending(txid, script=WITH_DELAY, sequence=2, witness=[b""])
    refuse(chain, delayed, "^non-BIP68-final$")
    chain.mine(2)
    refuse(chain, delayed, "^non-BIP68-final$")
    # The script itself asks for 3.
    refuse(chain, early, "mandatory")
    chain.mine()
    spender = chain.add_transaction(delayed)
    chain.mine()
    assert block_of(chain, spender) == block_of(chain, txid) + 3  # type: ignore[operator]


def test_a_reorg_keeps_what_it_shall() -> None:
    chain = SimulatedChain()
    first, second = funded(chain), funded(chain)
    old = chain.mine(2)
    new = chain.reorg(2, keep=[second])
    assert len(new) == 3
    assert not set(new) & set(old)
    assert chain.tip.height == 3
    assert chain.mempool == (second,)
    assert chain.transaction(first[::-1]) is None
    chain.mine()
    assert block_of(chain, second) == 4


@pytest.mark.parametrize("keep", [True, False])
def test_what_spends_the_forgotten_is_forgotten(keep: bool) -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    chain.mine()
    spender = chain.add_transaction(spending(txid))
    grandchild = chain.add_transaction(
        UnsignedTransaction.spending(
            spender,
            0,
            CHECKSIG,
            90_000,
            sequence=FINAL,
            locktime=0,
            outputs=[TxOut(1_000, b"\x51")],
        ).serialize([_sign(spender)])
    )
    chain.mine()
    chain.reorg(2, keep=keep)
    assert chain.mempool == ((txid, spender, grandchild) if keep else ())
    chain.mine()
    assert [block_of(chain, one) for one in (txid, spender, grandchild)] == [
        4 if keep else None
    ] * 3


def _sign(spender: bytes) -> bytes:
    unsigned = UnsignedTransaction.spending(
        spender,
        0,
        CHECKSIG,
        90_000,
        sequence=FINAL,
        locktime=0,
        outputs=[TxOut(1_000, b"\x51")],
    )
    return witness_signature(unsigned.sign(KEY.secret))


def test_a_double_spend_after_a_reorg() -> None:
    chain = SimulatedChain()
    txid = funded(chain)
    chain.mine()
    chain.add_transaction(spending(txid))
    chain.mine()
    chain.reorg(1, keep=False)
    other = chain.add_transaction(spending(txid, 80_000))
    chain.mine()
    assert chain.spender(txid[::-1], 0) == (other[::-1], 0)


def test_what_a_reorg_locks_again_waits() -> None:
    chain = SimulatedChain()
    txid = funded(chain, WITH_DELAY)
    chain.mine(3)
    spender = chain.add_transaction(spending(txid, script=WITH_DELAY, sequence=3, witness=[b""]))
    chain.mine()
    chain.reorg(4)
    chain.mine()
    assert (block_of(chain, txid), chain.mempool) == (6, (spender,))
    chain.mine(2)
    assert chain.mempool == (spender,)
    chain.mine()
    assert block_of(chain, spender) == 9


@pytest.mark.parametrize("depth", [0, -1, 4])
def test_no_reorg(depth: int) -> None:
    chain = SimulatedChain()
    chain.mine(3)
    with pytest.raises(ValueError, match=f"a reorg of {depth} blocks"):
        chain.reorg(depth)


async def test_it_is_served_while_it_is_entered() -> None:
    chain: Any = SimulatedChain()
    assert chain.url == ""
    async with chain:
        assert chain.url.startswith("esplora+http://127.0.0.1:")
    assert chain.url == ""
