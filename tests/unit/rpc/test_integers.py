"""Integers that JavaScript has no room for: read as numbers or strings, written as is asked for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from lightning_proxy import rpc
from lightning_proxy.api.openapi import METHODS, document
from lightning_proxy.api.rest import ConnectBody, ConnectResult, HandshakeBody, HandshakeResult
from lightning_proxy.rpc import Integers, RpcError
from tests.support.channels import channel_keys

#: 930000x1234x1; the nearest double is another number.
SCID = 1022545813912551425
POLICY = {"min_funding_sat": 0, "max_funding_sat": 1}


def read(kind: type, **fields: Any) -> Any:
    return rpc.decode_params(json.dumps(fields).encode(), kind)


def test_as_numbers_and_as_strings() -> None:
    subscribe: dict[str, Any] = {"session_id": "0" * 32, "raw": True}
    for scid in (SCID, str(SCID)):
        wanted = read(rpc.Subscribe, **subscribe, short_channel_ids=[1, scid])
        assert wanted.short_channel_ids == [1, SCID]
    keys = channel_keys()
    strings = channel_keys(**{n: str(v) for n, v in keys.items() if n.endswith(("sat", "msat"))})
    assert read(rpc.ChannelKeys, **{**keys, **strings}) == read(
        rpc.ChannelKeys, **{**strings, "dust_limit_sat": 354}
    )
    ready = read(rpc.ChannelReady, second_per_commitment_point="02" * 33, alias=str(SCID))
    assert ready.alias == SCID
    slot = {"answer": keys, "policy": {"max_funding_sat": str(2**63 - 1)}}
    assert read(rpc.AddSlots, slots=[slot]).slots[0].policy.max_funding_sat == 2**63 - 1


@pytest.mark.parametrize(
    "text",
    [
        "", "-0", "-1", "+1", "00", "01", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "1_0", "1,0",
        "\u0661", "\uff19", "null", "true", str(2**63), "9" * 19, "1" * 20, "1" * 5000,
    ],
)  # fmt: skip
def test_strings_are_strict(text: str) -> None:
    assert read(rpc.SlotPolicy, max_funding_sat="0").max_funding_sat == 0
    with pytest.raises(RpcError) as failure:
        read(rpc.SlotPolicy, max_funding_sat=text)
    assert failure.value.error is rpc.ErrorCode.INVALID_PARAMS
    assert "max_funding_sat" in failure.value.sentence


@pytest.mark.parametrize("value", [True, 1.0, 1e3, None, [], {}, ["1"], -1, 2**63])
def test_nothing_else_is_a_large_integer(value: Any) -> None:
    with pytest.raises(RpcError):
        read(rpc.SlotPolicy, max_funding_sat=value)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (rpc.ChannelKeys, channel_keys(dust_limit_sat="354", minimum_depth="3")),
        (rpc.ChannelKeys, channel_keys(dust_limit_sat="354", to_self_delay="144")),
        (rpc.Acknowledge, {"position": "1"}),
        (rpc.Sessions, {"limit": "1"}),
        (rpc.FundingSeen, {"confirmations": "1", "short_channel_id": "1"}),
        (rpc.Subscribe, {"session_id": "0" * 32, "raw": "true", "short_channel_ids": ["1"]}),
        (rpc.Subscribe, {"session_id": "0" * 32, "raw": 1, "short_channel_ids": ["1"]}),
        (
            rpc.SetPresence,
            {"session_id": "0" * 32, "policy": "stay", "seconds": "1"},
        ),
        (
            rpc.DirectionState,
            {"key": "00" * 32, "nonce": "0", "chaining_key": "00" * 32},
        ),
    ],
)
def test_no_other_field_is_loosened(kind: type, fields: dict[str, Any]) -> None:
    with pytest.raises(RpcError) as failure:
        read(kind, **fields)
    assert failure.value.error is rpc.ErrorCode.INVALID_PARAMS


@given(st.integers(0, 2**63 - 1))
def test_every_amount_in_either_form(amount: int) -> None:
    seen = rpc.FundingSeen(confirmations=6, short_channel_id=amount)
    for integers, written in ((Integers.NUMBER, amount), (Integers.STRING, str(amount))):
        text = rpc.encode_result(1, [seen], integers)
        assert json.loads(text)["result"] == [{"confirmations": 6, "short_channel_id": written}]
        result = rpc.decode_envelope(text).result
        assert rpc.decode_params(result, list[rpc.FundingSeen]) == [seen]


def test_strings_wherever_a_large_integer_is() -> None:
    info = rpc.ChannelInfo(
        channel_id="00" * 32,
        temporary_channel_id="00" * 32,
        peer="02" * 33,
        state="ready",
        funding=rpc.FundingSeen(confirmations=6, short_channel_id=SCID),
        messages=[],
    )
    page = rpc.ChannelPage([info])
    for result, at in ((info, []), ([info], [0]), (page, ["items", 0])):
        said = json.loads(rpc.encode_result(1, result, Integers.STRING))["result"]
        for step in at:
            said = said[step]
        assert said["funding"] == {"confirmations": 6, "short_channel_id": str(SCID)}
        # As ever: what is not there is left out.
        assert "session_id" not in said
    delegate = rpc.Delegate(
        id="0" * 32,
        session_id="0" * 32,
        peer="02" * 33,
        channel_id="00" * 32,
        kind=rpc.DelegationKind.CHANNEL_KEYS,
        sequence=1,
        created=1.5,
        deadline=2.5,
        messages=[],
        decoded=[{"name": "open_channel", "a": SCID, "b": [1, {"c": 2}], "d": None, "e": True}],
    )
    number, text = (
        json.loads(rpc.encode_request("a", "delegate", delegate, integers))["params"]
        for integers in Integers
    )
    assert number["decoded"][0]["a"] == SCID
    assert text["decoded"] == [
        {"name": "open_channel", "a": str(SCID), "b": ["1", {"c": "2"}], "d": None, "e": True}
    ]
    assert {**text, "decoded": []} == {**number, "decoded": []}


def integers_of(kind: inspect.Type, where: str) -> list[tuple[str, inspect.IntType, bool]]:
    """Every integer in a type: where it is, its bounds, whether it is a large one."""
    inside: list[tuple[inspect.Type, str]] = []
    match kind:
        case inspect.Metadata(type=inspect.IntType() as inner, extra_json_schema=extra):
            return [(where, inner, rpc.LARGE in (extra or {}))]
        case inspect.IntType():
            return [(where, kind, False)]
        case (
            inspect.Metadata(type=inner)
            | inspect.ListType(item_type=inner)
            | inspect.DictType(value_type=inner)
        ):
            inside = [(inner, where)]
        case inspect.UnionType(types=members):
            inside = [(member, where) for member in members]
        case inspect.StructType(fields=fields, cls=cls):
            inside = [(field.type, f"{cls.__name__}.{field.name}") for field in fields]
    return [found for each, at in inside for found in integers_of(each, at)]


def test_every_integer_is_one_that_every_reader_has_room_for_or_a_large_one() -> None:
    kinds = [kind for params, result, _ in METHODS.values() for kind in (params, result) if kind]
    found = [
        each
        for kind in (*kinds, *rpc.ANSWERS.values())
        for each in integers_of(inspect.type_info(kind), repr(kind))
    ]
    assert {where for where, _, is_large in found if is_large} == {
        "Subscribe.short_channel_ids",
        "FundingSeen.short_channel_id",
        "ChannelReady.alias",
        "ChannelKeys.dust_limit_sat",
        "ChannelKeys.max_htlc_value_in_flight_msat",
        "ChannelKeys.channel_reserve_sat",
        "ChannelKeys.htlc_minimum_msat",
        "SlotPolicy.min_funding_sat",
        "SlotPolicy.max_funding_sat",
        "Reestablish.next_commitment_number",
        "Reestablish.next_revocation_number",
    }
    for where, kind, is_large in found:
        assert kind.ge is not None, where
        assert kind.ge >= 0, where
        assert is_large or (kind.le is not None and kind.le <= 2**53 - 1), where
    # REST has none.
    for body in (ConnectBody, ConnectResult, HandshakeBody, HandshakeResult):
        assert not integers_of(inspect.type_info(body), body.__name__)


def test_the_schema_says_so() -> None:
    schemas = document()["components"]["schemas"]
    number, text = schemas["FundingSeen"]["properties"]["short_channel_id"]["anyOf"][0]["anyOf"]
    assert number == {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    assert text == {"type": "string", "pattern": rpc.DECIMAL}
    assert schemas["FundingSeen"]["properties"]["confirmations"]["type"] == "integer"
    assert rpc.LARGE not in json.dumps(schemas)
    assert schemas["Acknowledge"]["properties"]["position"]["maximum"] == rpc.MAX_SAFE
