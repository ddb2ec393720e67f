"""Feature flags (BOLT 9): their names and dependencies, feature maps, the check of an `init`."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from msgspec import Struct

from lightning_proxy.bolt.errors import FeatureError
from lightning_proxy.bolt.messages import Init

# An init message has no room for a higher bit.
_MAXIMUM_BIT: Final = 8 * 65535 - 1


class Feature(IntEnum):
    """The features of BOLT 9 by its names; the value is the even bit, one more is the odd."""

    OPTION_DATA_LOSS_PROTECT = 0
    OPTION_UPFRONT_SHUTDOWN_SCRIPT = 4
    GOSSIP_QUERIES = 6
    VAR_ONION_OPTIN = 8
    GOSSIP_QUERIES_EX = 10
    OPTION_STATIC_REMOTEKEY = 12
    PAYMENT_SECRET = 14
    BASIC_MPP = 16
    OPTION_SUPPORT_LARGE_CHANNEL = 18
    OPTION_ANCHORS = 22
    OPTION_ROUTE_BLINDING = 24
    OPTION_SHUTDOWN_ANYSEGWIT = 26
    OPTION_DUAL_FUND = 28
    OPTION_QUIESCE = 34
    OPTION_ATTRIBUTION_DATA = 36
    OPTION_ONION_MESSAGES = 38
    OPTION_PROVIDE_STORAGE = 42
    OPTION_CHANNEL_TYPE = 44
    OPTION_SCID_ALIAS = 46
    OPTION_PAYMENT_METADATA = 48
    OPTION_ZEROCONF = 50
    OPTION_SIMPLE_CLOSE = 60
    OPTION_SPLICE = 62

    @property
    def bolt_name(self) -> str:
        return self.name.lower()


_BY_NAME: Final = {feature.bolt_name: feature for feature in Feature}
_BOLT_BITS: Final = sum(0b11 << feature for feature in Feature)
_BOLT_ODD_BITS: Final = sum(0b10 << feature for feature in Feature)

# BOLT #9 takes these for granted in every node. So one that depends on them (`basic_mpp` on
# `payment_secret`) stands even where a peer no longer announces them.
_ASSUMED: Final = frozenset(
    {
        Feature.OPTION_DATA_LOSS_PROTECT,
        Feature.VAR_ONION_OPTIN,
        Feature.OPTION_STATIC_REMOTEKEY,
        Feature.PAYMENT_SECRET,
        Feature.OPTION_CHANNEL_TYPE,
    }
)

_DEPENDENCIES: Final = {
    Feature.BASIC_MPP: (Feature.PAYMENT_SECRET,),
    Feature.OPTION_ZEROCONF: (Feature.OPTION_SCID_ALIAS,),
    Feature.OPTION_SIMPLE_CLOSE: (Feature.OPTION_SHUTDOWN_ANYSEGWIT,),
}


class Features(Struct, frozen=True, gc=False):
    """A feature map, as the integer whose bits are the features."""

    bitmap: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> "Features":
        return cls(int.from_bytes(data, "big"))

    @classmethod
    def from_hex(cls, text: str) -> "Features":
        """Raises `ValueError` for what is no hex."""
        return cls.from_bytes(bytes.fromhex(text))

    @classmethod
    def from_bits(cls, bits: Iterable[int]) -> "Features":
        """Raises `FeatureError` for a bit that no message can carry."""
        bitmap = 0
        for bit in bits:
            if not 0 <= bit <= _MAXIMUM_BIT:
                raise FeatureError(bit, f"only bits 0 to {_MAXIMUM_BIT} fit into a message")
            bitmap |= 1 << bit
        return cls(bitmap)

    @classmethod
    def offering(cls, *features: Feature) -> "Features":
        """These features, all optional (odd bits)."""
        return cls.from_bits(feature + 1 for feature in features)

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "Features":
        """The features of these BOLT 9 names, all optional; raises `KeyError` for another name."""
        return cls.offering(*(_BY_NAME[name] for name in names))

    def __or__(self, other: "Features") -> "Features":
        return Features(self.bitmap | other.bitmap)

    def __and__(self, other: "Features") -> "Features":
        """The features of BOLT 9 that both offer, as optional ones."""
        return Features(_offered(self.bitmap) & _offered(other.bitmap))

    def __repr__(self) -> str:
        # By default a decimal, which Python refuses to print when a peer sends a long one.
        return f"Features.from_hex({self.to_bytes().hex()!r})"

    def __str__(self) -> str:
        return ", ".join(self.names()) or "none"

    def to_bytes(self) -> bytes:
        """In the fewest bytes."""
        return self.bitmap.to_bytes((self.bitmap.bit_length() + 7) // 8, "big")

    @property
    def bits(self) -> tuple[int, ...]:
        """The bits that are set, ascending."""
        return tuple(
            8 * index + bit
            for index, byte in enumerate(reversed(self.to_bytes()))
            for bit in range(8)
            if byte >> bit & 1
        )

    def offers(self, feature: Feature) -> bool:
        """Whether the feature is there, optional or required."""
        return bool(self.bitmap >> feature & 0b11)

    def requires(self, feature: Feature) -> bool:
        """Whether the feature is required. BOLT #9: so it is where both bits are set."""
        return bool(self.bitmap >> feature & 1)

    def names(self) -> tuple[str, ...]:
        """The name of every feature that is there, or "unknown(bit)", ascending and each once."""
        known = {feature.value: feature.bolt_name for feature in Feature}
        return tuple(dict.fromkeys(known.get(bit & ~1, f"unknown({bit})") for bit in self.bits))


def _offered(bitmap: int) -> int:
    """The odd bit of every feature of BOLT 9 that is there, optional or required."""
    return (bitmap | bitmap << 1) & _BOLT_ODD_BITS


def _even_bits(size: int) -> int:
    """All even bits below 8 * size."""
    return int.from_bytes(b"\x55" * size, "big")


def _known_bits(features: Features) -> int:
    """Every bit of BOLT 9, and both bits of whatever else these features contain."""
    even = features.bitmap & _even_bits(len(features.to_bytes()))
    odd = features.bitmap ^ even
    return _BOLT_BITS | even | even << 1 | odd | odd >> 1


def check_init(theirs: Init, ours: Features) -> Features:
    """The peer's features by its `init`, both of its maps in one, if it may stay.

    A required feature passes when BOLT 9 or we ourselves (in `ours`) know it; whether it is also
    wanted is for whoever uses it to say. Raises `FeatureError` (BOLT #1 closes the connection
    then) for a required feature that nobody here knows, and for one without those it builds on.
    """
    features = Features.from_bytes(theirs.globalfeatures) | Features.from_bytes(theirs.features)
    refused = features.bitmap & ~_known_bits(ours) & _even_bits(len(features.to_bytes()))
    if refused:
        lowest = (refused & -refused).bit_length() - 1
        raise FeatureError(lowest, "required by the peer, and unknown here")
    for feature, dependencies in _DEPENDENCIES.items():
        if not features.offers(feature):
            continue
        for dependency in dependencies:
            if dependency not in _ASSUMED and not features.offers(dependency):
                raise FeatureError(
                    dependency,
                    f"{feature.bolt_name} needs {dependency.bolt_name}, which the peer lacks",
                )
    return features


#: What the relay offers for a wallet that doesn't choose for itself. LDK hangs up on a node without
#: the assumed features; `gossip_queries` is what makes lnd wait for a filter instead of sending
#: every announcement that it has.
DEFAULT_FEATURES: Final = Features.offering(
    *_ASSUMED,
    Feature.OPTION_UPFRONT_SHUTDOWN_SCRIPT,
    Feature.GOSSIP_QUERIES,
    Feature.OPTION_ANCHORS,
    Feature.OPTION_SHUTDOWN_ANYSEGWIT,
)
