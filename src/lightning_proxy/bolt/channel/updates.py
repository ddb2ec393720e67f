"""The updates of BOLT #2's normal operation: what each may say, and what it changes."""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from typing import Final

from msgspec import structs

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import Terms
from lightning_proxy.bolt.commitment import CommitmentState, Htlc, Role
from lightning_proxy.bolt.errors import RequirementError, UnexpectedMessage
from lightning_proxy.bolt.messages import (
    Message,
    UpdateAddHtlc,
    UpdateFailHtlc,
    UpdateFailMalformedHtlc,
    UpdateFee,
    UpdateFulfillHtlc,
    decode,
)
from lightning_proxy.bolt.onion.codes import FailureFlag, flags_of

Removal = UpdateFulfillHtlc | UpdateFailHtlc | UpdateFailMalformedHtlc
Update = UpdateAddHtlc | Removal | UpdateFee

#: BOLT #2: from here on a number is a time, not a height.
_CLTV_LIMIT: Final = 500_000_000
#: BOLT #2: what the opener keeps ready so that a fee that doubles does not lock the channel up.
_FEE_BUFFER: Final = 2
#: Updates that are kept decoded: each is looked at again for every one that comes after it.
_KEPT: Final = 1024
#: Those that are pending; they are immutable, and so is what they say.
_decoded: Final = lru_cache(_KEPT)(decode)


def apply(state: CommitmentState, updates: Iterable[tuple[Role, Message]]) -> CommitmentState:
    """The next commitment's state, after these updates of these senders.

    Balances may come out below zero: whether they may, who asks has to judge.
    """
    balances = {Role.OPENER: state.to_opener_msat, Role.ACCEPTER: state.to_accepter_msat}
    htlcs = {(htlc.offered_by, htlc.id): htlc for htlc in state.htlcs}
    feerate = state.feerate_per_kw
    for sender, update in updates:
        match update:
            case UpdateAddHtlc():
                balances[sender] -= update.amount_msat
                htlcs[sender, update.id] = Htlc(
                    sender, update.id, update.amount_msat, update.payment_hash, update.cltv_expiry
                )
            case UpdateFulfillHtlc():
                balances[sender] += htlcs.pop((sender.other, update.id)).amount_msat
            case UpdateFailHtlc() | UpdateFailMalformedHtlc():
                balances[sender.other] += htlcs.pop((sender.other, update.id)).amount_msat
            case UpdateFee():
                feerate = update.feerate_per_kw
    return replace(
        state,
        commitment_number=state.commitment_number + 1,
        feerate_per_kw=feerate,
        to_opener_msat=balances[Role.OPENER],
        to_accepter_msat=balances[Role.ACCEPTER],
        htlcs=tuple(htlcs.values()),
    )


def next_state(snapshot: Snapshot, signer: Role) -> CommitmentState:
    """What the signer's next `commitment_signed` has to sign: the other side's next commitment.

    All that the signer said, and of the other's all that the signer has acknowledged.
    """
    owner = signer.other
    acked = ((owner, _decoded(raw)) for raw in snapshot.side(owner).changes.acked)
    proposed = ((signer, _decoded(raw)) for raw in snapshot.side(signer).changes.proposed)
    return apply(snapshot.side(owner).latest.state, (*acked, *proposed))


def propose(snapshot: Snapshot, terms: Terms, sender: Role, raw: bytes, update: Update) -> Snapshot:
    """The sender says an update; raises `BoltError` for one that it may not say."""
    side = snapshot.side(sender)
    next_htlc_id = side.next_htlc_id
    match update:
        case UpdateAddHtlc():
            _check_add(snapshot, terms, sender, update)
            next_htlc_id += 1
        case UpdateFee():
            if sender is not Role.OPENER:
                raise UnexpectedMessage("update_fee is the opener's to send")
        case _:
            _check_removal(snapshot, sender, update)
    changes = structs.replace(side.changes, proposed=(*side.changes.proposed, raw))
    changed = snapshot.with_side(
        sender, structs.replace(side, changes=changes, next_htlc_id=next_htlc_id)
    )
    if isinstance(update, UpdateAddHtlc | UpdateFee):
        _check_affordable(changed, terms, sender, update)
    return changed


def find_htlc(snapshot: Snapshot, offered_by: Role, htlc_id: int) -> Htlc | None:
    """This HTLC, where it is irrevocable: part of the latest unrevoked commitment of both sides."""
    found = None
    for side in (snapshot.opener, snapshot.accepter):
        htlcs = side.commitment.state.htlcs
        found = next((h for h in htlcs if h.offered_by is offered_by and h.id == htlc_id), None)
        if found is None:
            break
    return found


def dropped(snapshot: Snapshot, role: Role) -> Snapshot:
    """Without those of this side's updates that no signature of its covers.

    BOLT #2: a disconnection reverses them, for both.
    """
    side = snapshot.side(role)
    proposed = side.changes.proposed
    adds = sum(isinstance(_decoded(raw), UpdateAddHtlc) for raw in proposed)
    return snapshot.with_side(
        role,
        structs.replace(
            side,
            changes=structs.replace(side.changes, proposed=()),
            next_htlc_id=side.next_htlc_id - adds,
        ),
    )


# ---- the rules ----


def _check_add(snapshot: Snapshot, terms: Terms, sender: Role, update: UpdateAddHtlc) -> None:
    limits = terms.side(sender.other)
    if update.id != snapshot.side(sender).next_htlc_id:
        raise RequirementError(
            "id", f"{update.id}, and {snapshot.side(sender).next_htlc_id} is next"
        )
    if update.amount_msat == 0:
        raise RequirementError("amount_msat", "nothing")
    if update.amount_msat < limits.htlc_minimum_msat:
        raise RequirementError(
            "amount_msat",
            f"{update.amount_msat} msat is below htlc_minimum_msat, {limits.htlc_minimum_msat}",
        )
    if update.cltv_expiry >= _CLTV_LIMIT:
        raise RequirementError("cltv_expiry", f"{update.cltv_expiry} is no block height")


def _check_removal(snapshot: Snapshot, sender: Role, update: Removal) -> None:
    """BOLT #2: an HTLC is removed once, by whom it was offered to, after it is irrevocable."""
    htlc = find_htlc(snapshot, sender.other, update.id)
    if htlc is None:
        raise RequirementError(
            "id", f"the other side offered no HTLC {update.id} that is committed"
        )
    for raw in snapshot.side(sender).changes.pending:
        said = _decoded(raw)
        if isinstance(said, Removal) and said.id == update.id:
            raise RequirementError("id", f"HTLC {update.id} was removed before")
    if (
        isinstance(update, UpdateFulfillHtlc)
        and sha256(update.payment_preimage).digest() != htlc.payment_hash
    ):
        raise RequirementError("payment_preimage", "not that of the payment_hash")
    if isinstance(update, UpdateFailMalformedHtlc) and FailureFlag.BADONION not in flags_of(
        update.failure_code
    ):
        raise RequirementError("failure_code", "BADONION is not set")


def _check_affordable(
    snapshot: Snapshot, terms: Terms, sender: Role, update: UpdateAddHtlc | UpdateFee
) -> None:
    """Whether the sender has what its update takes, and stays within the other side's limits.

    What the sender has to heed beyond what the receiver has to check is checked where it is ours:
    the commitment of its own, and the opener's buffer.
    """
    receiver, is_ours = sender.other, sender is snapshot.role
    state = next_state(snapshot, sender)
    if isinstance(update, UpdateAddHtlc):
        limits = terms.side(receiver)
        offered = [htlc for htlc in state.htlcs if htlc.offered_by is sender]
        if len(offered) > limits.max_accepted_htlcs:
            raise RequirementError(
                "id", f"{len(offered)} HTLCs, at most {limits.max_accepted_htlcs}"
            )
        in_flight = sum(htlc.amount_msat for htlc in offered)
        if in_flight > limits.max_htlc_value_in_flight_msat:
            raise RequirementError(
                "amount_msat",
                f"{in_flight} msat in flight, at most {limits.max_htlc_value_in_flight_msat}",
            )
    owners = (receiver, sender) if is_ours else (receiver,)
    for owner in owners:
        cost = terms.cost_msat(state, owner, feerate_per_kw=state.feerate_per_kw)
        if is_ours and sender is Role.OPENER and isinstance(update, UpdateAddHtlc):
            buffered = terms.cost_msat(
                state, owner, feerate_per_kw=_FEE_BUFFER * state.feerate_per_kw, more_htlcs=1
            )
            cost = max(cost, buffered)
        paid_by_sender = cost if sender is Role.OPENER else 0
        left = balance_msat(state, sender) - paid_by_sender - terms.reserve_msat(sender)
        if left < 0:
            field = "amount_msat" if isinstance(update, UpdateAddHtlc) else "feerate_per_kw"
            raise RequirementError(field, f"the sender lacks {-left} msat for it, with its reserve")
        # BOLT #2: who does not pay the fee must not keep the opener from paying it.
        if is_ours and sender is Role.ACCEPTER and balance_msat(state, Role.OPENER) < cost:
            raise RequirementError("amount_msat", "the opener could not pay the commitment's fee")


def balance_msat(state: CommitmentState, role: Role) -> int:
    """What this side has beside the HTLCs, before any fee."""
    return state.to_opener_msat if role is Role.OPENER else state.to_accepter_msat
