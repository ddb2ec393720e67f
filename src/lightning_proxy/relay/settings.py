"""What an operator can set about the relay itself; every cap with its unit and its default."""

from typing import Annotated

from msgspec import Meta, Struct, field

from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.rpc import DelegationKind

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=65_536, le=1 << 30)]

#: During an opening eclair waits 60 s for a message, lnd 10 minutes; Electrum's 20 s would leave a
#: person no time to decide, and a peer that goes earlier voids the delegation anyway. What no peer
#: waits for has time: a funding transaction that a person signs, `channel_ready`, a lost channel.
_DEADLINES = {
    DelegationKind.CHANNEL_KEYS: 55.0,
    DelegationKind.FUNDING_CREATED: 540.0,
    DelegationKind.FUNDING_SIGNED: 55.0,
    DelegationKind.FUNDING_TRANSACTION: 3600.0,
    DelegationKind.CHANNEL_READY: 3600.0,
    DelegationKind.REESTABLISH: 55.0,
    DelegationKind.UNKNOWN_CHANNEL: 3600.0,
}


class DialSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the relay dials, and how patiently."""

    #: This machine's own addresses; unset: only when nobody but this machine is served.
    allow_loopback: bool | None = None
    #: Private, link-local, carrier-grade NAT and other addresses that are not public.
    allow_private: bool = False
    #: Networks (CIDR) that are allowed, or refused, whatever the two above say; refusal wins.
    allow: list[str] = []
    deny: list[str] = []
    #: The local address to dial from; unset: the system chooses.
    source: str | None = None
    #: Resolving and connecting, in seconds.
    timeout: Seconds = 10.0
    #: A name's next address is tried beside the last one after this long (RFC 8305).
    attempt_delay: Annotated[float, Meta(ge=0.01, le=10)] = 0.25
    #: From act one to act two: lnd allows 5 s a read and LDK 10 s, so a live peer is faster.
    act_two_timeout: Seconds = 10.0
    #: Dials under way at once, and with those that wait for their turn; and the same to one peer.
    #: Of more, those go whose network, and then whose wallet, has most.
    max_concurrent: Count = 200
    max_waiting: Count = 2_000
    max_concurrent_per_peer: Count = 32
    max_waiting_per_peer: Count = 256
    #: A peer that can't be reached is left alone this long, twice as long after each failure.
    backoff_first: Seconds = 1.0
    backoff_most: Seconds = 300.0


class RelaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time limits in seconds, caps as counts or bytes."""

    dial: DialSettings = field(default_factory=DialSettings)
    wake: WakeSettings = field(default_factory=WakeSettings)
    #: What must survive a restart: a file (SQLite), or postgresql://user:password@host/database;
    #: ":memory:": as long as the process lives. `serve` has a file for it where this is unset.
    store: str | None = None
    #: Where the relay sees the chain: bitcoind://, btcd:// or esplora+https://. Without one, it is
    #: for the wallets to say when a funding transaction is deep enough.
    chain: str | None = None
    #: Instead of `chain`, a file whose first line is that URL.
    chain_file: str | None = None
    #: Between two looks at the chain's tip.
    chain_interval: Seconds = 10.0
    #: At start, the chain source and the database get this long to be there.
    start_timeout: Seconds = 180.0
    #: The chains of the default `init`, by name; none: the `init` names none, any peer's will do.
    networks: list[str] = []
    #: From act two to the wallet's act three; lnd gives up after 5 s, LDK after 10 s.
    act_three_timeout: Seconds = 10.0
    #: From our `init` to the peer's; lnd allows 15 s itself.
    init_timeout: Seconds = 15.0
    #: An idle session is pinged after this long, give or take a quarter; Core Lightning hangs up
    #: after 60 s idle.
    ping_interval: Seconds = 40.0
    #: A ping unanswered for this long ends the session; lnd allows 30 s.
    pong_timeout: Seconds = 30.0
    #: For the wallet's answer, by kind; for a kind that isn't named, the default.
    deadlines: dict[DelegationKind, Seconds] = field(default_factory=lambda: dict(_DEADLINES))
    max_sessions: Count = 16_000
    max_sessions_per_wallet: Count = 100
    #: Sessions made over REST that no wallet has adopted: of all networks (a /24 or a /56), where
    #: the one that has most gives way, and of one.
    max_unadopted_sessions: Count = 4_000
    max_unadopted_sessions_per_network: Count = 400
    #: They end after this long.
    unadopted_for: Seconds = 86_400.0
    #: What a peer may say, on one session: bytes a second, and at once. A message costs about a
    #: thousand more than its length, a ping some thirty; a peer that has spent this isn't read.
    bytes_per_session: Annotated[float, Meta(gt=0, le=1e12)] = 2_097_152.0
    bytes_per_session_burst: Annotated[int, Meta(ge=131_072, le=1 << 40)] = 64 << 20
    max_sockets_per_wallet: Count = 8
    #: LDK allows a peer 4 unfunded channels; so do we.
    max_open_delegations_per_session: Count = 4
    #: Kept on disk; a peer that opens one more gets an `error`.
    max_channels_per_wallet: Count = 1000
    max_devices_per_wallet: Count = 16
    #: Key slots that a wallet may leave, beside those that were used.
    max_slots_per_wallet: Count = 100
    #: Messages that wait for a wallet that is away; the oldest go first, and one that alone is
    #: larger does not wait. The largest takes 131,270.
    max_queued_bytes_per_wallet: Bytes = 1 << 20
    #: The same for all wallets together.
    max_queued_bytes: Bytes = 256 << 20
    #: What waits for a wallet that has no session any more is kept this long: 14 days.
    forget_after: Annotated[float, Meta(gt=0, le=31_536_000)] = 1_209_600.0
    #: What a wallet left that never had a channel and has not come for so long is forgotten: wake
    #: targets, key slots, devices, messages. 7 days.
    forget_strangers_after: Annotated[float, Meta(gt=0, le=31_536_000)] = 604_800.0
    #: A device that is there answers a websocket ping within this long; one that is asked something
    #: and doesn't is asleep, and its wallet is woken as if it were away.
    wallet_pong_timeout: Seconds = 2.0
    #: A question that is not answered for this long is pushed as well; a device that has not
    #: answered the ping by then is gone.
    wallet_answer_timeout: Seconds = 5.0
    #: At shutdown, wallets that are there get this long to answer what they were asked.
    answers_timeout: Seconds = 2.0
    #: And sessions this long to send what is queued for their peers.
    close_timeout: Seconds = 4.0
    #: Whatever waits for one wallet socket; a socket that is further behind, its last frame not
    #: counted, is closed. From half of it on, the wallet's peers are not read, so that nothing is
    #: lost to a slow wallet.
    max_queued_bytes_per_socket: Bytes = 2 << 20
    #: A wallet socket that is behind and takes nothing for this long is closed: less than any peer
    #: waits for its pong.
    wallet_stall_timeout: Seconds = 10.0

    def __repr__(self) -> str:
        # Users and passwords stand in URLs.
        return f"RelaySettings(networks={self.networks!r}, max_sessions={self.max_sessions})"

    def deadline_of(self, kind: DelegationKind) -> float:
        """Seconds for the wallet's answer to a question of this kind."""
        return self.deadlines.get(kind, _DEADLINES[kind])
