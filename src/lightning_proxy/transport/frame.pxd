from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint64_t


cdef extern from "kernel.h":
    enum:
        LP_KEY_SIZE
        LP_NONCE_SIZE
        LP_TAG_SIZE
        LP_HEADER_SIZE
        LP_OVERHEAD
        LP_MAX_BODY
        LP_MAX_FRAME
        LP_BAD_TAG
        LP_INCOMPLETE
        LP_OPENED


cdef class CipherState:
    cdef uint8_t _key[32]
    cdef uint8_t _chaining_key[32]
    cdef uint16_t _nonce
    cdef uint16_t _expected
    cdef uint8_t _usable

    # The calls of PeerTransport: in the caller's buffer, without the GIL. After LP_BAD_TAG the
    # state is wiped, and none of them may be called again.
    cdef void seal_frame(self, uint8_t *frame, size_t length) noexcept nogil
    # Frames one behind the other; returns where the next one would begin.
    cdef uint8_t *seal_frames(self, uint8_t *frames, const size_t *lengths,
                              size_t count) noexcept nogil
    cdef int open_frame(self, uint8_t *frame, size_t available, size_t *length) noexcept nogil
    cdef int open_body(self, uint8_t *body, size_t length) noexcept nogil
    cdef void wipe(self) noexcept nogil
    cdef int _seal_frames(self, uint8_t *frames, list views) except -1
    cdef void _advance(self) noexcept nogil
