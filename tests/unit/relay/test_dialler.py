"""Which addresses the relay dials."""

from ipaddress import ip_address, ip_network

import pytest

from lightning_proxy.relay import DialSettings
from lightning_proxy.relay.dial_policy import DialPolicy
from tests.support.data import load_json

PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "2002:808:808::1"]
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
#: They lead to this machine, or are none of its addresses: never the world.
NEAR = ["::127.0.0.1", "::ffff:0:127.0.0.1", "2002:7f00:1::1", "2001:0:808:808::80ff:fffe"]
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "240.0.0.1",
    "fc00::1",
    "fe80::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
    # What an address may lead to by some tunnel or translator.
    "fec0::1",
    "192.0.0.8",
    "64:ff9b:1::808:808",
    "::ffff:0:8.8.8.8",
    "::ffff:0:10.0.0.1",
    "::8.8.8.8",
    "::10.0.0.1",
    "2001:0:808:808::f5ff:fffe",
    "2606:4700::5efe:a00:1",
    "2606:4700::200:5efe:192.168.0.1",
    "4000::1",
]
NEVER = ["0.0.0.0", "0.1.2.3", "255.255.255.255", "::", "224.0.0.1", "ff02::1", "::ffff:224.0.0.1"]


def policy(*, relay_is_local: bool = False, **settings: object) -> DialPolicy:
    return DialPolicy(DialSettings(**settings), relay_is_local=relay_is_local)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_dialled(address: str) -> None:
    assert policy().allows(ip_address(address))


@pytest.mark.parametrize("address", LOOPBACK + NEAR + PRIVATE + NEVER)
def test_others_are_not(address: str) -> None:
    assert not policy().allows(ip_address(address))


@pytest.mark.parametrize("address", LOOPBACK)
def test_a_relay_is_local_dials_loopback_unless_told_not_to(address: str) -> None:
    assert policy(relay_is_local=True).allows(ip_address(address))
    assert policy(allow_loopback=True).allows(ip_address(address))
    assert not policy(relay_is_local=True, allow_loopback=False).allows(ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_when_allowed(address: str) -> None:
    assert policy(allow_private=True).allows(ip_address(address))
    assert not policy(relay_is_local=True).allows(ip_address(address))


@pytest.mark.parametrize("address", NEAR)
def test_a_private_address_that_leads_to_this_machine_needs_both(address: str) -> None:
    assert not policy(allow_private=True).allows(ip_address(address))


def test_the_registries_of_special_addresses() -> None:
    """By IANA's tables, whatever this Python's `ipaddress` says."""
    table = load_json("iana_special_purpose.json")
    for text, reachable in table["ipv4"] + table["ipv6"]:
        if text in ("2002::/16", "::ffff:0:0/96"):
            # What they lead to counts, and that is tested above.
            continue
        network = ip_network(text)
        for address in (network.network_address, network.broadcast_address):
            assert policy().allows(address) is reachable, address


def test_mapped_networks_are_what_they_map() -> None:
    chosen = policy(allow=["::ffff:10.1.0.0/112"], deny=["::ffff:1.1.1.1"])
    assert chosen.allows(ip_address("10.1.1.1"))
    assert chosen.allows(ip_address("::ffff:10.1.1.1"))
    assert not chosen.allows(ip_address("1.1.1.1"))


@pytest.mark.parametrize("address", NEVER)
def test_some_are_never_peers(address: str) -> None:
    settings = policy(relay_is_local=True, allow_private=True, allow_loopback=True)
    assert not settings.allows(ip_address(address))


def test_networks_by_name_and_refusal_wins() -> None:
    chosen = policy(allow=["10.1.0.0/16", "fd00::/8"], deny=["10.1.2.0/24", "1.1.1.1/32"])
    assert chosen.allows(ip_address("10.1.1.1"))
    assert chosen.allows(ip_address("fd00::7"))
    assert not chosen.allows(ip_address("10.1.2.3"))
    assert not chosen.allows(ip_address("::ffff:10.1.2.3"))
    assert not chosen.allows(ip_address("1.1.1.1"))
    assert not chosen.allows(ip_address("10.2.0.1"))
