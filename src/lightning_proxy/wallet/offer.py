"""The `open_channel` that this wallet offers, with fresh keys of its own."""

import secrets
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Final

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel import Channel
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import OpenChannel
from lightning_proxy.bolt.opening import (
    MINIMUM_DUST_LIMIT_SAT,
    RESERVE_DIVISOR,
)
from lightning_proxy.chain import MINIMUM_FEERATE_PER_KW, ChainError, ChainSource
from lightning_proxy.wallet.errors import ChannelError
from lightning_proxy.wallet.keys import ChannelPoints, WalletKeys
from lightning_proxy.wallet.policy import CHANNEL_TYPES, ChannelType, Policy
from lightning_proxy.wallet.record import Ledger, Record
from lightning_proxy.wallet.steps import HTLC_MINIMUM_MSAT, say

#: Blocks within which a commitment should confirm, where a chain source can say what that costs.
_TARGET_BLOCKS: Final = 6
#: What a commitment pays where nobody says: ten satoshis a virtual byte where it is worth money.
_FEERATES: Final = {"bitcoin": 2_500}


@dataclass(frozen=True, slots=True)
class Offer:
    """What the owner wants: a channel with this peer (node id, 33 bytes).

    Without a `channel_type` the best that both nodes support is taken; without a feerate (satoshis
    a 1,000 units of weight) a chain source's estimate. `session_id` is where it is offered, and
    `temporary_channel_id` (32 bytes) what it is known by.
    """

    peer: bytes
    funding_sat: int
    push_msat: int = 0
    channel_type: ChannelType | None = None
    announce: bool = False
    feerate_per_kw: int | None = None
    session_id: str | None = None
    temporary_channel_id: bytes = field(default_factory=partial(secrets.token_bytes, 32))


async def offer_channel(
    offer: Offer,
    *,
    chain: str,
    features: Features,
    keys: WalletKeys,
    policy: Policy,
    record: Record,
    source: ChainSource | None,
) -> OpenChannel:
    """The `open_channel`, stored under a fresh index before it is returned.

    `chain` is a name of `bolt.chains`, `features` are those both nodes support. Raises
    `ChannelError`, `RecordError`.
    """
    if offer.announce:
        raise ChannelError("This wallet announces no channels yet: open it without --public.")
    if chain not in CHAIN_HASHES:
        raise ChannelError(f"{chain!r} is no chain; write one of {', '.join(CHAIN_HASHES)}.")
    if source is not None and source.chain != chain:
        raise ChannelError(f"The wallet's chain source shows {source.chain}, and not {chain}.")
    channel_type = _type_of(offer.channel_type, features)
    feerate = offer.feerate_per_kw
    if feerate is None:
        feerate = min(await _feerate(chain, source), policy.max_feerate_per_kw)
    elif feerate > policy.max_feerate_per_kw:
        raise ChannelError(
            f"A feerate of {feerate} sat/kw is above the policy's {policy.max_feerate_per_kw}."
        )

    def store(ledger: Ledger) -> OpenChannel:
        index, salt = ledger.next_index(), keys.fresh_salt()
        points = keys.channel(index, salt).points()
        message = _open_channel(offer, chain, channel_type, feerate, points, policy)
        channel = Channel(Role.OPENER, features)
        say(channel, message)
        ledger.add(index, salt, offer.peer, offer.session_id, channel)
        return message

    try:
        return await record.change(store)
    except BoltError as error:
        raise ChannelError(f"BOLT 2 does not allow such a channel: {error}.") from None


def _type_of(name: ChannelType | None, features: Features) -> Features:
    if name is None:
        name = "anchors" if features.offers(Feature.OPTION_ANCHORS) else "static_remotekey"
    elif name == "anchors" and not features.offers(Feature.OPTION_ANCHORS):
        raise ChannelError("This peer has no anchors; choose static_remotekey.")
    return Features.from_bits(CHANNEL_TYPES[name])


async def _feerate(chain: str, source: ChainSource | None) -> int:
    """Satoshis a 1,000 units of weight."""
    if source is not None:
        try:
            return await source.fee_estimate(_TARGET_BLOCKS)
        except ChainError as error:
            raise ChannelError(
                f"The wallet's chain source has no fee estimate ({error}); give a feerate."
            ) from None
    return _FEERATES.get(chain, MINIMUM_FEERATE_PER_KW)


def _open_channel(
    offer: Offer,
    chain: str,
    channel_type: Features,
    feerate_per_kw: int,
    points: ChannelPoints,
    policy: Policy,
) -> OpenChannel:
    return OpenChannel(
        chain_hash=CHAIN_HASHES[chain],
        temporary_channel_id=offer.temporary_channel_id,
        funding_satoshis=offer.funding_sat,
        push_msat=offer.push_msat,
        dust_limit_satoshis=MINIMUM_DUST_LIMIT_SAT,
        max_htlc_value_in_flight_msat=1000 * offer.funding_sat,
        channel_reserve_satoshis=max(offer.funding_sat // RESERVE_DIVISOR, MINIMUM_DUST_LIMIT_SAT),
        htlc_minimum_msat=HTLC_MINIMUM_MSAT,
        feerate_per_kw=feerate_per_kw,
        to_self_delay=policy.to_self_delay,
        max_accepted_htlcs=policy.max_accepted_htlcs,
        **asdict(points),
        channel_flags=0,
        upfront_shutdown_script=b"",
        channel_type=channel_type.to_bytes(),
    )
