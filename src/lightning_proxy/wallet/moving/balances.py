"""What a channel can carry now: with the reserves, the fees and what is under way taken off."""

from typing import Final

from msgspec import Struct, structs

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.channel.updates import balance_msat, propose
from lightning_proxy.bolt.commitment import CommitmentState, Htlc, Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import UpdateAddHtlc

_ONION: Final = bytes(1366)


class Balances(Struct, frozen=True, kw_only=True):
    """All in msat; what is under way is part of neither balance."""

    ours_msat: int
    theirs_msat: int
    #: The most that one payment may have.
    sendable_msat: int
    receivable_msat: int
    outgoing_msat: int
    incoming_msat: int
    outgoing_htlcs: int
    incoming_htlcs: int
    feerate_per_kw: int


def balances(snapshot: Snapshot) -> Balances:
    """As this side's latest commitment has them."""
    state, role = snapshot.ours.latest.state, snapshot.role
    under_way = every_htlc(snapshot)
    outgoing = [htlc for htlc in under_way if htlc.offered_by is role]
    incoming = [htlc for htlc in under_way if htlc.offered_by is not role]
    return Balances(
        ours_msat=balance_msat(state, role),
        theirs_msat=balance_msat(state, role.other),
        sendable_msat=sendable_msat(snapshot),
        receivable_msat=sendable_msat(structs.replace(snapshot, role=role.other)),
        outgoing_msat=sum(htlc.amount_msat for htlc in outgoing),
        incoming_msat=sum(htlc.amount_msat for htlc in incoming),
        outgoing_htlcs=len(outgoing),
        incoming_htlcs=len(incoming),
        feerate_per_kw=state.feerate_per_kw,
    )


def sendable_msat(snapshot: Snapshot) -> int:
    """The largest HTLC that this side may offer now; 0: none.

    What is allowed for an amount is allowed for a smaller one, down to the least that the other
    side takes.
    """
    least = max(1, terms_of(snapshot).side(snapshot.role.other).htlc_minimum_msat)
    low, high = least - 1, balance_msat(snapshot.theirs.latest.state, snapshot.role) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _may_offer(snapshot, middle):
            low = middle
        else:
            high = middle
    return low if low >= least else 0


def every_htlc(snapshot: Snapshot) -> tuple[Htlc, ...]:
    """All HTLCs that some commitment holds which may still come to the chain."""
    found = {(htlc.offered_by, htlc.id): htlc for state in states(snapshot) for htlc in state.htlcs}
    return tuple(found.values())


def states(snapshot: Snapshot) -> tuple[CommitmentState, ...]:
    """Of all commitments that are not revoked."""
    signed = [
        each
        for side in (snapshot.opener, snapshot.accepter)
        for each in (side.commitment, side.unrevoked)
    ]
    return tuple(each.state for each in signed if each is not None)


def _may_offer(snapshot: Snapshot, amount_msat: int) -> bool:
    terms, role = terms_of(snapshot), snapshot.role
    add = UpdateAddHtlc(
        channel_id=terms.channel_id,
        id=snapshot.side(role).next_htlc_id,
        amount_msat=amount_msat,
        payment_hash=bytes(32),
        cltv_expiry=1,
        onion_routing_packet=_ONION,
    )
    try:
        propose(snapshot, terms, role, add.encode(), add)
    except (BoltError, ValueError):
        return False
    return True


def is_gone(snapshot: Snapshot, offered_by: Role, htlc_id: int) -> bool:
    """Whether no commitment holds this HTLC any more that is not revoked: it is over for good."""
    return not any(
        htlc.offered_by is offered_by and htlc.id == htlc_id for htlc in every_htlc(snapshot)
    )
