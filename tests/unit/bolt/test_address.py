"""What is a peer's address, and what to write instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.bolt.address import DEFAULT_PORT, NodeAddress, parse
from lightning_proxy.bolt.errors import AddressError
from tests.unit.bolt.samples import point

NODE_ID = point(1)
KEY = NODE_ID.hex()


@pytest.mark.parametrize(
    ("place", "host", "port", "canonical"),
    [
        ("127.0.0.1:9736", "127.0.0.1", 9736, "127.0.0.1:9736"),
        ("127.0.0.1", "127.0.0.1", DEFAULT_PORT, "127.0.0.1:9735"),
        ("[::1]:1", "::1", 1, "[::1]:1"),
        ("[::1]", "::1", DEFAULT_PORT, "[::1]:9735"),
        ("[2001:DB8:0:0:0:0:0:1]:65535", "2001:db8::1", 65535, "[2001:db8::1]:65535"),
        ("[::ffff:10.0.0.1]:9735", "::ffff:10.0.0.1", 9735, "[::ffff:10.0.0.1]:9735"),
        ("Node.Example.COM:9735", "node.example.com", 9735, "node.example.com:9735"),
        ("node.example.com.", "node.example.com", 9735, "node.example.com:9735"),
        ("localhost", "localhost", 9735, "localhost:9735"),
        ("my_node:9735", "my_node", 9735, "my_node:9735"),
        # IDNA 2008, as browsers have it: 2003 made "fass" of it.
        ("faß.example", "xn--fa-hia.example", 9735, "xn--fa-hia.example:9735"),
        ("bücher.example:9735", "xn--bcher-kva.example", 9735, "xn--bcher-kva.example:9735"),
        ("1.node.example", "1.node.example", 9735, "1.node.example:9735"),
        (f"{'a' * 56}.onion:9735", f"{'a' * 56}.onion", 9735, f"{'a' * 56}.onion:9735"),
    ],
)
def test_addresses(place: str, host: str, port: int, canonical: str) -> None:
    address = parse(f"{KEY}@{place}")
    assert address == NodeAddress(NODE_ID, host, port)
    assert str(address) == f"{KEY}@{canonical}"
    assert parse(str(address)) == address


def test_the_key_may_be_written_in_capitals() -> None:
    assert parse(f"{KEY.upper()}@localhost").node_id == NODE_ID


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no '@': write pubkey@host:port"),
        (KEY, "has no '@': write pubkey@host:port"),
        ("@localhost", "is no public key: write pubkey@host:port, the public key as 66 hex"),
        (f"{KEY[:-1]}@localhost", "is no public key"),
        (f"{KEY}0@localhost", "is no public key"),
        (f"04{KEY[2:]}@localhost", "starting with 02 or 03"),
        (f" {KEY}@localhost", "is no public key"),
        (f"{KEY[:-1]}é@localhost", "is no public key"),
        (f"02{'00' * 32}@localhost", "is no point of secp256k1"),
        (f"{KEY}@", "the host is missing"),
        (f"{KEY}@:9735", "the host is missing"),
        (f"{KEY}@::1", "write an IPv6 address in brackets"),
        (f"{KEY}@::1:9735", "write an IPv6 address in brackets"),
        (f"{KEY}@[::1", "write [host]:port"),
        (f"{KEY}@[::1]9735", "write [host]:port"),
        (f"{KEY}@[127.0.0.1]:9735", "in brackets is no IPv6 address"),
        (f"{KEY}@[]:9735", "in brackets is no IPv6 address"),
        (f"{KEY}@[::g]:9735", "is no IPv6 address"),
        (f"{KEY}@[fe80::1%eth0]:9735", "has a zone"),
        (f"{KEY}@localhost:", "write a number from 1 to 65535"),
        (f"{KEY}@localhost:0", "write a number from 1 to 65535"),
        (f"{KEY}@localhost:65536", "write a number from 1 to 65535"),
        (f"{KEY}@localhost:+1", "write a number from 1 to 65535"),
        (f"{KEY}@localhost:٣", "write a number from 1 to 65535"),
        (f"{KEY}@localhost:1\n", "write a number from 1 to 65535"),
        (f"{KEY}@256.0.0.1", "is no IPv4 address: write four numbers"),
        (f"{KEY}@127.1", "is no IPv4 address"),
        (f"{KEY}@2130706433", "is no IPv4 address"),
        (f"{KEY}@0x7f000001", "is no IPv4 address"),
        (f"{KEY}@127.0.0.0x1", "is no IPv4 address"),
        (f"{KEY}@\uff10x7f", "is no IPv4 address"),
        (f"{KEY}@a..b", "is no host name"),
        (f"{KEY}@-a.example", "is no host name"),
        (f"{KEY}@a b.example", "is no host name"),
        (f"{KEY}@user@example.com", "is no host name"),
        (f"{KEY}@example.com/path", "is no host name"),
        (f"{KEY}@example.com\n", "is no host name"),
        (f"{KEY}@{'a' * 64}.example", "is no host name"),
        (f"{KEY}@{'a.' * 126}abc", "at most 253 characters, not 255"),
        (f"{KEY}@\x00", "is no host name"),
        (f"{KEY}@\ud800.example", "is no host name"),
    ],
)
def test_what_to_write_instead(text: str, sentence: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_endless_text_is_not_repeated() -> None:
    for text in ("a" * 10**6, f"{'a' * 10**6}@b", f"{KEY}@{'é' * 10**6}", f"{KEY}@[{':' * 10**6}]"):
        with pytest.raises(AddressError) as caught:
            parse(text)
        assert len(str(caught.value)) < 300


@given(st.text(max_size=300))
def test_any_host_is_an_address_or_an_address_error(place: str) -> None:
    try:
        address = parse(f"{KEY}@{place}")
    except AddressError:
        return
    assert parse(str(address)) == address
