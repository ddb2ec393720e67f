"""Which resolved addresses a relay dials."""

from ipaddress import IPv6Address

from lightning_proxy.networks import Address, is_in, network_of
from lightning_proxy.relay.addresses import Reach, embedded, reach, same_as
from lightning_proxy.relay.own import is_own
from lightning_proxy.relay.settings import DialSettings


class DialPolicy:
    """Which addresses may be dialled: a relay must not be a port scanner of its own network."""

    def __init__(self, settings: DialSettings, *, relay_is_local: bool) -> None:
        allow_loopback = settings.allow_loopback
        self._allow_loopback = relay_is_local if allow_loopback is None else allow_loopback
        self._allow_private = settings.allow_private
        self._allow = [network_of(network) for network in settings.allow]
        self._deny = [network_of(network) for network in settings.deny]

    def allows(self, address: Address) -> bool:
        """Whether this resolved address may be dialled.

        Policy is about where packets go: what an IPv6 address stands for counts, or may be meant by
        it.
        """
        if isinstance(address, IPv6Address):
            address = same_as(address) or address
        meant = (address, *(embedded(address) if isinstance(address, IPv6Address) else ()))
        if any(is_in(each, self._deny) for each in meant):
            return False
        if is_in(address, self._allow):
            return True
        leads_to = reach(address)
        if not self._allow_loopback and any(map(is_own, meant)):
            # Public as it may be, packets don't leave this machine: they pass its firewall, and
            # come to services that trust who is here.
            leads_to = max(leads_to, Reach.LOOPBACK)
        match leads_to:
            case Reach.WORLD:
                return True
            case Reach.PRIVATE:
                return self._allow_private
            case Reach.LOOPBACK:
                return self._allow_loopback
        return False
