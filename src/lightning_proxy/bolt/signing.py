"""Transactions that spend one output: what their signatures sign, signing, checking, the witness.

Transactions, scripts and BIP 143 are btclib's: of the Bitcoin libraries weighed, it alone is at
once maintained, typed, MIT and a pure wheel for every Python that we support. Curve work is
coincurve's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from btclib.script.sig_hash import ALL, ANYONECANPAY, SINGLE, segwit_v0
from btclib.script.witness import Witness
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

SIGHASH_ALL: Final = ALL
SIGHASH_SINGLE_ANYONECANPAY: Final = SINGLE | ANYONECANPAY

_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A transaction of one input, which spends the P2WSH output of `witness_script`."""

    tx: Tx
    witness_script: bytes
    #: What the spent output is worth: BIP 143 signs it too.
    amount_sat: int

    @classmethod
    def spending(
        cls,
        txid: bytes,
        output_index: int,
        witness_script: bytes,
        amount_sat: int,
        *,
        sequence: int,
        locktime: int,
        outputs: Sequence[TxOut],
    ) -> "UnsignedTransaction":
        """Spends this output of the transaction `txid`, whose bytes stand as in messages."""
        tx_in = TxIn(OutPoint(txid[::-1], output_index), b"", sequence)
        return cls(Tx(_VERSION, locktime, [tx_in], outputs), witness_script, amount_sat)

    @property
    def txid(self) -> bytes:
        """The transaction's id (32 bytes) as messages carry it; explorers print it reversed."""
        return self.tx.id[::-1]

    def sighash(self, hash_type: int = SIGHASH_ALL) -> bytes:
        """What a signature signs (32 bytes, BIP 143)."""
        return segwit_v0(self.witness_script, self.tx, 0, hash_type, self.amount_sat)

    def sign(self, secret: bytes, hash_type: int = SIGHASH_ALL) -> bytes:
        """A signature by this secret (32 bytes) as messages carry it (64 bytes).

        Deterministic (RFC 6979), with a low S, as BOLT #2 requires; r is not ground low.
        """
        signature = PrivateKey(secret).sign_recoverable(self.sighash(hash_type), hasher=None)
        # Without the recovery id, this is the compact form.
        return signature[:64]

    def verify(self, public_key: bytes, signature: bytes, hash_type: int = SIGHASH_ALL) -> bool:
        """Whether this key (33 bytes) made this signature (64 bytes).

        One with a high S doesn't pass: Bitcoin's nodes would not relay it. Raises `ValueError`
        for bytes that are no point.
        """
        key = PublicKey(public_key)
        try:
            der = _der(signature)
        except ValueError:
            return False
        return key.verify(der, self.sighash(hash_type), hasher=None)

    def serialize(self, witness: Sequence[bytes]) -> bytes:
        """The transaction to broadcast: with this witness, before the script that ends it."""
        unsigned = self.tx.vin[0]
        stack = Witness([*witness, self.witness_script])
        tx_in = TxIn(unsigned.prev_out, b"", unsigned.sequence, stack)
        tx = Tx(self.tx.version, self.tx.lock_time, [tx_in], self.tx.vout)
        return tx.serialize(include_witness=True)


def parse_transaction(raw: bytes) -> Tx:
    """A whole transaction; raises `ValueError` for bytes that are none."""
    try:
        return Tx.parse(raw)
    except Exception as error:
        # btclib lets through what its parts raise: on input from strangers, of any kind.
        raise ValueError("these bytes are no transaction") from error


def witness_signature(signature: bytes, hash_type: int = SIGHASH_ALL) -> bytes:
    """A message's signature (64 bytes) as a witness has it: in DER, then the hash type.

    Raises `ValueError` for one that is none.
    """
    return _der(signature) + bytes([hash_type])


def _der(signature: bytes) -> bytes:
    return cdata_to_der(deserialize_compact(signature))
