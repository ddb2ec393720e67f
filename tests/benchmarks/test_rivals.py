"""No rival takes part that doesn't speak BOLT #8, or that isn't there; the reason is named."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import native
from benchmarks.rivals import RivalMissing, frames, server, servers
from benchmarks.rivals.build import PROGRAM
from benchmarks.rivals.frames import _NATIVE, Implementation, WrongFramesError

#: A whole implementation, of our scalar kernel: what it seals, whether it opens, and what.
_SOURCE = """
#include "{native}/loops.h"

EXPORTED const char *rival_version(void) {{ return "1.2"; }}

static int set_key(direction *to) {{ return to->nonce == 0; }}

static int seal_frame(direction *from, uint8_t *frame, size_t length)
{{
    {seal}
    return 1;
}}

static int open_frame(direction *to, uint8_t *frame, size_t length)
{{
    size_t found = length;
    int opened = lp_kernel_scalar.open(to->key, to->nonce, frame, length + LP_OVERHEAD, &found);

    {opened}
}}
"""
_SEAL = "lp_kernel_scalar.seal(from->key, from->nonce, frame, length);"
_OPENED = "return opened == LP_OPENED && found == length;"


def implementation(folder: Path, seal: str = _SEAL, opened: str = _OPENED) -> Implementation:
    source = folder / "rival.c"
    source.write_text(_SOURCE.format(native=_NATIVE, seal=seal, opened=opened))
    sources = [source, native.KERNEL / "scalar.c", native.KERNEL / "hkdf.c"]
    return Implementation("a rival", native.library("rival", sources))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native, "BUILD", tmp_path / "build")
    return tmp_path


def test_right_frames_are_timed(folder: Path) -> None:
    rival = implementation(folder)
    assert rival.version == "1.2"
    # Past a rotation and more than one stream's worth, after which both sides still agree.
    for length in (1, 150, 65_535):
        assert rival.seal(length, 501) > 0
        assert rival.open(length, 501) > 0


@pytest.mark.parametrize(
    ("seal", "fault"),
    [
        ("(void)from, (void)frame, (void)length;", "seals 150 bytes wrongly"),
        (_SEAL.replace("nonce,", "nonce + 1,"), "seals 150 bytes wrongly"),
        # As if the key had rotated late.
        ("if (from->nonce < 998) " + _SEAL, "seals 150 bytes wrongly"),
        ("if (length < 65535) " + _SEAL, "seals 65535 bytes wrongly"),
    ],
)
def test_what_seals_wrongly_is_no_rival(folder: Path, seal: str, fault: str) -> None:
    with pytest.raises(WrongFramesError, match=f"a rival {fault}"):
        implementation(folder, seal=seal)


@pytest.mark.parametrize(
    ("opened", "fault"),
    [
        ("return (void)opened, 1;", "accepts a frame whose byte 0 is wrong"),
        ("return opened == LP_OPENED && length != 20;", "opens 20 bytes wrongly"),
        ("return frame[LP_HEADER_SIZE]++, opened == LP_OPENED;", "opens 150 bytes wrongly"),
    ],
)
def test_what_opens_wrongly_is_no_rival(folder: Path, opened: str, fault: str) -> None:
    with pytest.raises(WrongFramesError, match=f"a rival {fault}"):
        implementation(folder, opened=opened)


@pytest.mark.parametrize(("name", "tool"), [("lnd brontide", "go"), ("LDK", "cargo")])
def test_a_rival_that_cannot_be_built_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tool: str
) -> None:
    monkeypatch.setenv("LIGHTNING_PROXY_LAB", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(RivalMissing, match=f"needs {tool}: install"), server(name):
        pass


def test_a_library_that_is_not_there_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        frames._RIVALS, "libsodium", lambda: frames._in_c("sodium", "libsodium.so.0")
    )
    with pytest.raises(RivalMissing, match=r"libsodium\.so\.0"):
        frames.rival("libsodium")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Stands where the server of every rival is."""
    path = folder / PROGRAM
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(servers, "home", lambda name: folder)


def test_a_server_lives_as_long_as_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, """echo '{"address": "02aa@127.0.0.1:1"}'; exec cat""")
    with server("LDK") as running:
        assert running.address == "02aa@127.0.0.1:1"
        os.kill(running.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)


def test_a_server_that_ends_at_once_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "exit 3")
    with pytest.raises(RivalMissing, match="LDK ended at once, with 3"), server("LDK"):
        pass
