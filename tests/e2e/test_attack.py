"""`make attack` runs, sees what it is there to see, and says so by its exit code."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.attack.run import MAX_GROWTH, Phase


async def test_a_flood_is_run_and_measured(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.attack", "--flood", "malformed"),
        *("--seconds", "0.5", "--json", str(found)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    phases = json.loads(found.read_text())
    assert [each["phase"] for each in phases] == ["before", "during", "after"], err.decode()
    assert b"malformed" in out
    for each in phases:
        assert each["rss"] > 10_000_000
        assert each["lost"] == 0
        # How long pings took says something about this machine just now; that they came, does not.
        assert not any("the peer" in sentence for sentence in each["failed"]), each
    missed = any(each["missed"] for each in phases)
    assert process.returncode == int(missed)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"growth": MAX_GROWTH + 1}, ["memory"]),
        ({"ping_p99": 0.051}, ["ping"]),
        ({"login": float("inf")}, ["login"]),
        ({"lost": 1}, ["lost"]),
        ({"failed": ["a login: no"]}, ["lost"]),
    ],
)
def test_what_is_a_limit_that_was_missed(changes: dict[str, object], missed: list[str]) -> None:
    values = {
        "flood": "pings",
        "number": 6,
        "phase": "during",
        "seconds": 1.0,
        "rss": 1,
        "growth": 0,
        "stored": 0,
        "cpu": 0.1,
        "ping_p99": 0.001,
        "login": 0.01,
        "dial": 0.01,
        "lost": 0,
        "failed": [],
    }
    assert Phase(**{**values, **changes}).missed == missed  # type: ignore[arg-type]
