"""What this machine is reached by from itself is not dialled, whatever kind of address it is."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lightning_proxy.networks import Address
from lightning_proxy.relay import DialSettings, dial_policy, own
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.own import is_own

#: Nobody's: for documentation, but for the first of each, which some test machines have.
OTHERS = ["192.0.2.199", "198.51.100.7", "2001:db8::7", "1.1.1.1", "2606:4700::1111"]
PUBLIC4, PUBLIC6 = ip_address("1.1.1.1"), ip_address("2606:4700::1111")


def own_addresses() -> Iterator[Address]:
    """Those by which this machine would send into the world, if it can, and loopback's."""
    yield from map(ip_address, ("127.0.0.1", "::1"))
    for family, far in ((socket.AF_INET, "1.1.1.1"), (socket.AF_INET6, "2606:4700::1111")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))
            except OSError:
                continue
            yield ip_address(probe.getsockname()[0])


@pytest.fixture(params=["binds to its own", "binds to any"])
def any_kind_of_host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "binds to any":
        monkeypatch.setattr(own, "_binds", lambda family, address: True)


@pytest.mark.usefixtures("any_kind_of_host")
def test_the_machine_knows_its_own() -> None:
    for address in own_addresses():
        assert is_own(address), address
    for text in OTHERS:
        assert not is_own(ip_address(text)), text


def test_none_of_them_is_dialled() -> None:
    policy = DialPolicy(DialSettings(allow_private=True), relay_is_local=False)
    for address in own_addresses():
        assert not policy.allows(address), address


@pytest.fixture
def has_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_policy, "is_own", {PUBLIC4, PUBLIC6}.__contains__)


@pytest.mark.usefixtures("has_public_addresses")
@pytest.mark.parametrize(
    "spelling",
    ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1", "2606:4700::1111"],
)
def test_nor_is_a_public_one_by_any_of_its_spellings(spelling: str) -> None:
    def allows(**settings: object) -> bool:
        policy = DialPolicy(DialSettings(**settings), relay_is_local=False)  # type: ignore[arg-type]
        return policy.allows(ip_address(spelling))

    assert not allows()
    assert not allows(allow_private=True)
    assert allows(allow_loopback=True)
    assert allows(allow=["1.1.1.1/32", "2606:4700::/32", "2002:101::/32"])
    assert DialPolicy(DialSettings(), relay_is_local=True).allows(ip_address(spelling))
