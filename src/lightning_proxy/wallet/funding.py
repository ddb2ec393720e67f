"""The funding transaction of a channel that this wallet opens: asked for, and looked through."""

from dataclasses import dataclass
from typing import Final, Protocol

from btclib.b32 import power_of_2_base_conversion
from btclib.bech32 import encode
from btclib.script.script_pub_key import is_segwit
from btclib.tx import Tx
from btclib_wallet.psbt import Psbt, extract_tx, finalize, prevouts

from lightning_proxy.wallet.errors import FundingError
from lightning_proxy.wallet.steps import Funding

#: Bytes of a PSBT, in either form.
MAX_PSBT: Final = 4_000_000
#: What Bitcoin's nodes relay.
_MAX_TRANSACTION: Final = 400_000
#: A fee above both is a mistake: a part of the channel, and a flat sum in satoshis.
_MAX_FEE_DIVISOR: Final = 10
_MAX_FLAT_FEE: Final = 50_000

#: How addresses begin, by chain (BIP 173; simnet's is btcd's).
_PREFIXES: Final = {
    "bitcoin": "bc",
    "testnet": "tb",
    "testnet4": "tb",
    "signet": "tb",
    "simnet": "sb",
    "regtest": "bcrt",
}
#: BIP 141: a P2WSH output's script is a version and a push before the program.
_WITNESS_VERSION: Final = 0
_PROGRAM_AT: Final = 2


@dataclass(frozen=True, slots=True)
class FundingWanted:
    """What a funding transaction has to pay, exactly, in exactly one output."""

    scriptpubkey: bytes
    amount_sat: int
    #: The chain's name, as in `bolt.chains`.
    chain: str
    #: For which channel: with whom (node id, 33 bytes), and by which temporary id (32 bytes).
    peer: bytes = b""
    temporary_channel_id: bytes = b""

    @property
    def address(self) -> str:
        """The script as an address (BIP 173)."""
        program = power_of_2_base_conversion(self.scriptpubkey[_PROGRAM_AT:], 8, 5, True)
        return encode(_PREFIXES[self.chain], [_WITNESS_VERSION, *program]).decode()


class Funder(Protocol):
    """The user's on-chain wallet, which this wallet has no part in."""

    async def fund(self, wanted: FundingWanted) -> bytes:
        """A signed PSBT that pays this; it must not be broadcast. Raises `Refusal` to say no, and
        `LeftOpen` for a channel that is another's to fund.

        Binary, or in base64.
        """


def read_funding(psbt: bytes, wanted: FundingWanted) -> Funding:
    """The transaction in a signed PSBT, if it funds the channel and nothing can change its id.

    Raises `FundingError` with a sentence for the owner.
    """
    if len(psbt) > MAX_PSBT:
        raise FundingError("The PSBT is too long.")
    try:
        parsed = _parse(psbt)
    except Exception as error:  # noqa: BLE001 - btclib lets through what its parts raise
        raise FundingError(f"That is no PSBT: {error}.") from None
    try:
        final = finalize(parsed)
    except Exception as error:  # noqa: BLE001 - as above
        raise FundingError(f"The PSBT is not signed completely: {error}.") from None
    transaction = _extract(final, wanted.amount_sat)
    index = _output_index(transaction, wanted)
    for number, tx_in in enumerate(transaction.vin):
        if not tx_in.script_witness.stack or not _is_segwit_script_sig(tx_in.script_sig):
            # Whoever relays such an input can change its script, and the transaction's id with it.
            raise FundingError(
                f"Input {number} is not segwit: somebody could change the transaction's id, and "
                "the channel's funds would be lost. Fund the channel from segwit outputs."
            )
    raw = transaction.serialize(include_witness=True)
    if len(raw) > _MAX_TRANSACTION:
        raise FundingError("The transaction is longer than Bitcoin's nodes relay.")
    return Funding(raw, transaction.id[::-1], index)


def _parse(psbt: bytes) -> Psbt:
    if psbt.startswith(b"psbt\xff"):
        return Psbt.parse(psbt)
    return Psbt.b64decode(psbt)


def _extract(psbt: Psbt, amount_sat: int) -> Tx:
    """With scripts and amounts checked where the PSBT tells what it spends."""
    try:
        spent = prevouts(psbt)
    except Exception:  # noqa: BLE001 - as above; it doesn't tell, and needn't
        spent = None
    try:
        transaction = extract_tx(psbt, verify_scripts=spent is not None, max_fee_rate=None)
    except Exception as error:  # noqa: BLE001 - as above
        raise FundingError(f"The PSBT's signatures don't hold: {error}.") from None
    if spent is not None:
        fee = sum(out.value for out in spent) - sum(out.value for out in transaction.vout)
        most = max(_MAX_FLAT_FEE, amount_sat // _MAX_FEE_DIVISOR)
        if fee > most:
            raise FundingError(f"The PSBT's fee is {fee} sat; more than {most} is a mistake.")
    return transaction


def _output_index(transaction: Tx, wanted: FundingWanted) -> int:
    paying = [
        index
        for index, out in enumerate(transaction.vout)
        if out.script_pub_key.script == wanted.scriptpubkey
    ]
    if len(paying) != 1:
        raise FundingError(
            f"{len(paying)} outputs of the PSBT pay to the funding address, and one has to."
        )
    (index,) = paying
    amount = transaction.vout[index].value
    if amount != wanted.amount_sat:
        raise FundingError(
            f"The PSBT pays {amount} sat to the funding address; {wanted.amount_sat} sat are to be "
            "paid, exactly."
        )
    return index


def _is_segwit_script_sig(script_sig: bytes) -> bool:
    """Empty, or the one push of a witness program (P2SH)."""
    if not script_sig:
        return True
    size = script_sig[0]
    return size in (22, 34) and len(script_sig) == size + 1 and is_segwit(script_sig[1:])
