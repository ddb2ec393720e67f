"""What BOLT 2 requires of `open_channel` and `accept_channel` (version 1), as pure checks.

Only what the two messages say by themselves; what a node merely prefers is its own policy.
"""

from typing import Final, NoReturn

from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.fees import anchors_sat, commitment_fee_sat
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel

#: BOLT #3, "Dust Limits": the least that every output a commitment may have can be worth.
MINIMUM_DUST_LIMIT_SAT: Final = 354
#: BOLT #2: with more on either side, a penalty transaction outgrows what nodes relay.
MAXIMUM_ACCEPTED_HTLCS: Final = 483
#: BOLT #2: the funding below which `option_support_large_channel` isn't needed.
LARGE_CHANNEL_SAT: Final = 1 << 24
#: All the bitcoins that there will be.
MAXIMUM_MONEY_SAT: Final = 21_000_000 * 100_000_000
#: BOLT #2 suggests a reserve of one percent of the funding.
RESERVE_DIVISOR: Final = 100
#: BOLT #2 leaves "unreasonably large" open; two weeks is lnd's and LDK's limit too.
MAXIMUM_TO_SELF_DELAY: Final = 2016
#: BOLT #2 leaves the bounds of the feerate open. Below one satoshi a virtual byte a transaction
#: doesn't travel; above a thousand it burns the channel.
MINIMUM_FEERATE_PER_KW: Final = 250
MAXIMUM_FEERATE_PER_KW: Final = 250_000

_POINTS: Final = (
    "funding_pubkey",
    "revocation_basepoint",
    "payment_basepoint",
    "delayed_payment_basepoint",
    "htlc_basepoint",
    "first_per_commitment_point",
)

#: BOLT #2: the bit of `channel_flags` by which the opener asks for a public channel.
ANNOUNCE_CHANNEL: Final = 1

#: The channel types whose commitments are built here (BOLT #2: even bits only), and the bits that
#: any of them may have besides.
_TYPES: Final = (
    frozenset({Feature.OPTION_STATIC_REMOTEKEY}),
    frozenset({Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS}),
)
_TYPE_VARIANTS: Final = frozenset({Feature.OPTION_SCID_ALIAS, Feature.OPTION_ZEROCONF})

_ANY_SEGWIT: Final = Features.offering(Feature.OPTION_SHUTDOWN_ANYSEGWIT)


def is_shutdown_script(script: bytes, features: Features) -> bool:
    """Whether BOLT #2's `shutdown` lets a channel's funds go to this script.

    `features` are those both nodes support.
    """
    size = len(script)
    opcode = script[0] if script else None
    match opcode:
        case 0x00:  # OP_0: pay to a witness public key hash, or to a witness script hash
            return size in (22, 34) and script[1] == size - 2
        case int() if 0x51 <= opcode <= 0x60:  # OP_1 to OP_16: later witness versions
            return (
                features.offers(Feature.OPTION_SHUTDOWN_ANYSEGWIT)
                and 4 <= size <= 42
                and script[1] == size - 2
            )
        case 0x6A:  # OP_RETURN: to nobody, one push; more than 75 bytes by OP_PUSHDATA1
            return features.offers(Feature.OPTION_SIMPLE_CLOSE) and (
                (8 <= size <= 77 and script[1] == size - 2)
                or (79 <= size <= 83 and script[1:3] == bytes([0x4C, size - 3]))
            )
    return False


def channel_id_of(funding_txid: bytes, funding_output_index: int) -> bytes:
    """The `channel_id` (32 bytes) that follows the temporary one, from `funding_created`'s fields.

    BOLT #2: the index changes the last two bytes.
    """
    tail = int.from_bytes(funding_txid[-2:], "big") ^ funding_output_index
    return funding_txid[:-2] + tail.to_bytes(2, "big")


def short_channel_id(block_height: int, transaction_index: int, output_index: int) -> int:
    """Where a funding output is on the chain (BOLT #7): 3, 3 and 2 bytes, as one integer."""
    return block_height << 40 | transaction_index << 16 | output_index


def check_open_channel(
    message: OpenChannel,
    features: Features = _ANY_SEGWIT,
) -> None:
    """Raises `RequirementError` for an `open_channel` that its receiver must refuse.

    `features` are those both nodes support. That the chain is known and that the channel type is
    wanted, the caller decides; a type whose commitments nobody here can build is refused.
    """
    if message.funding_satoshis >= LARGE_CHANNEL_SAT and not features.offers(
        Feature.OPTION_SUPPORT_LARGE_CHANNEL
    ):
        _refuse(
            "funding_satoshis",
            f"{message.funding_satoshis} sat; from {LARGE_CHANNEL_SAT} on, both nodes must support "
            "large channels",
        )
    if message.funding_satoshis > MAXIMUM_MONEY_SAT:
        _refuse("funding_satoshis", "more than there will ever be")
    if message.push_msat > 1000 * message.funding_satoshis:
        _refuse("push_msat", f"{message.push_msat} msat is more than the funding")
    if not MINIMUM_FEERATE_PER_KW <= message.feerate_per_kw <= MAXIMUM_FEERATE_PER_KW:
        _refuse(
            "feerate_per_kw",
            f"{message.feerate_per_kw} sat/kw is not within {MINIMUM_FEERATE_PER_KW} to "
            f"{MAXIMUM_FEERATE_PER_KW}",
        )
    _check_common(message, features)
    channel_type = channel_type_of(message, features)
    _check_channel_type(message, channel_type)
    _check_first_commitment(message, channel_type, message.channel_reserve_satoshis)


def check_accept_channel(
    open_channel: OpenChannel,
    accept_channel: AcceptChannel,
    features: Features = _ANY_SEGWIT,
) -> None:
    """Raises `RequirementError` for an `accept_channel` that the opener must refuse.

    It answers `open_channel`, which `check_open_channel` has passed; `features` as there.
    """
    if accept_channel.temporary_channel_id != open_channel.temporary_channel_id:
        _refuse("temporary_channel_id", "not the one of open_channel")
    _check_common(accept_channel, features)
    # BOLT #2: either side's reserve must be no dust to the other, so that each commitment keeps
    # at least one output.
    if accept_channel.channel_reserve_satoshis < open_channel.dust_limit_satoshis:
        _refuse(
            "channel_reserve_satoshis",
            f"{accept_channel.channel_reserve_satoshis} sat is below the opener's dust limit, "
            f"{open_channel.dust_limit_satoshis} sat",
        )
    if accept_channel.dust_limit_satoshis > open_channel.channel_reserve_satoshis:
        _refuse(
            "dust_limit_satoshis",
            f"{accept_channel.dust_limit_satoshis} sat is above the opener's channel reserve, "
            f"{open_channel.channel_reserve_satoshis} sat",
        )
    # BOLT #2 wants a type in both; peers that negotiate none leave it out of both.
    if accept_channel.channel_type != open_channel.channel_type:
        _refuse("channel_type", "not the one of open_channel")
    channel_type = channel_type_of(open_channel, features)
    if channel_type.requires(Feature.OPTION_ZEROCONF) and accept_channel.minimum_depth != 0:
        _refuse("minimum_depth", "a channel of the type option_zeroconf has none: 0")
    _check_first_commitment(open_channel, channel_type, accept_channel.channel_reserve_satoshis)


def _check_common(message: OpenChannel | AcceptChannel, features: Features) -> None:
    """BOLT #2 asks the same of the fields that both messages have."""
    if message.dust_limit_satoshis < MINIMUM_DUST_LIMIT_SAT:
        _refuse(
            "dust_limit_satoshis",
            f"{message.dust_limit_satoshis} sat is below {MINIMUM_DUST_LIMIT_SAT} sat",
        )
    if message.dust_limit_satoshis > message.channel_reserve_satoshis:
        _refuse(
            "dust_limit_satoshis",
            f"{message.dust_limit_satoshis} sat is above the channel reserve, "
            f"{message.channel_reserve_satoshis} sat",
        )
    if message.to_self_delay > MAXIMUM_TO_SELF_DELAY:
        _refuse("to_self_delay", f"{message.to_self_delay} blocks, at most {MAXIMUM_TO_SELF_DELAY}")
    if message.max_accepted_htlcs > MAXIMUM_ACCEPTED_HTLCS:
        _refuse(
            "max_accepted_htlcs",
            f"{message.max_accepted_htlcs}, at most {MAXIMUM_ACCEPTED_HTLCS}",
        )
    for field in _POINTS:
        if not is_point(getattr(message, field)):
            _refuse(field, "no point of secp256k1")
    script = message.upfront_shutdown_script
    if script and not is_shutdown_script(script, features):
        _refuse("upfront_shutdown_script", "neither empty nor one of the forms for shutdown")


def channel_type_of(message: OpenChannel, features: Features) -> Features:
    """The channel's type: what `open_channel` names, else what both nodes' features make of it."""
    if message.channel_type is not None:
        return Features.from_bytes(message.channel_type)
    # BOLT #2, before types were negotiated: the best that both support.
    anchors = (Feature.OPTION_ANCHORS,) if features.offers(Feature.OPTION_ANCHORS) else ()
    return Features.from_bits((Feature.OPTION_STATIC_REMOTEKEY, *anchors))


def _check_channel_type(message: OpenChannel, channel_type: Features) -> None:
    named = message.channel_type
    if named is not None and (not named or named[0] == 0):
        _refuse("channel_type", "not in the fewest bytes")
    if frozenset(channel_type.bits) - _TYPE_VARIANTS not in _TYPES:
        _refuse("channel_type", f"{channel_type} is not supported")
    # BOLT #2: an alias hides the channel that an announcement would publish.
    if message.channel_flags & ANNOUNCE_CHANNEL and channel_type.requires(
        Feature.OPTION_SCID_ALIAS
    ):
        _refuse("channel_type", "option_scid_alias in a channel to be announced")


def _check_first_commitment(message: OpenChannel, channel_type: Features, reserve_sat: int) -> None:
    """The opener pays the first commitment's fee, and one side has more than the reserve."""
    anchors = channel_type.requires(Feature.OPTION_ANCHORS)
    # BOLT #3: the opener pays the anchors too.
    cost_sat = commitment_fee_sat(message.feerate_per_kw, anchors=anchors)
    cost_sat += anchors_sat(anchors=anchors)
    to_opener_msat = 1000 * (message.funding_satoshis - cost_sat) - message.push_msat
    if to_opener_msat < 0:
        _refuse(
            "funding_satoshis",
            f"what the opener keeps is not enough for its first commitment, {cost_sat} sat",
        )
    if max(to_opener_msat, message.push_msat) <= 1000 * reserve_sat:
        _refuse(
            "channel_reserve_satoshis",
            f"neither side has more than {reserve_sat} sat in the first commitment",
        )


def _refuse(field: str, reason: str) -> NoReturn:
    raise RequirementError(field, reason)
