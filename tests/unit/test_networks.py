"""Addresses are compared by what they are, not by how they are spelt."""

from ipaddress import ip_address, ip_network

import pytest

from lightning_proxy.api.forwarded import Forwarded
from lightning_proxy.api.limits import network_of as limited
from lightning_proxy.networks import address_of, is_in, network_of


def test_mapped_ones_are_what_they_map() -> None:
    assert address_of("::ffff:192.0.2.1") == ip_address("192.0.2.1")
    assert network_of("::ffff:10.0.0.0/104") == ip_network("10.0.0.0/8")
    assert network_of("::ffff:10.0.0.1") == ip_network("10.0.0.1/32")
    # Wider than all mapped addresses together, it is no IPv4 network.
    assert network_of("::/0") == ip_network("::/0")
    assert is_in(ip_address("::ffff:10.1.2.3"), [network_of("10.0.0.0/8")])
    assert not is_in(ip_address("::10.1.2.3"), [network_of("10.0.0.0/8")])


@pytest.mark.parametrize("text", ["", "300.1.1.1", "::ffff:1.2.3.4/130", "name"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        network_of(text)


def test_limits_and_proxies_see_the_same() -> None:
    assert limited("::ffff:198.51.100.7") == limited("198.51.100.7") == "198.51.100.7"
    assert limited("::ffff:127.0.0.1") is None
    forwarded = Forwarded(["10.0.0.0/8"])
    assert forwarded.trusts("::ffff:10.0.0.1")
    assert forwarded.client("::ffff:10.0.0.1", ["203.0.113.9, [::ffff:10.0.0.2]:443"]) == (
        "203.0.113.9"
    )
    assert Forwarded(["::ffff:10.0.0.0/104"]).trusts("10.9.9.9")
