"""The signing channel's contract: what a wallet and a relay say to each other, typed.

Both sides import this package and nothing of each other; it imports nothing of the rest. The
schema that the relay publishes is generated from these types. Bytes are lower-case hex, amounts
are integers named by their unit, times are Unix seconds.
"""

from lightning_proxy.rpc.authentication import (
    authentication_text,
    normal_origin,
)
from lightning_proxy.rpc.errors import ErrorCode, RpcError
from lightning_proxy.rpc.jsonrpc import (
    Envelope,
    ErrorObject,
    RequestId,
    decode_envelope,
    decode_params,
    encode_error,
    encode_notification,
    encode_request,
    encode_result,
)
from lightning_proxy.rpc.types import (
    Adopt,
    Authenticate,
    Authenticated,
    Challenge,
    ChannelKeys,
    Close,
    Closed,
    Connect,
    Connected,
    Delegate,
    DelegationKind,
    DirectionState,
    Done,
    Handshake,
    HandshakeDone,
    PeerMessage,
    Rejected,
    Send,
    SessionInfo,
    Sessions,
    SessionState,
    Subscribe,
    Voided,
    WalletSettings,
)

#: The websocket's path and subprotocol.
PATH = "/v1/wallet"
SUBPROTOCOL = "lightning-proxy.v1"

__all__ = [
    "PATH",
    "SUBPROTOCOL",
    "Adopt",
    "Authenticate",
    "Authenticated",
    "Challenge",
    "ChannelKeys",
    "Close",
    "Closed",
    "Connect",
    "Connected",
    "Delegate",
    "DelegationKind",
    "DirectionState",
    "Done",
    "Envelope",
    "ErrorCode",
    "ErrorObject",
    "Handshake",
    "HandshakeDone",
    "PeerMessage",
    "Rejected",
    "RequestId",
    "RpcError",
    "Send",
    "SessionInfo",
    "SessionState",
    "Sessions",
    "Subscribe",
    "Voided",
    "WalletSettings",
    "authentication_text",
    "decode_envelope",
    "decode_params",
    "encode_error",
    "encode_notification",
    "encode_request",
    "encode_result",
    "normal_origin",
]
