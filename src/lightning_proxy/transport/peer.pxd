from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from lightning_proxy.transport.frame cimport CipherState


cdef class PeerTransportBase:
    cdef object _consumer
    cdef object _loop
    cdef object _transport
    cdef object _raw_waiter
    cdef object _reason
    cdef object _linger
    cdef CipherState _sending
    cdef CipherState _receiving

    # What came and was not yet opened: a partial frame, or whole frames while reading is paused.
    cdef uint8_t *_pending
    cdef size_t _pending_size
    # The body length of the partial frame at the start of _pending, or UNKNOWN.
    cdef size_t _body_length
    # Sealed, and not yet handed to the asyncio transport.
    cdef uint8_t *_out
    cdef size_t _out_size
    cdef size_t _out_capacity
    cdef size_t _raw_wanted

    cdef bint _in_callback
    cdef bint _flush_scheduled
    cdef bint _drain_scheduled
    cdef bint _consumer_paused
    cdef bint _write_paused
    cdef bint _reading_paused
    cdef bint _closing
    cdef bint _lost

    cdef readonly unsigned long long messages_received
    cdef readonly unsigned long long messages_sent
    cdef readonly unsigned long long pings_received
    cdef readonly unsigned long long pongs_received
    cdef readonly double last_received
    cdef readonly bint awaiting_pong

    cdef size_t _process(self, uint8_t *data, size_t size) except? 0
    cdef int _take(self, uint8_t *message, size_t length) except -1
    cdef int _answer_ping(self, const uint8_t *message, size_t length) except -1
    cdef int _deliver(self, uint8_t *message, size_t length) except -1
    cdef uint8_t *_reserve(self, size_t length) except NULL
    cdef bint _blocked(self) noexcept
    cdef bint _has_backlog(self) noexcept
    cdef int _keep(self, const uint8_t *data, size_t size) except -1
    cdef int _received_raw(self) except -1
    cdef int _flush_now(self) except -1
    cdef int _schedule_flush(self) except -1
    cdef int _schedule_drain(self) except -1
    cdef int _update_reading(self) except -1
    cdef int _drop_buffers(self) noexcept
