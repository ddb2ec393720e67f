"""What the relay counts; the API shows it as metrics."""

from dataclasses import dataclass, field, fields

from lightning_proxy.relay.delegation import DelegationState


@dataclass(slots=True)
class Counters:
    """Monotonic, since the process began."""

    dials: int = 0
    dials_failed: int = 0
    handshakes: int = 0
    handshakes_failed: int = 0
    sessions_closed: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    pings_received: int = 0
    pongs_received: int = 0
    pings_unanswered: int = 0
    gossip_dropped: int = 0
    unknown_ignored: int = 0
    delegations: int = 0
    answers_rejected: int = 0
    notifications_dropped: int = 0
    authentications_failed: int = 0
    requests_malformed: int = 0
    outcomes: dict[DelegationState, int] = field(
        default_factory=lambda: dict.fromkeys(DelegationState, 0)
    )

    def plain(self) -> dict[str, int]:
        """The plain numbers by name."""
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in values if isinstance(value, int)}
