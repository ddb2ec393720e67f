"""An owner's on-chain wallet for tests: one key, coins on a simulated chain, signed PSBTs."""

from btclib.hashes import hash160
from btclib.script.sig_hash import ALL, segwit_v0
from btclib.script.witness import Witness
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from btclib_wallet.psbt import Psbt
from coincurve import PrivateKey

from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.chain.simulated import SimulatedChain
from lightning_proxy.wallet.funding import FundingWanted

FEE_SAT = 1_000
_SPENDABLE = 0xFFFFFFFD


class SimulatedFunder:
    """Pays for a channel out of a coin that a simulated chain's faucet makes for it."""

    def __init__(self, chain: SimulatedChain) -> None:
        self._chain = chain
        self._key = PrivateKey()
        self.paid: list[FundingWanted] = []

    async def fund(self, wanted: FundingWanted) -> bytes:
        self.paid.append(wanted)
        return self.psbt([TxOut(wanted.amount_sat, wanted.scriptpubkey)]).encode()

    def psbt(self, outputs: list[TxOut], *, fee_sat: int = FEE_SAT) -> str:
        """A signed and finalized PSBT with these outputs."""
        public_key = self._key.public_key.format()
        script = b"\x00\x14" + hash160(public_key)
        amount = sum(output.value for output in outputs) + fee_sat
        raw, index = self._chain.faucet(script, amount)
        self._chain.mine()
        coin = OutPoint(parse_transaction(raw).id, index)
        tx = Tx(2, 0, [TxIn(coin, b"", _SPENDABLE)], outputs)
        code = b"\x76\xa9\x14" + hash160(public_key) + b"\x88\xac"
        digest = segwit_v0(code, tx, 0, ALL, amount)
        signature = self._key.sign(digest, hasher=None) + bytes([ALL])
        psbt = Psbt.from_tx(tx)
        psbt.inputs[0].witness_utxo = TxOut(amount, script)
        psbt.inputs[0].final_script_witness = Witness([signature, public_key])
        return psbt.b64encode()
