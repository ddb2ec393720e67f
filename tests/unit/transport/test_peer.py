"""PeerTransport against the other end of a real socket pair."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from lightning_proxy.transport import CipherState, Pace, PeerTransport, SendQueueFull
from lightning_proxy.transport.reference import ReferenceCipherState

KEY_OUT, KEY_IN, CHAINING_KEY = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32


class Recorder:
    """A consumer that keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.types: list[int] = []
        self.reason: str | None = None
        self.closed = asyncio.Event()
        self.peer: PeerTransport
        self.on_each: Callable[[bytes], None] = lambda _: None

    def on_message(self, type_: int, view: memoryview) -> None:
        message = bytes(view)
        self.types.append(type_)
        self.messages.append(message)
        self.on_each(message)

    def on_closed(self, reason: str) -> None:
        assert self.reason is None, "closed twice"
        self.reason = reason
        self.closed.set()

    async def wait_closed(self) -> str:
        await asyncio.wait_for(self.closed.wait(), 10)
        assert self.reason is not None
        return self.reason

    async def wait_messages(self, count: int) -> list[bytes]:
        async with asyncio.timeout(20):
            while len(self.messages) < count:
                await asyncio.sleep(0)
        return self.messages


class Far:
    """The peer's end: the plain twin of the cipher, over asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sending = ReferenceCipherState(KEY_IN, CHAINING_KEY)
        self.receiving = ReferenceCipherState(KEY_OUT, CHAINING_KEY)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        async with asyncio.timeout(20):
            header = await self.reader.readexactly(18)
            size = _length(self.receiving, header)
            messages, _ = self.receiving.open(header + await self.reader.readexactly(size + 16))
        return messages[0]


def _length(state: ReferenceCipherState, header: bytes) -> int:
    """A header's length, by a twin: the state itself opens whole frames only."""
    key, nonce, chaining_key = state.export()
    twin = ReferenceCipherState(key, chaining_key, nonce)
    return int.from_bytes(twin.decrypt(header), "big")


async def connect(recorder: Recorder, pace: Pace | None = None) -> tuple[PeerTransport, Far]:
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: PeerTransport(recorder, pace), sock=near)
    recorder.peer = peer
    return peer, Far(*await asyncio.open_connection(sock=far))


def started(peer: PeerTransport) -> None:
    peer.start(CipherState(KEY_OUT, CHAINING_KEY), CipherState(KEY_IN, CHAINING_KEY))


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.peer.abort("the test is over")
    await recorder.wait_closed()


@pytest.fixture
async def peer_far(recorder: Recorder) -> AsyncIterator[tuple[PeerTransport, Far]]:
    peer, far = await connect(recorder)
    started(peer)
    yield peer, far
    far.writer.transport.abort()


def message(type_: int, size: int = 20) -> bytes:
    return type_.to_bytes(2, "big") + bytes(i % 256 for i in range(size - 2))


#: What comes first; the transport does not read it.
INIT = message(16)


def ping(pong_bytes: int, padding: int = 0) -> bytes:
    return b"\x00\x12" + pong_bytes.to_bytes(2, "big") + padding.to_bytes(2, "big") + bytes(padding)


Pair = tuple[PeerTransport, Far]


async def test_messages_both_ways_across_rotations(peer_far: Pair, recorder: Recorder) -> None:
    peer, far = peer_far
    sent = [message(100 + 2 * (i % 7) + 1, 2 + i % 90) for i in range(1700)]
    for one in sent:
        peer.send(one)
    for one in sent:
        assert await far.receive() == one
    await far.write(b"".join(far.sending.seal(one) for one in sent))
    assert await recorder.wait_messages(len(sent)) == sent
    assert recorder.types == [int.from_bytes(one[:2], "big") for one in sent]
    assert peer.messages_received == peer.messages_sent == len(sent)


@pytest.mark.parametrize("cut", range(75))
async def test_a_stream_cut_at_every_byte(peer_far: Pair, recorder: Recorder, cut: int) -> None:
    _, far = peer_far
    stream = far.sending.seal(b"\x01\x01abc") + far.sending.seal(b"\x01\x03")
    assert len(stream) == 75
    await far.write(stream[:cut])
    for _ in range(3):
        await asyncio.sleep(0)
    await far.write(stream[cut:])
    assert await recorder.wait_messages(2) == [b"\x01\x01abc", b"\x01\x03"]


async def test_one_byte_segments(peer_far: Pair, recorder: Recorder) -> None:
    _, far = peer_far
    sent = [message(1001, 150), message(1003, 2), message(1005, 700)]
    for byte in b"".join(far.sending.seal(one) for one in sent):
        await far.write(bytes([byte]))
        await asyncio.sleep(0)
    assert await recorder.wait_messages(3) == sent


async def test_the_largest_messages(peer_far: Pair, recorder: Recorder) -> None:
    peer, far = peer_far
    sent = [message(1001, 65535), message(1003, 3), message(1005, 65535), message(1007, 65534)]
    stream = b"".join(far.sending.seal(one) for one in sent)
    for start in range(0, len(stream), 50_001):
        await far.write(stream[start : start + 50_001])
    assert await recorder.wait_messages(4) == sent
    peer.send(sent[0])
    assert await far.receive() == sent[0]
    with pytest.raises(ValueError, match="65535"):
        peer.send(bytes(65536))


@pytest.mark.parametrize(("pong_bytes", "padding"), [(0, 0), (1, 0), (4096, 80), (65531, 65529)])
async def test_ping_is_answered_below_the_consumer(
    peer_far: Pair, recorder: Recorder, pong_bytes: int, padding: int
) -> None:
    peer, far = peer_far
    await far.write(far.sending.seal(INIT) + far.sending.seal(ping(pong_bytes, padding)))
    pong = await far.receive()
    assert pong == b"\x00\x13" + pong_bytes.to_bytes(2, "big") + bytes(pong_bytes)
    assert recorder.messages == [INIT]
    assert peer.pings_received == 1


@pytest.mark.parametrize("first", [b"\x00\x12\x00\x01\x00\x00", b"\x00\x13\x00\x01\x00"])
async def test_what_comes_before_everything_else_is_the_consumers(
    peer_far: Pair, recorder: Recorder, first: bytes
) -> None:
    """BOLT #1: `init` does; so a first ping gets no pong."""
    peer, far = peer_far
    await far.write(far.sending.seal(first) + far.sending.seal(ping(3)))
    assert await far.receive() == b"\x00\x13\x00\x03" + bytes(3)
    assert recorder.messages == [first]
    assert (peer.pings_received, peer.pongs_received) == (1, 0)


@pytest.mark.parametrize("pong_bytes", [65532, 65533, 65535])
async def test_a_ping_that_wants_no_pong(
    peer_far: Pair, recorder: Recorder, pong_bytes: int
) -> None:
    _, far = peer_far
    await far.write(
        far.sending.seal(INIT) + far.sending.seal(ping(pong_bytes)) + far.sending.seal(ping(7))
    )
    assert await far.receive() == b"\x00\x13\x00\x07" + bytes(7)
    assert recorder.reason is None


async def test_own_pings(peer_far: Pair) -> None:
    peer, far = peer_far
    peer.send_ping(16, 3)
    assert peer.awaiting_pong
    assert await far.receive() == ping(16, 3)
    await far.write(far.sending.seal(INIT) + far.sending.seal(b"\x00\x13\x00\x10" + bytes(16)))
    async with asyncio.timeout(10):
        while not peer.pongs_received:
            await asyncio.sleep(0)
    assert (peer.pongs_received, peer.awaiting_pong) == (1, False)
    assert peer.idle_seconds < 10


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"", "0 bytes, too short"),
        (b"\x00", "1 bytes, too short"),
        (b"\x00\x12\x00", "cut off"),
        (b"\x00\x12\x00\x01\x00\x05abcd", "shorter than it says"),
    ],
)
async def test_malformed_messages_end_the_session(
    peer_far: Pair, recorder: Recorder, bad: bytes, words: str
) -> None:
    _, far = peer_far
    await far.write(far.sending.seal(message(1001)) + far.sending.seal(bad))
    assert words in await recorder.wait_closed()
    assert recorder.messages == [message(1001)]


@pytest.mark.parametrize("at", [0, 17, 18, 40, 53])
async def test_a_bad_tag_ends_the_session_at_once(
    peer_far: Pair, recorder: Recorder, at: int
) -> None:
    _, far = peer_far
    stream = bytearray(far.sending.seal(message(1001)))
    stream[at] ^= 1
    await far.write(bytes(stream))
    assert "wrong tag" in await recorder.wait_closed()
    assert recorder.messages == []


async def test_a_bad_tag_in_a_body_that_came_after_its_header(
    peer_far: Pair, recorder: Recorder
) -> None:
    _, far = peer_far
    stream = bytearray(far.sending.seal(message(1001)))
    stream[-1] ^= 1
    for byte in stream:
        await far.write(bytes([byte]))
        await asyncio.sleep(0)
    assert "wrong tag" in await recorder.wait_closed()


async def test_the_peer_goes(peer_far: Pair, recorder: Recorder) -> None:
    peer, far = peer_far
    far.writer.close()
    assert await recorder.wait_closed() == "the peer closed the connection"
    assert peer.is_closing
    with pytest.raises(ConnectionError, match="the peer closed"):
        peer.send(b"\x00\x01")


async def test_the_peer_goes_in_the_middle_of_a_message(peer_far: Pair, recorder: Recorder) -> None:
    _, far = peer_far
    await far.write(far.sending.seal(message(1001))[:30])
    far.writer.close()
    assert "in the middle" in await recorder.wait_closed()


async def test_close_sends_what_is_queued(peer_far: Pair, recorder: Recorder) -> None:
    peer, far = peer_far
    peer.send(b"\x00\x01last")
    peer.close("done")
    peer.close("again")
    assert await far.receive() == b"\x00\x01last"
    assert await far.reader.read() == b""
    assert await recorder.wait_closed() == "done"


async def test_a_message_sent_from_the_callback_leaves_with_the_read(
    peer_far: Pair, recorder: Recorder
) -> None:
    peer, far = peer_far
    recorder.on_each = peer.send
    await far.write(b"".join(far.sending.seal(message(1001 + 2 * i)) for i in range(50)))
    for i in range(50):
        assert await far.receive() == message(1001 + 2 * i)


async def test_a_paused_consumer_gets_nothing_and_loses_nothing(
    peer_far: Pair, recorder: Recorder
) -> None:
    peer, far = peer_far
    sent = [message(1001, 3000 + i) for i in range(400)]

    def pause_on_tenth(_: bytes) -> None:
        if len(recorder.messages) % 10 == 0:
            peer.pause_reading()

    recorder.on_each = pause_on_tenth
    writing = asyncio.create_task(
        far.write(b"".join(far.sending.seal(one) for one in sent)), name="writing"
    )
    for round_ in range(1, 41):
        await recorder.wait_messages(10 * round_)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(recorder.messages) == 10 * round_
        peer.resume_reading()
    await writing
    assert recorder.messages == sent


async def test_what_the_socket_does_not_take_keeps_its_place(peer_far: Pair) -> None:
    peer, far = peer_far
    numbers = iter(range(1, 1000))
    for _ in range(3):
        sent: list[bytes] = []
        while peer.unsent_bytes == 0:
            sent.append(message(1001, 20_000 + next(numbers)))
            peer.send(sent[-1])
            await asyncio.sleep(0)
        sent.append(message(1001, 20_000 + next(numbers)))
        peer.send(sent[-1])
        for expected in sent:
            assert await far.receive() == expected
        while peer.unsent_bytes:
            await asyncio.sleep(0)


async def test_nothing_goes_to_a_socket_that_took_over_the_number(recorder: Recorder) -> None:
    near, far = socket.socketpair()
    number = near.fileno()
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_connection(lambda: PeerTransport(recorder), sock=near)
    recorder.peer = peer
    started(peer)
    peer.pause_writing()
    peer.send(message(1001))
    transport.abort()
    await recorder.wait_closed()
    far.close()
    others = socket.socketpair()
    assert number in {other.fileno() for other in others}
    peer.resume_writing()
    for _ in range(3):
        await asyncio.sleep(0)
    for other in others:
        with pytest.raises(BlockingIOError):
            other.recv(1, socket.MSG_DONTWAIT)
    for other in others:
        other.close()


async def test_a_peer_that_never_reads_fills_its_queue_and_no_more(
    peer_far: Pair, recorder: Recorder
) -> None:
    peer, _ = peer_far
    with pytest.raises(SendQueueFull):
        for _ in range(1000):
            peer.send(message(1001, 60_000))
            await asyncio.sleep(0)
    assert peer.unsent_bytes < 2_000_000
    peer.close("enough")
    peer.abort("at once")
    assert await recorder.wait_closed() == "enough"


async def test_pings_of_a_peer_that_never_reads_are_not_hoarded(
    peer_far: Pair, recorder: Recorder
) -> None:
    peer, far = peer_far
    count = 3000
    writing = asyncio.create_task(
        far.write(
            far.sending.seal(INIT) + b"".join(far.sending.seal(ping(65531)) for _ in range(count))
        )
    )
    for _ in range(500):
        await asyncio.sleep(0)
        assert peer.unsent_bytes < 80_000
        assert memoryview(peer.get_buffer(-1)).nbytes <= 65_569
    assert peer.is_blocked
    for _ in range(count):
        assert len(await far.receive()) == 4 + 65531
    await writing
    assert peer.pings_received == count


async def test_a_consumer_that_fails_ends_its_own_session_only(recorder: Recorder) -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    peer, far = await connect(recorder)
    started(peer)

    def fail(_: bytes) -> None:
        raise LookupError("a bug")

    recorder.on_each = fail
    await far.write(far.sending.seal(message(1001)))
    assert await recorder.wait_closed() == "internal error"
    assert isinstance(reported[0]["exception"], LookupError)
    far.writer.close()


async def test_a_view_is_dead_after_the_callback() -> None:
    class Keeper(Recorder):
        view: memoryview

        def on_message(self, type_: int, view: memoryview) -> None:
            self.view = view
            super().on_message(type_, view)

    keeper = Keeper()
    peer, far = await connect(keeper)
    started(peer)
    await far.write(far.sending.seal(message(1001)))
    await keeper.wait_messages(1)
    with pytest.raises(ValueError, match="released"):
        bytes(keeper.view)
    far.writer.close()
    await keeper.wait_closed()


async def test_handshake_bytes_come_in_any_pieces_and_early_frames_are_kept(
    recorder: Recorder,
) -> None:
    peer, far = await connect(recorder)
    acts = bytes(range(100)) + bytes(16)
    stream = acts + far.sending.seal(message(1001))
    waiting = peer.receive_exactly(50)
    for byte in stream[:30]:
        await far.write(bytes([byte]))
        await asyncio.sleep(0)
    assert not waiting.done()
    await far.write(stream[30:])
    assert await waiting == acts[:50]
    assert await peer.receive_exactly(66) == acts[50:]
    peer.write_raw(b"raw")
    assert await far.reader.readexactly(3) == b"raw"
    started(peer)
    assert await recorder.wait_messages(1) == [message(1001)]
    far.writer.close()


async def test_a_peer_that_floods_before_there_are_keys_is_not_read(recorder: Recorder) -> None:
    peer, far = await connect(recorder)
    assert await asyncio.wait_for(_flood_stalls(far), 10)
    assert peer.unsent_bytes == 0
    far.writer.transport.abort()


async def _flood_stalls(far: Far) -> bool:
    """Whether the other end stops taking bytes, long before 64 MB."""
    for _ in range(1000):
        far.writer.write(bytes(65536))
        try:
            await asyncio.wait_for(far.writer.drain(), 0.5)
        except TimeoutError:
            return True
    return False


async def test_the_peer_goes_during_the_handshake(recorder: Recorder) -> None:
    peer, far = await connect(recorder)
    waiting = peer.receive_exactly(50)
    far.writer.close()
    with pytest.raises(ConnectionError, match="the peer closed"):
        await waiting


async def test_a_peer_that_does_not_read_is_cut_off_after_close(recorder: Recorder) -> None:
    peer, far = await connect(recorder)
    started(peer)
    for _ in range(7):
        peer.send(message(1001, 60_000))
    peer.close("bye")
    assert await recorder.wait_closed() == "bye"
    far.writer.transport.abort()


@pytest.mark.parametrize("size", [40, 5_000, 65_535])
async def test_what_is_kept_of_a_view_stays_what_it_was(size: int) -> None:
    """A slice outlives the view, and whatever is read next must not shine through it."""

    class Keeper(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.slices: list[memoryview] = []

        def on_message(self, type_: int, view: memoryview) -> None:
            self.slices += (view[2:], view.cast("B"), memoryview(view)[-20:])
            super().on_message(type_, view)

    keeper = Keeper()
    peer, far = await connect(keeper)
    peer.start(CipherState(KEY_OUT, CHAINING_KEY), CipherState(KEY_IN, CHAINING_KEY))
    sent = [bytes([1, 1]) + bytes([number]) * (size - 2) for number in range(1, 9)]
    for count, message in enumerate(sent, 1):
        await far.write(far.sending.seal(message))
        await keeper.wait_messages(count)
    kept = [bytes(each) for each in keeper.slices]
    assert kept == [part for each in sent for part in (each[2:], each, each[-20:])]
    peer.abort("done")
    await keeper.wait_closed()
    far.writer.transport.abort()
    assert [bytes(each) for each in keeper.slices] == kept


async def test_what_a_peer_does_not_read_and_what_it_says_meanwhile_stays_small(
    recorder: Recorder,
) -> None:
    """Fed by hand: no kernel's buffers take anything."""

    class Full(asyncio.Transport):
        """A socket that takes nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting = 0
            self.reading = True

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            assert high == 0

        def get_write_buffer_size(self) -> int:
            return self.waiting

        def write(self, data: object) -> None:
            assert isinstance(data, bytes)
            self.waiting += len(data)
            peer.pause_writing()

        def pause_reading(self) -> None:
            self.reading = False

        def resume_reading(self) -> None:
            self.reading = True

        def abort(self) -> None:
            asyncio.get_running_loop().call_soon(peer.connection_lost, None)

    peer = recorder.peer = PeerTransport(recorder)
    full = Full()
    peer.connection_made(full)
    started(peer)
    sending = ReferenceCipherState(KEY_IN, CHAINING_KEY)
    flood = sending.seal(INIT) + b"".join(sending.seal(ping(65531)) for _ in range(5000))
    read = 0
    while full.reading and read < len(flood):
        room = memoryview(peer.get_buffer(-1))
        some = flood[read : read + len(room)]
        room[: len(some)] = some
        peer.buffer_updated(len(some))
        read += len(some)
        await asyncio.sleep(0)
    assert (peer.pings_received, peer.unsent_bytes) == (1, 65_569)
    assert read <= 16_384
    # What the wallet says may still wait for it.
    peer.send(message(1001, 65_535))
