"""What commitment and HTLC transactions cost, by BOLT #3's expected weights; all in satoshis."""

from typing import Final

#: What each anchor is worth.
ANCHOR_SAT: Final = 330

# By whether the channel has anchors.
_COMMITMENT_WEIGHT: Final = {False: 724, True: 1124}
_HTLC_OUTPUT_WEIGHT: Final = 172
_HTLC_TIMEOUT_WEIGHT: Final = 663
_HTLC_SUCCESS_WEIGHT: Final = 703


def commitment_fee_sat(feerate_per_kw: int, untrimmed_htlcs: int = 0, *, anchors: bool) -> int:
    """The base fee of a commitment with so many HTLC outputs; its anchors are not in it."""
    weight = _COMMITMENT_WEIGHT[anchors] + _HTLC_OUTPUT_WEIGHT * untrimmed_htlcs
    return feerate_per_kw * weight // 1000


def anchors_sat(*, anchors: bool) -> int:
    """What the opener pays for both anchors, even where one of them doesn't come about."""
    return 2 * ANCHOR_SAT if anchors else 0


def htlc_fee_sat(feerate_per_kw: int, *, success: bool, anchors: bool) -> int:
    """What an HTLC-success or HTLC-timeout transaction pays out of its HTLC."""
    # BOLT #3: with anchors, whoever broadcasts it adds inputs for a fee.
    if anchors:
        return 0
    return feerate_per_kw * (_HTLC_SUCCESS_WEIGHT if success else _HTLC_TIMEOUT_WEIGHT) // 1000
