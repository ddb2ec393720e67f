"""The user's bench: it measures a real relay, says what failed, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_proxy.bench import BenchFailed, Figure, measure_frames, measure_sessions
from lightning_proxy.transport import kernel_name
from tests.unit.cli.commands import TIMEOUT, environ, invoke, run

SMALL = ("bench", "--seconds", "1", "--sessions", "5")


def test_json(tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["machine"]["kernel"] == kernel_name()
    assert all(figure["value"] > 0 for figure in report["figures"])
    by_clock = {figure["what"] for figure in report["figures"] if figure["unit"] == "/s"}
    assert {
        "seal 150 bytes",
        "open 150 bytes",
        "sessions set up",
        "pongs, 5 sessions, 1 in flight",
        "pongs, 5 sessions, 4 in flight",
    } <= by_clock


def test_the_table(tmp_path: Path) -> None:
    result = run(tmp_path, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "sessions set up" in result.stdout
    assert kernel_name() in result.stdout


def test_it_ignores_the_users_settings(tmp_path: Path) -> None:
    """A relay with these would ask for a token."""
    folder = tmp_path / "lightning-proxy"
    folder.mkdir()
    (folder / "config.toml").write_text('[api]\naccess = "token"\ntokens = ["0123456789abcdef"]\n')
    result = run(tmp_path, *SMALL, "--json")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "arguments", [["--seconds", "0"], ["--sessions", "0"], ["--sessions", "5000"], ["--rounds"]]
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    assert invoke(tmp_path, "bench", *arguments).exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_ends_its_relay(tmp_path: Path, number: int) -> None:
    """The relay inherits this pipe: it is at its end once nobody is left."""
    reading, writing = os.pipe()
    # Frames take no time here; then pings go on for a minute.
    command = [sys.executable, "-c", _INTERRUPTED, str(writing)]
    with (
        subprocess.Popen(
            command,
            env=environ(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(writing,),
            text=True,
        ) as process,
        os.fdopen(reading, "rb") as pipe,
    ):
        os.close(writing)
        assert process.stdout is not None
        assert process.stdout.readline() == "sessions set up\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT)
        assert pipe.read() == b""
    assert (process.returncode, errors) == (130, "")


#: The command, which says when the relay is up, and lets it have the pipe.
_INTERRUPTED = """
import os, sys
from lightning_proxy.cli import bench
from lightning_proxy.bench import sessions
writing = int(sys.argv.pop())
program = sessions.Program
sessions.Program = lambda *a, **k: program(*a, **k, pass_fds=(writing,))
set_up = sessions._set_up
async def told(*arguments):
    await set_up(*arguments)
    os.close(writing)
    print("sessions set up", flush=True)
sessions._set_up = told
bench.measure_frames = lambda seconds: iter(())
bench.app(["--seconds", "60", "--sessions", "5"])
"""


def test_frames_are_measured_by_size() -> None:
    figures = list(measure_frames(0.05))
    assert [figure.what for figure in figures[:2]] == ["seal 20 bytes", "open 20 bytes"]
    assert len(figures) == 8


async def test_a_relay_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_PROXY_KERNEL", "abacus")
    with pytest.raises(BenchFailed, match=r"(?s)the relay ended.*abacus"):
        await _all(5)


async def test_a_relay_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_proxy.bench.sessions._ACT_ONE", bytes(49))
    with pytest.raises(BenchFailed, match=r"the relay refused /api: .*invalid_params"):
        await _all(1)


async def _all(sessions: int) -> list[Figure]:
    return [figure async for figure in measure_sessions(sessions, 0.1)]
