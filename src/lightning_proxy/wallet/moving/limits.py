"""What the wallet lets a peer do in a channel beyond what BOLT #2 checks: its owner's bounds."""

from dataclasses import dataclass, replace
from typing import Final

from lightning_proxy.bolt.channel.snapshot import Snapshot
from lightning_proxy.bolt.channel.terms import terms_of
from lightning_proxy.bolt.commitment import CommitmentState, Htlc, Role, is_trimmed
from lightning_proxy.bolt.errors import RequirementError
from lightning_proxy.bolt.messages import Message, UpdateFee
from lightning_proxy.chain.source import MINIMUM_FEERATE_PER_KW
from lightning_proxy.wallet.policy import Policy

#: Where no payment is made or taken, until what a channel says can be enforced on the chain.
UNENFORCED: Final = frozenset({"bitcoin"})
REFUSED: Final = (
    "Payments on Bitcoin's main chain are refused for now: this wallet can't yet enforce on the "
    "chain what a channel says."
)
#: An own estimate that is within a fifth of a commitment's feerate changes nothing.
_TOLERANCE: Final = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """By the owner's policy."""

    max_feerate_per_kw: int
    max_dust_msat: int

    @classmethod
    def of(cls, policy: Policy) -> "Limits":
        return cls(policy.max_feerate_per_kw, policy.max_dust_msat)

    def check(self, message: Message) -> None:
        """Raises `RequirementError` for a feerate that the wallet does not go along with.

        Below the least that nodes relay the commitment would be worth nothing; above the cap, the
        fee eats HTLCs up, which are then dust.
        """
        if not isinstance(message, UpdateFee):
            return
        if not MINIMUM_FEERATE_PER_KW <= message.feerate_per_kw <= self.max_feerate_per_kw:
            raise RequirementError(
                "feerate_per_kw",
                f"{message.feerate_per_kw} is not within {MINIMUM_FEERATE_PER_KW} to "
                f"{self.max_feerate_per_kw}",
            )

    def new_feerate(self, current: int, estimate: int) -> int | None:
        """What the opener's next commitments should pay; None: as they do."""
        wanted = max(MINIMUM_FEERATE_PER_KW, min(estimate, self.max_feerate_per_kw))
        return wanted if abs(wanted - current) * _TOLERANCE > current else None

    def is_too_much_dust(self, snapshot: Snapshot, htlc: Htlc) -> bool:
        """Whether this HTLC has no output somewhere, with more worth in such than is allowed.

        A relay could forge them, and miners keep them (BOLT #2, "Bounding exposure").
        """
        parameters = terms_of(snapshot).parameters
        for side in (snapshot.opener, snapshot.accepter):
            state = side.latest.state
            for owner in Role:
                if is_trimmed(htlc, owner, parameters, state.feerate_per_kw):
                    others = tuple(
                        each
                        for each in state.htlcs
                        if (each.offered_by, each.id) != (htlc.offered_by, htlc.id)
                    )
                    dust = dust_msat(snapshot, replace(state, htlcs=others), owner)
                    if dust + htlc.amount_msat > self.max_dust_msat:
                        return True
        return False


def dust_msat(snapshot: Snapshot, state: CommitmentState, owner: Role) -> int:
    """What the HTLCs come to that have no output in this commitment of the owner's."""
    parameters = terms_of(snapshot).parameters
    return sum(
        htlc.amount_msat
        for htlc in state.htlcs
        if is_trimmed(htlc, owner, parameters, state.feerate_per_kw)
    )
