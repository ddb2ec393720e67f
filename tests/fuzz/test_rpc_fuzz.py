"""What a wallet may send: any text, and requests with anything in any place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy import rpc
from lightning_proxy.api.openapi import METHODS
from lightning_proxy.api.rest import ConnectBody, HandshakeBody

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=140),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
KINDS = [parameters for parameters, _, sender in METHODS.values() if sender == "wallet"]


@given(st.text() | st.binary())
def test_any_text_is_an_envelope_or_a_clear_error(text: str | bytes) -> None:
    try:
        rpc.decode_envelope(text)
    except rpc.RpcError as error:
        assert error.error in (rpc.ErrorCode.PARSE_ERROR, rpc.ErrorCode.INVALID_REQUEST)


@given(anything)
def test_any_json_is_an_envelope_or_a_clear_error(value: Any) -> None:
    test_any_text_is_an_envelope_or_a_clear_error.hypothesis.inner_test(json.dumps(value))  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [*KINDS, ConnectBody, HandshakeBody, rpc.ChannelKeys])
@given(data=st.data())
def test_parameters(kind: type, data: st.DataObject) -> None:
    names = st.sampled_from(["", *kind.__struct_fields__])  # type: ignore[attr-defined]
    value = data.draw(anything | st.dictionaries(names, anything, max_size=8))
    try:
        rpc.decode_params(json.dumps(value).encode(), kind)
    except rpc.RpcError as error:
        assert error.error in (rpc.ErrorCode.PARSE_ERROR, rpc.ErrorCode.INVALID_PARAMS)
        assert len(error.sentence) < 300
