"""The demo's on-chain money: coins from a faucet, and funding transactions that spend them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
from btclib.script.script import serialize
from btclib.script.witness import Witness
from btclib.tx import TxOut
from btclib_wallet.psbt import Psbt
from coincurve import PrivateKey
from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode

from lightning_proxy.bolt.scripts import p2wpkh, p2wsh
from lightning_proxy.bolt.signing import UnsignedTransaction, parse_transaction, witness_signature
from lightning_proxy.chain import ChainError

#: What a funding transaction leaves to the miner, and gives back to its maker, in satoshis.
_FEE_SAT: Final = 1_000
_CHANGE_SAT: Final = 50_000
#: BIP 125: the sequence number of an input whose transaction may be replaced.
_REPLACEABLE: Final = 0xFFFFFFFD
#: Seconds for the faucet's answer.
_PATIENCE: Final = aiohttp.ClientTimeout(total=10)


class Wish(Struct, frozen=True):
    """What the faucet is asked for."""

    scriptpubkey: str
    amount_sat: int


class Payment(Struct, frozen=True):
    """What it gives: a transaction (hex), and which of its outputs pays."""

    transaction: str
    output_index: int


#: Pays so many satoshis to a script; raises `ChainError`.
Faucet = Callable[[bytes, int], Awaitable[Payment]]


def faucet_at(url: str) -> Faucet:
    """The faucet of a `demo.chain` process."""

    async def pay(scriptpubkey: bytes, amount_sat: int) -> Payment:
        body = encode(Wish(scriptpubkey.hex(), amount_sat))
        try:
            async with (
                aiohttp.ClientSession(timeout=_PATIENCE, raise_for_status=True) as http,
                http.post(url, data=body, allow_redirects=False) as response,
            ):
                return decode(await response.read(), type=Payment)
        except (aiohttp.ClientError, TimeoutError, MsgspecError) as error:
            raise ChainError(f"the faucet gives nothing: {error}") from error

    return pay


@dataclass(frozen=True, slots=True, repr=False)
class FundingTransaction:
    """A signed transaction that funds a channel; the id's bytes stand as in `funding_created`."""

    unsigned: UnsignedTransaction
    witness: tuple[bytes, ...]
    output_index: int

    @property
    def txid(self) -> bytes:
        return self.unsigned.txid

    def serialize(self) -> bytes:
        """To be broadcast."""
        return self.unsigned.serialize(self.witness)

    def psbt(self) -> bytes:
        """The same as a PSBT (BIP 174), complete."""
        psbt = Psbt.from_tx(self.unsigned.tx)
        (spent,) = psbt.inputs
        spent.witness_utxo = TxOut(self.unsigned.amount_sat, p2wsh(self.unsigned.witness_script))
        spent.final_script_witness = Witness([*self.witness, self.unsigned.witness_script])
        return psbt.serialize()


@dataclass(frozen=True, slots=True, repr=False)
class Coin:
    """An output that `secret` can spend, enough for one channel."""

    secret: bytes
    txid: bytes
    output_index: int
    amount_sat: int

    @classmethod
    async def from_faucet(cls, faucet: Faucet, channel_sat: int, secret: bytes) -> Self:
        """Enough for a channel of so many satoshis; `secret` has 32 bytes. Raises `ChainError`."""
        amount_sat = channel_sat + _CHANGE_SAT + _FEE_SAT
        payment = await faucet(p2wsh(_script(secret)), amount_sat)
        txid = parse_transaction(bytes.fromhex(payment.transaction)).id[::-1]
        return cls(secret, txid, payment.output_index, amount_sat)

    def fund(self, scriptpubkey: bytes, channel_sat: int) -> FundingTransaction:
        """Pay a channel's funding output, and the rest back to ourselves."""
        change = TxOut(
            self.amount_sat - channel_sat - _FEE_SAT,
            p2wpkh(PrivateKey(self.secret).public_key.format()),
        )
        unsigned = UnsignedTransaction.spending(
            self.txid,
            self.output_index,
            _script(self.secret),
            self.amount_sat,
            sequence=_REPLACEABLE,
            locktime=0,
            outputs=[change, TxOut(channel_sat, scriptpubkey)],
        )
        return FundingTransaction(unsigned, (witness_signature(unsigned.sign(self.secret)),), 1)


def _script(secret: bytes) -> bytes:
    """What a coin of ours asks of its spender: this key's signature."""
    return serialize([PrivateKey(secret).public_key.format(), "OP_CHECKSIG"])
