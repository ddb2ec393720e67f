"""`GET /metrics`: what the relay counts, for Prometheus."""

from collections.abc import Iterable
from dataclasses import asdict

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lightning_proxy.audit import audit
from lightning_proxy.relay import Relay
from lightning_proxy.rpc import SessionState

_PREFIX = "lightning_proxy"
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HELP = {
    "dials": "Peers dialled",
    "dials_failed": "Dials that gave no act two",
    "handshakes": "Sessions that exchanged init",
    "handshakes_failed": "Sessions that ended between act three and the peer's init",
    "sessions_closed": "Sessions that ended",
    "messages_received": "Messages from peers, of sessions that ended",
    "messages_sent": "Messages to peers without pongs, of sessions that ended",
    "pings_received": "Peers' pings, of sessions that ended",
    "pongs_received": "Peers' pongs, of sessions that ended",
    "pings_unanswered": "Sessions ended because a ping stayed unanswered",
    "gossip_dropped": "Gossip messages dropped",
    "unknown_ignored": "Messages of unknown odd types ignored",
    "delegations": "Delegations opened",
    "answers_rejected": "Wallets' answers that were not taken",
    "notifications_dropped": "Messages dropped because a wallet was away for too long",
    "authentications_failed": "Wallet sockets that failed to authenticate",
    "requests_malformed": "HTTP requests that could not be read",
    "wakes": "Times that a wallet was woken, in all the places where it wants to be",
    "wakes_delivered": "Pushes that their receivers took",
    "wakes_failed": "Pushes that their receivers did not take",
    "wakes_collapsed": "Reasons to wake a wallet that was being woken already",
    "wake_targets_gone": "Places forgotten because their receivers said that they are gone",
}


class _RelayCollector(Collector):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def collect(self) -> Iterable[Metric]:
        relay = self._relay
        counted = relay.counters.plain() | asdict(relay.waker.counters)
        for name, value in counted.items():
            yield CounterMetricFamily(f"{_PREFIX}_{name}", _HELP[name], value=value)
        outcomes = CounterMetricFamily(
            f"{_PREFIX}_delegation_outcomes", "Delegations over, by outcome", labels=["outcome"]
        )
        for state, count in relay.counters.outcomes.items():
            if state.value != "open":
                outcomes.add_metric([state.value], count)
        yield outcomes
        sessions = GaugeMetricFamily(f"{_PREFIX}_sessions", "Sessions by state", labels=["state"])
        by_state = dict.fromkeys(SessionState, 0)
        for session in relay.sessions():
            by_state[session.state] += 1
        for session_state, count in by_state.items():
            sessions.add_metric([session_state.value], count)
        yield sessions
        yield GaugeMetricFamily(
            f"{_PREFIX}_wallets", "Wallets that have something here", value=relay.wallets
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_channels", "Channels stored, of all wallets", value=relay.stored_channels
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_queued_bytes",
            "Bytes that wait to be acknowledged by wallets",
            value=relay.queued_bytes,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_journal_pending",
            "Changes of inboxes that are not on the disk yet",
            value=relay.journal.pending,
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_audit_failures",
            "Lines of the audit log that could not be written",
            value=audit.failures,
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_journal_written",
            "Changes of inboxes that were written to the disk",
            value=relay.journal.written,
        )


class Metrics:
    """The handler, over a registry of its own."""

    def __init__(self, relay: Relay) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RelayCollector(relay))
        ProcessCollector(registry=self._registry)

    async def get(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": _CONTENT_TYPE}
        )
