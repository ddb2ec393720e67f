"""The signing channel's types: what they take and what they refuse."""

import json

import msgspec
import pytest

from lightning_proxy import rpc
from lightning_proxy.rpc.words import Id, Key, Message, NodeId

KEYS = {"key": "11" * 32, "nonce": 0, "chaining_key": "22" * 32}


def test_round_trips() -> None:
    text = rpc.encode_request("ab", "connect", rpc.Connect("p" * 70, "00" * 50))
    envelope = rpc.decode_envelope(text)
    assert (envelope.id, envelope.method) == ("ab", "connect")
    assert rpc.decode_params(envelope.params, rpc.Connect) == rpc.Connect("p" * 70, "00" * 50)
    failure = rpc.RpcError(rpc.ErrorCode.LIMIT, "enough")
    error = rpc.decode_envelope(rpc.encode_error(7, failure)).error
    assert isinstance(error, rpc.ErrorObject)
    assert (error.code, error.message, error.data.code) == (-32004, "enough", "limit")


def test_stable_codes_are_unique() -> None:
    assert len({error.code for error in rpc.ErrorCode}) == len(rpc.ErrorCode)
    assert len({error.number for error in rpc.ErrorCode}) == len(rpc.ErrorCode)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Id, "0" * 31),
        (Id, "0" * 31 + "\n"),
        (Id, "0" * 32 + "\n"),
        (Id, "A" * 32),
        (Key, "0" * 63),
        (Key, "0" * 62 + " 0"),
        (NodeId, "02" * 32),
        (Message, "00"),
        (Message, "000"),
        (Message, "0000\n"),
        (Message, "00" * 65_536),
    ],
)
def test_hex_is_strict(kind: type, value: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, kind)


@pytest.mark.parametrize("nonce", [-2, 1, 999, 1002, 2**63, 0.5, "0", None, True])
def test_nonces(nonce: object) -> None:
    with pytest.raises(rpc.RpcError):
        rpc.decode_params(json.dumps({**KEYS, "nonce": nonce}).encode(), rpc.DirectionState)


def test_keys_show_in_no_repr() -> None:
    direction = msgspec.convert(KEYS, rpc.DirectionState)
    handshake = rpc.Handshake("0" * 32, "00" * 66, direction, direction)
    for text in (repr(direction), repr(handshake), str([handshake])):
        assert "1111" not in text
        assert "2222" not in text


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("ws://127.0.0.1:3000/v1/wallet", "http://127.0.0.1:3000"),
        ("wss://Relay.Example/", "https://relay.example"),
        ("https://relay.example:443", "https://relay.example"),
        ("http://relay.example:80", "http://relay.example"),
        ("https://[2001:DB8::1]:8443/x?y", "https://[2001:db8::1]:8443"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert rpc.normal_origin(url) == origin
    assert rpc.normal_origin(origin) == origin


@pytest.mark.parametrize("url", ["", "relay", "ftp://relay", "http://", "http://relay:99999"])
def test_urls_that_name_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"relay|[Pp]ort"):
        rpc.normal_origin(url)
