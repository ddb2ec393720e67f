"""A wallet's strangers: relays, peers, and files that somebody else wrote."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from btclib.tx import TxOut
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_proxy.bolt.messages import ChannelReady, FundingCreated, OpenChannel, decode
from lightning_proxy.bolt.scripts import p2wsh
from lightning_proxy.bolt.signing import parse_transaction
from lightning_proxy.rpc import Delegate, DelegationKind, RpcError, decode_params
from lightning_proxy.wallet import keystore
from lightning_proxy.wallet.approval import LineApproval
from lightning_proxy.wallet.errors import FundingError, KeystoreError, PolicyError
from lightning_proxy.wallet.funding import FundingWanted, read_funding
from lightning_proxy.wallet.keys import WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal, read_request
from tests.unit.wallet.openings import Opening, SigningWallet, psbt
from tests.unit.wallet.samples import OPEN_CHANNEL, PEER, SEED, delegate

RAW = OPEN_CHANNEL.encode()
READY = ChannelReady(channel_id=b"\x07" * 32, second_per_commitment_point=PEER)
CREATED = FundingCreated(
    temporary_channel_id=OPEN_CHANNEL.temporary_channel_id,
    funding_txid=b"\x07" * 32,
    funding_output_index=0,
    signature=bytes(64),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def read(message: bytes) -> ChannelKeysRequest | None:
    try:
        return ChannelKeysRequest.from_delegate(delegate(messages=[message.hex()]))
    except Refusal as refusal:
        assert refusal.reason
        return None


@given(st.binary(min_size=2, max_size=400))
@example(RAW)
def test_any_message_is_read_or_refused(message: bytes) -> None:
    request = read(message)
    if request is not None:
        assert request.open_channel.encode() == message


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_a_changed_opening_is_read_as_it_is_or_refused(position: int, flip: int) -> None:
    """What is judged is what the peer sent: no byte of it goes unread."""
    changed = bytearray(RAW)
    changed[position] ^= flip
    request = read(bytes(changed))
    if request is not None:
        assert request.open_channel != OPEN_CHANNEL
        assert request.raw == request.open_channel.encode() == changed


@given(st.sampled_from(Delegate.__struct_fields__), JSON)
def test_any_envelope_is_read_or_an_error(field: str, value: Any) -> None:
    envelope = {**msgspec.to_builtins(delegate()), field: value}
    with suppress(RpcError, Refusal):
        ChannelKeysRequest.from_delegate(decode_params(json.dumps(envelope).encode(), Delegate))


@given(
    st.builds(
        msgspec.structs.replace,
        st.just(decode(RAW)),
        channel_type=st.none() | st.binary(max_size=12),
        funding_satoshis=st.integers(0, 2**64 - 1),
        push_msat=st.integers(0, 2**64 - 1),
        feerate_per_kw=st.integers(0, 2**32 - 1),
        channel_flags=st.integers(0, 255),
        chain_hash=st.binary(min_size=32, max_size=32) | st.just(OPEN_CHANNEL.chain_hash),
    )
)
def test_a_policy_lets_nothing_through_that_it_forbids(message: OpenChannel) -> None:
    policy = Policy(chains=("regtest",), max_push_msat=0, visibility=("private",))
    request = read(message.encode())
    assert request is not None
    try:
        policy.check(request)
    except Refusal:
        return
    assert request.chain == "regtest"
    assert message.push_msat == 0
    assert 20_000 <= message.funding_satoshis < 1 << 24
    assert message.channel_flags & 1 == 0
    assert message.feerate_per_kw <= 25_000
    if message.channel_type is not None:
        assert not int.from_bytes(message.channel_type, "big") & ~(1 << 12 | 1 << 22 | 1 << 46)


@given(
    st.sampled_from(list(DelegationKind)),
    st.lists(
        st.binary(min_size=2, max_size=200)
        | st.builds(lambda type_, rest: bytes([0, type_]) + rest, st.integers(32, 36), st.binary())
        | st.sampled_from([RAW, READY.encode(), CREATED.encode()]),
        max_size=4,
    ),
    st.sampled_from([OPEN_CHANNEL.temporary_channel_id, READY.channel_id]),
)
def test_any_question_is_read_or_refused(
    kind: DelegationKind, messages: list[bytes], channel_id: bytes
) -> None:
    envelope = delegate(
        kind=kind, channel_id=channel_id.hex(), messages=[message.hex() for message in messages]
    )
    try:
        request = read_request(envelope)
    except Refusal as refusal:
        assert refusal.reason
        return
    assert request.kind is kind
    assert request.raw_messages == tuple(messages)
    assert tuple(message.encode() for message in request.messages) == request.raw_messages


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_message_is_refused_and_changes_nothing(data: st.DataObject) -> None:
    """Of all that may come for `funding_created`, only the peer's own bytes get a signature."""

    async def work(folder: Path) -> None:
        async with SigningWallet(folder / "record") as wallet:
            opening = Opening(wallet)
            await opening.accept()
            honest = opening.peer.funding_created(bytes(32)).encode()
            position = data.draw(st.integers(0, len(honest) - 1))
            changed = bytearray(honest)
            changed[position] ^= data.draw(st.integers(1, 255))
            extra = data.draw(st.binary(max_size=3))
            before = await wallet.stored()
            with pytest.raises(Refusal):
                await wallet.ask(
                    DelegationKind.FUNDING_SIGNED, opening.temporary_id, bytes(changed) + extra
                )
            assert await wallet.stored() == before
            await wallet.ask(DelegationKind.FUNDING_SIGNED, opening.temporary_id, honest)

    with TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))


WANTED = FundingWanted(p2wsh(b"\x52"), 100_000, "regtest")
PSBT = psbt(TxOut(WANTED.amount_sat, WANTED.scriptpubkey)).serialize()


@given(st.binary(max_size=200).map(lambda tail: b"psbt\xff" + tail) | st.binary(max_size=200))
def test_any_psbt_is_read_or_an_error(data: bytes) -> None:
    with pytest.raises(FundingError):
        read_funding(data, WANTED)


@given(st.integers(0, len(PSBT) - 1), st.integers(0, 3), st.binary(max_size=4))
def test_a_changed_psbt_pays_what_is_wanted_or_is_an_error(
    position: int, cut: int, put: bytes
) -> None:
    try:
        funding = read_funding(PSBT[:position] + put + PSBT[position + cut :], WANTED)
    except FundingError:
        return
    transaction = parse_transaction(funding.transaction)
    output = transaction.vout[funding.output_index]
    assert (output.value, output.script_pub_key.script) == (100_000, WANTED.scriptpubkey)
    assert transaction.id[::-1] == funding.txid


def _keystore() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "wallet.json"
        keystore.create(path, WalletKeys(SEED), "x", cost=10)
        return path.read_bytes()


KEYSTORE = _keystore()


@given(st.integers(0, len(KEYSTORE) - 1), st.binary(max_size=4))
def test_a_changed_keystore_opens_to_the_same_keys_or_not_at_all(
    position: int, replacement: bytes
) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "wallet.json"
        path.write_bytes(KEYSTORE[:position] + replacement + KEYSTORE[position + 1 :])
        with suppress(KeystoreError):
            assert keystore.load(path, "x").node_id == WalletKeys(SEED).node_id


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"peers = [" + b"[" * 5000)
def test_any_policy_file_is_read_or_an_error(data: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "policy.toml"
        path.write_bytes(data)
        with suppress(PolicyError):
            Policy.load(path)


@given(st.text(max_size=50))
def test_any_line_is_harmless(line: str) -> None:
    hint = LineApproval(lambda *_: None).take(line)
    assert line == "" or hint
