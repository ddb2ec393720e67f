"""Our kernels and their rivals, each behind the functions of native/rival.h, in one process."""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint8
from pathlib import Path
from typing import Final

from coincurve import PrivateKey

from benchmarks.native import KERNEL, library
from benchmarks.rivals.build import LIBRARY, RivalMissing, home
from lightning_proxy.transport import CipherState
from lightning_proxy.transport.handshake import Initiator, Responder

_NATIVE: Final = Path(__file__).parent / "native"
_SECRETS: Final = (b"\x21" * 32, b"\x12" * 32, b"\x42" * 32, b"\x24" * 32)
#: Body lengths of the check, and how many frames of each: the first rotate keys, twice.
_CHECKED: Final = ((150, 1001), (20, 3), (1500, 2), (65_535, 2), (1, 1))
_OVERHEAD: Final = 34
_HEADER: Final = 18


class _Session(Structure):
    """`rival_session`."""

    _fields_ = tuple(
        (name, c_uint8 * 32)
        for name in (
            *("initiator_static", "initiator_ephemeral"),
            *("responder_static", "responder_ephemeral"),
            *("key", "chaining_key"),
        )
    )


def _session() -> tuple[bytes, bytes, _Session]:
    """The key and the chaining key that the initiator seals with, and all that a rival gets."""
    initiator_static, initiator_ephemeral, responder_static, responder_ephemeral = _SECRETS
    node_id = PrivateKey(responder_static).public_key.format()
    initiator = Initiator(initiator_static, node_id, initiator_ephemeral)
    initiator.act_two(Responder(responder_static, responder_ephemeral).act_one(initiator.act_one()))
    key, _, chaining_key = initiator.keys
    return key, chaining_key, _Session.from_buffer_copy(b"".join((*_SECRETS, key, chaining_key)))


class WrongFramesError(Exception):
    """An implementation doesn't speak BOLT #8: how fast it is says nothing."""


class Implementation:
    """Seals and opens frames in C, Go or Rust; raises `WrongFramesError` if it does so wrongly.

    `version` says which release it is. Lengths are those of bodies, in bytes; times nanoseconds.
    """

    def __init__(self, name: str, loaded: ctypes.CDLL) -> None:
        self.name = name
        self._c = loaded
        for function, result, arguments in (
            ("rival_version", c_char_p, ()),
            ("rival_start", c_int, (POINTER(_Session),)),
            ("rival_seal", c_int64, (c_size_t, c_size_t)),
            ("rival_open", c_int64, (c_size_t, c_size_t)),
            ("rival_sealed", c_int, (POINTER(c_char), c_char_p, c_size_t, c_size_t)),
            ("rival_opened", c_int, (POINTER(c_char), c_char_p, c_size_t, c_size_t)),
        ):
            each = getattr(loaded, function)
            each.restype, each.argtypes = result, arguments
        self.version: str = loaded.rival_version().decode()
        self._check()

    def seal(self, length: int, count: int) -> float:
        """The time of a frame, of `count` that are sealed one after the other."""
        return self._per_frame(self._c.rival_seal, length, count)

    def open(self, length: int, count: int) -> float:
        """The time of a frame, of `count` that are opened one after the other."""
        return self._per_frame(self._c.rival_open, length, count)

    def _per_frame(self, measure: Callable[[int, int], int], length: int, count: int) -> float:
        taken = measure(length, count)
        if taken < 0:
            raise RuntimeError(f"{self.name} failed on a frame of {length} bytes")
        return taken / count

    def _check(self) -> None:
        """Seals what `CipherState` seals, to the last bit, opens it, and refuses a wrong bit."""
        key, chaining_key, session = _session()
        state = CipherState(key, chaining_key)
        self._require(self._c.rival_start(byref(session)), "starts no session")
        for length, count in _CHECKED:
            size = (length + _OVERHEAD) * count
            bodies = [(bytes(range(1, 256)) * 258)[i % 255 :][:length] for i in range(count)]
            frames = ctypes.create_string_buffer(size)
            plain = b"".join(bodies)
            sealed = self._c.rival_sealed(frames, plain, length, count)
            right = sealed and frames.raw[:size] == state.seal_many(bodies)
            self._require(right, f"seals {length} bytes wrongly")
            opened = ctypes.create_string_buffer(length * count)
            accepted = self._c.rival_opened(opened, frames.raw, length, count)
            right = accepted and opened.raw[: length * count] == plain
            self._require(right, f"opens {length} bytes wrongly")
        for at in (0, _HEADER - 1, _HEADER, _OVERHEAD + 19):
            self._require(self._c.rival_start(byref(session)), "starts no session")
            frame = ctypes.create_string_buffer(20 + _OVERHEAD)
            self._c.rival_sealed(frame, bytes(20), 20, 1)
            frame[at] = bytes((frame.raw[at] ^ 1,))
            refused = not self._c.rival_opened(ctypes.create_string_buffer(20), frame.raw, 20, 1)
            self._require(refused, f"accepts a frame whose byte {at} is wrong")
        self._c.rival_start(byref(session))

    def _require(self, right: object, fault: str) -> None:
        if not right:
            raise WrongFramesError(f"{self.name} {fault}")


class Ours(Implementation):
    """One of our own kernels, by its name."""

    def __init__(self, kernel: str) -> None:
        loaded = library("ours", [_NATIVE / "ours.c", *sorted(KERNEL.glob("*.c"))])
        loaded.ours_use.argtypes = (c_char_p,)
        loaded.ours_seal_queued.restype = c_int64
        loaded.ours_seal_queued.argtypes = (c_size_t, c_size_t)
        self._kernel = kernel
        self._use = loaded.ours_use
        self._run()
        super().__init__(kernel, loaded)

    def seal(self, length: int, count: int) -> float:
        self._run()
        return super().seal(length, count)

    def open(self, length: int, count: int) -> float:
        self._run()
        return super().open(length, count)

    def seal_queued(self, length: int, count: int) -> float:
        """The time of a frame, of `count` that are queued eight at a time."""
        self._run()
        return self._per_frame(self._c.ours_seal_queued, length, count)

    def _run(self) -> None:
        """All kernels share one library: this one's turn."""
        if not self._use(self._kernel.encode()):
            raise ValueError(f"this CPU has no kernel {self._kernel!r}")


def _in_c(source: str, shared: str) -> ctypes.CDLL:
    # By the file's full name: a developer's package need not be there.
    return library(source, [_NATIVE / f"{source}.c", KERNEL / "hkdf.c"], [f":{shared}"])


def _built(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(home(name) / LIBRARY))


_RIVALS: Final[dict[str, Callable[[], ctypes.CDLL]]] = {
    "libsodium": lambda: _in_c("sodium", "libsodium.so.23"),
    "OpenSSL": lambda: _in_c("openssl", "libcrypto.so.3"),
    "lnd brontide": lambda: _built("lnd brontide"),
    "LDK": lambda: _built("LDK"),
}
#: Their names.
RIVALS: Final = tuple(_RIVALS)


def rival(name: str) -> Implementation:
    """One of RIVALS, built if need be; raises `RivalMissing` with the reason."""
    try:
        return Implementation(name, _RIVALS[name]())
    except (OSError, WrongFramesError) as error:
        raise RivalMissing(" ".join(str(error).split())) from error
