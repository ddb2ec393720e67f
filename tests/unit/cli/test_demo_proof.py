"""The demo's proof finds what it must find: it can fail."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256

import pytest
from coincurve import PrivateKey

from lightning_proxy.bolt.derivation import per_commitment_secret
from lightning_proxy.demo.proof import prove, search_memory, search_streams, wrong_keys
from lightning_proxy.demo.recorder import unmask
from lightning_proxy.demo.scan import Scanner
from lightning_proxy.wallet import WalletKeys

SECRET, OTHER, CONTROL = (sha256(name).digest() for name in (b"secret", b"other", b"control"))

Carrier = Callable[[bytes], bytes]
CARRIERS: dict[str, Carrier] = {
    "raw": bytes,
    "hex": lambda data: data.hex().encode(),
    "upper-case hex": lambda data: data.hex().upper().encode(),
    "base64": base64.b64encode,
    "url-safe base64": base64.urlsafe_b64encode,
}


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_planted_secret_is_found(carrier: str, before: int, is_reversed: bool) -> None:
    planted = SECRET[::-1] if is_reversed else SECRET
    stream = CARRIERS[carrier](os.urandom(before) + planted + os.urandom(5))
    scanner = Scanner({"secret": SECRET, "other": OTHER})
    scanner.scan([os.urandom(50), stream, os.urandom(50)])
    assert scanner.found["secret"]
    assert not scanner.found["other"]
    assert scanner.scanned == 100 + len(stream)


def test_a_secret_that_lies_across_blocks_is_found() -> None:
    text = b"x" * 70 + SECRET.hex().encode() + b"y" * 70
    for cut in range(len(text)):
        scanner = Scanner({"secret": SECRET})
        scanner.scan([text[:cut], text[cut:]])
        assert scanner.found["secret"] == {"hex"}, cut


def test_streams_are_not_joined() -> None:
    scanner = Scanner({"secret": SECRET})
    for stream in (SECRET[:10], SECRET[10:]):
        scanner.scan([stream])
    assert not scanner.found["secret"]


def test_a_search_without_the_secret_proves() -> None:
    search = search_streams([b"hello " + CONTROL], {"secret": SECRET}, {"control": CONTROL})
    proof = prove(["secret"], [search], [])
    assert proof.holds
    assert proof.searches[0].controls_found == ["control"]


def test_a_search_that_finds_the_secret_refutes() -> None:
    search = search_streams([CONTROL, SECRET], {"secret": SECRET}, {"control": CONTROL})
    proof = prove(["secret"], [search], [])
    assert not proof.holds
    assert "found secret (raw)" in proof.sentence


def test_a_blind_search_proves_nothing() -> None:
    search = search_streams([b"hello"], {"secret": SECRET}, {"control": CONTROL})
    proof = prove(["secret"], [search], [])
    assert not proof.holds
    assert "blind" in proof.sentence


@pytest.mark.parametrize("controls", [{}, {"control": b""}])
def test_a_search_needs_something_to_find(controls: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="control"):
        search_streams([b"hello"], {"secret": SECRET}, controls)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's memory")
def test_another_process_memory_is_searched() -> None:
    code = (
        "import sys\nkept = [bytes.fromhex(sys.stdin.readline()) for _ in range(2)]\n"
        "print('ready', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{SECRET.hex()}\n{CONTROL.hex()}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        search = search_memory(
            process.pid, {"secret": SECRET, "other": OTHER}, {"control": CONTROL}
        )
        # It goes on afterwards.
        process.stdin.close()
        assert process.wait(60) == 0
    assert search.controls_found == ["control"]
    assert len(search.private_keys_found) == 1
    assert search.private_keys_found[0].startswith("secret (")
    assert "raw" in search.private_keys_found[0]


def test_keys_that_nobody_uses_are_noticed() -> None:
    keys, others = WalletKeys.generate(), WalletKeys.generate()
    points = keys.channel(0).points()
    accept_channel = {name: getattr(points, name).hex() for name in points.__slots__}
    private_keys = dict(keys.private_keys(channels=(0,)))
    node_id = keys.node_id.hex()
    assert wrong_keys(private_keys, node_id, accept_channel) == []
    assert wrong_keys(private_keys, others.node_id.hex(), accept_channel) == ["node_secret"]
    assert "channel 0: htlc_basepoint_secret" in wrong_keys(private_keys, node_id, {})
    # A channel that became ready shows another point.
    ready = {
        **accept_channel,
        "second_per_commitment_point": keys.channel(0).per_commitment_point(1).hex(),
    }
    assert wrong_keys(private_keys, node_id, ready) == ["channel 0: second per_commitment_secret"]
    seed = keys.channel(0).per_commitment_seed
    second = {"channel 0: second per_commitment_secret": per_commitment_secret(seed, 2**48 - 2)}
    assert wrong_keys({**private_keys, **second}, node_id, ready) == []
    one_less = {**private_keys, "channel 0: funding_secret": PrivateKey().secret}
    assert wrong_keys(one_less, node_id, accept_channel) == ["channel 0: funding_secret"]


HEAD = b"GET /v1/wallet HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """A websocket frame by the book (RFC 6455, 5.2)."""
    if len(payload) < 126:
        size = bytes([len(payload)])
    elif len(payload) < 65536:
        size = b"\x7e" + len(payload).to_bytes(2, "big")
    else:
        size = b"\x7f" + len(payload).to_bytes(8, "big")
    if mask:
        size = bytes([size[0] | 0x80]) + size[1:]
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return b"\x81" + size + mask + payload


@pytest.mark.parametrize("mask", [b"", b"\x01\x80\xfe\x7f"])
@pytest.mark.parametrize("size", [0, 5, 125, 126, 65535, 65536])
def test_a_websocket_is_unmasked(size: int, mask: bytes) -> None:
    payload = os.urandom(size)
    stream = HEAD + frame(b"before", mask) + frame(payload, mask) + frame(b"after", mask)
    assert unmask(stream) == b"before" + payload + b"after"


def test_a_frame_that_is_cut_off_counts() -> None:
    stream = HEAD + frame(SECRET, b"abcd")
    assert unmask(stream[:-3]) == SECRET[:-3]
    for cut in range(len(HEAD), len(stream)):
        assert SECRET.startswith(unmask(stream[:cut]))


@pytest.mark.parametrize("stream", [b"", b"nothing", b"HTTP/1.1 403\r\n\r\n", HEAD + b"\xc1\x00"])
def test_what_is_no_plain_websocket_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="this"):
        unmask(stream)
