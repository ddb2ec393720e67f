"""BOLT #8 frames of one direction: key, nonce and rotation. Sans-I/O."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy


cdef extern from "kernel.h":
    ctypedef struct lp_kernel:
        const char *name
        void (*seal)(const uint8_t *key, uint64_t nonce, uint8_t *frame,
                     size_t length) noexcept nogil
        void (*seal_many)(const uint8_t *key, uint64_t nonce, uint8_t *frames,
                          const size_t *lengths, size_t count) noexcept nogil
        int (*open)(const uint8_t *key, uint64_t nonce, uint8_t *frame, size_t available,
                    size_t *length) noexcept nogil
        int (*open_body)(const uint8_t *key, uint64_t nonce, uint8_t *body,
                         size_t length) noexcept nogil
        void (*aead_seal)(const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                          size_t ad_length, uint8_t *text, size_t length) noexcept nogil
        int (*aead_open)(const uint8_t *key, const uint8_t *nonce, const uint8_t *ad,
                         size_t ad_length, uint8_t *text, size_t length) noexcept nogil

    const lp_kernel *lp_kernel_at(size_t index) noexcept nogil
    const lp_kernel *lp_kernel_find(const char *name) noexcept nogil
    int lp_kernel_self_test(const lp_kernel *kernel) noexcept nogil
    int lp_use_cpu_sha
    int lp_has_cpu_sha() noexcept nogil
    void lp_rotate(uint8_t *chaining_key, uint8_t *key) noexcept nogil
    void lp_wipe(void *memory, size_t size) noexcept nogil


class DecryptionError(Exception):
    """A tag is wrong: the bytes are forged, damaged or out of step, and the state is now unusable.

    `messages` are those of the same call that were authentic, in order, before the forged one.
    """

    def __init__(self, sentence, messages=()):
        super().__init__(sentence)
        self.messages = list(messages)


# BOLT #8: "nonce 999" is the last; two encryptions a frame, so the key serves 500 frames.
cdef uint64_t ROTATION = 1000

cdef const lp_kernel *kernel = NULL


def use_kernel(name=None):
    """Run the kernel of that name from now on, without one the best; for tests and benchmarks.

    Raises `ValueError` where there is none of that name or where it fails its self-test.
    """
    global kernel, lp_use_cpu_sha
    cdef const lp_kernel *chosen
    cdef bytes wanted = (name or "").encode()
    chosen = lp_kernel_find(<const char *>wanted) if name else lp_kernel_find(NULL)
    if chosen == NULL:
        raise ValueError(f"{name!r}: this build or this CPU has no such kernel")
    if not lp_kernel_self_test(chosen):
        raise ValueError(f"the kernel {chosen.name.decode()!r} fails its self-test")
    kernel = chosen
    # `scalar` means no special instructions at all.
    lp_use_cpu_sha = kernel.name != b"scalar" and lp_has_cpu_sha()


def kernel_name() -> str:
    """The name of the kernel that runs: chosen at import, by CPU or LIGHTNING_PROXY_KERNEL."""
    return kernel.name.decode()


def kernel_names():
    """The names of the kernels that this build and this CPU have, best first."""
    names = []
    while lp_kernel_at(len(names)) != NULL:
        names.append(lp_kernel_at(len(names)).name.decode())
    return names


try:
    use_kernel(os.environ.get("LIGHTNING_PROXY_KERNEL"))
except ValueError as error:
    raise ImportError(f"LIGHTNING_PROXY_KERNEL: {error}") from None


cdef int _read_exactly(object source, uint8_t *target, Py_ssize_t size, str what) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
    try:
        if view.len != size:
            raise ValueError(f"{what}: {size} bytes wanted, got {view.len}")
        memcpy(target, view.buf, size)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef class CipherState:
    """One direction of a BOLT #8 connection (the Noise specification's name).

    `key` and `chaining_key` are 32 bytes each. `nonce` counts encryptions, two a frame: even, at
    most 1000, where 1000 rotates at once (some implementations rotate late). Raises `ValueError`
    for any other. Not safe for use by two threads at once.
    """

    def __init__(self, key, chaining_key, nonce=0):
        if not isinstance(nonce, int) or not 0 <= nonce <= ROTATION or nonce % 2:
            raise ValueError("nonce: an even number from 0 to 1000 wanted")
        _read_exactly(key, self._key, LP_KEY_SIZE, "key")
        _read_exactly(chaining_key, self._chaining_key, LP_KEY_SIZE, "chaining_key")
        self._nonce = nonce
        self._usable = True
        if self._nonce == ROTATION:
            self._nonce -= 2
            self._advance()

    def __dealloc__(self):
        self.wipe()

    def __repr__(self):
        return f"CipherState(nonce={self._nonce})" if self._usable else "CipherState(unusable)"

    def __reduce__(self):
        raise TypeError("transport keys live in memory only: a CipherState is never pickled")

    def export(self):
        """(key, nonce, chaining_key): what another holder needs to go on from here."""
        self._require_usable()
        return (
            PyBytes_FromStringAndSize(<char *>self._key, LP_KEY_SIZE),
            self._nonce,
            PyBytes_FromStringAndSize(<char *>self._chaining_key, LP_KEY_SIZE),
        )

    def seal(self, message):
        """Seal one message of at most 65,535 bytes; returns its frame, 34 bytes longer."""
        return self.seal_many((message,))

    def seal_many(self, messages):
        """Seal messages in order; returns their frames as one piece.

        Raises `ValueError` if one is longer than 65,535 bytes; then none was sealed.
        """
        cdef Py_ssize_t total = 0
        cdef uint8_t *frame
        cdef const uint8_t[::1] view
        self._require_usable()
        views = [memoryview(message).cast("B") for message in messages]
        for item in views:
            if len(item) > LP_MAX_BODY:
                raise ValueError(f"a message has at most {LP_MAX_BODY} bytes, this one {len(item)}")
            total += len(item) + LP_OVERHEAD
        sealed = PyBytes_FromStringAndSize(NULL, total)
        frame = <uint8_t *>PyBytes_AS_STRING(sealed)
        for view in views:
            if view.shape[0] > 0:
                memcpy(frame + LP_HEADER_SIZE, &view[0], view.shape[0])
            frame += view.shape[0] + LP_OVERHEAD
        self._seal_frames(<uint8_t *>PyBytes_AS_STRING(sealed), views)
        return sealed

    def open(self, buffer):
        """Open the whole frames at the start of `buffer`.

        Returns the list of messages and the number of bytes that they took; what is left belongs
        before the bytes that come next. Raises `DecryptionError` on a wrong tag.
        """
        cdef size_t length = 0
        cdef Py_ssize_t at = 0, total
        cdef int status
        cdef uint8_t *frame
        self._require_usable()
        # The kernel opens in place, and only here is the buffer the caller's own.
        scratch = bytearray(buffer)
        frame = scratch
        total = len(scratch)
        messages = []
        while total - at >= LP_HEADER_SIZE:
            status = self.open_frame(frame + at, total - at, &length)
            if status == LP_INCOMPLETE:
                break
            if status == LP_BAD_TAG:
                raise DecryptionError("a frame's tag is wrong", messages)
            messages.append(
                PyBytes_FromStringAndSize(<char *>frame + at + LP_HEADER_SIZE, length)
            )
            at += length + LP_OVERHEAD
        return messages, at

    cdef int _seal_frames(self, uint8_t *frames, list views) except -1:
        cdef size_t lengths[16]
        cdef size_t count = 0
        for view in views:
            lengths[count] = len(view)
            count += 1
            if count == 16:
                frames = self.seal_frames(frames, lengths, count)
                count = 0
        if count > 0:
            self.seal_frames(frames, lengths, count)
        return 0

    cdef uint8_t *seal_frames(self, uint8_t *frames, const size_t *lengths,
                              size_t count) noexcept nogil:
        cdef size_t now, i
        while count > 0:
            # A key serves until its rotation, no frame longer.
            now = min(count, <size_t>(ROTATION - self._nonce) // 2)
            kernel.seal_many(self._key, self._nonce, frames, lengths, now)
            for i in range(now):
                frames += lengths[i] + LP_OVERHEAD
            self._nonce += 2 * (now - 1)
            self._advance()
            lengths += now
            count -= now
        return frames

    cdef void seal_frame(self, uint8_t *frame, size_t length) noexcept nogil:
        kernel.seal(self._key, self._nonce, frame, length)
        self._advance()

    cdef int open_frame(self, uint8_t *frame, size_t available, size_t *length) noexcept nogil:
        cdef int status
        # Messages of one peer come in runs of one length: a right guess saves the kernel a pass.
        length[0] = self._expected
        status = kernel.open(self._key, self._nonce, frame, available, length)
        if status == LP_OPENED:
            self._expected = <uint16_t>length[0]
            self._advance()
        elif status == LP_BAD_TAG:
            self.wipe()
        return status

    cdef int open_body(self, uint8_t *body, size_t length) noexcept nogil:
        cdef int status = kernel.open_body(self._key, self._nonce + 1, body, length)
        if status == LP_OPENED:
            self._advance()
        else:
            self.wipe()
        return status

    cdef void wipe(self) noexcept nogil:
        self._usable = False
        lp_wipe(self._key, LP_KEY_SIZE)
        lp_wipe(self._chaining_key, LP_KEY_SIZE)

    cdef void _advance(self) noexcept nogil:
        self._nonce += 2
        if self._nonce == ROTATION:
            lp_rotate(self._chaining_key, self._key)
            self._nonce = 0

    def _require_usable(self):
        if not self._usable:
            raise DecryptionError("this CipherState is unusable: a tag was wrong before")


def aead_seal(key, nonce, ad, plaintext):
    """RFC 8439 §2.8 by the kernel that runs: (ciphertext, tag). For vectors and self-tests."""
    cdef uint8_t c_key[32]
    cdef uint8_t c_nonce[12]
    cdef bytes c_ad = bytes(ad)
    cdef Py_ssize_t length = len(plaintext)
    _read_exactly(key, c_key, LP_KEY_SIZE, "key")
    _read_exactly(nonce, c_nonce, LP_NONCE_SIZE, "nonce")
    text = bytearray(plaintext) + bytearray(LP_TAG_SIZE)
    kernel.aead_seal(c_key, c_nonce, c_ad, len(c_ad), text, length)
    return bytes(text[:length]), bytes(text[length:])


def aead_open(key, nonce, ad, ciphertext, tag):
    """The inverse of `aead_seal`; raises `DecryptionError` on a wrong tag."""
    cdef uint8_t c_key[32]
    cdef uint8_t c_nonce[12]
    cdef uint8_t c_tag[16]
    cdef bytes c_ad = bytes(ad)
    cdef Py_ssize_t length = len(ciphertext)
    _read_exactly(key, c_key, LP_KEY_SIZE, "key")
    _read_exactly(nonce, c_nonce, LP_NONCE_SIZE, "nonce")
    _read_exactly(tag, c_tag, LP_TAG_SIZE, "tag")
    text = bytearray(ciphertext) + bytearray(tag)
    if kernel.aead_open(c_key, c_nonce, c_ad, len(c_ad), text, length) != LP_OPENED:
        raise DecryptionError("the tag is wrong")
    return bytes(text[:length])
