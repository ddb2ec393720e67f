"""One peer's socket: an asyncio protocol that cuts the byte stream into Lightning messages."""

import asyncio
from collections import deque
from typing import Protocol

from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_FromObject
from libc.stdint cimport UINT32_MAX
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from lightning_proxy.transport.frame cimport (
    LP_BAD_TAG,
    LP_HEADER_SIZE,
    LP_INCOMPLETE,
    LP_MAX_BODY,
    LP_MAX_FRAME,
    LP_OVERHEAD,
    CipherState,
)


cdef extern from *:
    """
    #include <time.h>
    /* A coarse clock serves time-outs of seconds, at a tenth of the cost. */
    #ifdef CLOCK_MONOTONIC_COARSE
    #define LIGHTNING_PROXY_CLOCK CLOCK_MONOTONIC_COARSE
    #else
    #define LIGHTNING_PROXY_CLOCK CLOCK_MONOTONIC
    #endif
    static double lightning_proxy_monotonic(void)
    {
        struct timespec now;
        clock_gettime(LIGHTNING_PROXY_CLOCK, &now);
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    }

    #include <sys/socket.h>
    /* Python ignores SIGPIPE where send() can't be told to. */
    #ifdef MSG_NOSIGNAL
    #define LIGHTNING_PROXY_SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)
    #else
    #define LIGHTNING_PROXY_SEND_FLAGS MSG_DONTWAIT
    #endif
    """
    double monotonic "lightning_proxy_monotonic"() noexcept nogil
    int SEND_FLAGS "LIGHTNING_PROXY_SEND_FLAGS"
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags) noexcept nogil


# Named limits, each with its reason.
#
# So many fresh bytes are read at a time, or what a partial frame still wants: what came and has no
# turn yet, or can't be answered as the peer doesn't read, takes memory.
cdef size_t READ = 16 * 1024
# One buffer serves every socket's reads: asyncio reads into it and calls back at once. It holds a
# whole frame of which all but the last byte was pending, and fresh bytes.
cdef size_t READ_BUFFER = LP_MAX_FRAME + READ
# Past this much sealed, it is written at once; what the socket doesn't take then, the peer has to
# read before another frame of its is opened (a ping of 40 bytes may ask for a pong of 65,569). So a
# peer that doesn't read makes us hold no more than this and one frame.
cdef size_t OUT_HIGH = 8 * 1024
# Past this much queued for a peer that does not read, `send` refuses. A wallet may say a few of the
# largest messages at once.
cdef size_t OUT_LIMIT = 512 * 1024
# What a message costs beside its bytes, by who deals with it: a consumer in Python, or a ping's
# answer here.
cdef size_t DELIVERED_COST = 1000
cdef size_t PING_COST = 32
# A session's turn: past this much, what is left of its bytes waits behind all others'. A largest
# message has a turn of its own, small ones share one by thirty, pings by hundreds.
cdef size_t TURN = 32 * 1024
# Turns in one loop tick of those that had to wait; so many milliseconds, whoever floods.
cdef size_t TURNS_A_TICK = 4
# Seconds, at the least, that a session waits which spent all it had: timers are not for free.
cdef double SHORTEST_WAIT = 0.01
# A peer that doesn't read what we say last is cut off after so many seconds.
CLOSE_LINGER = 5.0

# What becomes of a connection.
cdef enum:
    OPEN
    CLOSING
    LOST

# BOLT #1: message types, and the number of pong bytes from which on a ping is not answered.
cdef enum:
    PING = 18
    PONG = 19
    NO_PONG = 65532

cdef uint32_t UNKNOWN = UINT32_MAX

cdef uint8_t *read_buffer = <uint8_t *>malloc(READ_BUFFER)
if read_buffer == NULL:
    raise MemoryError
cdef object fresh_read_buffer = PyMemoryView_FromMemory(<char *>read_buffer, READ, PyBUF_WRITE)


class Consumer(Protocol):
    """Who gets a connection's messages."""

    def on_message(self, type, view, /):
        """One message; `view` holds it with its type, and is valid only during the call."""

    def on_closed(self, reason, /):
        """The connection is gone; said once, in words that hold no key."""


class SendQueueFull(ConnectionError):
    """The peer does not read: what waits for it already fills its queue."""


cdef class Pace:
    """Whose turn it is, among the sessions that share this: one that talks much delays no other.

    `rate` and `burst`: what each of them may cost, in bytes a second and at once, where a message
    costs about a thousand more than its length and a ping some thirty; unlimited, by default.
    """

    def __init__(self, double rate=0.0, double burst=float("inf")):
        self.rate = rate
        self.burst = burst
        self._waiting = deque()

    cdef bint _is_busy(self) noexcept:
        return self._count >= TURNS_A_TICK

    cdef int _queue(self, PeerTransportBase transport) except -1:
        self._waiting.append(transport)
        self._count += 1
        return self._schedule()

    cdef int _schedule(self) except -1:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._go_on)
        return 0

    def _go_on(self):
        cdef size_t _turn
        self._scheduled = False
        try:
            for _turn in range(min(TURNS_A_TICK, self._count)):
                self._count -= 1
                self._waiting.popleft()._drain()
        finally:
            if self._count > 0:
                self._schedule()


cdef class PeerTransportBase:
    """See `PeerTransport`."""

    def __init__(self, consumer, Pace pace=None):
        self._consumer = consumer
        self._pace = Pace() if pace is None else pace
        self._left = <float>self._pace.burst
        self._body_length = UNKNOWN
        self._fd = -1
        self.last_received = monotonic()

    def __dealloc__(self):
        self._drop_buffers()

    # ---- asyncio.BufferedProtocol ----

    def connection_made(self, transport):
        self._pace.loop = asyncio.get_running_loop()
        self._transport = transport
        # Paused as soon as the socket doesn't take everything, until it has.
        transport.set_write_buffer_limits(0)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self._fd = socket.fileno()

    def get_buffer(self, sizehint):
        # Readiness loops (uvloop, asyncio's selectors) read in the same call, so between here and
        # buffer_updated no other socket's bytes can come in. _pending stays: the read may fail.
        cdef size_t room = READ
        if self._pending_size == 0:
            return fresh_read_buffer
        memcpy(read_buffer, self._pending, self._pending_size)
        if self._body_length != UNKNOWN:
            # What is pending is a part of a frame, or nothing would be read.
            room = max(room, self._body_length + LP_OVERHEAD - self._pending_size)
        return PyMemoryView_FromMemory(
            <char *>read_buffer + self._pending_size, room, PyBUF_WRITE
        )

    def buffer_updated(self, nbytes):
        cdef size_t size = self._pending_size + <size_t>nbytes
        cdef size_t used
        self._refill()
        if self._closing:
            return
        if self._receiving is None:
            self._keep(read_buffer, size)
            self._received_raw()
            return
        used = 0
        if size < READ or not self._pace._is_busy():
            used = self._process(read_buffer, size)
        self._keep(read_buffer + used, size - used)
        self._flush_now()
        # uvloop reads a full socket many times in a row: others come before what is left in it.
        self._update_reading(<size_t>nbytes >= READ)

    def eof_received(self):
        self.close(
            "the peer closed the connection in the middle of a message"
            if self._pending_size else "the peer closed the connection"
        )
        return False

    def connection_lost(self, exc):
        self._closing = LOST
        # From here on the number may belong to another session's socket.
        self._fd = -1
        if self._reason is None:
            self._reason = "the connection broke" if exc is None else f"the connection broke: {exc}"
        if self._sending is not None:
            self._sending.wipe()
            self._receiving.wipe()
        self._drop_buffers()
        if self._raw_waiter is not None and not self._raw_waiter.done():
            self._raw_waiter.set_exception(ConnectionError(self._reason))
        if self._linger is not None:
            self._linger.cancel()
        self._raw_waiter = self._linger = self._transport = None
        consumer, self._consumer = self._consumer, None
        consumer.on_closed(self._reason)

    def pause_writing(self):
        self._write_paused = True
        self._update_reading()

    def resume_writing(self):
        self._write_paused = False
        self._schedule_flush()
        self._schedule_drain()

    # ---- the handshake, before there are keys ----

    def write_raw(self, const uint8_t[::1] data):
        """Write handshake bytes as they are; they leave within this loop tick."""
        cdef size_t size = data.shape[0]
        self._require_open()
        if size > 0:
            memcpy(self._grow(size), &data[0], size)
            self._schedule_flush()

    def receive_exactly(self, size):
        """A future of the next `size` handshake bytes; `ConnectionError` if the peer goes first."""
        self._require_open()
        if self._receiving is not None or self._raw_waiter is not None:
            raise RuntimeError("receive_exactly() serves the handshake, one act at a time")
        self._raw_waiter = self._pace.loop.create_future()
        self._raw_wanted = size
        waiter = self._raw_waiter
        self._received_raw()
        self._update_reading()
        return waiter

    def start(self, sending, receiving):
        """Speak BOLT #8 frames from now on; bytes that came early are opened first."""
        self._require_open()
        if self._receiving is not None:
            raise RuntimeError("start() serves once")
        if not isinstance(sending, CipherState) or not isinstance(receiving, CipherState):
            raise TypeError("two CipherStates wanted")
        self._sending = sending
        self._receiving = receiving
        self._schedule_drain()

    # ---- for the consumer ----

    @property
    def is_closing(self):
        """Whether the connection is over or about to be."""
        return bool(self._closing)

    @property
    def is_behind(self):
        """Whether something that came from the peer may wait here, as it talks too much."""
        return self._left <= 0 or (self._receiving is not None and self._has_backlog())

    @property
    def is_blocked(self):
        """Whether the peer has to read before anything more is sent to it, or heard of it."""
        return bool(self._write_paused)

    @property
    def awaiting_pong(self):
        """Whether a ping of ours has no pong yet."""
        return bool(self._awaiting_pong)

    @property
    def idle_seconds(self):
        """Seconds since bytes last came from the peer."""
        return monotonic() - self.last_received

    @property
    def unsent_bytes(self):
        """Bytes that wait for the peer to read."""
        if self._transport is None:
            return 0
        return self._out_size + self._transport.get_write_buffer_size()

    def send(self, const uint8_t[::1] message):
        """Seal and queue one message (bytes with its type); it leaves within this loop tick.

        Raises `ConnectionError` when the session is over, `SendQueueFull` when the peer doesn't
        read, `ValueError` past 65,535 bytes.
        """
        cdef size_t length = message.shape[0]
        cdef uint8_t *frame
        self._require_open()
        if self._sending is None:
            raise RuntimeError("send() needs start() first")
        if length > LP_MAX_BODY:
            raise ValueError(f"a message has at most {LP_MAX_BODY} bytes, this one {length}")
        if self._out_size + length > OUT_LIMIT:
            raise SendQueueFull("the peer doesn't read what was sent before")
        frame = self._reserve(length)
        if length > 0:
            memcpy(frame + LP_HEADER_SIZE, &message[0], length)
        self._sending.seal_frame(frame, length)
        self.messages_sent += 1
        self._schedule_flush()

    def send_ping(self, unsigned int pong_bytes=0, unsigned int padding=0):
        """Ask the peer for a sign of life; `awaiting_pong` holds until its pong comes."""
        message = bytearray(6 + padding)
        message[1] = PING
        message[2:4] = pong_bytes.to_bytes(2, "big")
        message[4:6] = padding.to_bytes(2, "big")
        self.send(message)
        self._awaiting_pong = True

    def pause_reading(self):
        """Deliver nothing more, and read nothing more, until `resume_reading`."""
        self._consumer_paused = True
        self._update_reading()

    def resume_reading(self):
        self._consumer_paused = False
        self._schedule_drain()

    def close(self, reason):
        """Send what is queued, then hang up; a peer that doesn't read is cut off in 5 seconds."""
        if self._closing:
            return
        if self._transport is not None:
            self._write_paused = False
            self._flush_now()
            self._transport.close()
            self._linger = self._pace.loop.call_later(CLOSE_LINGER, self._transport.abort)
        self._reason = reason
        self._closing = CLOSING

    def abort(self, reason):
        """Hang up at once; what is queued is lost."""
        if self._closing == LOST:
            return
        if not self._closing:
            self._reason = reason
            self._closing = CLOSING
        self._out_size = 0
        if self._transport is not None:
            self._transport.abort()

    # ---- inside ----

    def _require_open(self):
        if self._closing or self._transport is None:
            raise ConnectionError(self._reason or "the session is not connected")

    cdef size_t _process(self, uint8_t *data, size_t size) except? 0:
        """Open and deal with the frames in `data`, in place; returns how many bytes were used."""
        cdef size_t at = 0, length = 0, spent = 0
        cdef uint8_t *body
        cdef int status
        while spent < TURN and not self._blocked():
            # The header of a partial frame was opened when it came, and stands before its body.
            if self._body_length != UNKNOWN:
                length = self._body_length
                if size - at < length + LP_OVERHEAD:
                    break
                status = self._receiving.open_body(data + at + LP_HEADER_SIZE, length)
            else:
                if size - at < LP_HEADER_SIZE:
                    break
                status = self._receiving.open_frame(data + at, size - at, &length)
                if status == LP_INCOMPLETE:
                    self._body_length = length
                    break
            if status == LP_BAD_TAG:
                self.abort("the peer sent bytes that don't decrypt (a wrong tag)")
                break
            self._body_length = UNKNOWN
            body = data + at + LP_HEADER_SIZE
            at += length + LP_OVERHEAD
            spent += self._take(body, length)
            if self._out_size > OUT_HIGH:
                self._flush_now()
        self._left -= <float>spent
        return at

    cdef size_t _take(self, uint8_t *message, size_t length) except? 0:
        """Deal with one message; returns what it cost."""
        cdef unsigned int type
        self.messages_received += 1
        if length < 2:
            # BOLT #1: every message begins with a type of two bytes.
            self.abort(f"the peer sent a message of {length} bytes, too short for a type")
            return 0
        type = message[0] << 8 | message[1]
        # BOLT #1: `init` comes before everything else, a ping too: the consumer judges it.
        if type == PING and self.messages_received > 1:
            return length + PING_COST + self._answer_ping(message, length)
        if type == PONG and self.messages_received > 1:
            self.pongs_received += 1
            self._awaiting_pong = False
            return length + PING_COST
        self._deliver(message, length)
        return length + DELIVERED_COST

    cdef size_t _answer_ping(self, const uint8_t *message, size_t length) except? 0:
        """Returns how many bytes a pong has, if one is due."""
        cdef size_t pong_bytes, ignored
        cdef uint8_t *frame
        self.pings_received += 1
        if length < 6:
            self.abort("the peer sent a ping that is cut off")
            return 0
        pong_bytes = message[2] << 8 | message[3]
        ignored = message[4] << 8 | message[5]
        if length < 6 + ignored:
            self.abort("the peer sent a ping that is shorter than it says")
            return 0
        if pong_bytes >= NO_PONG:
            return 0
        frame = self._reserve(4 + pong_bytes)
        memset(frame + LP_HEADER_SIZE, 0, 4 + pong_bytes)
        frame[LP_HEADER_SIZE + 1] = PONG
        frame[LP_HEADER_SIZE + 2] = <uint8_t>(pong_bytes >> 8)
        frame[LP_HEADER_SIZE + 3] = <uint8_t>pong_bytes
        self._sending.seal_frame(frame, 4 + pong_bytes)
        return 4 + pong_bytes

    cdef int _deliver(self, uint8_t *message, size_t length) except -1:
        # Of bytes of its own: a slice outlives its view, and this memory is the next read's.
        view = PyMemoryView_FromObject(PyBytes_FromStringAndSize(<char *>message, length))
        self._in_callback = True
        try:
            try:
                self._consumer.on_message(message[0] << 8 | message[1], view)
            finally:
                # Valid during the call only: who keeps it finds out at once.
                view.release()
        except Exception as error:
            # A fault of ours in one session must not reach the event loop or another session.
            self.abort("internal error")
            self._pace.loop.call_exception_handler(
                {"message": "a session failed on a message", "exception": error, "protocol": self}
            )
        finally:
            self._in_callback = False
        return 0

    cdef uint8_t *_reserve(self, size_t length) except NULL:
        """Room for one more frame in the outgoing buffer, to be sealed in place."""
        return self._grow(length + LP_OVERHEAD)

    cdef uint8_t *_grow(self, size_t size) except NULL:
        cdef size_t needed = self._out_size + size
        cdef uint8_t bits = self._out_bits or 9
        cdef uint8_t *grown
        while (<size_t>1 << bits) < needed:
            bits += 1
        if bits != self._out_bits:
            grown = <uint8_t *>realloc(self._out, <size_t>1 << bits)
            if grown == NULL:
                raise MemoryError
            self._out = grown
            self._out_bits = bits
        grown = self._out + self._out_size
        self._out_size = needed
        return grown

    cdef bint _blocked(self) noexcept:
        return (self._closing != OPEN or self._consumer_paused or self._write_paused
                or self._left <= 0)

    cdef int _refill(self) noexcept:
        """Bytes came, or their turn: what the session may cost grows by the time since."""
        cdef double now = monotonic()
        self._left = <float>min(
            self._pace.burst, self._left + (now - self.last_received) * self._pace.rate
        )
        self.last_received = now
        return 0

    cdef bint _has_backlog(self) noexcept:
        """Whether something pending is not a mere partial frame."""
        if self._body_length == UNKNOWN:
            return self._pending_size >= LP_HEADER_SIZE
        return self._pending_size >= self._body_length + LP_OVERHEAD

    cdef int _keep(self, const uint8_t *data, size_t size) except -1:
        """Make `data` (which may lie inside _pending) what is pending."""
        cdef uint8_t *kept
        if size == 0 or self._closing:
            free(self._pending)
            self._pending = NULL
            self._pending_size = 0
            return 0
        if self._pending != NULL and self._pending <= data < self._pending + self._pending_size:
            memmove(self._pending, data, size)
        else:
            kept = <uint8_t *>realloc(self._pending, size)
            if kept == NULL:
                raise MemoryError
            self._pending = kept
            memcpy(kept, data, size)
        self._pending_size = size
        return 0

    cdef int _received_raw(self) except -1:
        if self._raw_waiter is None or self._pending_size < self._raw_wanted:
            self._update_reading()
            return 0
        waiter, self._raw_waiter = self._raw_waiter, None
        if not waiter.done():
            waiter.set_result(
                PyBytes_FromStringAndSize(<char *>self._pending, self._raw_wanted)
            )
            self._keep(self._pending + self._raw_wanted, self._pending_size - self._raw_wanted)
        self._update_reading()
        return 0

    cdef int _flush_now(self) except -1:
        cdef ssize_t sent = 0
        data = None
        if self._out_size == 0 or self._write_paused or self._transport is None:
            return 0
        # Straight into the socket: the transport would want a copy of its own first. What the
        # socket doesn't take is the transport's, and so is an error, which it meets itself.
        if self._fd >= 0 and not self._transport_is_behind():
            sent = max(0, c_send(self._fd, self._out, self._out_size, SEND_FLAGS))
        if sent < self._out_size:
            self._handed_over = True
            data = PyBytes_FromStringAndSize(<char *>self._out + sent, self._out_size - sent)
        free(self._out)
        self._out = NULL
        self._out_size = self._out_bits = 0
        if data is not None:
            self._transport.write(data)
        return 0

    cdef bint _transport_is_behind(self) except -1:
        if self._handed_over:
            self._handed_over = self._transport.get_write_buffer_size() > 0
        return self._handed_over

    cdef int _schedule_flush(self) except -1:
        # Inside a callback, the end of buffer_updated flushes.
        if not self._flush_scheduled and not self._in_callback and self._out_size > 0:
            self._flush_scheduled = True
            self._pace.loop.call_soon(self._flush)
        return 0

    def _flush(self):
        self._flush_scheduled = False
        self._flush_now()

    cdef int _schedule_drain(self) except -1:
        if not self._drain_scheduled and self._pace.loop is not None:
            self._drain_scheduled = True
            self._pace._queue(self)
        return 0

    cdef int _drain_later(self) except -1:
        """Once there is something to spend again."""
        if not self._drain_scheduled:
            self._drain_scheduled = True
            self._pace.loop.call_later(
                max(SHORTEST_WAIT, -self._left / self._pace.rate), self._drain
            )
        return 0

    def _drain(self):
        """Go on with what waited, then read again."""
        cdef size_t used
        self._drain_scheduled = False
        if self._closing:
            return
        if self._pending_size > 0 or self._left <= 0:
            self._refill()
        if self._receiving is not None and self._pending_size > 0 and not self._blocked():
            used = self._process(self._pending, self._pending_size)
            self._keep(self._pending + used, self._pending_size - used)
            self._flush_now()
        self._update_reading()

    cdef int _update_reading(self, bint had_turn=False) except -1:
        cdef bint pause
        if self._transport is None or self._closing:
            return 0
        if self._receiving is None:
            # Before there are keys, nothing is read that nobody waits for.
            pause = self._raw_waiter is None and self._pending_size > 0
        else:
            pause = self._blocked()
            if self._left <= 0:
                self._drain_later()
            elif not pause and (had_turn or self._has_backlog()):
                # What waits comes first, or the next read might not fit behind it.
                self._schedule_drain()
                pause = True
        if pause != self._reading_paused:
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        return 0

    cdef int _drop_buffers(self) noexcept:
        free(self._pending)
        free(self._out)
        self._pending = self._out = NULL
        self._pending_size = self._out_size = self._out_bits = 0
        return 0


class PeerTransport(PeerTransportBase, asyncio.BufferedProtocol):
    """A peer's connection: bytes in and out on one side, whole messages on the other.

    `consumer` (a `Consumer`) gets each message but ping and pong, which are dealt with here, and
    at last the reason of the end. It may call any method from there. The transport must be a plain
    socket's: sealed bytes go past it while it has none of its own to write.

    Life: connect it by `loop.create_connection`; pass the handshake with `write_raw` and
    `receive_exactly`; then `start` with the two directions' states. Sessions that share a `pace`
    take turns, each within its budget. Needs an event loop that reads when the socket is ready
    (uvloop, asyncio's selector loops; not Windows' proactor).
    """

    __slots__ = ()
