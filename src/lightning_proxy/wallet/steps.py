"""What each answer rests on: the channel as the record has it, taken one step further.

Each step runs within one transaction of the record, rebuilds the channel from the raw messages
there, and signs nothing but the commitment that follows from them. A step that was taken already
is told again from the record.
"""

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, TypeVar

import msgspec

from lightning_proxy import rpc
from lightning_proxy.bolt.channel import Channel, ChannelState
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.features import Feature
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.opening import (
    MINIMUM_DUST_LIMIT_SAT,
    RESERVE_DIVISOR,
    channel_type_of,
)
from lightning_proxy.wallet.keys import ChannelPoints, WalletKeys
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import Ledger, StoredChannel
from lightning_proxy.wallet.request import (
    ChannelKeysRequest,
    ChannelReadyRequest,
    FundingCreatedRequest,
    FundingSignedRequest,
    FundingTransactionRequest,
    LeftOpen,
    ReestablishRequest,
    Refusal,
    Request,
    UnknownChannelRequest,
)

HTLC_MINIMUM_MSAT: Final = 1
#: As an integer of JSON, whatever the reader; a block height below 2^24 stays possible.
_ALIAS_BITS: Final = 63

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Seen:
    """A channel's funding output, by whoever is believed about it."""

    scriptpubkey: bytes
    amount_sat: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class Funding:
    """A signed funding transaction of ours; the id's bytes stand as in `funding_created`."""

    transaction: bytes
    txid: bytes
    output_index: int


# ---- where the peer opens ----


def accept(
    ledger: Ledger, request: ChannelKeysRequest, keys: WalletKeys, policy: Policy
) -> tuple[int, bytes]:
    """`channel_keys`: fresh keys, once for each `open_channel`."""
    stored = ledger.opening(request.peer, Role.ACCEPTER, request.channel_id)
    if stored is None:
        channel = Channel(Role.ACCEPTER, request.features)
        channel.receive(request.raw, request.open_channel)
        index, salt = ledger.next_index(), keys.fresh_salt()
        points = keys.channel(index, salt).points()
        say(channel, _accept_channel(channel.open_channel, points, policy))
        ledger.add(index, salt, request.peer, request.session_id, channel)
    else:
        _check_alive(stored)
        index, channel = stored.index, stored.channel()
        hear(channel, request.raw_messages)
    return index, msgspec.json.encode(_channel_keys(channel.accept_channel))


def sign_funding(
    ledger: Ledger, request: FundingSignedRequest, keys: WalletKeys
) -> tuple[int, bytes]:
    """`funding_signed`: our signature for the peer's first commitment, once."""
    stored = ledger.opening(request.peer, Role.ACCEPTER, request.channel_id)
    if stored is None:
        raise Refusal("this wallet has accepted no channel of that temporary id from that peer")
    channel = stored.channel()
    hear(channel, request.raw_messages)
    signed = said(channel, FundingSigned)
    if signed is None:
        _check_alive(stored)
        unsigned = channel.commitments[Role.OPENER].unsigned
        signature = unsigned.sign(keys.channel(stored.index, stored.salt).funding_secret)
        signed = FundingSigned(channel_id=channel.channel_id, signature=signature)
        say(channel, signed)
        ledger.extend(stored, channel)
    return stored.index, msgspec.json.encode(rpc.FundingSigned(signed.signature.hex()))


# ---- where this wallet opens ----


def hear_accept_channel(
    ledger: Ledger, request: FundingCreatedRequest, policy: Policy
) -> StoredChannel:
    """The first half of `funding_created`: take the peer's limits, once, before money is asked for.

    From here on the funding output is settled.
    """
    stored = _offered(ledger, request)
    _check_alive(stored)
    channel = stored.channel()
    hear(channel, request.raw_messages)
    policy.check_answer(channel.open_channel, channel.accept_channel)
    ledger.extend(stored, channel)
    return _offered(ledger, request)


def create_funding(
    ledger: Ledger, request: FundingCreatedRequest, keys: WalletKeys, funding: Funding | None
) -> tuple[int, bytes]:
    """The second half: our signature for the peer's first commitment, for this outpoint, once.

    Without `funding` it has to be there already.
    """
    stored = _offered(ledger, request)
    channel = stored.channel()
    hear(channel, request.raw_messages)
    created = said(channel, FundingCreated)
    if created is None:
        _check_alive(stored)
        if funding is None:
            raise Refusal("there is no funding transaction")
        unsigned_message = FundingCreated(
            temporary_channel_id=channel.temporary_channel_id,
            funding_txid=funding.txid,
            funding_output_index=funding.output_index,
            signature=bytes(64),
        )
        unsigned = channel.commitments_of(unsigned_message)[Role.ACCEPTER].unsigned
        signature = unsigned.sign(keys.channel(stored.index, stored.salt).funding_secret)
        created = msgspec.structs.replace(unsigned_message, signature=signature)
        say(channel, created)
        ledger.extend(stored, channel)
        ledger.fund(stored, funding.transaction)
    answer = rpc.FundingCreated(
        funding_txid=created.funding_txid.hex(),
        funding_output_index=created.funding_output_index,
        signature=created.signature.hex(),
    )
    return stored.index, msgspec.json.encode(answer)


def release_funding(
    ledger: Ledger, request: FundingTransactionRequest, *, to_relay: bool
) -> tuple[int, bytes]:
    """`funding_transaction`: only once the peer's signature for our first commitment holds.

    `to_relay`: whether the relay is to broadcast it.
    """
    stored = _funded(ledger, request)
    channel = stored.channel()
    if channel.role is not Role.OPENER or stored.funding_transaction is None:
        raise Refusal("this wallet has no funding transaction for that channel")
    hear(channel, request.raw_messages)
    check_signed(channel)
    ledger.extend(stored, channel)
    transaction = stored.funding_transaction.hex() if to_relay else None
    return stored.index, msgspec.json.encode(rpc.FundingTransaction(transaction))


# ---- on both sides ----


def funded(ledger: Ledger, request: Request) -> tuple[StoredChannel, Channel]:
    """The channel that a request names by its final id, with what the peer says about it."""
    stored = _funded(ledger, request)
    channel = stored.channel()
    hear(channel, request.raw_messages)
    return stored, channel


def make_ready(
    ledger: Ledger, request: ChannelReadyRequest, keys: WalletKeys, seen: Seen | None
) -> tuple[int, bytes]:
    """`channel_ready`: the second point, once the funding is deep enough.

    `seen` None: nothing has to be, or it was answered before.
    """
    stored, channel = funded(ledger, request)
    ready = channel.channel_ready(channel.role)
    if ready is None:
        if seen is not None:
            channel.observe(seen.scriptpubkey, seen.amount_sat, seen.confirmations)
        ready = ChannelReady(
            channel_id=channel.channel_id,
            second_per_commitment_point=keys.channel(
                stored.index, stored.salt
            ).per_commitment_point(1),
            short_channel_id=secrets.randbits(_ALIAS_BITS) if _has_alias(channel) else None,
        )
        say(channel, ready)
    ledger.extend(stored, channel)
    answer = rpc.ChannelReady(ready.second_per_commitment_point.hex(), ready.short_channel_id)
    return stored.index, msgspec.json.encode(answer)


def reestablish(ledger: Ledger, request: ReestablishRequest) -> tuple[int, bytes]:
    """`reestablish`: where this wallet's record stands."""
    stored, channel = funded(ledger, request)
    check_signed(channel)
    ledger.extend(stored, channel)
    numbers = channel.reestablish()
    answer = rpc.Reestablish(
        next_commitment_number=numbers.next_commitment_number,
        next_revocation_number=numbers.next_revocation_number,
        your_last_per_commitment_secret=numbers.your_last_per_commitment_secret.hex(),
        my_current_per_commitment_point=numbers.my_current_per_commitment_point.hex(),
    )
    return stored.index, msgspec.json.encode(answer)


def know(ledger: Ledger, request: UnknownChannelRequest) -> tuple[int, bytes]:
    """`unknown_channel`: whether the record has it; raises `Refusal` where it doesn't.

    A record that is known to be an old copy can't say no: the peer would close for good what the
    latest one has. That is left to who has it (`LeftOpen`).
    """
    stored = ledger.funded(request.peer, request.channel_id)
    if stored is None and ledger.outdated is not None:
        raise LeftOpen
    if stored is None:
        raise Refusal("this node has no such channel")
    return stored.index, msgspec.json.encode(rpc.ChannelKnown())


# ---- what is said ----


def hear(channel: Channel, raw_messages: Iterable[bytes]) -> None:
    """Take the peer's messages; what the record has already is passed over.

    Raises `Refusal` for one that contradicts the record, `BoltError` for one that may not be.
    """
    for raw in raw_messages:
        message = decode(raw)
        known = _first(channel, channel.role.other, message.TYPE)
        # BOLT #2 has channel_ready repeated, and allows it another alias then.
        if known is None or isinstance(message, ChannelReady):
            channel.receive(raw, message)
        elif known != raw:
            raise Refusal(_contradiction(channel, message))


def say(channel: Channel, message: Message) -> None:
    """This side's message, if the channel's rules allow it; raises `BoltError`."""
    channel.send(message.encode(), message)


def said(channel: Channel, kind: type[M]) -> M | None:
    """What this side has said before."""
    raw = _first(channel, channel.role, kind.TYPE)
    message = None if raw is None else decode(raw)
    return message if isinstance(message, kind) else None


def check_signed(channel: Channel) -> None:
    """Raises `Refusal` while a signature is missing."""
    if channel.state not in (ChannelState.SIGNED, ChannelState.READY):
        raise Refusal(
            f"the channel is {channel.state}: funding_signed is missing, without which the "
            "funding could not be got back"
        )


def _first(channel: Channel, sender: Role, type_: int) -> bytes | None:
    start = type_.to_bytes(2, "big")
    return next(
        (e.raw for e in channel.log if e.sender is sender and e.raw.startswith(start)), None
    )


def _contradiction(channel: Channel, message: Message) -> str:
    reason = f"another {message.NAME} than the one in this wallet's record of the channel"
    if isinstance(message, FundingCreated) and said(channel, FundingSigned) is not None:
        return f"{reason}: a second signature for a first commitment is never made"
    return reason


# ---- inside ----


def _check_alive(stored: StoredChannel) -> None:
    """Nothing new is said for an opening that was given up; what was said stays said."""
    if stored.failure is not None and not stored.is_committed:
        raise Refusal(f"this opening is over: {stored.failure}")


def _offered(ledger: Ledger, request: FundingCreatedRequest) -> StoredChannel:
    stored = ledger.opening(request.peer, Role.OPENER, request.channel_id)
    if stored is None:
        raise Refusal("this wallet has offered that peer no channel of that temporary id")
    return stored


def _funded(ledger: Ledger, request: Request) -> StoredChannel:
    stored = ledger.funded(request.peer, request.channel_id)
    if stored is None:
        raise Refusal(
            "this wallet's record has no channel of that id with that peer, and nothing is signed "
            "without"
        )
    return stored


def _has_alias(channel: Channel) -> bool:
    """BOLT #2: such channels are known by an alias, the others by their place on the chain."""
    channel_type = channel_type_of(channel.open_channel, channel.features)
    return channel_type.requires(Feature.OPTION_SCID_ALIAS) or channel_type.requires(
        Feature.OPTION_ZEROCONF
    )


def _accept_channel(wanted: OpenChannel, points: ChannelPoints, policy: Policy) -> AcceptChannel:
    return AcceptChannel(
        temporary_channel_id=wanted.temporary_channel_id,
        dust_limit_satoshis=MINIMUM_DUST_LIMIT_SAT,
        max_htlc_value_in_flight_msat=1000 * wanted.funding_satoshis,
        # BOLT #2: the reserve must be no dust to the opener.
        channel_reserve_satoshis=max(
            wanted.funding_satoshis // RESERVE_DIVISOR, wanted.dust_limit_satoshis
        ),
        htlc_minimum_msat=HTLC_MINIMUM_MSAT,
        minimum_depth=policy.depth(wanted),
        to_self_delay=policy.to_self_delay,
        max_accepted_htlcs=policy.max_accepted_htlcs,
        **asdict(points),
        # As the relay sends it: empty commits to nothing.
        upfront_shutdown_script=b"",
        # BOLT #2: the type of open_channel, or none where it named none.
        channel_type=wanted.channel_type,
    )


def _channel_keys(accept: AcceptChannel) -> rpc.ChannelKeys:
    channel_type = accept.channel_type
    return rpc.ChannelKeys(
        funding_pubkey=accept.funding_pubkey.hex(),
        revocation_basepoint=accept.revocation_basepoint.hex(),
        payment_basepoint=accept.payment_basepoint.hex(),
        delayed_payment_basepoint=accept.delayed_payment_basepoint.hex(),
        htlc_basepoint=accept.htlc_basepoint.hex(),
        first_per_commitment_point=accept.first_per_commitment_point.hex(),
        dust_limit_sat=accept.dust_limit_satoshis,
        max_htlc_value_in_flight_msat=accept.max_htlc_value_in_flight_msat,
        channel_reserve_sat=accept.channel_reserve_satoshis,
        htlc_minimum_msat=accept.htlc_minimum_msat,
        minimum_depth=accept.minimum_depth,
        to_self_delay=accept.to_self_delay,
        max_accepted_htlcs=accept.max_accepted_htlcs,
        channel_type=None if channel_type is None else channel_type.hex(),
    )
