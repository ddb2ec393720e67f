"""BOLT 4's failure codes, and the flags in their upper bits."""

from enum import IntEnum, IntFlag
from typing import Final


class FailureFlag(IntFlag):
    """What the top byte of a failure code says, by the names of BOLT 4."""

    #: The onion could not be opened: the peer before the erring node wraps the failure.
    BADONION = 0x8000
    #: Permanent; without it, trying again later may help.
    PERM = 0x4000
    #: The node is to blame; without it, the channel.
    NODE = 0x2000
    #: A parameter of the channel was violated: a `channel_update` may come along.
    UPDATE = 0x1000


_FLAGS: Final = 0xF000


class FailureCode(IntEnum):
    """The failures of BOLT 4 by its names."""

    TEMPORARY_NODE_FAILURE = FailureFlag.NODE | 2
    PERMANENT_NODE_FAILURE = FailureFlag.PERM | FailureFlag.NODE | 2
    REQUIRED_NODE_FEATURE_MISSING = FailureFlag.PERM | FailureFlag.NODE | 3
    INVALID_ONION_VERSION = FailureFlag.BADONION | FailureFlag.PERM | 4
    INVALID_ONION_HMAC = FailureFlag.BADONION | FailureFlag.PERM | 5
    INVALID_ONION_KEY = FailureFlag.BADONION | FailureFlag.PERM | 6
    TEMPORARY_CHANNEL_FAILURE = FailureFlag.UPDATE | 7
    PERMANENT_CHANNEL_FAILURE = FailureFlag.PERM | 8
    REQUIRED_CHANNEL_FEATURE_MISSING = FailureFlag.PERM | 9
    UNKNOWN_NEXT_PEER = FailureFlag.PERM | 10
    AMOUNT_BELOW_MINIMUM = FailureFlag.UPDATE | 11
    FEE_INSUFFICIENT = FailureFlag.UPDATE | 12
    INCORRECT_CLTV_EXPIRY = FailureFlag.UPDATE | 13
    EXPIRY_TOO_SOON = FailureFlag.UPDATE | 14
    INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS = FailureFlag.PERM | 15
    FINAL_INCORRECT_CLTV_EXPIRY = 18
    FINAL_INCORRECT_HTLC_AMOUNT = 19
    CHANNEL_DISABLED = FailureFlag.UPDATE | 20
    EXPIRY_TOO_FAR = 21
    INVALID_ONION_PAYLOAD = FailureFlag.PERM | 22
    MPP_TIMEOUT = 23
    INVALID_ONION_BLINDING = FailureFlag.BADONION | FailureFlag.PERM | 24


def flags_of(code: int) -> FailureFlag:
    """The flags of a failure code, also of one that isn't BOLT 4's."""
    return FailureFlag(code & _FLAGS)
