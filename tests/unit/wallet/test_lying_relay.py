"""A relay that changes one field on its way: who notices, when, and by which sentence.

`TABLE` is what the README tells. A field is bound when a signature that wallet and peer exchange
depends on it; what isn't bound yet is noticed with the first signature that does, or never.
"""

import re
import secrets
from collections.abc import AsyncIterator, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel import ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.rpc import DelegationKind
from lightning_proxy.wallet.request import Refusal
from tests.support.channels import point
from tests.unit.wallet.openings import CONFIRMED, Opening, SigningWallet

PUSH_MSAT: Final = 300_000_000
#: What accept_channel has to repeat of open_channel: the relay changes it back, to keep up its lie.
_ECHOED: Final = frozenset({"temporary_channel_id", "channel_type"})


class Outcome(Enum):
    """What a lie comes to."""

    REFUSED_BY_WALLET = "the wallet refuses"
    #: Its own check fails: nothing is funded.
    REFUSED_BY_PEER = "the peer refuses"
    #: The channel opens: no signature depends on the field yet.
    NOT_BOUND = "not bound yet"


class Lie(NamedTuple):
    """A field that the relay changes, in a message of the side that says so."""

    #: The wallet's role: who opens the channel decides what depends on what.
    wallet: Role
    field: str
    #: Whose message it is: the other side gets it changed.
    by_wallet: bool

    def __str__(self) -> str:
        message = "open_channel" if self.is_open_channel else "accept_channel"
        side = "the wallet" if self.by_wallet else "the peer"
        return f"{side}'s {message}.{self.field}"

    @property
    def is_open_channel(self) -> bool:
        return self.by_wallet is (self.wallet is Role.OPENER)


WALLET, PEER, UNBOUND = Outcome.REFUSED_BY_WALLET, Outcome.REFUSED_BY_PEER, Outcome.NOT_BOUND

#: First where nothing is pushed, then where a part of the funding is.
TABLE: Final[Mapping[Lie, tuple[Outcome, Outcome]]] = MappingProxyType(
    {
        Lie(role, field, by_wallet): outcomes
        for role, by_wallet, fields in (
            (
                Role.ACCEPTER,
                False,
                {
                    "chain_hash": (WALLET, WALLET),
                    "temporary_channel_id": (UNBOUND, UNBOUND),
                    "funding_satoshis": (WALLET, WALLET),
                    "push_msat": (WALLET, WALLET),
                    "dust_limit_satoshis": (UNBOUND, UNBOUND),
                    "max_htlc_value_in_flight_msat": (UNBOUND, UNBOUND),
                    "channel_reserve_satoshis": (UNBOUND, UNBOUND),
                    "htlc_minimum_msat": (UNBOUND, UNBOUND),
                    "feerate_per_kw": (WALLET, WALLET),
                    "to_self_delay": (UNBOUND, WALLET),
                    "max_accepted_htlcs": (UNBOUND, UNBOUND),
                    "funding_pubkey": (WALLET, WALLET),
                    "revocation_basepoint": (UNBOUND, WALLET),
                    "payment_basepoint": (WALLET, WALLET),
                    "delayed_payment_basepoint": (PEER, PEER),
                    "htlc_basepoint": (UNBOUND, UNBOUND),
                    "first_per_commitment_point": (PEER, PEER),
                    "channel_flags": (UNBOUND, UNBOUND),
                    "upfront_shutdown_script": (UNBOUND, UNBOUND),
                    "channel_type": (WALLET, WALLET),
                },
            ),
            (
                Role.ACCEPTER,
                True,
                {
                    "temporary_channel_id": (PEER, PEER),
                    "dust_limit_satoshis": (UNBOUND, UNBOUND),
                    "max_htlc_value_in_flight_msat": (UNBOUND, UNBOUND),
                    "channel_reserve_satoshis": (UNBOUND, UNBOUND),
                    "htlc_minimum_msat": (UNBOUND, UNBOUND),
                    "minimum_depth": (UNBOUND, UNBOUND),
                    "to_self_delay": (PEER, PEER),
                    "max_accepted_htlcs": (UNBOUND, UNBOUND),
                    "funding_pubkey": (WALLET, WALLET),
                    "revocation_basepoint": (PEER, PEER),
                    "payment_basepoint": (WALLET, WALLET),
                    "delayed_payment_basepoint": (UNBOUND, WALLET),
                    "htlc_basepoint": (UNBOUND, UNBOUND),
                    "first_per_commitment_point": (UNBOUND, WALLET),
                    "upfront_shutdown_script": (UNBOUND, UNBOUND),
                    "channel_type": (PEER, PEER),
                },
            ),
            (
                Role.OPENER,
                True,
                {
                    "chain_hash": (UNBOUND, UNBOUND),
                    "temporary_channel_id": (UNBOUND, UNBOUND),
                    "funding_satoshis": (PEER, PEER),
                    "push_msat": (PEER, PEER),
                    "dust_limit_satoshis": (UNBOUND, UNBOUND),
                    "max_htlc_value_in_flight_msat": (UNBOUND, UNBOUND),
                    "channel_reserve_satoshis": (UNBOUND, UNBOUND),
                    "htlc_minimum_msat": (UNBOUND, UNBOUND),
                    "feerate_per_kw": (PEER, PEER),
                    "to_self_delay": (UNBOUND, PEER),
                    "max_accepted_htlcs": (UNBOUND, UNBOUND),
                    "funding_pubkey": (PEER, PEER),
                    "revocation_basepoint": (UNBOUND, PEER),
                    "payment_basepoint": (PEER, PEER),
                    "delayed_payment_basepoint": (WALLET, WALLET),
                    "htlc_basepoint": (UNBOUND, UNBOUND),
                    "first_per_commitment_point": (WALLET, WALLET),
                    "channel_flags": (UNBOUND, UNBOUND),
                    "upfront_shutdown_script": (UNBOUND, UNBOUND),
                    "channel_type": (PEER, PEER),
                },
            ),
            (
                Role.OPENER,
                False,
                {
                    "temporary_channel_id": (WALLET, WALLET),
                    "dust_limit_satoshis": (UNBOUND, UNBOUND),
                    "max_htlc_value_in_flight_msat": (UNBOUND, UNBOUND),
                    "channel_reserve_satoshis": (UNBOUND, UNBOUND),
                    "htlc_minimum_msat": (UNBOUND, UNBOUND),
                    "minimum_depth": (UNBOUND, UNBOUND),
                    "to_self_delay": (WALLET, WALLET),
                    "max_accepted_htlcs": (UNBOUND, UNBOUND),
                    "funding_pubkey": (PEER, PEER),
                    "revocation_basepoint": (WALLET, WALLET),
                    "payment_basepoint": (PEER, PEER),
                    "delayed_payment_basepoint": (UNBOUND, PEER),
                    "htlc_basepoint": (UNBOUND, UNBOUND),
                    "first_per_commitment_point": (UNBOUND, PEER),
                    "upfront_shutdown_script": (UNBOUND, UNBOUND),
                    "channel_type": (WALLET, WALLET),
                },
            ),
        )
        for field, outcomes in fields.items()
    }
)
#: What the wallet says where it refuses; else that a signature doesn't hold.
_SENTENCES: Final = {
    "chain_hash": "channels on signet are not accepted",
    "temporary_channel_id": "this wallet has offered that peer no channel of that temporary id",
}
_SIGNATURE: Final = (
    "signature: {} signs another first commitment than the one that open_channel and "
    "accept_channel make"
)


def changed(message: Message, field: str, *, pushes: bool) -> Message:
    """The same message, with another value in this field that BOLT 2 and the policy allow."""
    value: Any = getattr(message, field)
    other: Any
    match field:
        case "chain_hash":
            other = CHAIN_HASHES["signet"]
        case "temporary_channel_id":
            other = secrets.token_bytes(32)
        case "push_msat":
            other = 0 if pushes else PUSH_MSAT
        case "channel_type":
            other = bytes.fromhex("1000")
        case "upfront_shutdown_script":
            other = b"\x00\x14" + bytes(20)
        case "channel_flags":
            other = value ^ 1
        case "minimum_depth" | "to_self_delay" | "feerate_per_kw" | "dust_limit_satoshis":
            other = value + 1
        case "max_accepted_htlcs":
            other = value - 1
        case _ if isinstance(value, bytes):
            other = point()
        case _:
            other = value + 1
    return msgspec.structs.replace(message, **{field: other})


class Told(NamedTuple):
    outcome: Outcome
    #: The message or the answer at which it is noticed, and the sentence.
    at: str
    reason: str


class Mallory:
    """Changes a field of one side's message; what she changed in an opening she keeps up."""

    def __init__(self, lie: Lie, *, pushes: bool) -> None:
        self._lie = lie
        self._pushes = pushes
        self._names: dict[bool, tuple[Any, Any]] = {}

    @property
    def peers_flags(self) -> int:
        """A private channel that is called public is refused; the other way round, who knows?"""
        lie = self._lie
        return int(lie.field == "channel_flags" and lie.is_open_channel and not lie.by_wallet)

    def carries(self, raw: bytes, *, by_wallet: bool) -> bytes:
        """What the other side gets of a message of the wallet's, or of the peer's."""
        message = decode(raw)
        lie = self._lie
        if by_wallet is lie.by_wallet and isinstance(message, OpenChannel) is lie.is_open_channel:
            lied = changed(message, lie.field, pushes=self._pushes)
            if lie.is_open_channel and lie.field in _ECHOED:
                said, told = getattr(message, lie.field), getattr(lied, lie.field)
                self._names = {by_wallet: (said, told), not by_wallet: (told, said)}
            return lied.encode()
        if by_wallet in self._names and hasattr(message, lie.field):
            said, told = self._names[by_wallet]
            if getattr(message, lie.field) == said:
                return msgspec.structs.replace(message, **{lie.field: told}).encode()
        return raw


async def lie_once(wallet: SigningWallet, lie: Lie, push_msat: int) -> Told:
    """An opening in which one field is changed on its way."""
    opening = Opening(wallet, lie.wallet)
    mallory = Mallory(lie, pushes=bool(push_msat))
    steps = _peer_opens if lie.wallet is Role.ACCEPTER else _wallet_opens
    at = ""
    try:
        async for step in steps(opening, mallory, push_msat):
            at = step
    except Refusal as refusal:
        return Told(Outcome.REFUSED_BY_WALLET, at, refusal.reason)
    except BoltError as error:
        return Told(Outcome.REFUSED_BY_PEER, at, str(error))
    return Told(Outcome.NOT_BOUND, "", "")


async def _peer_opens(opening: Opening, mallory: Mallory, push_msat: int) -> AsyncIterator[str]:
    peer, wallet = opening.peer, opening.wallet
    yield "channel_keys"
    raw = peer.say(peer.open_channel(push_msat=push_msat, channel_flags=mallory.peers_flags))
    seen = mallory.carries(raw, by_wallet=False)
    opening.relay.receive(seen)
    answer = await wallet.ask(DelegationKind.CHANNEL_KEYS, opening.temporary_id, seen)
    yield "the peer's check of accept_channel"
    accept = opening.settle(DelegationKind.CHANNEL_KEYS, answer)
    peer.hear(mallory.carries(accept, by_wallet=True))
    yield "funding_signed"
    created = mallory.carries(peer.say(peer.funding_created()), by_wallet=False)
    answer = await wallet.ask(DelegationKind.FUNDING_SIGNED, opening.temporary_id, created)
    yield "the peer's check of funding_signed"
    channel_id = peer.channel.channel_id
    peer.hear(
        FundingSigned(channel_id=channel_id, signature=bytes.fromhex(answer.signature)).encode()
    )
    yield "channel_ready"
    await _both_ready(opening)


async def _wallet_opens(opening: Opening, mallory: Mallory, push_msat: int) -> AsyncIterator[str]:
    peer, wallet = opening.peer, opening.wallet
    yield "the peer's check of open_channel"
    raw = await wallet.offer(1_000_000, push_msat)
    peer.hear(mallory.carries(raw, by_wallet=True))
    yield "funding_created"
    accept = mallory.carries(peer.say(peer.accept_channel()), by_wallet=False)
    message = decode(accept)
    assert isinstance(message, AcceptChannel)
    temporary_id = message.temporary_channel_id
    answer = await wallet.ask(DelegationKind.FUNDING_CREATED, temporary_id, accept)
    yield "the peer's check of funding_created"
    created = FundingCreated(
        temporary_channel_id=temporary_id,
        funding_txid=bytes.fromhex(answer.funding_txid),
        funding_output_index=answer.funding_output_index,
        signature=bytes.fromhex(answer.signature),
    )
    peer.hear(mallory.carries(created.encode(), by_wallet=True))
    yield "funding_transaction"
    channel_id = peer.channel.channel_id
    signed = peer.say(peer.funding_signed())
    await wallet.ask(DelegationKind.FUNDING_TRANSACTION, channel_id, signed)
    yield "channel_ready"
    await _both_ready(opening)


async def _both_ready(opening: Opening) -> None:
    peer = opening.peer
    peer.confirm(1000)
    ready = peer.say(peer.channel_ready())
    answer = await opening.wallet.ask(
        DelegationKind.CHANNEL_READY, peer.channel.channel_id, ready, funding=CONFIRMED
    )
    peer.hear(
        ChannelReady(
            channel_id=peer.channel.channel_id,
            second_per_commitment_point=bytes.fromhex(answer.second_per_commitment_point),
        ).encode()
    )
    assert peer.channel.state is ChannelState.READY


# The parameters say which wallet, whose message and which field.
@pytest.mark.parametrize("pushes", [False, True], ids=["no push", "push"])
@pytest.mark.parametrize("lie", TABLE, ids=lambda lie: f"{lie.wallet.value}-{lie}")
async def test_a_changed_field(tmp_path: Path, lie: Lie, pushes: bool) -> None:
    async with SigningWallet(tmp_path / "record") as wallet:
        told = await lie_once(wallet, lie, PUSH_MSAT if pushes else 0)
    assert told.outcome is TABLE[lie][pushes], told
    if told.outcome is WALLET:
        signed = "funding_created" if lie.wallet is Role.ACCEPTER else "funding_signed"
        sentence = _SENTENCES.get(lie.field, _SIGNATURE.format(signed))
        if lie.field == "channel_type" and not lie.is_open_channel:
            sentence = "channel_type: not the one of open_channel"
        assert told.reason == sentence


@pytest.mark.parametrize("pushes", [False, True], ids=["no push", "push"])
@pytest.mark.parametrize("role", list(Role))
async def test_without_a_lie_the_channel_opens(tmp_path: Path, role: Role, pushes: bool) -> None:
    """What the table refuses is refused for the lie."""
    nothing = Lie(role, "htlc_basepoint", by_wallet=True)
    async with SigningWallet(tmp_path / "record") as wallet:
        told = await lie_once(wallet, nothing, PUSH_MSAT if pushes else 0)
    assert told.outcome is UNBOUND


def test_every_field_of_both_messages_is_in_the_table() -> None:
    for role in Role:
        for by_wallet in (False, True):
            message = OpenChannel if Lie(role, "", by_wallet).is_open_channel else AcceptChannel
            fields = set(message.__struct_fields__) - set(Message.__struct_fields__)
            told = {lie.field for lie in TABLE if (lie.wallet, lie.by_wallet) == (role, by_wallet)}
            assert told == fields


def test_the_readme_names_every_field_that_is_not_bound() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    _, table = readme.split("**Not bound yet.**")
    table, _ = table.split("**What a wallet without a chain source can't know:**")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = set(re.findall("`([a-z_]+)`", " ".join(rows))) - {"push_msat"}
    assert named == {lie.field for lie, outcomes in TABLE.items() if UNBOUND in outcomes}
