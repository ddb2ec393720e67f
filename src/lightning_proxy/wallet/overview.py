"""The wallet's channels at a glance: what its record says, and what somebody's chain shows."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, structs

from lightning_proxy.bolt.channel import SIGNED, Channel, ChannelState
from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.opening import ANNOUNCE_CHANNEL, channel_type_of
from lightning_proxy.chain import ChainSource
from lightning_proxy.rpc import ChannelInfo
from lightning_proxy.wallet.confirmations import difference_of
from lightning_proxy.wallet.moving.balances import balances, every_htlc
from lightning_proxy.wallet.moving.ready import Ready
from lightning_proxy.wallet.policy import Policy
from lightning_proxy.wallet.record import StoredChannel
from lightning_proxy.wallet.request import chain_of

OWN_CHAIN: Final = "own chain source"
RELAY: Final = "relay"
#: A view's states besides those of `ChannelState`: not gone on with, and spent on the chain.
FAILED: Final = "failed"
CLOSED: Final = "closed"

_STATES: Final = {
    ChannelState.OFFERED: "offered",
    ChannelState.ACCEPTED: "accepted, not funded yet",
    ChannelState.CREATED: "funded, not signed by the peer yet",
    ChannelState.SIGNED: "waiting for confirmations",
    ChannelState.READY: "open",
}


class FundingView(Struct, frozen=True, kw_only=True):
    """What a chain shows of a funding output; `source` says whose chain."""

    source: str
    #: None: it is not there.
    confirmations: int | None
    spent: bool = False
    #: In what it is not what was agreed.
    difference: str | None = None


class HtlcView(Struct, frozen=True, kw_only=True):
    """A payment that is under way; `cltv_expiry` is the block height at which it is too late."""

    is_incoming: bool
    amount_msat: int
    payment_hash: str
    cltv_expiry: int


class ChannelView(Struct, frozen=True, kw_only=True):
    """One channel, as an owner sees it; its `state` is a `ChannelState`, `FAILED` or `CLOSED`.

    The balances are the record's, without what is under way, which is in `htlcs`. What can be
    sent and received, in one payment, is None where the channel is not open.
    `unproved_msat` is what the peer pushed and only the relay's word stands for: not counted
    among `our_balance_msat`, unless the policy says so.
    """

    channel_id: str
    peer: str
    role: str
    state: str
    description: str
    chain: str
    channel_type: str
    public: bool
    capacity_sat: int
    our_balance_msat: int
    peer_balance_msat: int
    unproved_msat: int
    sendable_msat: int | None = None
    receivable_msat: int | None = None
    htlcs: list[HtlcView] = []
    confirmations_needed: int | None
    funding: FundingView | None


async def overview(
    channels: Iterable[StoredChannel],
    policy: Policy,
    *,
    source: ChainSource | None = None,
    listed: Iterable[ChannelInfo] = (),
    ready: Iterable[Ready] = (),
) -> list[ChannelView]:
    """What there is to show; `source` is asked before the relay's list is believed.

    `ready` has the channels that move, as they stand.

    Raises `ChainError`.
    """
    moving = {each.stored.index: each.snapshot for each in ready}
    by_id = {info.channel_id: info for info in listed}
    views = []
    for stored in channels:
        channel = stored.channel()
        funding = None
        info = by_id.get(channel.channel_id.hex())
        if channel.state in SIGNED:
            if source is not None and source.chain == chain_of(channel.open_channel):
                funding = await _by_source(channel, source)
            elif info is not None:
                seen = None if info.funding is None else info.funding.confirmations
                funding = FundingView(source=RELAY, confirmations=seen)
        failure = stored.failure or (None if info is None else info.failure)
        view = _view(stored, channel, funding, policy, failure)
        snapshot = moving.get(stored.index)
        if snapshot is not None and failure is None:
            view = _moved(view, snapshot)
        views.append(view)
    return views


async def _by_source(channel: Channel, source: ChainSource) -> FundingView:
    created = channel.funding_created
    output = await source.output(created.funding_txid, created.funding_output_index)
    if output is None:
        return FundingView(source=OWN_CHAIN, confirmations=None)
    return FundingView(
        source=OWN_CHAIN,
        confirmations=output.confirmations,
        spent=output.spent,
        difference=difference_of(channel, output),
    )


def _view(
    stored: StoredChannel,
    channel: Channel,
    funding: FundingView | None,
    policy: Policy,
    failure: str | None,
) -> ChannelView:
    opened = channel.open_channel
    is_dead = failure is not None and channel.state not in SIGNED
    is_accepted = channel.state is not ChannelState.OFFERED
    needed = channel.accept_channel.minimum_depth if is_accepted else None
    ours = channel.balance_msat(channel.role)
    proved = (
        channel.role is Role.OPENER
        or policy.trust_relay_for_push
        or _is_proved(funding, needed or 1)
    )
    return ChannelView(
        channel_id=channel.channel_id.hex(),
        peer=stored.peer.hex(),
        role=channel.role.value,
        state=_state(channel, funding, failure),
        description=_description(channel, funding, failure),
        chain=chain_of(opened),
        channel_type=str(channel_type_of(opened, channel.features)),
        public=bool(opened.channel_flags & ANNOUNCE_CHANNEL),
        capacity_sat=opened.funding_satoshis,
        our_balance_msat=ours if proved and not is_dead else 0,
        peer_balance_msat=0 if is_dead else channel.balance_msat(channel.role.other),
        unproved_msat=0 if proved or is_dead else ours,
        confirmations_needed=needed,
        funding=funding,
    )


def _moved(view: ChannelView, snapshot: Snapshot) -> ChannelView:
    """With what payments have made of it."""
    now = balances(snapshot)
    is_closed = view.state == CLOSED
    return structs.replace(
        view,
        our_balance_msat=0 if view.unproved_msat else now.ours_msat,
        unproved_msat=now.ours_msat if view.unproved_msat else 0,
        peer_balance_msat=now.theirs_msat,
        sendable_msat=None if is_closed else now.sendable_msat,
        receivable_msat=None if is_closed else now.receivable_msat,
        htlcs=[
            HtlcView(
                is_incoming=htlc.offered_by is not snapshot.role,
                amount_msat=htlc.amount_msat,
                payment_hash=htlc.payment_hash.hex(),
                cltv_expiry=htlc.cltv_expiry,
            )
            for htlc in every_htlc(snapshot)
        ],
    )


def _is_proved(funding: FundingView | None, needed: int) -> bool:
    """Whether the money is there: the peer's signature for our share is in the record already."""
    return (
        funding is not None
        and funding.source == OWN_CHAIN
        and funding.difference is None
        and not funding.spent
        and (funding.confirmations or 0) >= needed
    )


def _state(channel: Channel, funding: FundingView | None, failure: str | None) -> str:
    """What programs go by: nothing that is dead is `ready`."""
    if funding is not None and funding.spent:
        return CLOSED
    return channel.state.value if failure is None else FAILED


def _description(channel: Channel, funding: FundingView | None, failure: str | None) -> str:
    if funding is not None and funding.difference is not None:
        return "funding is not what was agreed"
    if funding is not None and funding.spent:
        return "closed on the chain"
    if failure is not None:
        return f"{'failed, to be closed' if channel.state in SIGNED else 'failed'} ({failure})"
    if channel.state is ChannelState.SIGNED and channel.channel_ready(channel.role) is not None:
        return "waiting for the peer's channel_ready"
    return _STATES[channel.state]
