"""Limits by address and by wallet: bursts, rates, and memory that does not grow."""

import asyncio
from collections.abc import Iterator

import pytest

from lightning_proxy.api.limits import Limits, LimitSettings, network_of
from lightning_proxy.networks import block_of
from lightning_proxy.relay.buckets import Buckets
from lightning_proxy.rpc import ErrorCode, RpcError

ADDRESS = "203.0.113.7"
WALLET, OTHER = b"\x02" * 33, b"\x03" * 33


class Clock:
    """The event loop's, as the test sets it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(loop, "time", lambda: self.now)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(asyncio.get_running_loop(), monkeypatch)


def limits(**settings: float) -> Limits:
    return Limits(LimitSettings(**settings))  # type: ignore[arg-type]


def refused(attempt: object) -> RpcError:
    assert callable(attempt)
    with pytest.raises(RpcError) as failure:
        attempt()
    assert failure.value.error is ErrorCode.LIMIT
    assert failure.value.retry_after is not None
    return failure.value


async def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    buckets = Buckets(rate=2.0, burst=3)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    clock.now += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    clock.now += 1000
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") > 0


async def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    buckets = Buckets(rate=1.0, burst=1, max_keys=100)
    for number in range(10_000):
        buckets.take(str(number))
    assert len(buckets) == 100


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3::1", "20010db800010002"),
        ("2001:db8:1:2:ffff::9", "20010db800010002"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_whose_limits_count(address: str, network: str | None) -> None:
    assert network_of(address) == network


async def test_requests_by_address(clock: Clock) -> None:
    at = limits(requests_per_address_burst=2)
    at.request(ADDRESS)
    at.request(ADDRESS)
    error = refused(lambda: at.request(ADDRESS))
    assert "this address" in error.sentence
    at.request("203.0.113.8")
    for _ in range(1000):
        at.request("127.0.0.1")


def entered(at: Limits, address: str) -> Iterator[None]:
    with at.pending(address):
        yield


async def test_sockets_that_have_not_authenticated(clock: Clock) -> None:
    at = limits(pending_sockets_per_address=2, pending_sockets=4)
    inside = [entered(at, ADDRESS) for _ in range(2)]
    for each in inside:
        next(each)
    refused(lambda: next(entered(at, ADDRESS)))
    others = [entered(at, "127.0.0.1"), entered(at, "203.0.113.8")]
    for each in others:
        next(each)
    # All places are taken, for loopback as well.
    refused(lambda: next(entered(at, "127.0.0.1")))
    for each in inside:
        assert next(each, None) is None
    next(entered(at, ADDRESS))


async def test_who_fails_too_often_stays_out_for_a_while(clock: Clock) -> None:
    at = limits(failures_per_address=60.0, failures_per_address_burst=3)
    for _ in range(3):
        at.failed_authentication(ADDRESS)
    refused(lambda: next(entered(at, ADDRESS)))
    clock.now += 1.0
    next(entered(at, ADDRESS))


async def test_calls_bytes_and_dials_by_wallet(clock: Clock) -> None:
    at = limits(
        requests_per_wallet_burst=1,
        bytes_per_wallet_burst=100_400,
        dials_per_wallet_burst=1,
    )
    at.call(WALLET)
    refused(lambda: at.call(WALLET))
    at.call(OTHER)
    at.send(WALLET, 60_000)
    refused(lambda: at.send(WALLET, 60_000))
    at.send(WALLET, 40_000)
    at.dial(WALLET, ADDRESS)
    refused(lambda: at.dial(WALLET, ADDRESS))
    at.dial(None, ADDRESS)
    refused(lambda: at.dial(None, ADDRESS))
    at.dial(None, "127.0.0.1")
    at.dial(None, "127.0.0.1")


async def test_who_scans_is_stopped(clock: Clock) -> None:
    at = limits(failed_dials_per_wallet_burst=2)
    down = RpcError(ErrorCode.PEER_UNREACHABLE, "down")
    for error in (
        RpcError(ErrorCode.PEER_FAILED, "no act two"),
        RpcError(ErrorCode.ADDRESS_FORBIDDEN, "not there"),
        # Refused by the relay's own backoff: nothing was dialled.
        RpcError(ErrorCode.PEER_UNREACHABLE, "a moment ago", retry_after=1.0),
    ):
        for _ in range(10):
            at.failed_dial(WALLET, ADDRESS, error)
    at.dial(WALLET, ADDRESS)
    at.failed_dial(WALLET, ADDRESS, down)
    at.failed_dial(WALLET, ADDRESS, down)
    error = refused(lambda: at.dial(WALLET, ADDRESS))
    assert "did not answer" in error.sentence
    at.dial(OTHER, ADDRESS)
    clock.now += 3600
    at.dial(WALLET, ADDRESS)


async def test_wallets_of_one_network_share_what_they_dial(clock: Clock) -> None:
    """732 wallets, which cost nothing, got 46,848 dials."""
    at = limits(dials_per_network_burst=5)
    for number in range(5):
        at.dial(bytes([2, number]), f"203.0.113.{number}")
    error = refused(lambda: at.dial(b"another", "203.0.113.77"))
    assert "network" in error.sentence
    # What was refused cost the wallet nothing, and nobody elsewhere.
    at.dial(b"another", "198.51.100.1")
    for number in range(100):
        at.dial(bytes([3, number]), "127.0.0.1")


async def test_networks_that_scan_are_stopped(clock: Clock) -> None:
    at = limits(failed_dials_per_network_burst=3)
    down = RpcError(ErrorCode.PEER_TIMEOUT, "down")
    for number in range(3):
        at.failed_dial(bytes([2, number]), f"203.0.113.{number}", down)
    assert "network" in refused(lambda: at.dial(b"another", ADDRESS)).sentence
    at.dial(b"another", "198.51.100.1")


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("203.0.113.7", "cb0071"),
        ("::ffff:203.0.113.200", "cb0071"),
        ("2001:db8:1:2ff:3::1", "20010db8000102"),
        ("2001:db8:1:200::1", "20010db8000102"),
        ("127.0.0.1", None),
        ("::1", None),
        ("unix", "unix"),
    ],
)
def test_whose_budget_is_shared(address: str, block: str | None) -> None:
    assert block_of(address) == block
