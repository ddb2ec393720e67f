from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from lightning_proxy.transport.frame cimport CipherState

# A relay holds thousands of these: a truth value takes a byte, and no size here passes 4 GiB.
ctypedef uint8_t flag


cdef class Pace:
    cdef readonly double rate
    cdef readonly double burst
    # Of the first session, and so of all.
    cdef object loop
    # In the order in which they go on.
    cdef object _waiting
    cdef size_t _count
    cdef flag _scheduled

    cdef bint _is_busy(self) noexcept
    cdef int _queue(self, PeerTransportBase transport) except -1
    cdef int _schedule(self) except -1


cdef class PeerTransportBase:
    cdef object _consumer
    cdef Pace _pace
    cdef object _transport
    cdef object _raw_waiter
    cdef object _reason
    cdef object _linger
    cdef CipherState _sending
    cdef CipherState _receiving

    # What came and was not yet opened: a partial frame, or whole frames while reading is paused.
    cdef uint8_t *_pending
    # Sealed, and not yet handed to the socket or to the asyncio transport.
    cdef uint8_t *_out
    cdef uint32_t _pending_size
    # The body length of the partial frame at the start of _pending, or UNKNOWN.
    cdef uint32_t _body_length
    cdef uint32_t _out_size
    # What the peer may still cost before it has to wait, in bytes.
    cdef float _left
    # The socket; -1 where the transport has none, and when it is gone.
    cdef int _fd
    # Of the room for what is sealed: a power of two; 0: there is none.
    cdef uint8_t _out_bits
    cdef uint8_t _raw_wanted

    # Whether the asyncio transport got bytes that it may not have written yet.
    cdef flag _handed_over
    cdef flag _in_callback
    cdef flag _flush_scheduled
    cdef flag _drain_scheduled
    cdef flag _consumer_paused
    cdef flag _write_paused
    cdef flag _reading_paused
    # OPEN, CLOSING or LOST.
    cdef flag _closing
    cdef flag _awaiting_pong

    cdef readonly uint64_t messages_received
    cdef readonly uint64_t messages_sent
    cdef readonly uint64_t pings_received
    cdef readonly uint64_t pongs_received
    cdef readonly double last_received

    cdef size_t _process(self, uint8_t *data, size_t size) except? 0
    cdef size_t _take(self, uint8_t *message, size_t length) except? 0
    cdef size_t _answer_ping(self, const uint8_t *message, size_t length) except? 0
    cdef int _deliver(self, uint8_t *message, size_t length) except -1
    cdef uint8_t *_grow(self, size_t size) except NULL
    cdef uint8_t *_reserve(self, size_t length) except NULL
    cdef bint _blocked(self) noexcept
    cdef bint _has_backlog(self) noexcept
    cdef int _refill(self) noexcept
    cdef int _keep(self, const uint8_t *data, size_t size) except -1
    cdef int _received_raw(self) except -1
    cdef int _flush_now(self) except -1
    cdef bint _transport_is_behind(self) except -1
    cdef int _schedule_flush(self) except -1
    cdef int _schedule_drain(self) except -1
    cdef int _drain_later(self) except -1
    cdef int _update_reading(self, bint had_turn=*) except -1
    cdef int _drop_buffers(self) noexcept
