"""CipherState: its bounds, its errors, its rotation."""

import pickle
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_proxy.transport import CipherState, DecryptionError, kernel_name
from lightning_proxy.transport.frame import kernel_names
from lightning_proxy.transport.reference import ReferenceCipherState

KEY, CHAINING_KEY = bytes(range(32)), bytes(range(32, 64))


def pair(nonce: int = 0) -> tuple[CipherState, CipherState]:
    return CipherState(KEY, CHAINING_KEY, nonce), CipherState(KEY, CHAINING_KEY, nonce)


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 63, 64, 65, 150, 1500, 65535])
def test_sizes(size: int) -> None:
    sending, receiving = pair()
    message = bytes(i % 251 for i in range(size))
    sealed = sending.seal(message)
    assert len(sealed) == size + 34
    assert sealed == ReferenceCipherState(KEY, CHAINING_KEY).seal(message)
    assert receiving.open(sealed) == ([message], size + 34)


def test_a_message_has_at_most_65535_bytes_and_a_refused_one_costs_no_nonce() -> None:
    sending, receiving = pair()
    with pytest.raises(ValueError, match="65535"):
        sending.seal(bytes(65536))
    with pytest.raises(ValueError, match="65535"):
        sending.seal_many([b"fits", bytes(65536)])
    assert receiving.open(sending.seal(b"next")) == ([b"next"], 38)


def test_seal_many_is_seal_after_seal() -> None:
    messages = [bytes([i % 251]) * (i * 7 % 300) for i in range(700)]
    one, other = pair()
    assert one.seal_many(messages) == b"".join(other.seal(message) for message in messages)
    assert one.export() == other.export()
    assert one.seal_many([]) == b""


def test_open_takes_whole_frames_only_and_changes_nothing_else() -> None:
    sending, receiving = pair()
    sealed = sending.seal_many([b"one", b"two"])
    first = 3 + 34
    for cut in range(first):
        assert receiving.open(sealed[:cut]) == ([], 0)
        assert receiving.export() == (KEY, 0, CHAINING_KEY)
    for cut in range(first, len(sealed)):
        fresh = CipherState(KEY, CHAINING_KEY)
        assert fresh.open(sealed[:cut]) == ([b"one"], first)
        assert fresh.open(sealed[first:]) == ([b"two"], first)


def test_open_leaves_the_callers_buffer_alone() -> None:
    sending, receiving = pair()
    buffer = bytearray(sending.seal(b"mine"))
    before = bytes(buffer)
    assert receiving.open(memoryview(buffer)) == ([b"mine"], len(before))
    assert buffer == before


@pytest.mark.parametrize("at", [0, 1, 2, 17, 18, 22, 23, 38])
def test_a_wrong_bit_anywhere_makes_the_state_unusable(at: int) -> None:
    sending, receiving = pair()
    good, bad = sending.seal(b"good"), bytearray(sending.seal(b"hello"))
    bad[at] ^= 0x40
    with pytest.raises(DecryptionError) as caught:
        receiving.open(good + bad)
    assert caught.value.messages == [b"good"]
    for use in (
        lambda: receiving.open(good),
        lambda: receiving.seal(b""),
        receiving.export,
    ):
        with pytest.raises(DecryptionError, match="unusable"):
            use()
    assert repr(receiving) == "CipherState(unusable)"


def test_a_session_is_handed_over_in_the_middle() -> None:
    sending, receiving = pair()
    for number in range(1234):
        if number % 100 == 99:
            sending = CipherState(*_reorder(sending.export()))
            receiving = CipherState(*_reorder(receiving.export()))
        assert receiving.open(sending.seal(b"%d" % number))[0] == [b"%d" % number]


def _reorder(exported: tuple[bytes, int, bytes]) -> tuple[bytes, bytes, int]:
    key, nonce, chaining_key = exported
    return key, chaining_key, nonce


def test_nonce_1000_of_an_implementation_that_rotates_late() -> None:
    early = CipherState(KEY, CHAINING_KEY, 998)
    early.seal(b"the 500th")
    late = CipherState(KEY, CHAINING_KEY, 1000)
    assert early.export() == late.export()
    assert late.export()[0] != KEY


@pytest.mark.parametrize("nonce", [-2, 1, 999, 1001, 1002, 2**64, "0", None])
def test_nonces_that_are_none(nonce: int) -> None:
    with pytest.raises(ValueError, match="nonce"):
        CipherState(KEY, CHAINING_KEY, nonce)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_of_the_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"^key: 32 bytes wanted, got {size}$"):
        CipherState(bytes(size), CHAINING_KEY)
    with pytest.raises(ValueError, match="chaining_key: 32 bytes wanted"):
        CipherState(KEY, bytes(size))


def test_keys_show_nowhere() -> None:
    state = CipherState(KEY, CHAINING_KEY)
    assert repr(state) == str(state) == "CipherState(nonce=0)"
    with pytest.raises(TypeError, match="memory only"):
        pickle.dumps(state)
    assert not hasattr(state, "__dict__")


def test_the_kernel_is_chosen_by_environment_and_an_unknown_one_is_refused() -> None:
    script = "from lightning_proxy.transport import kernel_name; print(kernel_name())"

    def run(kernel: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script],
            env={"LIGHTNING_PROXY_KERNEL": kernel},
            capture_output=True,
            text=True,
            check=False,
        )

    for name in kernel_names():
        assert run(name).stdout == f"{name}\n"
    assert run("").stdout.strip() == kernel_name()
    assert "no such kernel" in run("abacus").stderr


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(),
    reason="reads what Linux says of an x86-64 CPU",
)
def test_the_best_kernel_that_the_cpu_has_is_chosen() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split())
    avx512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
    wanted = [
        name
        for name, needed in {
            "avx512ifma": {"avx2", "bmi2", "avx512ifma"} | avx512,
            "avx512": {"avx2", "bmi2"} | avx512,
            "avx2": {"avx2", "bmi2"},
            "sse2": {"sse2"},
            "scalar": set[str](),
        }.items()
        if needed <= flags
    ]
    assert kernel_names() == wanted
