"""`GET /openapi.json`: the published schema, generated from the types that the code uses."""

from typing import Any

import msgspec

from lightning_proxy import __version__, rpc
from lightning_proxy.api import rest
from lightning_proxy.api.problems import Problem

#: method: (parameters, result, who asks); a notification has no result, and `delegate` one by its
#: kind, which stands under `answers`.
METHODS: dict[str, tuple[type, Any, str]] = {
    "challenge": (rpc.Challenge, None, "relay"),
    "authenticate": (rpc.Authenticate, rpc.Authenticated, "wallet"),
    "connect": (rpc.Connect, rpc.Connected, "wallet"),
    "handshake": (rpc.Handshake, rpc.HandshakeDone, "wallet"),
    "adopt": (rpc.Adopt, rpc.SessionInfo, "wallet"),
    "sessions": (rpc.Sessions, rpc.SessionList, "wallet"),
    "close": (rpc.Close, rpc.Done, "wallet"),
    "send": (rpc.Send, rpc.Done, "wallet"),
    "subscribe": (rpc.Subscribe, rpc.SessionInfo, "wallet"),
    "open_channel": (rpc.OpenChannel, rpc.Done, "wallet"),
    "update_channel": (rpc.UpdateChannel, rpc.Done, "wallet"),
    "channels": (rpc.Channels, rpc.ChannelList, "wallet"),
    "set_presence": (rpc.SetPresence, rpc.SessionInfo, "wallet"),
    "wake_by_webhook": (rpc.WakeByWebhook, rpc.WakeTarget, "wallet"),
    "wake_by_web_push": (rpc.WakeByWebPush, rpc.WakeTarget, "wallet"),
    "wake_targets": (rpc.WakeTargets, rpc.WakeTargetList, "wallet"),
    "remove_wake_target": (rpc.RemoveWakeTarget, rpc.Done, "wallet"),
    "test_wake": (rpc.WakeTest, rpc.TestedTargets, "wallet"),
    "add_slots": (rpc.AddSlots, rpc.AddedSlots, "wallet"),
    "slots": (rpc.Slots, rpc.SlotList, "wallet"),
    "remove_slot": (rpc.RemoveSlot, rpc.Done, "wallet"),
    "add_device": (rpc.AddDevice, rpc.DeviceInfo, "wallet"),
    "devices": (rpc.Devices, rpc.DeviceList, "wallet"),
    "revoke_device": (rpc.RevokeDevice, rpc.Done, "wallet"),
    "take_over": (rpc.TakeOver, rpc.Lease, "wallet"),
    "acknowledge": (rpc.Acknowledge, rpc.Done, "wallet"),
    "delegate": (rpc.Delegate, None, "relay"),
    "message": (rpc.PeerMessage, None, "relay"),
    "closed": (rpc.Closed, None, "relay"),
    "voided": (rpc.Voided, None, "relay"),
    "session_lost": (rpc.SessionLost, None, "relay"),
    "slot_used": (rpc.SlotUsed, None, "relay"),
    "funding_refused": (rpc.FundingRefused, None, "relay"),
    "lease_lost": (rpc.LeaseLost, None, "relay"),
    "rejected": (rpc.Rejected, None, "relay"),
}

_CALLS: dict[str, tuple[type, type, str]] = {
    "/api/connect": (rest.ConnectBody, rest.ConnectResult, "Dial a peer, hand over act one"),
    "/api/handshake/{id}": (
        rest.HandshakeBody,
        rest.HandshakeResult,
        "Hand over act three and the transport keys, get the peer's init",
    ),
}

#: About what `_in_either_form` makes of the schema.
_INTEGERS = (
    "An integer that may exceed 2^53 - 1 is taken as a number or as a decimal string. It comes as "
    "a number, unless authenticate asks, by integers, for strings on this socket; then every "
    "integer of a delegation's decoded is one, too. All others, positions and sequences among "
    "them, are numbers and never exceed 2^53 - 1. REST has none."
)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document; `x-json-rpc` describes the wallet websocket's methods."""
    types: list[Any] = [Problem]
    for request, response, _ in _CALLS.values():
        types += [request, response]
    for parameters, result, _ in METHODS.values():
        types += [parameters, *([] if result is None else [result])]
    types += rpc.ANSWERS.values()
    schemas, components = _in_either_form(
        msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    )
    schema_of = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "lightning-proxy-server", "version": __version__},
        "paths": {
            **{
                path: {"post": _operation(path, summary, schema_of[repr(a)], schema_of[repr(b)])}
                for path, (a, b, summary) in _CALLS.items()
            },
            **{
                path: {"get": {"summary": summary, "responses": {"200": {"description": "OK"}}}}
                for path, summary in (
                    ("/", "A page for people"),
                    ("/healthz", "Whether the relay runs"),
                    ("/metrics", "Prometheus metrics"),
                    ("/openapi.json", "This document"),
                )
            },
            rpc.PATH: {
                "get": {
                    "summary": "The wallet websocket: JSON-RPC 2.0 in both directions",
                    "description": f"Subprotocol {rpc.SUBPROTOCOL}; its methods: x-json-rpc.",
                    "responses": {"101": {"description": "Switching protocols"}},
                }
            },
        },
        "x-json-rpc": {
            "methods": {
                name: {
                    "from": sender,
                    "params": schema_of[repr(parameters)],
                    **({} if result is None else {"result": schema_of[repr(result)]}),
                }
                for name, (parameters, result, sender) in METHODS.items()
            },
            "answers": {kind: schema_of[repr(answer)] for kind, answer in rpc.ANSWERS.items()},
            "integers": _INTEGERS,
            "frames": {"to_relay": rpc.MAX_FRAME_TO_RELAY, "to_wallet": rpc.MAX_FRAME_TO_WALLET},
            "errors": {error.code: error.number for error in rpc.ErrorCode},
        },
        "components": {"schemas": components},
    }


def _in_either_form(schema: Any) -> Any:
    """The schema with each large integer as what it may be: a number, or its decimal digits."""
    if isinstance(schema, list | tuple):
        return [_in_either_form(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if rpc.LARGE not in schema:
        return {name: _in_either_form(each) for name, each in schema.items()}
    about = {name: schema[name] for name in ("description", "default") if name in schema}
    integer = {name: each for name, each in schema.items() if name not in (rpc.LARGE, *about)}
    return {**about, "anyOf": [integer, {"type": "string", "pattern": rpc.DECIMAL}]}


def _operation(
    path: str, summary: str, request: dict[str, Any], response: dict[str, Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "OK", "content": {"application/json": {"schema": response}}},
            "default": {
                "description": "Problem details (RFC 9457) with a stable code",
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            },
        },
    }
    if "{id}" in path:
        operation["parameters"] = [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operation
