"""A small Lightning node that opens channels and accepts them, with keys and a chain of its own.

It goes by its own `bolt.channel` state machines, funds with real transactions, waits for its own
chain source, and goes on with its channels on each new connection. It knows no payments.
"""

import asyncio
import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from lightning_proxy.bolt.chains import CHAIN_HASHES
from lightning_proxy.bolt.channel import Channel, ChannelState, Need
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.features import Feature, Features
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingCreated,
    FundingSigned,
    Message,
    OpenChannel,
    decode,
)
from lightning_proxy.bolt.messages import Warning as PeerWarning
from lightning_proxy.bolt.opening import (
    MINIMUM_DUST_LIMIT_SAT,
    RESERVE_DIVISOR,
    channel_type_of,
)
from lightning_proxy.chain import ChainError, ChainSource, Output, OutputWatch, WatchedOutput
from lightning_proxy.demo.coins import Coin, Faucet, FundingTransaction
from lightning_proxy.demo.connection import Connection, ConnectionOver, PeerFailed, text_of
from lightning_proxy.demo.lines import Emit
from lightning_proxy.wallet import WalletKeys
from lightning_proxy.wallet.keys import ChannelSecrets

#: BOLT #2: a channel type is its features' even bits.
CHANNEL_TYPES: Final = {
    "static_remotekey": Features.from_bits((Feature.OPTION_STATIC_REMOTEKEY,)),
    "anchors": Features.from_bits((Feature.OPTION_STATIC_REMOTEKEY, Feature.OPTION_ANCHORS)),
}
#: Blocks until a funding transaction of the other side's counts.
MINIMUM_DEPTH: Final = 3

_FEERATE_PER_KW: Final = 1_000
_TO_SELF_DELAY: Final = 144
_MAX_HTLCS: Final = 483
_ALL_CHANNELS: Final = bytes(32)
#: Seconds between attempts to broadcast while the chain source can't be reached.
_BROADCAST_RETRY: Final = 1.0
#: Of all nodes together.
_MAX_CHANNELS: Final = 100
_SIGNED: Final = (ChannelState.SIGNED, ChannelState.READY)


class ChannelView(Struct, frozen=True):
    """A channel as one side sees it; amounts before the fees of closing."""

    channel_id: str
    role: str
    channel_type: str
    state: str
    capacity_sat: int
    our_balance_msat: int
    peer_balance_msat: int
    #: By this side's own chain source; None: it doesn't show the funding transaction.
    confirmations: int | None


def view_of(channel: Channel) -> ChannelView:
    """What this side of a channel shows; raises `UnexpectedMessage` before `open_channel`."""
    return ChannelView(
        channel_id=channel.channel_id.hex(),
        role=channel.role.value,
        channel_type=str(channel_type_of(channel.open_channel, channel.features)),
        state=channel.state.value,
        capacity_sat=channel.open_channel.funding_satoshis,
        our_balance_msat=channel.balance_msat(channel.role),
        peer_balance_msat=channel.balance_msat(channel.role.other),
        confirmations=channel.confirmations,
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """A channel to open; its type is one of `CHANNEL_TYPES`."""

    funding_sat: int
    push_msat: int = 0
    channel_type: str = "anchors"


@dataclass(slots=True, eq=False)
class PeerChannel:
    """A channel of the peer's, with what it alone knows of it."""

    node_id: bytes
    channel: Channel
    secrets: ChannelSecrets
    coin: Coin | None = None
    funding: FundingTransaction | None = None
    watched: WatchedOutput | None = None
    #: What was last said of it.
    told: ChannelView | None = None


class ChannelPeer:
    """``async with ChannelPeer(...) as peer``, then `converse` on each connection after `init`.

    `source` shows it the chain, looked at every `interval` seconds; `faucet` pays for what it
    opens: what is in `opening`, to each node that it has no channel with. `say` is told what
    happens.
    """

    def __init__(
        self,
        source: ChainSource,
        faucet: Faucet,
        say: Emit,
        opening: Opening | None = None,
        *,
        interval: float = 0.1,
    ) -> None:
        self._source = source
        self._faucet = faucet
        self._say = say
        self._opening = opening
        self._keys = WalletKeys.generate()
        self._count = 0
        self._watch = OutputWatch(source, interval=interval)
        self._connections: dict[bytes, Connection] = {}
        self._broadcasts: set[asyncio.Task[None]] = set()
        #: All that aren't forgotten.
        self.channels: list[PeerChannel] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._watch)
            stack.push_async_callback(self._stop_broadcasts)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # ---- a connection ----

    async def converse(self, connection: Connection) -> None:
        """Go on with the channels of whoever is there, until the connection is over.

        Raises `PeerFailed`, `BoltError`, `ChainError`.
        """
        node_id = connection.remote_node_id
        former = self._connections.get(node_id)
        if former is not None:
            former.close("the same node connected again")
            self._disconnected(node_id)
        self._connections[node_id] = connection
        try:
            for held in self._with(node_id):
                self._advance(held)
            if self._opening is not None and not self._with(node_id):
                await self.open_channel(node_id, self._opening)
            with suppress(ConnectionOver):
                while True:
                    self._received(node_id, *await connection.receive())
        finally:
            if self._connections.get(node_id) is connection:
                del self._connections[node_id]
                self._disconnected(node_id)

    def _disconnected(self, node_id: bytes) -> None:
        for held in self._with(node_id):
            held.channel.disconnected()
            if held.channel.state is ChannelState.FORGOTTEN:
                self._forget(held)

    # ---- what its owner wants ----

    async def open_channel(self, node_id: bytes, opening: Opening) -> PeerChannel:
        """Offer a connected node a channel; raises `PeerFailed`, `BoltError`, `ChainError`."""
        funding_sat = opening.funding_sat
        coin = await Coin.from_faucet(self._faucet, funding_sat, secrets.token_bytes(32))
        held = self._new(node_id, Role.OPENER)
        held.coin = coin
        message = OpenChannel(
            chain_hash=CHAIN_HASHES[self._source.chain],
            temporary_channel_id=secrets.token_bytes(32),
            funding_satoshis=funding_sat,
            push_msat=opening.push_msat,
            feerate_per_kw=_FEERATE_PER_KW,
            channel_flags=0,
            channel_type=CHANNEL_TYPES[opening.channel_type].to_bytes(),
            **_limits(held, funding_sat, MINIMUM_DUST_LIMIT_SAT),
        )
        self.say(held, message)
        self.channels.append(held)
        return held

    # ---- what comes ----

    def _received(self, node_id: bytes, raw: bytes, message: Message) -> None:
        match message:
            case OpenChannel():
                self._offered(node_id, raw, message)
            case (
                AcceptChannel()
                | FundingCreated()
                | FundingSigned()
                | ChannelReady()
                | ChannelReestablish()
            ):
                channel_id = _channel_id_in(message)
                held = self._find(node_id, channel_id)
                if held is None:
                    reason = f"{message.NAME}: unknown channel"
                    self._connections[node_id].send(_error(channel_id, reason))
                else:
                    self._take(held, raw, message)
            case Error():
                self._failed(node_id, message)

    def _offered(self, node_id: bytes, raw: bytes, message: OpenChannel) -> None:
        channel_id = message.temporary_channel_id
        if self._find(node_id, channel_id) is not None:
            reason = "this temporary_channel_id is in use"
        elif len(self.channels) >= _MAX_CHANNELS:
            reason = "this node has all the channels it can"
        else:
            held = self._new(node_id, Role.ACCEPTER)
            self.channels.append(held)
            self._take(held, raw, message)
            return
        self._connections[node_id].send(_error(channel_id, reason))

    def _take(self, held: PeerChannel, raw: bytes, message: Message) -> None:
        """A message of this channel's: check it, and do what follows from it."""
        channel, connection = held.channel, self._connections[held.node_id]
        try:
            channel.receive(raw, message)
            if isinstance(message, ChannelReestablish):
                ready = channel.retransmit()
                if ready is not None:
                    connection.send(decode(ready))
            self._advance(held)
        except BoltError as error:
            reason = f"{message.NAME}: {error}"
            self._say("refused", reason=reason)
            if channel.state in _SIGNED:
                # An `error` would close it; the other side may know better next time.
                connection.send(PeerWarning(channel_id=channel.channel_id, data=_text(reason)))
                raise
            connection.send(_error(_channel_id_in(message), reason))
            self._forget(held)

    def _failed(self, node_id: bytes, error: Error) -> None:
        """BOLT #1: an `error` ends its channel, or all of them; what is funded stays known."""
        self._say("failed", reason=f"an error came: {text_of(error)}")
        for held in self._with(node_id):
            ids = (held.channel.temporary_channel_id, held.channel.channel_id, _ALL_CHANNELS)
            if error.channel_id in ids and held.channel.state not in _SIGNED:
                self._forget(held)

    # ---- what it owes ----

    def say(self, held: PeerChannel, message: Message) -> None:
        """Send a message of this side's, by the rules; raises `BoltError`, `PeerFailed`."""
        connection = self._connections.get(held.node_id)
        if connection is None:
            raise PeerFailed("there is no connection to that node")
        held.channel.send(message.encode(), message)
        connection.send(message)

    def _advance(self, held: PeerChannel) -> None:
        """Say all that is this side's to say now, if there is a connection."""
        channel = held.channel
        while held.node_id in self._connections:
            match channel.needs:
                case None:
                    break
                case Need.FUNDING_TRANSACTION:
                    self._publish(held)
                case need:
                    self.say(held, self._answer(held, need))
        if channel.state in _SIGNED:
            self._follow(held)
        if channel.state is ChannelState.READY and (view := view_of(channel)) != held.told:
            held.told = view
            self._say("channel", **msgspec.to_builtins(view))

    def _answer(self, held: PeerChannel, need: Need) -> Message:
        channel = held.channel
        match need:
            case Need.ACCEPT_CHANNEL:
                return AcceptChannel(
                    temporary_channel_id=channel.temporary_channel_id,
                    minimum_depth=MINIMUM_DEPTH,
                    channel_type=channel.open_channel.channel_type,
                    **_limits(
                        held,
                        channel.open_channel.funding_satoshis,
                        channel.open_channel.dust_limit_satoshis,
                    ),
                )
            case Need.FUNDING_CREATED:
                return self._fund(held)
            case Need.FUNDING_SIGNED:
                return FundingSigned(
                    channel_id=channel.channel_id,
                    signature=channel.commitments[Role.OPENER].unsigned.sign(
                        held.secrets.funding_secret
                    ),
                )
            case Need.CHANNEL_READY:
                return ChannelReady(
                    channel_id=channel.channel_id,
                    second_per_commitment_point=held.secrets.per_commitment_point(1),
                )
            case Need.CHANNEL_REESTABLISH:
                return channel.reestablish()
        raise AssertionError(need)

    def _fund(self, held: PeerChannel) -> FundingCreated:
        channel = held.channel
        assert held.coin is not None  # noqa: S101 - who opens has one
        held.funding = held.coin.fund(
            channel.funding_scriptpubkey, channel.open_channel.funding_satoshis
        )
        created = FundingCreated(
            temporary_channel_id=channel.temporary_channel_id,
            funding_txid=held.funding.txid,
            funding_output_index=held.funding.output_index,
            signature=bytes(64),
        )
        unsigned = channel.commitments_of(created)[Role.ACCEPTER].unsigned
        return msgspec.structs.replace(
            created, signature=unsigned.sign(held.secrets.funding_secret)
        )

    # ---- the chain ----

    def _publish(self, held: PeerChannel) -> None:
        assert held.funding is not None  # noqa: S101 - it was signed for
        # If it doesn't get out on this connection, the channel asks again on the next.
        held.channel.published()
        task = asyncio.create_task(self._broadcast(held.funding.serialize()))
        self._broadcasts.add(task)
        task.add_done_callback(self._broadcasts.discard)

    async def _broadcast(self, transaction: bytes) -> None:
        while True:
            try:
                txid = await self._source.broadcast(transaction)
            except ChainError as error:
                self._say("broadcast_failed", reason=str(error))
                await asyncio.sleep(_BROADCAST_RETRY)
            else:
                self._say("broadcast", size=len(transaction), txid=txid[::-1].hex())
                self._watch.poke()
                return

    async def _stop_broadcasts(self) -> None:
        for task in self._broadcasts:
            task.cancel()
        await asyncio.gather(*self._broadcasts, return_exceptions=True)

    def _follow(self, held: PeerChannel) -> None:
        if held.watched is None:
            created = held.channel.funding_created
            held.watched = self._watch.watch(
                created.funding_txid, created.funding_output_index, partial(self._seen, held)
            )

    def _seen(self, held: PeerChannel, output: Output | None) -> None:
        """The chain shows another picture of a funding output."""
        channel = held.channel
        if output is None:
            channel.unobserve()
            return
        try:
            channel.observe(output.scriptpubkey, output.amount_sat, output.confirmations)
        except BoltError as error:
            self._say("refused", reason=str(error))
            return
        self._advance(held)

    # ---- inside ----

    def _new(self, node_id: bytes, role: Role) -> PeerChannel:
        connection = self._connections.get(node_id)
        if connection is None:
            raise PeerFailed("there is no connection to that node")
        self._count += 1
        return PeerChannel(
            node_id, Channel(role, connection.features), self._keys.channel(self._count)
        )

    def _with(self, node_id: bytes) -> list[PeerChannel]:
        return [held for held in self.channels if held.node_id == node_id]

    def _find(self, node_id: bytes, channel_id: bytes) -> PeerChannel | None:
        for held in self._with(node_id):
            if channel_id in (held.channel.temporary_channel_id, held.channel.channel_id):
                return held
        return None

    def _forget(self, held: PeerChannel) -> None:
        self.channels.remove(held)
        if held.watched is not None:
            held.watched.unwatch()


def _limits(held: PeerChannel, funding_sat: int, least_reserve_sat: int) -> dict[str, Any]:
    """What `open_channel` and `accept_channel` lay down alike."""
    return {
        **asdict(held.secrets.points()),
        "dust_limit_satoshis": MINIMUM_DUST_LIMIT_SAT,
        "max_htlc_value_in_flight_msat": 1000 * funding_sat,
        "channel_reserve_satoshis": max(funding_sat // RESERVE_DIVISOR, least_reserve_sat),
        "htlc_minimum_msat": 1,
        "to_self_delay": _TO_SELF_DELAY,
        "max_accepted_htlcs": _MAX_HTLCS,
        "upfront_shutdown_script": b"",
    }


def _channel_id_in(message: Message) -> bytes:
    """Which channel a message of this peer's counterpart is about."""
    if isinstance(message, OpenChannel | AcceptChannel | FundingCreated):
        return message.temporary_channel_id
    assert isinstance(message, FundingSigned | ChannelReady | ChannelReestablish)  # noqa: S101
    return message.channel_id


def _error(channel_id: bytes, reason: str) -> Error:
    return Error(channel_id=channel_id, data=_text(reason))


def _text(reason: str) -> bytes:
    return reason.encode("ascii", "replace")
