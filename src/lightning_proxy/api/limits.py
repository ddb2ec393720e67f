"""How much one address and one wallet may ask for; what is remembered of them is bounded."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

from msgspec import Meta, Struct

from lightning_proxy.networks import address_of, block_of
from lightning_proxy.relay.buckets import Buckets
from lightning_proxy.rpc import ErrorCode, RpcError

_Rate = Annotated[float, Meta(gt=0, le=1e9)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000)]

#: What a message costs beside its bytes: many small ones are work, too.
_MESSAGE_OVERHEAD: Final = 200
#: Wallets without anything here that are remembered.
_MAX_KNOWN: Final = 20_000
#: Whose addresses get limits: an IPv6 customer has a whole network of this size.
_IPV6_PREFIX: Final = 8


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each `…_burst` may come at once, the rest at the rate.

    Limits by address don't hold for loopback: there the relay can't tell its users apart, and a
    proxy on this machine names them (`trusted_proxies`).
    """

    #: HTTP requests, websockets among them, a second.
    requests_per_address: _Rate = 20.0
    requests_per_address_burst: _Count = 200
    #: Connections that have no request under way: of more, the oldest goes.
    silent_connections_per_address: _Count = 256
    silent_connections: _Count = 8_192
    #: Requests a second that are no HTTP; of who sends more, no connection is taken meanwhile.
    malformed_per_address: _Rate = 5.0
    malformed_per_address_burst: _Count = 50
    #: Failed authentications a minute.
    failures_per_address: _Rate = 10.0
    failures_per_address_burst: _Count = 30
    #: Websockets that have not authenticated yet.
    pending_sockets_per_address: _Count = 32
    pending_sockets: _Count = 10_000
    #: JSON-RPC requests a second, but for `send`.
    requests_per_wallet: _Rate = 200.0
    requests_per_wallet_burst: _Count = 1000
    #: Bytes a second that `send` takes.
    bytes_per_wallet: _Rate = 1_048_576.0
    bytes_per_wallet_burst: Annotated[int, Meta(ge=100_000, le=1 << 30)] = 4 << 20
    #: Wallets an hour that have nothing here yet, of a network, a /24 or a /56.
    new_wallets_per_network: _Rate = 120.0
    new_wallets_per_network_burst: _Count = 300
    #: Peers dialled a minute; over REST they count for the address.
    dials_per_wallet: _Rate = 60.0
    dials_per_wallet_burst: _Count = 200
    #: The same for a network, a /24 or a /56: wallets cost nothing.
    dials_per_network: _Rate = 600.0
    dials_per_network_burst: _Count = 2_000
    #: Dials an hour that reached nobody: who has more is scanning.
    failed_dials_per_wallet: _Rate = 60.0
    failed_dials_per_wallet_burst: _Count = 60
    failed_dials_per_network: _Rate = 600.0
    failed_dials_per_network_burst: _Count = 600


class Limits:
    """Every method raises `RpcError` (limit), which says when to try again."""

    def __init__(self, settings: LimitSettings) -> None:
        per_minute, per_hour = 1 / 60, 1 / 3600
        self._settings = settings
        self._requests = Buckets(settings.requests_per_address, settings.requests_per_address_burst)
        self._failures = Buckets(
            settings.failures_per_address * per_minute, settings.failures_per_address_burst
        )
        self._calls = Buckets(settings.requests_per_wallet, settings.requests_per_wallet_burst)
        self._bytes = Buckets(settings.bytes_per_wallet, settings.bytes_per_wallet_burst)
        self._dials = Buckets(
            settings.dials_per_wallet * per_minute, settings.dials_per_wallet_burst
        )
        self._networks_dials = Buckets(
            settings.dials_per_network * per_minute, settings.dials_per_network_burst
        )
        self._failed_dials = Buckets(
            settings.failed_dials_per_wallet * per_hour, settings.failed_dials_per_wallet_burst
        )
        self._networks_failed_dials = Buckets(
            settings.failed_dials_per_network * per_hour, settings.failed_dials_per_network_burst
        )
        self._new_wallets = Buckets(
            settings.new_wallets_per_network * per_hour, settings.new_wallets_per_network_burst
        )
        #: Those that were let in lately, so that to come again costs nothing.
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._pending: Counter[str] = Counter()

    # ---- by address ----

    def request(self, address: str) -> None:
        """An HTTP request came."""
        if (network := network_of(address)) is not None:
            _check(self._requests.take(network), "Too many requests from this address")

    def failed_authentication(self, address: str) -> None:
        """A wallet, or who claims to be one, did not get in; never raises."""
        if (network := network_of(address)) is not None:
            self._failures.take(network)

    @contextmanager
    def pending(self, address: str) -> Iterator[None]:
        """While inside, a websocket has not authenticated yet."""
        network = network_of(address)
        if network is not None:
            _check(self._failures.wait(network), "Too many failed authentications from there")
            if self._pending[network] >= self._settings.pending_sockets_per_address:
                _check(1.0, "Too many websockets of this address have not authenticated")
        if self._pending.total() >= self._settings.pending_sockets:
            _check(1.0, "Too many websockets have not authenticated")
        key = network or ""
        self._pending[key] += 1
        try:
            yield
        finally:
            self._pending[key] -= 1
            if not self._pending[key]:
                del self._pending[key]

    def new_wallet(self, node_id: bytes, address: str) -> None:
        """A wallet comes that has nothing here."""
        if node_id not in self._known and (network := block_of(address)) is not None:
            _check(self._new_wallets.take(network), "Too many new wallets come from this network")
        self._known[node_id] = None
        self._known.move_to_end(node_id)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    # ---- by wallet ----

    def call(self, node_id: bytes) -> None:
        """A JSON-RPC request came."""
        _check(self._calls.take(node_id), "Too many requests of this wallet")

    def send(self, node_id: bytes, size: int) -> None:
        """A message of so many bytes is to go to a peer."""
        cost = size + _MESSAGE_OVERHEAD
        _check(self._bytes.take(node_id, cost), "Too much is sent for this wallet")

    def dial(self, node_id: bytes | None, address: str) -> None:
        """A peer is to be dialled for a wallet at this address; None: for whoever is there."""
        key, network = node_id or network_of(address), block_of(address)
        if network is not None:
            missed = self._networks_failed_dials.wait(network)
            _check(missed, "Too many of the peers that this network dialled did not answer")
            _check(self._networks_dials.wait(network), "This network dials too many peers")
        if key is not None:
            _check(self._failed_dials.wait(key), "Too many of the dialled peers did not answer")
            _check(self._dials.take(key), "Too many peers are dialled")
        if network is not None:
            self._networks_dials.take(network)

    def failed_dial(self, node_id: bytes | None, address: str, error: RpcError) -> None:
        """Dialling failed; never raises. What was not dialled at all says nothing."""
        unreached = error.error in (ErrorCode.PEER_UNREACHABLE, ErrorCode.PEER_TIMEOUT)
        if not unreached or error.retry_after is not None:
            return
        if (key := node_id or network_of(address)) is not None:
            self._failed_dials.take(key)
        if (network := block_of(address)) is not None:
            self._networks_failed_dials.take(network)


def network_of(address: str) -> str | None:
    """Whose limits count for this address; None: nobody's, it is this machine's own."""
    try:
        parsed = address_of(address)
    except ValueError:
        return address
    if parsed.is_loopback:
        return None
    return parsed.packed[:_IPV6_PREFIX].hex() if parsed.version == 6 else str(parsed)


def _check(wait: float, sentence: str) -> None:
    if wait > 0:
        raise RpcError(
            ErrorCode.LIMIT, f"{sentence}; try again in a moment.", retry_after=round(wait, 3)
        )
