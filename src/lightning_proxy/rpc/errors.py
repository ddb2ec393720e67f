"""Every error that crosses the API: a stable code, its JSON-RPC number and its HTTP status."""

from enum import Enum


class ErrorCode(Enum):
    """(stable code, JSON-RPC number, HTTP status)."""

    PARSE_ERROR = ("parse_error", -32700, 400)
    INVALID_REQUEST = ("invalid_request", -32600, 400)
    METHOD_UNKNOWN = ("method_unknown", -32601, 404)
    INVALID_PARAMS = ("invalid_params", -32602, 422)
    INTERNAL = ("internal", -32603, 500)
    UNAUTHENTICATED = ("unauthenticated", -32000, 401)
    FORBIDDEN = ("forbidden", -32001, 403)
    SESSION_UNKNOWN = ("session_unknown", -32002, 404)
    SESSION_STATE = ("session_state", -32003, 409)
    LIMIT = ("limit", -32004, 429)
    ADDRESS_FORBIDDEN = ("address_forbidden", -32005, 403)
    PEER_UNREACHABLE = ("peer_unreachable", -32006, 502)
    PEER_FAILED = ("peer_failed", -32007, 502)
    PEER_TIMEOUT = ("peer_timeout", -32008, 504)
    REFUSED = ("refused", -32010, 409)
    ANSWER_INVALID = ("answer_invalid", -32011, 422)
    DELEGATION_OVER = ("delegation_over", -32012, 409)
    DELEGATION_UNKNOWN = ("delegation_unknown", -32013, 404)
    SHUTTING_DOWN = ("shutting_down", -32014, 503)
    TOO_LARGE = ("too_large", -32015, 413)
    LEASE_HELD = ("lease_held", -32017, 409)
    STALE = ("stale", -32018, 409)
    UNAVAILABLE = ("unavailable", -32016, 503)

    def __init__(self, code: str, number: int, status: int) -> None:
        self.code = code
        self.number = number
        self.status = status


class RpcError(Exception):
    """A failure that its sender is told of: `error` says which, `sentence` what to do.

    The sentence never holds key material. `retry_after`: seconds, where it is known when the same
    may succeed.
    """

    def __init__(
        self, error: ErrorCode, sentence: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.error = error
        self.sentence = sentence
        self.retry_after = retry_after
