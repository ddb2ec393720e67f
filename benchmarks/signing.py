"""How many openings a second can one relay take to its wallets, and how long does one take?

The path is a peer's `open_channel`, the delegation over the wallet's websocket, the wallet's answer
and the `accept_channel` that the peer gets. 1,000 sessions of ten wallets (the default cap is 100
sessions a wallet), each with one opening in flight; then one opening at a time on the same
sessions. One process plays wallets and peers (`rehearsed.py`, `wallets.py`): the wallet's answer
is made in advance but for the delegation's id, the peer compares every byte of `accept_channel`,
and each opening has a fresh temporary channel id, so that nothing is remembered from one to the
next. The peer forgets each channel without a word, as one that lost its connection would.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from itertools import cycle, islice
from statistics import quantiles
from typing import Final

import msgspec
import uvloop
from coincurve import PrivateKey

from benchmarks.rehearsed import KEYS, MESSAGES_HEARD, MESSAGES_SAID, Peer, listening, until
from benchmarks.report import Results, Row, main, progress
from benchmarks.serving import Relay, relay
from benchmarks.wallets import SocketSetUps, SocketWallet, socket_wallet
from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import AcceptChannel, OpenChannel
from lightning_proxy.rpc import ChannelKeys
from lightning_proxy.transport import CipherState

_WALLETS: Final = 10
_SESSIONS: Final = 1000
_IN_FLIGHT: Final = 4
_ROUNDS: Final = 5
#: Seconds a round of the closed loop.
_SECONDS: Final = 3.0
#: Openings one at a time.
_UNLOADED: Final = 5000


def _point(number: int) -> bytes:
    return PrivateKey(number.to_bytes(32, "big")).public_key.format()


_ID_SIZE: Final = 32
_NO_ID: Final = b"\xff" * _ID_SIZE
#: required: option_static_remotekey and option_anchors.
_ANCHORS: Final = Features.from_bits(
    (Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS)
).to_bytes()
# As lnd opens 1,000,000 sat.
_OPEN_HEAD, _OPEN_TAIL = (
    OpenChannel(
        chain_hash=CHAIN_HASHES["bitcoin"],
        temporary_channel_id=_NO_ID,
        funding_satoshis=1_000_000,
        push_msat=0,
        dust_limit_satoshis=354,
        max_htlc_value_in_flight_msat=990_000_000,
        channel_reserve_satoshis=10_000,
        htlc_minimum_msat=1,
        feerate_per_kw=253,
        to_self_delay=144,
        max_accepted_htlcs=483,
        funding_pubkey=_point(1),
        revocation_basepoint=_point(2),
        payment_basepoint=_point(3),
        delayed_payment_basepoint=_point(4),
        htlc_basepoint=_point(5),
        first_per_commitment_point=_point(6),
        channel_flags=1,
        upfront_shutdown_script=b"",
        channel_type=_ANCHORS,
    )
    .encode()
    .split(_NO_ID)
)
_ACCEPT: Final = AcceptChannel(
    temporary_channel_id=_NO_ID,
    dust_limit_satoshis=354,
    max_htlc_value_in_flight_msat=990_000_000,
    channel_reserve_satoshis=10_000,
    htlc_minimum_msat=1,
    minimum_depth=3,
    to_self_delay=144,
    max_accepted_htlcs=483,
    funding_pubkey=_point(11),
    revocation_basepoint=_point(12),
    payment_basepoint=_point(13),
    delayed_payment_basepoint=_point(14),
    htlc_basepoint=_point(15),
    first_per_commitment_point=_point(16),
    upfront_shutdown_script=b"",
    channel_type=_ANCHORS,
)
_ACCEPT_HEAD, _ACCEPT_TAIL = _ACCEPT.encode().split(_NO_ID)
_ANSWER: Final = (
    b'{"jsonrpc":"2.0","id":"%s","result":'
    + msgspec.json.encode(
        ChannelKeys(
            funding_pubkey=_ACCEPT.funding_pubkey.hex(),
            revocation_basepoint=_ACCEPT.revocation_basepoint.hex(),
            payment_basepoint=_ACCEPT.payment_basepoint.hex(),
            delayed_payment_basepoint=_ACCEPT.delayed_payment_basepoint.hex(),
            htlc_basepoint=_ACCEPT.htlc_basepoint.hex(),
            first_per_commitment_point=_ACCEPT.first_per_commitment_point.hex(),
            dust_limit_sat=_ACCEPT.dust_limit_satoshis,
            max_htlc_value_in_flight_msat=_ACCEPT.max_htlc_value_in_flight_msat,
            channel_reserve_sat=_ACCEPT.channel_reserve_satoshis,
            htlc_minimum_msat=_ACCEPT.htlc_minimum_msat,
            minimum_depth=_ACCEPT.minimum_depth,
            to_self_delay=_ACCEPT.to_self_delay,
            max_accepted_htlcs=_ACCEPT.max_accepted_htlcs,
            channel_type=_ANCHORS.hex(),
            upfront_shutdown_script="",
        )
    )
    + b"}"
)
_DELEGATE: Final = b'{"id":"'


class Opener(Peer):
    """A peer that opens channels; `on_accepted` is called for each good `accept_channel`."""

    on_accepted: Callable[["Opener"], None]

    def __init__(self, on_ready: Callable[[Peer], None]) -> None:
        super().__init__(on_ready)
        self._partial = b""
        self._sending = CipherState(KEYS.sending_key, KEYS.chaining_key, 2 * MESSAGES_SAID)
        self._receiving = CipherState(KEYS.receiving_key, KEYS.chaining_key, 2 * MESSAGES_HEARD)

    def open_channel(self) -> None:
        channel_id = secrets.token_bytes(_ID_SIZE)
        self._expected = _ACCEPT_HEAD + channel_id + _ACCEPT_TAIL
        self.transport.write(self._sending.seal(_OPEN_HEAD + channel_id + _OPEN_TAIL))

    def data_received(self, data: bytes) -> None:
        if not self.ready:
            super().data_received(data)
            return
        messages, used = self._receiving.open(self._partial + data)
        self._partial = (self._partial + data)[used:]
        for message in messages:
            if message != self._expected:
                self.failures.append(f"a peer got no good accept_channel but {message.hex()}")
                return
            self.on_accepted(self)


class _Answers:
    """The wallet's side of one websocket."""

    def __init__(self, wallet: SocketWallet) -> None:
        self._wallet = wallet
        wallet.on_text = self._on_text

    def _on_text(self, text: bytes) -> None:
        if text.startswith(_DELEGATE):
            self._wallet.send(_ANSWER % text[len(_DELEGATE) : len(_DELEGATE) + _ID_SIZE])
        elif b'"method":"closed"' not in text:
            Peer.failures.append(f"a wallet was told {text.decode()}")


class _Load:
    """The openings of all sessions."""

    def __init__(self, server: Relay, openers: list[Opener]) -> None:
        self._server = server
        self._openers = openers
        self._accepted = 0

    async def closed_loop(self) -> tuple[float, float]:
        """One opening in flight on every session; openings a second, by clock and processor."""
        under_way = len(self._openers)
        stopping = False

        def accepted(opener: Opener) -> None:
            nonlocal under_way
            self._accepted += 1
            if not stopping:
                opener.open_channel()
                return
            under_way -= 1

        self._accepted = 0
        started, cpu = time.perf_counter(), self._server.cpu_seconds()
        for opener in self._openers:
            opener.on_accepted = accepted
            opener.open_channel()
        await asyncio.sleep(_SECONDS)
        stopping = True
        await until(lambda: under_way == 0)
        elapsed, cpu = time.perf_counter() - started, self._server.cpu_seconds() - cpu
        return self._accepted / elapsed, self._accepted / cpu

    async def one_at_a_time(self) -> list[float]:
        """Milliseconds of each opening."""
        times = []
        loop = asyncio.get_running_loop()
        for opener in islice(cycle(self._openers), _UNLOADED):
            accepted = loop.create_future()
            opener.on_accepted = accepted.set_result
            started = time.perf_counter()
            opener.open_channel()
            await accepted
            times.append(1000 * (time.perf_counter() - started))
        return times


async def _measure() -> list[Row]:
    ready: list[Peer] = []
    openers: list[Opener] = []

    def make() -> Opener:
        openers.append(Opener(ready.append))
        return openers[-1]

    async with listening(make) as addresses:
        with relay() as server:
            peers = cycle(addresses)
            progress(f"{_SESSIONS} sessions of {_WALLETS} wallets")
            for _ in range(_WALLETS):
                wallet = await socket_wallet(server.url, server.port)
                share = islice(peers, _SESSIONS // _WALLETS)
                await SocketSetUps(wallet).set_up(share, _IN_FLIGHT)
                _Answers(wallet)
            await until(lambda: len(ready) == _SESSIONS)
            load = _Load(server, openers)
            progress(f"openings: {_ROUNDS} times {_SECONDS:g} s, then {_UNLOADED} one at a time")
            await load.closed_loop()
            rates = [await load.closed_loop() for _ in range(_ROUNDS)]
            times = await load.one_at_a_time()
    by_clock, by_cpu = zip(*rates, strict=True)
    percentiles = quantiles(times, n=100)
    name = f"openings, {_SESSIONS:,} sessions"
    unloaded = "an opening, one at a time"
    return [
        Row(name, "/s", by_clock),
        Row(f"{name}, by the relay's processor", "/CPU-s", by_cpu),
        Row(f"{unloaded}, p50", "ms", [percentiles[49]], more_is_better=False),
        Row(f"{unloaded}, p99", "ms", [percentiles[98]], more_is_better=False),
        Row(f"{unloaded}, longest", "ms", [max(times)], more_is_better=False),
    ]


def run() -> Results:
    return Results(uvloop.run(_measure()))


if __name__ == "__main__":
    main("The signing path", run)
