"""A peer opens a channel to the wallet, at the signer: every step, told twice, late and wrong."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import AcceptChannel, FundingCreated, decode
from lightning_proxy.rpc import DelegationKind, FundingSeen
from lightning_proxy.wallet import record as record_module
from lightning_proxy.wallet.answers import Answer
from lightning_proxy.wallet.record import MakeAnswer, Record
from lightning_proxy.wallet.request import Refusal, Request, read_request
from lightning_proxy.wallet.signer import KeySigner
from tests.unit.wallet.openings import KEYS, POLICY, Opening, SigningWallet

KEYS_OF = DelegationKind.CHANNEL_KEYS
SIGNED = DelegationKind.FUNDING_SIGNED
READY = DelegationKind.CHANNEL_READY
REESTABLISH = DelegationKind.REESTABLISH


@pytest.fixture
async def wallet(tmp_path: Path) -> AsyncIterator[SigningWallet]:
    async with SigningWallet(tmp_path / "record") as wallet:
        yield wallet


@pytest.fixture
def opening(wallet: SigningWallet) -> Opening:
    return Opening(wallet)


async def refused(asking: Awaitable[Any]) -> str:
    with pytest.raises(Refusal) as raised:
        await asking
    return raised.value.reason


async def state(wallet: SigningWallet) -> ChannelState:
    return (await wallet.stored()).channel().state


@pytest.mark.parametrize("push_msat", [0, 200_000_000])
@pytest.mark.parametrize("channel_type", ["401000", "1000"], ids=["anchors", "static_remotekey"])
async def test_a_channel_opens_though_the_wallet_restarts_at_every_step(
    wallet: SigningWallet, opening: Opening, channel_type: str, push_msat: int
) -> None:
    await opening.accept(channel_type=bytes.fromhex(channel_type), push_msat=push_msat)
    assert await state(wallet) is ChannelState.ACCEPTED
    wallet.restart()
    await opening.sign()
    assert await state(wallet) is ChannelState.SIGNED
    wallet.restart()
    await opening.reestablish()
    wallet.restart()
    answer = await opening.ready()
    secrets = KEYS.channel(0, (await wallet.stored()).salt)
    assert answer.second_per_commitment_point == secrets.per_commitment_point(1).hex()
    assert answer.alias is None
    wallet.restart()
    await opening.reestablish(opening.peer_ready())
    assert await state(wallet) is ChannelState.READY
    assert opening.peer.channel.state is ChannelState.READY
    stored = await wallet.stored()
    assert [entry.raw for entry in stored.log] == [entry.raw for entry in opening.relay.log]
    assert stored.channel().balance_msat(Role.ACCEPTER) == push_msat


async def test_the_record_has_the_accept_channel_that_the_relay_sends(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    sent = opening.relay.log[1].raw
    assert (await wallet.stored()).log[1].raw == sent
    assert isinstance(decode(sent), AcceptChannel)


async def test_every_answer_is_the_same_again_by_the_old_id_and_by_a_new_one(
    wallet: SigningWallet, opening: Opening
) -> None:
    asked: list[tuple[DelegationKind, bytes, tuple[bytes, ...], msgspec.Struct]] = []
    answer: msgspec.Struct = await opening.accept()
    asked.append((KEYS_OF, opening.temporary_id, (opening.relay.log[0].raw,), answer))
    answer = await opening.sign()
    asked.append((SIGNED, opening.temporary_id, (opening.created,), answer))
    answer = await opening.ready()
    asked.append((READY, opening.channel_id, (), answer))
    answer = await opening.reestablish()
    asked.append((REESTABLISH, opening.channel_id, (), answer))
    before = await wallet.stored()
    for _ in range(2):
        for number, (kind, channel_id, messages, answer) in enumerate(asked, 1):
            again = await wallet.ask(kind, channel_id, *messages, number=number)
            assert msgspec.json.encode(again) == msgspec.json.encode(answer), kind
            assert await wallet.ask(kind, channel_id, *messages) == answer, kind
        wallet.restart()
    assert await wallet.stored() == before
    assert await wallet.record.channel_indices() == [0]


async def test_a_second_signature_for_the_first_commitment_is_never_made(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    another = opening.another_created(secrets.token_bytes(32)).encode()
    answer = await opening.sign()
    for _ in range(2):
        reason = await refused(wallet.ask(SIGNED, opening.temporary_id, another))
        assert reason == (
            "another funding_created than the one in this wallet's record of the channel: a second "
            "signature for a first commitment is never made"
        )
        wallet.restart()
    assert await wallet.ask(SIGNED, opening.temporary_id, opening.created) == answer


async def test_two_processes_never_sign_two_commitments(
    wallet: SigningWallet, opening: Opening
) -> None:
    """Two signers on one file, asked at once for different outpoints: exactly one is signed."""
    await opening.accept()
    created = [opening.another_created(secrets.token_bytes(32)).encode() for _ in range(6)]
    async with Record(wallet.path, KEYS.node_id) as second:
        signers = [wallet.signer, KeySigner(KEYS, POLICY, second)]
        outcomes = await asyncio.gather(
            *(
                signers[number % 2].funding_signed(
                    read_request(wallet.delegate(SIGNED, opening.temporary_id, raw))  # type: ignore[arg-type]
                )
                for number, raw in enumerate(created)
            ),
            return_exceptions=True,
        )
        answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(answers) == 1
        assert all(
            isinstance(outcome, Refusal) and "a second signature" in outcome.reason
            for outcome in outcomes
            if isinstance(outcome, BaseException)
        )
    assert len((await wallet.stored()).log) == 4


async def test_a_crash_between_the_record_and_the_answer_changes_nothing(
    wallet: SigningWallet, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opening.accept()
    honest = Record.answer

    async def crash(self: Record, request: Request, make_answer: MakeAnswer) -> Answer:
        await honest(self, request, make_answer)
        raise KeyboardInterrupt

    raw = opening.another_created(secrets.token_bytes(32)).encode()
    with monkeypatch.context() as patched:
        patched.setattr(Record, "answer", crash)
        with pytest.raises(KeyboardInterrupt):
            await wallet.ask(SIGNED, opening.temporary_id, raw, number=5)
    wallet.restart()
    before = await wallet.stored()
    answer = await wallet.ask(SIGNED, opening.temporary_id, raw, number=5)
    assert await wallet.stored() == before
    assert answer.signature == before.log[-1].raw[-64:].hex()


async def test_a_crash_within_the_transaction_leaves_nothing(
    wallet: SigningWallet, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opening.accept()

    def crash(*_: object, **__: object) -> Answer:
        raise KeyboardInterrupt

    raw = opening.another_created(secrets.token_bytes(32)).encode()
    with monkeypatch.context() as patched:
        patched.setattr(Record, "_insert", crash)
        with pytest.raises(KeyboardInterrupt):
            await wallet.ask(SIGNED, opening.temporary_id, raw)
    wallet.restart()
    assert await state(wallet) is ChannelState.ACCEPTED


async def test_an_id_that_was_used_for_another_question_is_refused(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    raw = opening.another_created(secrets.token_bytes(32)).encode()
    first = await wallet.ask(SIGNED, opening.temporary_id, raw, number=5)
    other = opening.another_created(secrets.token_bytes(32)).encode()
    assert "used before" in await refused(wallet.ask(SIGNED, opening.temporary_id, other, number=5))
    assert "used before" in await refused(
        wallet.ask(KEYS_OF, opening.temporary_id, opening.relay.log[0].raw, number=5)
    )
    assert await wallet.ask(SIGNED, opening.temporary_id, raw, number=5) == first


async def test_another_open_channel_of_the_same_temporary_id_is_refused(
    wallet: SigningWallet, opening: Opening
) -> None:
    first = await opening.accept()
    opened = opening.relay.open_channel
    other = msgspec.structs.replace(opened, funding_satoshis=opened.funding_satoshis + 1)
    reason = await refused(wallet.ask(KEYS_OF, opening.temporary_id, other.encode()))
    assert reason == "another open_channel than the one in this wallet's record of the channel"
    assert await wallet.ask(KEYS_OF, opening.temporary_id, opened.encode()) == first


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (
            lambda o: (SIGNED, b"\x09" * 32, (o.another_created(b"\x01" * 32).encode(),)),
            "the delegation names another channel than its funding_created",
        ),
        (lambda _: (READY, b"\x09" * 32, ()), "no channel of that id"),
        (lambda _: (REESTABLISH, b"\x09" * 32, ()), "no channel of that id"),
        (lambda o: (REESTABLISH, o.temporary_id, ()), "no channel of that id"),
        (lambda o: (READY, o.temporary_id, ()), "no channel of that id"),
        (
            lambda _: (DelegationKind.FUNDING_TRANSACTION, b"\x09" * 32, ()),
            "no channel of that id",
        ),
    ],
)
async def test_what_comes_too_early_or_for_nothing_is_refused(
    wallet: SigningWallet,
    opening: Opening,
    ask: Callable[[Opening], tuple[DelegationKind, bytes, tuple[bytes, ...]]],
    reason: str,
) -> None:
    await opening.accept()
    kind, channel_id, messages = ask(opening)
    assert reason in await refused(wallet.ask(kind, channel_id, *messages))
    assert await state(wallet) is ChannelState.ACCEPTED


async def test_funding_signed_before_channel_keys_is_refused(
    wallet: SigningWallet, opening: Opening
) -> None:
    stranger = Opening(wallet)
    await opening.accept()
    raw = msgspec.structs.replace(
        opening.another_created(b"\x01" * 32), temporary_channel_id=b"\x09" * 32
    ).encode()
    assert "accepted no channel of that temporary id" in await refused(
        wallet.ask(SIGNED, b"\x09" * 32, raw)
    )
    # Another peer has no part in it either.
    raw = opening.another_created(b"\x01" * 32).encode()
    assert "accepted no channel" in await refused(
        wallet.ask(SIGNED, opening.temporary_id, raw, peer=KEYS.node_id.hex())
    )
    assert stranger.relay.state is ChannelState.NEW


async def test_a_signature_that_does_not_hold_is_refused_and_nothing_is_kept(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    good = opening.another_created(secrets.token_bytes(32))
    bad = msgspec.structs.replace(good, funding_output_index=1)
    reason = await refused(wallet.ask(SIGNED, opening.temporary_id, bad.encode()))
    assert "funding_created signs another first commitment" in reason
    assert await state(wallet) is ChannelState.ACCEPTED
    # The honest one still may come.
    await wallet.ask(SIGNED, opening.temporary_id, good.encode())


async def test_two_channels_on_one_outpoint_are_refused(wallet: SigningWallet) -> None:
    first, second = Opening(wallet), Opening(wallet)
    txid = secrets.token_bytes(32)
    await first.accept()
    await second.accept()
    await first.sign(txid)
    assert "same funding outpoint" in await refused(second.sign(txid))


@pytest.mark.parametrize(
    ("kind", "messages", "reason"),
    [
        (READY, [FundingCreated], "channel_ready is not about funding_created"),
        (REESTABLISH, [FundingCreated], "reestablish is not about funding_created"),
        (SIGNED, [], "funding_signed is about one message, not 0"),
    ],
)
async def test_an_envelope_with_the_wrong_messages_is_refused(
    wallet: SigningWallet,
    opening: Opening,
    kind: DelegationKind,
    messages: list[type],
    reason: str,
) -> None:
    await opening.accept()
    raw = [opening.another_created(b"\x01" * 32).encode() for _ in messages]
    assert await refused(wallet.ask(kind, opening.temporary_id, *raw)) == reason


async def test_too_many_messages_are_refused(wallet: SigningWallet, opening: Opening) -> None:
    await opening.accept()
    await opening.sign()
    raw = opening.peer_ready()
    assert "16 messages at most, not 17" in await refused(
        wallet.ask(READY, opening.channel_id, *[raw] * 17)
    )
    await opening.ready(*[raw] * 16)


# ---- channel_ready ----


async def test_the_peers_readiness_may_come_first_and_again(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    await opening.sign()
    raw = opening.peer_ready()
    await opening.ready(raw, raw)
    assert await state(wallet) is ChannelState.READY
    renamed = opening.peer.channel_ready(alias=77).encode()
    await wallet.ask(REESTABLISH, opening.channel_id, renamed)
    other_point = msgspec.structs.replace(
        opening.peer.channel_ready(), second_per_commitment_point=KEYS.node_id
    )
    reason = await refused(wallet.ask(REESTABLISH, opening.channel_id, other_point.encode()))
    assert "second_per_commitment_point: not the one sent before" in reason


async def test_too_few_confirmations_by_the_relays_own_word(
    wallet: SigningWallet, opening: Opening
) -> None:
    wallet.restart(policy=msgspec.structs.replace(POLICY, minimum_depth=3))
    await opening.accept()
    await opening.sign()
    reason = await refused(opening.ready(funding=FundingSeen(2)))
    assert "waits for 3 confirmations" in reason
    assert "there are 2" in reason
    await opening.ready(funding=FundingSeen(3))


async def test_without_any_chain_the_peers_word_is_waited_for(
    wallet: SigningWallet, opening: Opening
) -> None:
    await opening.accept()
    await opening.sign()
    assert "neither the relay nor the peer" in await refused(opening.ready(funding=None))
    await opening.ready(opening.peer_ready(), funding=None)


async def test_an_owner_may_trust_no_relay_for_confirmations(
    wallet: SigningWallet, opening: Opening
) -> None:
    wallet.restart(policy=msgspec.structs.replace(POLICY, trust_relay_for_confirmations=False))
    await opening.accept()
    await opening.sign()
    assert "no chain source of its own" in await refused(opening.ready(opening.peer_ready()))
    assert await state(wallet) is ChannelState.SIGNED


async def test_a_channel_known_by_an_alias_gets_one(
    wallet: SigningWallet, opening: Opening
) -> None:
    wallet.restart(policy=msgspec.structs.replace(POLICY, allow_zeroconf=True))
    zeroconf = Features.from_bits(
        [Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_SCID_ALIAS, Feature.OPTION_ZEROCONF]
    )
    await opening.accept(channel_type=zeroconf.to_bytes(), channel_flags=0)
    await opening.sign()
    # Without confirmations nobody is asked about any.
    answer = await opening.ready(funding=None)
    assert answer.alias is not None
    assert await wallet.ask(READY, opening.channel_id) == answer


# ---- what strangers can make it keep ----


async def test_what_nobody_came_back_to_fund_is_forgotten_and_its_keys_are_not_used_again(
    wallet: SigningWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    funded, unfunded = Opening(wallet), Opening(wallet)
    await funded.accept()
    await funded.sign()
    await unfunded.accept()
    monkeypatch.setattr(record_module, "_UNFUNDED_FOR", -1.0)
    latest = Opening(wallet)
    await latest.accept()
    assert [stored.index for stored in await wallet.record.channels()] == [0, 2]
    assert "accepted no channel" in await refused(unfunded.sign())


async def test_repeated_questions_do_not_fill_the_disk(
    wallet: SigningWallet, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_REPEATS_KEPT", 3)
    await opening.accept()
    await opening.sign()
    for _ in range(10):
        await opening.reestablish()
    kept = [answer.kind for answer in await wallet.record.latest(100)]
    assert kept == [REESTABLISH] * 3 + [SIGNED, KEYS_OF]
