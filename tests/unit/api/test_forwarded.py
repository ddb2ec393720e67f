"""Who the client is, behind proxies and behind liars."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_proxy.api.forwarded import Forwarded

PROXY, INNER = "127.0.0.1", "10.0.0.2"
CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("remote", "values", "client"),
    [
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}, {INNER}"], CLIENT),
        (PROXY, [CLIENT, INNER], CLIENT),
        # What the client itself wrote stands further away.
        (PROXY, [f"198.51.100.1, {CLIENT}"], CLIENT),
        (PROXY, [f"127.0.0.1, {CLIENT}, {INNER}"], CLIENT),
        (CLIENT, ["198.51.100.1"], CLIENT),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db8::7]:4711"], "2001:db8::7"),
        (PROXY, ["2001:db8::7"], "2001:db8::7"),
        # As a socket of both families names an IPv4 client, or a proxy on the way.
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [f"[::ffff:{CLIENT}]:4711, ::ffff:10.0.0.2"], CLIENT),
        ("::ffff:127.0.0.1", [CLIENT], CLIENT),
        # Link-local ones come with the interface that they are on.
        ("fe80::1%eth0", [CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}, [fe80::2%eth1]:443"], CLIENT),
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"{CLIENT}, _hidden"], PROXY),
        (PROXY, [""], PROXY),
    ],
)
def test_the_nearest_that_is_no_proxy(remote: str, values: list[str], client: str) -> None:
    assert Forwarded(["127.0.0.0/8", "10.0.0.0/8", "fe80::/10"]).client(remote, values) == client


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert Forwarded([]).client(PROXY, [CLIENT]) == PROXY


def test_what_is_no_network() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        Forwarded(["nowhere"])


@given(st.lists(st.text(max_size=40), max_size=4), st.text(max_size=40))
def test_any_header_gives_some_client(values: list[str], remote: str) -> None:
    forwarded = Forwarded(["127.0.0.0/8"])
    assert isinstance(forwarded.client(remote, values), str)
    assert forwarded.trusts(forwarded.client(PROXY, values)) in (True, False)
