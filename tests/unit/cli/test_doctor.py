"""What the doctor finds, and what makes a machine unfit."""

import json
import socket
import sys
from pathlib import Path

import pytest

from lightning_proxy.api import ApiSettings
from lightning_proxy.cli import doctor
from lightning_proxy.cli.doctor import Verdict
from lightning_proxy.transport import kernel_name
from lightning_proxy.transport.reference import ReferenceCipherState
from tests.unit.cli.commands import invoke

FREE = {"LIGHTNING_PROXY_API_PORT": "0"}


def test_this_machine_is_fit(tmp_path: Path) -> None:
    result = invoke(tmp_path, "doctor", "--json", variables=FREE)
    assert result.exit_code == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["fit"] is True
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert kernel_name() in found["encryption kernel"]
    assert found["event loop"].startswith("uvloop")
    assert {"python", "coincurve", "uvloop", "open files", "listening"} <= set(found)


def test_the_table(tmp_path: Path) -> None:
    result = invoke(tmp_path, "doctor", variables=FREE)
    assert result.exit_code == 0
    assert "encryption kernel" in result.stdout


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        # TEST-NET-1: no machine's address.
        ("LIGHTNING_PROXY_RELAY_DIAL_SOURCE", "192.0.2.1", "Set relay.dial.source"),
        ("LIGHTNING_PROXY_API_ACCESS", "token", "at least one token"),
        ("LIGHTNING_PROXY_API_PORTS", "1", "is no setting"),
    ],
)
def test_unfit_settings(tmp_path: Path, variable: str, value: str, sentence: str) -> None:
    result = invoke(tmp_path, "doctor", variables={**FREE, variable: value})
    assert result.exit_code == 1
    assert "Unfit: " in result.stderr
    assert sentence in result.stderr


def test_variables_of_kubernetes_are_named(tmp_path: Path) -> None:
    theirs = {"LIGHTNING_PROXY_RELAY_PORT": "tcp://10.96.0.7:3000"}
    result = invoke(tmp_path, "doctor", "--json", variables={**FREE, **theirs})
    assert result.exit_code == 0
    (check,) = (
        each for each in json.loads(result.stdout)["checks"] if each["name"] == "environment"
    )
    assert "LIGHTNING_PROXY_RELAY_PORT" in check["found"]
    assert "enableServiceLinks" in check["advice"]


def test_a_wrong_kernel_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(ReferenceCipherState):
        def seal(self, message: bytes) -> bytes:
            frame = super().seal(message)
            return frame if len(message) != 64 else frame[:-1] + b"\0"

    monkeypatch.setattr(doctor, "CipherState", Wrong)
    assert doctor.check_kernel().verdict is Verdict.UNFIT


def test_a_kernel_that_takes_forgeries_is_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting(ReferenceCipherState):
        def open(self, buffer: bytes) -> tuple[list[bytes], int]:
            try:
                return super().open(buffer)
            except ValueError:
                return [b"forged"], len(buffer)

    monkeypatch.setattr(doctor, "CipherState", Trusting)
    assert doctor.check_kernel().verdict is Verdict.UNFIT


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [
        (100, Verdict.UNFIT),
        (1024, Verdict.LIMITED),
        (20_000, Verdict.FIT),
        (sys.maxsize, Verdict.FIT),
    ],
)
def test_open_files(limit: int, verdict: Verdict) -> None:
    assert doctor.check_files(limit, 16_000).verdict is verdict


def test_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check = doctor.check_listening(ApiSettings(port=port))
        assert check.verdict is Verdict.LIMITED
    assert doctor.check_listening(ApiSettings(host="192.0.2.1")).verdict is Verdict.UNFIT
