"""Key slots: what this wallet leaves with the relay, and what the relay says became of it."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Final, TypeVar

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import AcceptChannel, Message, OpenChannel, decode
from lightning_proxy.bolt.opening import (
    MINIMUM_DUST_LIMIT_SAT,
    RESERVE_DIVISOR,
    check_open_channel,
)
from lightning_proxy.wallet.errors import PolicyError
from lightning_proxy.wallet.keys import ChannelPoints, WalletKeys
from lightning_proxy.wallet.policy import CHANNEL_TYPES, ChannelType, Policy
from lightning_proxy.wallet.record import Ledger, Record
from lightning_proxy.wallet.request import ChannelKeysRequest, Refusal
from lightning_proxy.wallet.session import Relay
from lightning_proxy.wallet.steps import HTLC_MINIMUM_MSAT

M = TypeVar("M", bound=Message)

#: As `rpc.SlotPolicy` has it.
_MAX_PEERS: Final = 100


async def leave_slots(
    relay: Relay,
    record: Record,
    keys: WalletKeys,
    policy: Policy,
    wanted: rpc.SlotPolicy,
    count: int,
) -> list[rpc.SlotInfo]:
    """Leave so many slots with the relay, for what `wanted` and the wallet's own policy allow.

    Raises `PolicyError`, `RecordError`, and what `Wallet.request` raises.
    """
    slots = await make_slots(record, keys, policy, within(policy, wanted), count)
    return await relay.request("add_slots", rpc.AddSlots(slots), list[rpc.SlotInfo])


def within(policy: Policy, wanted: rpc.SlotPolicy) -> rpc.SlotPolicy:
    """What of `wanted` the wallet's own policy accepts; raises `PolicyError` if nothing is left.

    A channel that is accepted in its sleep and refused when it wakes would cost the keys, and the
    peer its patience. Who leaves the type out is asked: a slot names all that it takes.
    """
    least = max(wanted.min_funding_sat, policy.min_funding_sat)
    most = min(wanted.max_funding_sat, policy.max_funding_sat)
    peers = wanted.peers
    types = feature_maps(policy.channel_types, scid_alias=policy.allow_scid_alias)
    if policy.peers is not None:
        peers = sorted(policy.peers if peers is None else policy.peers.intersection(peers))
    if wanted.channel_types is not None:
        types = [each for each in types if each in wanted.channel_types]
    if least > most or peers == [] or not types:
        raise PolicyError("The wallet's policy accepts no channel for which these slots would be.")
    if peers is not None and len(peers) > _MAX_PEERS:
        raise PolicyError(f"A key slot is for {_MAX_PEERS} peers at most: name some.")
    return rpc.SlotPolicy(
        min_funding_sat=least, max_funding_sat=most, peers=peers, channel_types=types
    )


def feature_maps(names: Iterable[ChannelType], *, scid_alias: bool) -> list[str]:
    """These channel types as an `open_channel` names them, hex; each with and without an alias.

    None with option_zeroconf: a slot is for channels that wait for confirmations.
    """
    aliases = (0, 1 << Feature.OPTION_SCID_ALIAS) if scid_alias else (0,)
    return [
        Features(Features.from_bits(CHANNEL_TYPES[name]).bitmap | alias).to_bytes().hex()
        for name, alias in product(names, aliases)
    ]


async def make_slots(
    record: Record, keys: WalletKeys, policy: Policy, wanted: rpc.SlotPolicy, count: int
) -> list[rpc.Slot]:
    """So many slots with fresh keys, in the record before they are returned.

    Raises `RecordError`.
    """

    def make(ledger: Ledger) -> list[rpc.Slot]:
        slots = []
        for _ in range(count):
            index, salt = ledger.next_index(), keys.fresh_salt()
            points = keys.channel(index, salt).points()
            slot = rpc.Slot(answer=_answer(points, policy, wanted), policy=wanted)
            ledger.add_slot(index, salt, slot)
            slots.append(slot)
        return slots

    return await record.change(make)


def _answer(points: ChannelPoints, policy: Policy, wanted: rpc.SlotPolicy) -> rpc.ChannelKeys:
    """What would be answered to the largest channel that fits, as far as it fits the smallest."""
    return rpc.ChannelKeys(
        funding_pubkey=points.funding_pubkey.hex(),
        revocation_basepoint=points.revocation_basepoint.hex(),
        payment_basepoint=points.payment_basepoint.hex(),
        delayed_payment_basepoint=points.delayed_payment_basepoint.hex(),
        htlc_basepoint=points.htlc_basepoint.hex(),
        first_per_commitment_point=points.first_per_commitment_point.hex(),
        dust_limit_sat=MINIMUM_DUST_LIMIT_SAT,
        max_htlc_value_in_flight_msat=1000 * wanted.max_funding_sat,
        # BOLT #2: the reserve must be no dust to the opener.
        channel_reserve_sat=max(
            wanted.min_funding_sat // RESERVE_DIVISOR, policy.max_dust_limit_sat
        ),
        htlc_minimum_msat=HTLC_MINIMUM_MSAT,
        minimum_depth=max(policy.depth_on(chain) for chain in policy.chains),
        to_self_delay=policy.to_self_delay,
        max_accepted_htlcs=policy.max_accepted_htlcs,
    )


async def take_used(
    record: Record, policy: Policy, used: rpc.SlotUsed, features: Features
) -> str | None:
    """Put the channel in the record as if this wallet had answered; None, or why it is not there.

    In either case the slot is used: its keys are out. The relay's word is checked as far as it
    goes: the answer has to be the one that was left, for one `open_channel`, and that one has to
    be what the policy accepts. Raises `RecordError`.
    """
    work = partial(_take, policy=policy, used=used, features=features)
    try:
        return await record.change(work)
    except Refusal as refusal:
        return refusal.reason


def _take(ledger: Ledger, policy: Policy, used: rpc.SlotUsed, features: Features) -> str | None:
    """Raises `Refusal` where this says nothing about a slot of ours."""
    raw_offer, raw_answer = bytes.fromhex(used.open_channel), bytes.fromhex(used.accept_channel)
    offer, answer = _read(raw_offer, OpenChannel), _read(raw_answer, AcceptChannel)
    left = ledger.slot(answer.funding_pubkey)
    if left is None:
        raise Refusal("the relay accepted a channel with keys that this wallet never left")
    peer = bytes.fromhex(used.peer)
    opening = peer + raw_offer
    if left.used is not None:
        if left.used != opening:
            raise Refusal("the relay used a key slot twice: the second channel is refused")
        return None
    ledger.use_slot(left.index, opening)
    try:
        _check_answer(left.slot, offer, raw_answer)
        _judge(policy, left.slot.policy, used, offer, raw_offer, features)
        channel = Channel(Role.ACCEPTER, features)
        channel.receive(raw_offer, offer)
        channel.send(raw_answer, answer)
        if ledger.opening(peer, Role.ACCEPTER, channel.channel_id) is not None:
            raise Refusal("the relay says twice that this channel was accepted")
    except (BoltError, Refusal) as error:
        # Not undone: the keys are out.
        return str(error)
    ledger.add(left.index, left.salt, peer, used.session_id, channel)
    return None


def _read(raw: bytes, kind: type[M]) -> M:
    try:
        message = decode(raw)
    except BoltError as error:
        raise Refusal(f"what the relay says of a key slot can't be read: {error}") from None
    if not isinstance(message, kind):
        raise Refusal("what the relay says of a key slot is no opening")
    return message


def _check_answer(slot: rpc.Slot, offer: OpenChannel, raw_answer: bytes) -> None:
    """Whether it is what was left, with what the `open_channel` adds, and nothing else."""
    left = slot.answer
    expected = AcceptChannel(
        temporary_channel_id=offer.temporary_channel_id,
        dust_limit_satoshis=left.dust_limit_sat,
        max_htlc_value_in_flight_msat=left.max_htlc_value_in_flight_msat,
        channel_reserve_satoshis=left.channel_reserve_sat,
        htlc_minimum_msat=left.htlc_minimum_msat,
        minimum_depth=left.minimum_depth,
        to_self_delay=left.to_self_delay,
        max_accepted_htlcs=left.max_accepted_htlcs,
        funding_pubkey=bytes.fromhex(left.funding_pubkey),
        revocation_basepoint=bytes.fromhex(left.revocation_basepoint),
        payment_basepoint=bytes.fromhex(left.payment_basepoint),
        delayed_payment_basepoint=bytes.fromhex(left.delayed_payment_basepoint),
        htlc_basepoint=bytes.fromhex(left.htlc_basepoint),
        first_per_commitment_point=bytes.fromhex(left.first_per_commitment_point),
        # As the relay sends it: empty commits to nothing.
        upfront_shutdown_script=b"",
        channel_type=offer.channel_type,
    )
    if expected.encode() != raw_answer:
        raise Refusal("the relay accepted a channel in other words than this wallet left")


def _judge(
    policy: Policy,
    wanted: rpc.SlotPolicy,
    used: rpc.SlotUsed,
    offer: OpenChannel,
    raw_offer: bytes,
    features: Features,
) -> None:
    if not wanted.min_funding_sat <= offer.funding_satoshis <= wanted.max_funding_sat:
        raise Refusal("the relay used a key slot for a channel of another size")
    if wanted.peers is not None and used.peer not in wanted.peers:
        raise Refusal("the relay used a key slot for another peer")
    offered_type = None if offer.channel_type is None else offer.channel_type.hex()
    if wanted.channel_types is not None and offered_type not in wanted.channel_types:
        raise Refusal("the relay used a key slot for another type of channel")
    check_open_channel(offer, features)
    policy.check(
        ChannelKeysRequest(
            delegation_id=used.slot_id,
            session_id=used.session_id,
            peer=bytes.fromhex(used.peer),
            channel_id=offer.temporary_channel_id,
            raw_messages=(raw_offer,),
            messages=(offer,),
            deadline=0.0,
            features=features,
        )
    )
