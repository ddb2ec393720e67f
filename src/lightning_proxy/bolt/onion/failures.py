"""BOLT 4's failure messages: what went wrong with a payment, typed by its code."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, TypeVar

from msgspec import Struct

from lightning_proxy.bolt import codec
from lightning_proxy.bolt.codec import U16, U32, U64, Codec, PrefixedBytes, Reader, Sha256, Writer
from lightning_proxy.bolt.errors import MalformedMessage
from lightning_proxy.bolt.messages.base import declared
from lightning_proxy.bolt.onion.codes import FailureCode, FailureFlag, flags_of


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """A failure message. A `channel_update` in it may be empty, and is not to be gossiped."""

    CODE: ClassVar[FailureCode]
    FIELDS: ClassVar[Mapping[str, Codec[Any]]]

    @property
    def code(self) -> int:
        return self.CODE

    @property
    def flags(self) -> FailureFlag:
        return flags_of(self.code)

    def encode(self) -> bytes:
        """The code, then the fields; raises `MalformedMessage` for a value that doesn't fit."""
        writer = Writer(self.CODE.name.lower())
        codec.u16.write(writer, "failure_code", self.CODE)
        for name, kind in self.FIELDS.items():
            kind.write(writer, name, getattr(self, name))
        return writer.getvalue()


class OpaqueFailure(Failure, frozen=True, kw_only=True):
    """A failure of a code that isn't BOLT 4's, or with less data than its code wants."""

    failure_code: int
    data: bytes

    @property
    def code(self) -> int:
        return self.failure_code

    def encode(self) -> bytes:
        """Raises `MalformedMessage` for a code that doesn't fit."""
        writer = Writer("failure")
        codec.u16.write(writer, "failure_code", self.failure_code)
        writer.put(self.data)
        return writer.getvalue()


F = TypeVar("F", bound=Failure)

_failures: dict[int, type[Failure]] = {}

#: Every failure of BOLT 4 by its code.
FAILURES: Final[Mapping[int, type[Failure]]] = MappingProxyType(_failures)


def decode(data: bytes) -> Failure:
    """The failure in these bytes, which start with its code.

    BOLT #4: more bytes than its fields take are ignored. Raises `MalformedMessage` for bytes that
    are no code; all else that can't be read is an `OpaqueFailure`.
    """
    reader = Reader("failure", data)
    code = codec.u16.read(reader, "failure_code")
    cls = _failures.get(code)
    if cls is not None:
        position = reader.position
        try:
            return cls(**{name: kind.read(reader, name) for name, kind in cls.FIELDS.items()})
        except MalformedMessage:
            reader.position = position
    return OpaqueFailure(failure_code=code, data=reader.rest())


def _failure(code: FailureCode) -> Callable[[type[F]], type[F]]:
    """Makes a class the failure of this code."""

    def register(cls: type[F]) -> type[F]:
        cls.CODE = code
        cls.FIELDS = declared(cls)[0]
        _failures[code] = cls
        return cls

    return register


@_failure(FailureCode.TEMPORARY_NODE_FAILURE)
class TemporaryNodeFailure(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.PERMANENT_NODE_FAILURE)
class PermanentNodeFailure(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.REQUIRED_NODE_FEATURE_MISSING)
class RequiredNodeFeatureMissing(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.INVALID_ONION_VERSION)
class InvalidOnionVersion(Failure, frozen=True, kw_only=True):
    sha256_of_onion: Sha256


@_failure(FailureCode.INVALID_ONION_HMAC)
class InvalidOnionHmac(Failure, frozen=True, kw_only=True):
    sha256_of_onion: Sha256


@_failure(FailureCode.INVALID_ONION_KEY)
class InvalidOnionKey(Failure, frozen=True, kw_only=True):
    sha256_of_onion: Sha256


@_failure(FailureCode.TEMPORARY_CHANNEL_FAILURE)
class TemporaryChannelFailure(Failure, frozen=True, kw_only=True):
    channel_update: PrefixedBytes


@_failure(FailureCode.PERMANENT_CHANNEL_FAILURE)
class PermanentChannelFailure(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.REQUIRED_CHANNEL_FEATURE_MISSING)
class RequiredChannelFeatureMissing(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.UNKNOWN_NEXT_PEER)
class UnknownNextPeer(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.AMOUNT_BELOW_MINIMUM)
class AmountBelowMinimum(Failure, frozen=True, kw_only=True):
    htlc_msat: U64
    channel_update: PrefixedBytes


@_failure(FailureCode.FEE_INSUFFICIENT)
class FeeInsufficient(Failure, frozen=True, kw_only=True):
    htlc_msat: U64
    channel_update: PrefixedBytes


@_failure(FailureCode.INCORRECT_CLTV_EXPIRY)
class IncorrectCltvExpiry(Failure, frozen=True, kw_only=True):
    cltv_expiry: U32
    channel_update: PrefixedBytes


@_failure(FailureCode.EXPIRY_TOO_SOON)
class ExpiryTooSoon(Failure, frozen=True, kw_only=True):
    channel_update: PrefixedBytes


@_failure(FailureCode.INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS)
class IncorrectOrUnknownPaymentDetails(Failure, frozen=True, kw_only=True):
    htlc_msat: U64
    height: U32


@_failure(FailureCode.FINAL_INCORRECT_CLTV_EXPIRY)
class FinalIncorrectCltvExpiry(Failure, frozen=True, kw_only=True):
    cltv_expiry: U32


@_failure(FailureCode.FINAL_INCORRECT_HTLC_AMOUNT)
class FinalIncorrectHtlcAmount(Failure, frozen=True, kw_only=True):
    incoming_htlc_amt: U64


@_failure(FailureCode.CHANNEL_DISABLED)
class ChannelDisabled(Failure, frozen=True, kw_only=True):
    disabled_flags: U16
    channel_update: PrefixedBytes


@_failure(FailureCode.EXPIRY_TOO_FAR)
class ExpiryTooFar(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.INVALID_ONION_PAYLOAD)
class InvalidOnionPayload(Failure, frozen=True, kw_only=True):
    type: Annotated[int, codec.bigsize]
    offset: U16


@_failure(FailureCode.MPP_TIMEOUT)
class MppTimeout(Failure, frozen=True, kw_only=True):
    pass


@_failure(FailureCode.INVALID_ONION_BLINDING)
class InvalidOnionBlinding(Failure, frozen=True, kw_only=True):
    sha256_of_onion: Sha256
