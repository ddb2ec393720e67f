"""Texts that strangers write: addresses, signatures, origins. Each is read, or refused in words."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from lightning_proxy.bolt.address import parse
from lightning_proxy.bolt.errors import AddressError, SignatureError
from lightning_proxy.bolt.keys import recover_message_signer
from lightning_proxy.rpc import normal_origin

NODE_ID = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
hosts = st.text(max_size=300) | st.from_regex(re.compile(r"[a-z0-9.:\[\]-]{0,60}"), fullmatch=True)


@given(st.text(max_size=500) | st.builds(lambda host: f"{NODE_ID}@{host}", hosts))
@example(f"{NODE_ID}@[::1]:9735")
@example(f"{NODE_ID}@xn--a.example")
def test_addresses(text: str) -> None:
    try:
        address = parse(text)
    except AddressError as error:
        assert len(str(error)) < 400
    else:
        assert 0 < address.port < 65_536
        assert parse(str(address)) == address


@given(
    st.text(max_size=120) | st.text("ybndrfg8ejkmcpqxot1uwisza345h769", min_size=104, max_size=104),
    st.text(),
)
def test_signatures(signature: str, text: str) -> None:
    try:
        signer = recover_message_signer(signature, text)
    except SignatureError:
        return
    assert len(signer) == 33


@given(st.text(max_size=100) | st.builds(lambda host: f"http://{host}", hosts))
def test_origins(url: str) -> None:
    try:
        origin = normal_origin(url)
    except ValueError:
        return
    assert normal_origin(origin) == origin
