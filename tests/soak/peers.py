"""Peers: one that sends numbered messages to whoever says hello, and those that open channels."""

import asyncio
import random
import secrets
from contextlib import suppress
from typing import Final

from lightning_proxy.bolt.channel import SIGNED
from lightning_proxy.bolt.commitment import Role
from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.bolt.messages import (
    AcceptChannel,
    ChannelReady,
    ChannelReestablish,
    Error,
    FundingSigned,
    GossipTimestampFilter,
    Message,
    Ping,
    Pong,
    decode,
)
from tests.soak.ledger import FROM_PEER, FROM_WALLET, Ledger, Said, number_of, numbered, session_of
from tests.support.opening import Side
from tests.support.peer import PeerConnection, ScriptedPeer
from tests.support.relay import PEER_INIT

#: Openings on one connection.
_OFFERS: Final = 3
#: Seconds for a pong; who stays without one was cut off.
_PATIENCE: Final = 5.0


class _Connection(PeerConnection):
    """Tells by an `OSError` that it was closed meanwhile, as sockets do."""

    async def raw(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError("closed")
        await super().raw(data)


class SoakPeer(ScriptedPeer):
    """Plays its part on each connection by itself, until that ends."""

    def __init__(self, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(secrets.token_bytes(32))
        self.ledger = ledger
        self.rng = rng

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self.node_secret, reader, writer)
        self._all.append(connection)
        try:
            with suppress(EOFError, OSError, TimeoutError):
                await connection.handshake()
                connection.init = await connection.receive()
                await connection.send(PEER_INIT)
                await self._converse(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the soak has to tell
            self.ledger.wrong(f"a peer failed: {error!r}")
        finally:
            self._all.remove(connection)
            await connection.close()

    async def _converse(self, connection: PeerConnection) -> None:
        raise NotImplementedError

    async def _receive(self, connection: PeerConnection) -> bytes:
        """The next message, however long that takes."""
        while True:
            with suppress(TimeoutError):
                return await connection.receive()


class Stream:
    """One session of the talker's, from its wallet's hello on."""

    def __init__(self, connection: PeerConnection, said: Said, session_id: str) -> None:
        self.said = said
        self.session_id = session_id
        self.heard = 0
        self._connection = connection
        #: How long the awaited pong is, which tells it from an earlier one.
        self._wanted = 0
        self._ponged = asyncio.Event()

    async def send(self, count: int) -> None:
        """So many more of the numbered messages."""
        first = self.said.sent
        self.said.sent += count
        await self._connection.send(
            *(numbered(FROM_PEER, self.session_id, first + each) for each in range(count))
        )

    def answered(self, pong: Pong) -> None:
        """A pong came."""
        if len(pong.ignored) == self._wanted:
            self._ponged.set()

    async def arrived(self) -> int | None:
        """How many messages the relay has for certain; None: it can't be asked."""
        count = self.said.sent
        self._wanted += 1
        self._ponged.clear()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._connection.send(Ping(num_pong_bytes=self._wanted, ignored=b"").encode())
                await self._ponged.wait()
        except (OSError, TimeoutError):
            return None
        return count


class Talker(SoakPeer):
    """Sends numbered messages, and checks those of the wallets."""

    def __init__(self, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(ledger, rng)
        self.streams: set[Stream] = set()
        self.is_quiet = False

    async def _converse(self, connection: PeerConnection) -> None:
        stream: Stream | None = None
        talking: asyncio.Task[None] | None = None
        try:
            while True:
                message = await self._receive(connection)
                if message[:2] == FROM_WALLET:
                    if stream is None:
                        stream = self._greeted(connection, message)
                        talking = asyncio.create_task(self._talk(stream))
                    self._check(stream, message)
                else:
                    self._take_other(stream, decode(message))
        finally:
            if talking is not None and stream is not None:
                self.streams.discard(stream)
                talking.cancel()
                await asyncio.gather(talking, return_exceptions=True)

    def _take_other(self, stream: Stream | None, message: Message) -> None:
        if isinstance(message, Pong) and stream is not None:
            stream.answered(message)
        elif not isinstance(message, GossipTimestampFilter):
            self.ledger.wrong(f"the relay says {message!r}")

    def _greeted(self, connection: PeerConnection, hello: bytes) -> Stream:
        session_id = session_of(hello)
        said = self.ledger.said[session_id] = Said()
        stream = Stream(connection, said, session_id)
        self.streams.add(stream)
        return stream

    async def _talk(self, stream: Stream) -> None:
        with suppress(OSError):
            while not self.is_quiet:
                count = self.rng.choice((1, 1, 2, 5, 20))
                await stream.send(count)
                self.ledger.tally.sent += count
                await asyncio.sleep(self.rng.uniform(0, 0.08))

    def _check(self, stream: Stream, message: bytes) -> None:
        number = number_of(message)
        what = f"messages of a wallet on {stream.session_id}"
        if message != numbered(FROM_WALLET, stream.session_id, number):
            self.ledger.wrong(f"{what}: {number} is not what was sent")
        while (stream.session_id, stream.heard) in self.ledger.unsure and stream.heard < number:
            stream.heard += 1
        if number != stream.heard:
            self.ledger.out_of_place(what, number, stream.heard)
        stream.heard = number + 1
        self.ledger.tally.to_peers += 1


class Opener(SoakPeer):
    """Opens a few channels on each connection, up to the wallet's `channel_ready`.

    Those whose `funding_signed` it has it re-establishes on the next connection.
    """

    def __init__(self, ledger: Ledger, rng: random.Random, wallet: bytes) -> None:
        super().__init__(ledger, rng)
        self._wallet = wallet
        #: By the temporary channel id, and by the final one.
        self._sides: dict[bytes, Side] = {}
        #: Final ids of the channels whose `channel_ready` it has.
        self._ready: set[bytes] = set()
        self._connection = asyncio.Lock()

    @property
    def has_channels(self) -> bool:
        """Whether there is something to go on with on another connection."""
        return any(side.channel.state in SIGNED for side in self._sides.values())

    async def _converse(self, connection: PeerConnection) -> None:
        # What came on the one before is heard first.
        async with self._connection:
            await self._reestablish(connection)
            offering = asyncio.create_task(self._offer(connection))
            try:
                while True:
                    message = decode(await self._receive(connection))
                    await self._take(connection, message)
            finally:
                offering.cancel()
                await asyncio.gather(offering, return_exceptions=True)

    async def _reestablish(self, connection: PeerConnection) -> None:
        """BOLT #2: go on with what both have signed, and forget the rest."""
        for side in dict.fromkeys(self._sides.values()):
            side.channel.disconnected()
        self._sides = {
            side.channel.channel_id: side
            for side in self._sides.values()
            if side.channel.state in SIGNED
        }
        for side in self._sides.values():
            raw = side.say(side.channel.reestablish())
            self.ledger.passed_on.add(raw)
            await connection.send(raw)

    async def _offer(self, connection: PeerConnection) -> None:
        with suppress(OSError):
            for _ in range(_OFFERS):
                await asyncio.sleep(self.rng.uniform(0, 0.5))
                side = Side(Role.OPENER)
                raw = side.say(side.open_channel())
                self._sides[side.channel.temporary_channel_id] = side
                self.ledger.offers[side.channel.temporary_channel_id] = raw
                self.ledger.tally.offered += 1
                await connection.send(raw)

    async def _take(self, connection: PeerConnection, message: Message) -> None:
        match message:
            case AcceptChannel():
                await self._take_accept_channel(connection, message)
            case FundingSigned():
                self._take_funding_signed(message)
            case ChannelReady():
                self._take_channel_ready(message)
            case ChannelReestablish():
                await self._take_channel_reestablish(connection, message)
            case Error(channel_id=channel_id) if channel_id in self._sides:
                if self._sides[channel_id].channel.state in SIGNED:
                    self.ledger.lost(f"a channel that both had signed: {message!r}")
                # The wallet refused, or did not come in time.
                del self._sides[channel_id]
            case GossipTimestampFilter():
                pass
            case _:
                self.ledger.wrong(f"the relay says {message!r}")

    async def _take_accept_channel(
        self, connection: PeerConnection, message: AcceptChannel
    ) -> None:
        side = self._side(message.temporary_channel_id, message)
        if side is not None and self._check_accept(message):
            self._hear(side, message)
            created = side.say(side.funding_created())
            self._sides[side.channel.channel_id] = side
            # Some peers are in no hurry.
            await asyncio.sleep(self.rng.choice((0.0, 0.0, 0.3)))
            await connection.send(created)

    def _take_funding_signed(self, message: FundingSigned) -> None:
        side = self._side(message.channel_id, message)
        if side is not None:
            if message.encode() != self.ledger.signed.get(message.channel_id):
                self.ledger.wrong("a funding_signed that the wallet did not give")
            # Which checks the signature.
            self._hear(side, message)
            self.ledger.held.setdefault(self._wallet, set()).add(message.channel_id)
            self.ledger.tally.signed += 1
            self.ledger.tally.settled += 1

    def _take_channel_ready(self, message: ChannelReady) -> None:
        side = self._side(message.channel_id, message)
        if side is not None:
            # It comes again after a reconnection, and must be the same.
            self._hear(side, message)
            self.ledger.tally.settled += message.channel_id not in self._ready
            self._ready.add(message.channel_id)

    async def _take_channel_reestablish(
        self, connection: PeerConnection, message: ChannelReestablish
    ) -> None:
        side = self._sides.get(message.channel_id)
        if side is None:
            # Its `funding_signed` never arrived here.
            raw = Error(channel_id=message.channel_id, data=b"what channel?").encode()
            self.ledger.passed_on.add(raw)
            await connection.send(raw)
        else:
            self._hear(side, message)
            self.ledger.tally.reestablished += 1

    def _side(self, channel_id: bytes, message: Message) -> Side | None:
        side = self._sides.get(channel_id)
        if side is None:
            self.ledger.wrong(f"{message.NAME} for a channel that is not there")
        return side

    def _hear(self, side: Side, message: Message) -> None:
        try:
            side.hear(message.encode())
        except BoltError as error:
            self.ledger.wrong(f"{message.NAME} breaks a rule: {error}")

    def _check_accept(self, accept: AcceptChannel) -> bool:
        """Whether this is the one answer to an offer."""
        ledger, raw, channel_id = self.ledger, accept.encode(), accept.temporary_channel_id
        if channel_id in ledger.accepted:
            ledger.doubled("an accept_channel for a channel that was accepted")
            return False
        ledger.accepted[channel_id] = raw
        if accept.funding_pubkey in ledger.funding_pubkeys:
            ledger.doubled("a funding_pubkey that was used before")
        ledger.funding_pubkeys.add(accept.funding_pubkey)
        ledger.tally.accepted += 1
        if accept.funding_pubkey in ledger.slots:
            ledger.by_slot.add(channel_id)
            ledger.tally.accepted_by_slot += 1
        elif ledger.promised.get(channel_id) != raw:
            ledger.wrong("an accept_channel that is not what the wallet answered")
        else:
            ledger.tally.settled += 1
        return True
