"""The PSBT that funds a channel: what is taken, and what would lose money."""

import pytest
from btclib.hashes import hash160
from btclib.script.script import serialize
from btclib.script.witness import Witness
from btclib.tx import OutPoint, Tx, TxIn, TxOut
from btclib_wallet.psbt import Psbt, ecdsa_sig_hash
from coincurve import PrivateKey

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.scripts import p2wpkh, p2wsh
from lightning_proxy.bolt.signing import SIGHASH_ALL, parse_transaction
from lightning_proxy.wallet.errors import FundingError
from lightning_proxy.wallet.funding import FundingWanted, read_funding
from tests.unit.wallet.openings import ANYBODY, psbt

SCRIPT = p2wsh(b"\x52")
WANTED = FundingWanted(SCRIPT, 100_000, "regtest")
PAYS = TxOut(100_000, SCRIPT)
CHANGE = TxOut(5_000, p2wpkh(PrivateKey(b"\x05" * 32).public_key.format()))


def test_a_good_one_in_both_forms() -> None:
    made = psbt(CHANGE, PAYS)
    funding = read_funding(made.serialize(), WANTED)
    assert funding.output_index == 1
    transaction = parse_transaction(funding.transaction)
    assert transaction.id[::-1] == funding.txid
    assert transaction.vin[0].script_witness.stack == (ANYBODY,)
    assert read_funding(made.b64encode().encode() + b"\n", WANTED) == funding


def test_what_is_signed_but_not_finalized_is_finalized() -> None:
    key = PrivateKey(b"\x06" * 32)
    public = key.public_key.format()
    made = Psbt.from_tx(Tx(2, 0, [TxIn(OutPoint(b"\x07" * 32, 0), b"", 0)], [PAYS]))
    made.inputs[0].witness_utxo = TxOut(101_000, p2wpkh(public))
    signature = key.sign(ecdsa_sig_hash(made, 0), hasher=None)
    made.inputs[0].partial_sigs = {public: signature + bytes([SIGHASH_ALL])}
    funding = read_funding(made.serialize(), WANTED)
    assert len(parse_transaction(funding.transaction).vin[0].script_witness.stack) == 2
    made.inputs[0].partial_sigs = {}
    with pytest.raises(FundingError, match="not signed completely"):
        read_funding(made.serialize(), WANTED)


def test_a_signature_that_does_not_hold_is_refused() -> None:
    made = psbt(PAYS)
    made.inputs[0].final_script_witness = Witness([b"\x00"])
    with pytest.raises(FundingError, match="don't hold"):
        read_funding(made.serialize(), WANTED)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([CHANGE], "0 outputs of the PSBT pay"),
        ([PAYS, PAYS], "2 outputs of the PSBT pay"),
        ([TxOut(99_999, SCRIPT)], "pays 99999 sat to the funding address; 100000 sat"),
        ([TxOut(100_001, SCRIPT)], "pays 100001 sat"),
    ],
)
def test_it_pays_exactly_that_and_once(outputs: list[TxOut], reason: str) -> None:
    with pytest.raises(FundingError, match=reason):
        read_funding(psbt(*outputs).serialize(), WANTED)


def test_a_fee_that_is_a_mistake() -> None:
    read_funding(psbt(PAYS, fee=50_000).serialize(), WANTED)
    with pytest.raises(FundingError, match="fee is 50001 sat"):
        read_funding(psbt(PAYS, fee=50_001).serialize(), WANTED)
    # More goes out than in.
    with pytest.raises(FundingError, match="don't hold"):
        read_funding(psbt(PAYS, fee=-1).serialize(), WANTED)


def test_without_what_it_spends_the_fee_is_unknown_and_the_rest_is_checked() -> None:
    made = psbt(PAYS)
    made.inputs[0].witness_utxo = None
    assert read_funding(made.serialize(), WANTED).output_index == 0
    made = psbt(CHANGE)
    made.inputs[0].witness_utxo = None
    with pytest.raises(FundingError, match="0 outputs"):
        read_funding(made.serialize(), WANTED)


def legacy() -> Psbt:
    """An input whose script is no part of what a segwit id leaves out."""
    made = psbt(PAYS)
    made.inputs[0].witness_utxo = None
    made.inputs[0].final_script_witness = Witness()
    made.inputs[0].final_script_sig = serialize([b"\x01" * 71, b"\x02" * 33])
    return made


def nested(push: bytes) -> Psbt:
    made = psbt(PAYS)
    made.inputs[0].witness_utxo = None
    made.inputs[0].final_script_sig = push
    return made


@pytest.mark.parametrize(
    "made",
    [
        legacy(),
        nested(serialize([b"\x51" * 22])),
        nested(serialize([p2wsh(ANYBODY)]) * 2),
        nested(b"\x4c" + serialize([p2wsh(ANYBODY)])),
    ],
    ids=["legacy", "no program", "two pushes", "another push"],
)
def test_an_input_that_lets_others_change_the_id(made: Psbt) -> None:
    with pytest.raises(FundingError, match="not segwit: somebody could change"):
        read_funding(made.serialize(), WANTED)


def test_segwit_within_p2sh_is_segwit() -> None:
    program = p2wsh(ANYBODY)
    made = nested(serialize([program]))
    made.inputs[0].witness_utxo = TxOut(
        101_000, serialize(["OP_HASH160", hash160(program), "OP_EQUAL"])
    )
    assert read_funding(made.serialize(), WANTED).output_index == 0


@pytest.mark.parametrize("text", [b"", b"nonsense", b"psbt\xff", b"cHNidP8=", b"\xff" * 100])
def test_what_is_none(text: bytes) -> None:
    with pytest.raises(FundingError, match="no PSBT"):
        read_funding(text, WANTED)


def test_one_that_is_too_long() -> None:
    with pytest.raises(FundingError, match="too long"):
        read_funding(bytes(4_000_001), WANTED)


@pytest.mark.parametrize(
    ("chain", "prefix"),
    [
        ("bitcoin", "bc1q"),
        ("testnet", "tb1q"),
        ("testnet4", "tb1q"),
        ("signet", "tb1q"),
        ("simnet", "sb1q"),
        ("regtest", "bcrt1q"),
    ],
)
def test_addresses(chain: str, prefix: str) -> None:
    assert FundingWanted(SCRIPT, 1, chain).address.startswith(prefix)


def test_every_chain_has_addresses() -> None:
    for chain in CHAIN_HASHES:
        assert FundingWanted(SCRIPT, 1, chain).address


def test_an_address_as_bip_173_has_it() -> None:
    script = bytes.fromhex("00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262")
    assert FundingWanted(script, 1, "testnet").address == (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"
    )
