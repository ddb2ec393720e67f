"""JSON-RPC 2.0 envelopes, in both directions on one socket."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lightning_proxy.rpc.errors import ErrorCode, RpcError
from lightning_proxy.rpc.frames import MAX_SENTENCE
from lightning_proxy.rpc.integers import Integers, has_large, in_strings, read_in_strings

#: JSON-RPC 2.0: a request's id, which comes back with the response; a response to a request that
#: couldn't be read has the id null. What has no id at all is a notification.
RequestId = (
    Annotated[str, Meta(max_length=256)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
)

T = TypeVar("T")


class ErrorData(Struct, frozen=True, omit_defaults=True):
    """The stable code, beside JSON-RPC's number; and when to try again, in seconds."""

    code: str = ""
    retry_after: float | None = None


class ErrorObject(Struct, frozen=True):
    """JSON-RPC 2.0 §5.1."""

    code: int
    message: str
    data: ErrorData = ErrorData()


class Envelope(Struct, frozen=True, omit_defaults=True):
    """A request, a notification or a response, its payload not yet decoded."""

    jsonrpc: Literal["2.0"]
    id: RequestId | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class _Outgoing(Struct, frozen=True):
    id: RequestId | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Any = UNSET
    result: Any = UNSET
    error: ErrorObject | UnsetType = UNSET
    jsonrpc: str = "2.0"


_envelopes = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder()
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def decode_envelope(text: str | bytes) -> Envelope:
    """Read an envelope; raises `RpcError` (parse_error, invalid_request)."""
    try:
        return _envelopes.decode(text)
    except msgspec.ValidationError as error:
        if text.lstrip()[:1] in ("[", b"["):
            # JSON-RPC 2.0 §6 leaves batches to the server; here a socket is one already.
            raise RpcError(
                ErrorCode.INVALID_REQUEST, "Batches are not taken: send each message by itself."
            ) from None
        raise RpcError(
            ErrorCode.INVALID_REQUEST, f"This is not a JSON-RPC 2.0 message: {error}."
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise RpcError(ErrorCode.PARSE_ERROR, "This is not JSON in UTF-8.") from None


def decode_params(raw: Raw | bytes | UnsetType, kind: type[T]) -> T:
    """Read a payload as `kind` (absent: as an empty object); raises `RpcError` (invalid_params)."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    data = b"{}" if isinstance(raw, UnsetType) else raw
    result: T
    try:
        try:
            result = decoder.decode(data)
        except msgspec.ValidationError:
            if not has_large(kind):
                raise
            # Twice the work, for who writes large integers as strings.
            result = read_in_strings(data, kind)
    except msgspec.ValidationError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, f"The parameters don't fit: {error}.") from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise RpcError(ErrorCode.PARSE_ERROR, "This is not JSON in UTF-8.") from None
    return result


def encode_request(
    request_id: str | int, method: str, params: Any, integers: Integers = Integers.NUMBER
) -> str:
    return _text(_Outgoing(id=request_id, method=method, params=_payload(params, integers)))


def encode_notification(method: str, params: Any, integers: Integers = Integers.NUMBER) -> str:
    return _text(_Outgoing(method=method, params=_payload(params, integers)))


def encode_result(request_id: RequestId, result: Any, integers: Integers = Integers.NUMBER) -> str:
    return _text(_Outgoing(id=request_id, result=_payload(result, integers)))


def encode_error(request_id: RequestId, error: RpcError) -> str:
    """A sentence that quotes what it complains of may be as long as that: it is cut."""
    data = ErrorData(error.error.code, error.retry_after)
    sentence = error.sentence[:MAX_SENTENCE]
    return _text(_Outgoing(id=request_id, error=ErrorObject(error.error.number, sentence, data)))


def _payload(payload: Any, integers: Integers) -> Any:
    return in_strings(payload) if integers is Integers.STRING else payload


def _text(outgoing: _Outgoing) -> str:
    return _encoder.encode(outgoing).decode()
