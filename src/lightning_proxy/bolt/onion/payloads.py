"""BOLT 4's payloads: what an onion says to one hop, as a TLV stream, and what must be in it."""

from typing import Annotated, Final

from msgspec import Struct

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import Bytes32, Reader, Writer
from lightning_proxy.bolt.errors import MalformedMessage, PayloadError
from lightning_proxy.bolt.messages.base import Record, Structure, declared
from lightning_proxy.bolt.tlv import Namespace, Records, Tlv


class PaymentData(Record, frozen=True, kw_only=True):
    """By what the recipient knows a payment (not in `repr`: it is a secret), and its whole sum."""

    payment_secret: Bytes32
    total_msat: Annotated[int, codec.tu64]

    def __repr__(self) -> str:
        return f"PaymentData(total_msat={self.total_msat})"


class Payload(Struct, frozen=True, kw_only=True, gc=False):
    """One hop's payload: amounts in msat, `outgoing_cltv_value` a block height.

    `keysend_preimage` isn't of the BOLTs, but is what every implementation sends.
    """

    amt_to_forward: Annotated[int | None, Tlv(2, codec.tu64)] = None
    outgoing_cltv_value: Annotated[int | None, Tlv(4, codec.tu32)] = None
    short_channel_id: Annotated[int | None, Tlv(6, codec.short_channel_id)] = None
    payment_data: Annotated[PaymentData | None, Tlv(8, Structure(PaymentData))] = None
    encrypted_recipient_data: Annotated[bytes | None, Tlv(10, codec.remainder)] = None
    current_path_key: Annotated[bytes | None, Tlv(12, codec.point)] = None
    payment_metadata: Annotated[bytes | None, Tlv(16, codec.remainder)] = None
    total_amount_msat: Annotated[int | None, Tlv(18, codec.tu64)] = None
    keysend_preimage: Annotated[bytes | None, Tlv(5482373484, codec.bytes32)] = None
    unknown_tlvs: Records = ()

    def __repr__(self) -> str:
        # Only numbers: the rest has secrets in it.
        names = sorted(present(self))
        values = [(name, getattr(self, name)) for name in names]
        shown = [f"{name}={value}" if isinstance(value, int) else name for name, value in values]
        return f"Payload({', '.join(shown)})"

    @property
    def total_msat(self) -> int | None:
        """What the whole payment comes to, all its parts together.

        BOLT #4: where it isn't said, it is what this part brings.
        """
        if self.payment_data is not None:
            return self.payment_data.total_msat
        if self.total_amount_msat is not None:
            return self.total_amount_msat
        return self.amt_to_forward

    def encode(self) -> bytes:
        """The TLV stream, without its length in front.

        Raises `MalformedMessage` for a value that doesn't fit.
        """
        writer = Writer(_NAME)
        _NAMESPACE.write(writer, self, self.unknown_tlvs)
        return writer.getvalue()


_NAME: Final = "payload"
_NAMESPACE: Final = Namespace(_NAME, declared(Payload)[1])
_TYPES: Final = {name: record.type for name, record in _NAMESPACE.records.items()}
_UNKNOWN: Final = "unknown_tlvs"

# BOLT #4, "Requirements" of the payload: what each kind of hop must be told, and all it may be.
# Outside of a blinded path BOLT #4 gives all else to the last hop alone; what is unknown and odd
# may be there.
_HOP: Final = frozenset({"amt_to_forward", "outgoing_cltv_value", "short_channel_id"})
_FINAL: Final = frozenset({"amt_to_forward", "outgoing_cltv_value"})
_FINAL_ALLOWED: Final = frozenset(
    {*_FINAL, "payment_data", "payment_metadata", "total_amount_msat", "keysend_preimage"}
)
_BLINDED: Final = frozenset({"encrypted_recipient_data"})
_BLINDED_FINAL: Final = frozenset({*_BLINDED, *_FINAL, "total_amount_msat"})
_PATH_KEY: Final = "current_path_key"


def present(payload: Payload) -> frozenset[str]:
    """The names of the records that a payload has; "unknown_tlvs" where it has others."""
    names = {name for name in _TYPES if getattr(payload, name) is not None}
    return frozenset(names | {_UNKNOWN} if payload.unknown_tlvs else names)


def decode(data: bytes, *, final: bool, path_key: bool = False) -> Payload:
    """The payload in these bytes, checked for its hop.

    `final` says whether the hop is the onion's last (`Peeled.next_packet` is None), `path_key`
    whether the `update_add_htlc` around it has one (there called `blinded_path`). Whether amounts
    and expiry suit the HTLC is for the caller to check, who knows it.

    Raises `PayloadError` for what is no canonical TLV stream of known or odd records, and for what
    lacks a record that its hop needs, or has one that isn't for it.
    """
    reader = Reader(_NAME, data)
    try:
        values, unknown = _NAMESPACE.read(reader)
    except MalformedMessage as error:
        type_, offset = _record_at(data, reader.position)
        raise PayloadError(type_, offset, f"{error.field}: {error.reason}") from None
    payload = Payload(**values, unknown_tlvs=unknown)
    _check(payload, final=final, path_key=path_key)
    return payload


def _check(payload: Payload, *, final: bool, path_key: bool) -> None:
    names = present(payload)
    if payload.encrypted_recipient_data is None:
        if path_key:
            raise _error("encrypted_recipient_data", "missing, though a path key came along")
        wanted = _FINAL if final else _HOP
        allowed = (_FINAL_ALLOWED if final else _HOP) | {_UNKNOWN}
    else:
        wanted = _BLINDED_FINAL if final else _BLINDED
        # The path's first hop has its key here, the others have it beside the onion.
        allowed = wanted = wanted if path_key else wanted | {_PATH_KEY}
    for name in sorted(wanted - names):
        raise _error(name, "missing")
    for name in sorted(names - allowed):
        raise _error(name, "not for this hop")


def _error(name: str, reason: str) -> PayloadError:
    return PayloadError(_TYPES.get(name, 0), 0, f"{name}: {reason}")


def _record_at(data: bytes, position: int) -> tuple[int, int]:
    """The type of the record in which reading stopped, 0 if that was in the type; its offset."""
    reader = Reader(_NAME, data)
    while True:
        type_, offset = 0, reader.position
        try:
            type_ = codec.bigsize.read(reader, _NAME)
            reader.take(codec.bigsize.read(reader, _NAME), _NAME)
        except MalformedMessage:
            return type_, offset
        if reader.position >= position:
            return type_, offset
