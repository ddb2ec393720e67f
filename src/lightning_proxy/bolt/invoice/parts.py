"""What an invoice says: its parts, the fields they stand in, and which of them may stand."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from btclib.script.script import serialize

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U16, U32, Point, Reader, ShortChannelId, Writer
from lightning_proxy.bolt.errors import InvoiceError, MalformedMessage
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.invoice import fields
from lightning_proxy.bolt.keys import is_point
from lightning_proxy.bolt.messages.base import Record, Structure

DEFAULT_EXPIRY: Final = 3600
DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA: Final = 18

#: What an invoice asks of its payer unless it says otherwise.
DEFAULT_FEATURES: Final = Features.from_bits((Feature.VAR_ONION_OPTIN, Feature.PAYMENT_SECRET))

# What a payer may be required to do. BOLT #9 takes the first five for granted.
_SUPPORTED: Final = frozenset(
    {
        Feature.OPTION_DATA_LOSS_PROTECT,
        Feature.VAR_ONION_OPTIN,
        Feature.OPTION_STATIC_REMOTEKEY,
        Feature.PAYMENT_SECRET,
        Feature.OPTION_CHANNEL_TYPE,
        Feature.BASIC_MPP,
        Feature.OPTION_PAYMENT_METADATA,
    }
)

_TIMESTAMP_SIZE: Final = 7
_HASH_SIZE: Final = 52
_NODE_ID_SIZE: Final = 53
# BOLT #11 has no bounds here. Heights have 32 bits; more seconds JSON's readers would round.
_MAXIMUM_DELTA: Final = 2**32 - 1
_MAXIMUM_EXPIRY: Final = 2**53 - 1

_P2PKH: Final = 17
_P2SH: Final = 18
_MAXIMUM_WITNESS_VERSION: Final = 16


@dataclass(frozen=True, slots=True)
class Fallback:
    """An on-chain address: a witness version and program, or 17 and a P2PKH's hash, 18 a P2SH's."""

    version: int
    program: bytes

    @property
    def known(self) -> bool:
        """Whether Bitcoin knows such an address."""
        size = len(self.program)
        if self.version in {_P2PKH, _P2SH}:
            return size == 20
        if self.version == 0:
            return size in {20, 32}
        return 0 < self.version <= _MAXIMUM_WITNESS_VERSION and 2 <= size <= 40

    @property
    def scriptpubkey(self) -> bytes:
        """The script that pays there; of a `known` address."""
        if self.version == _P2PKH:
            return serialize(
                ["OP_DUP", "OP_HASH160", self.program, "OP_EQUALVERIFY", "OP_CHECKSIG"]
            )
        if self.version == _P2SH:
            return serialize(["OP_HASH160", self.program, "OP_EQUAL"])
        return serialize([f"OP_{self.version}", self.program])


class RouteHint(Record, frozen=True, kw_only=True):
    """A channel on the way to the payee, from the node `pubkey` on; the fees are BOLT #7's."""

    pubkey: Point
    short_channel_id: ShortChannelId
    fee_base_msat: U32
    fee_proportional_millionths: U32
    cltv_expiry_delta: U16


_ROUTE: Final = codec.Repeated(Structure(RouteHint))


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What a payee asks for, without its signature.

    `prefix` is one of `PREFIXES`, `timestamp` in seconds since 1970, `expiry` in seconds after it,
    `min_final_cltv_expiry_delta` in blocks. There is either a description (what anybody may have
    written: escape it before it is shown) or its hash. `fallbacks` and `routes` stand in the order
    in which the payee prefers them; each route leads from a public node to the payee.
    """

    prefix: str
    #: None where the payer may choose.
    amount_msat: int | None = None
    timestamp: int
    payment_hash: bytes
    payment_secret: bytes = field(repr=False)
    description: str | None = None
    description_hash: bytes | None = None
    payment_metadata: bytes | None = field(default=None, repr=False)
    expiry: int = DEFAULT_EXPIRY
    min_final_cltv_expiry_delta: int = DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA
    fallbacks: tuple[Fallback, ...] = ()
    routes: tuple[tuple[RouteHint, ...], ...] = ()
    features: Features = DEFAULT_FEATURES

    @property
    def expires_at(self) -> int:
        """When nobody should pay any more, in seconds since 1970."""
        return self.timestamp + self.expiry

    def to_groups(self, node_id: bytes | None) -> list[int]:
        """The data that is signed, with the payee's node id if it is given.

        Raises `InvoiceError` for what can't be written; `from_groups` refuses the rest.
        """
        if not 0 <= self.timestamp < 1 << 5 * _TIMESTAMP_SIZE:
            raise InvoiceError("timestamp", "it has no place in 35 bits")
        groups = fields.groups_of(self.timestamp, _TIMESTAMP_SIZE)
        for name, data in self._fields(node_id):
            groups += fields.field(name, data)
        return groups

    def _fields(self, node_id: bytes | None) -> Iterator[tuple[str, fields.Groups]]:
        yield "payment_secret", _fixed("payment_secret", self.payment_secret)
        yield "payment_hash", _fixed("payment_hash", self.payment_hash)
        if self.description is not None:
            yield "description", fields.from_bytes(_utf_8(self.description))
        if self.description_hash is not None:
            yield "description_hash", _fixed("description_hash", self.description_hash)
        if self.payment_metadata is not None:
            yield "payment_metadata", fields.from_bytes(self.payment_metadata)
        if node_id is not None:
            yield "node_id", _fixed("node_id", node_id, 33)
        if self.expiry != DEFAULT_EXPIRY:
            yield "expiry", _natural("expiry", self.expiry, _MAXIMUM_EXPIRY)
        # BOLT #11 has it always there, as older payers took 9 for granted: not in this one case,
        # so that an invoice that was read without it is written without it.
        delta, name = self.min_final_cltv_expiry_delta, "min_final_cltv_expiry_delta"
        if delta != DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA:
            yield name, _natural(name, delta, _MAXIMUM_DELTA)
        for fallback in self.fallbacks:
            if not fallback.known:
                raise InvoiceError("fallbacks", "one is no address of Bitcoin's")
            yield "fallbacks", [fallback.version, *fields.from_bytes(fallback.program)]
        for route in self.routes:
            yield "routes", fields.from_bytes(_write_route(route))
        if self.features.bitmap:
            _check_written(self.features)
            yield "features", fields.groups_of(self.features.bitmap)

    @classmethod
    def from_groups(
        cls, prefix: str, amount_msat: int | None, data: fields.Groups
    ) -> tuple[Self, bytes | None]:
        """The invoice in this data, which ends before the signature, and its `n` field.

        Of several fields of a kind that comes once, the first counts. Raises `InvoiceError` for
        what no payer should pay.
        """
        if len(data) < _TIMESTAMP_SIZE:
            raise InvoiceError("timestamp", "it is cut off")
        found = _Found(data[_TIMESTAMP_SIZE:])
        payment_hash, payment_secret = found.fixed("payment_hash"), found.fixed("payment_secret")
        if payment_hash is None:
            raise InvoiceError("payment_hash", "missing")
        if payment_secret is None:
            raise InvoiceError("payment_secret", "missing")
        description, description_hash = found.data("description"), found.fixed("description_hash")
        if (description is None) == (description_hash is None):
            raise InvoiceError("description", "either it or its hash is wanted, and not both")
        expiry = found.number("expiry", _MAXIMUM_EXPIRY)
        delta = found.number("min_final_cltv_expiry_delta", _MAXIMUM_DELTA)
        features = Features(found.number("features") or 0)
        _check_features(features)
        invoice = cls(
            prefix=prefix,
            amount_msat=amount_msat,
            timestamp=fields.number(data[:_TIMESTAMP_SIZE]),
            payment_hash=payment_hash,
            payment_secret=payment_secret,
            description=None if description is None else _text(description),
            description_hash=description_hash,
            payment_metadata=found.data("payment_metadata"),
            expiry=DEFAULT_EXPIRY if expiry is None else expiry,
            min_final_cltv_expiry_delta=(
                DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA if delta is None else delta
            ),
            fallbacks=tuple(found.fallbacks()),
            routes=tuple(_read_route(groups) for groups in found.all("routes")),
            features=features,
        )
        return invoice, found.fixed("node_id", _NODE_ID_SIZE)


class _Found:
    """The fields of an invoice by their names, each kind in the order of the invoice."""

    def __init__(self, data: fields.Groups) -> None:
        self._fields = tuple(fields.split(data))

    def all(self, name: str) -> Iterator[fields.Groups]:
        return (groups for found, groups in self._fields if found == name)

    def fixed(self, name: str, size: int = _HASH_SIZE) -> bytes | None:
        """The first of so many groups.

        BOLT #11 has a reader refuse every other size, and yet has an invoice with fields of other
        sizes, to be ignored, among its valid examples. The example holds here.
        """
        sized = (groups for groups in self.all(name) if len(groups) == size)
        groups = next(sized, None)
        return None if groups is None else fields.to_bytes(name, groups)

    def data(self, name: str) -> bytes | None:
        groups = next(self.all(name), None)
        return None if groups is None else fields.to_bytes(name, groups)

    def number(self, name: str, maximum: int | None = None) -> int | None:
        groups = next(self.all(name), None)
        if groups is None:
            return None
        value = fields.minimal_number(name, groups)
        if maximum is not None and value > maximum:
            raise InvoiceError(name, f"it is above {maximum}")
        return value

    def fallbacks(self) -> Iterator[Fallback]:
        """Those that Bitcoin knows: BOLT #11 skips the others."""
        for groups in self.all("fallbacks"):
            if groups and groups[0] <= _P2SH:
                fallback = Fallback(groups[0], fields.to_bytes("fallbacks", groups[1:]))
                if fallback.known:
                    yield fallback


def _check_features(features: Features) -> None:
    for bit in features.bits:
        if bit % 2 == 0 and bit not in _SUPPORTED:
            raise InvoiceError("features", f"bit {bit} is required, and unknown here")
    # BOLT #11 has the dependencies checked, too: the only one that may stand in an invoice is
    # `payment_secret`, which `basic_mpp` builds on and BOLT #9 takes for granted.


def _check_written(features: Features) -> None:
    for bit in features.bits:
        if bit % 2 == 0 and bit + 1 in features.bits:
            raise InvoiceError("features", f"bits {bit} and {bit + 1} are both set")


def _fixed(name: str, data: bytes, size: int = 32) -> list[int]:
    if len(data) != size:
        raise InvoiceError(name, f"{size} bytes wanted, {len(data)} given")
    return fields.from_bytes(data)


def _natural(name: str, value: int, maximum: int) -> list[int]:
    if not 0 <= value <= maximum:
        raise InvoiceError(name, f"it is not within 0 to {maximum}")
    return fields.groups_of(value)


def _utf_8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvoiceError("description", "it can't be written as UTF-8") from None


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvoiceError("description", "it is no UTF-8") from None


def _read_route(groups: fields.Groups) -> tuple[RouteHint, ...]:
    try:
        route = _ROUTE.read(Reader("invoice", fields.to_bytes("routes", groups)), "routes")
    except MalformedMessage as error:
        raise InvoiceError("routes", error.reason) from None
    _check_route(route)
    return route


def _write_route(route: tuple[RouteHint, ...]) -> bytes:
    _check_route(route)
    writer = Writer("invoice")
    try:
        _ROUTE.write(writer, "routes", route)
    except MalformedMessage as error:
        raise InvoiceError("routes", error.reason) from None
    return writer.getvalue()


def _check_route(route: tuple[RouteHint, ...]) -> None:
    if not route:
        raise InvoiceError("routes", "one has no channels")
    for hint in route:
        if not is_point(hint.pubkey):
            raise InvoiceError("routes", "a pubkey is no point")
