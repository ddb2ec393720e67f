"""What does a session cost: to set up, to hold, and to answer its pings?

The relay runs as its users run it (`lightning-proxy serve`), the peers and the wallet in processes
of their own. Beside the pongs, in the same run: a plain uvloop echo of as many bytes.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from benchmarks.report import Results, Row, main, progress
from lightning_proxy.transport.handshake import Initiator

_SESSIONS = 1000
_CONCURRENCY = 40
_ROUNDS = 5
_SECONDS = 1.0


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended")
    return line


def _ask(process: subprocess.Popen[str], **command: object) -> dict[str, float]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(command) + "\n")
    answer: dict[str, float] = json.loads(_line(process))
    return answer


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _set_up(relay_url: str, peer: str, sessions: int) -> float:
    """Sessions over REST, so many at a time; returns the seconds that they took."""
    node_id = bytes.fromhex(peer.partition("@")[0])
    gate = asyncio.Semaphore(_CONCURRENCY)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONCURRENCY)) as http:

        async def one() -> None:
            async with gate:
                initiator = Initiator(secrets.token_bytes(32), node_id)
                body: dict[str, object] = {"url": peer, "message": initiator.act_one().hex()}
                async with http.post(f"{relay_url}/api/connect", json=body) as response:
                    connected = await response.json()
                act_three = initiator.act_two(bytes.fromhex(connected["message"]))
                keys = initiator.keys
                body = {
                    "message": act_three.hex(),
                    "keys": {
                        "sending": keys.sending_key.hex(),
                        "receiving": keys.receiving_key.hex(),
                        "chaining": keys.chaining_key.hex(),
                    },
                }
                url = f"{relay_url}/api/handshake/{connected['id']}"
                async with http.post(url, json=body) as response:
                    response.raise_for_status()

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(sessions)))
        return time.perf_counter() - started


def run() -> Results:
    serve = ("lightning_proxy", "serve", "--port", "0", "--log-format", "json")
    with (
        _process(*serve, "--log-level", "warning") as relay,
        _process("benchmarks.peers") as peers,
    ):
        relay_url = json.loads(_line(relay))["url"]
        where = json.loads(_line(peers))
        progress("warming up: 50 sessions")
        asyncio.run(_set_up(relay_url, where["address"], 50))
        rss, cpu = _rss(relay.pid), _cpu_seconds(relay.pid)
        progress(f"setting up {_SESSIONS} sessions over REST")
        elapsed = asyncio.run(_set_up(relay_url, where["address"], _SESSIONS))
        cpu = _cpu_seconds(relay.pid) - cpu
        rows = [
            Row("sessions set up over REST", "/s", [_SESSIONS / elapsed]),
            Row("the same by the relay's CPU time alone", "/CPU-s", [_SESSIONS / cpu]),
            Row(
                "resident memory per idle session",
                "B",
                [(_rss(relay.pid) - rss) / _SESSIONS],
                more_is_better=False,
            ),
        ]
        with _process("benchmarks.echo", str(where["raw"]), str(_SESSIONS + 50)) as echo:
            _line(echo)
            for in_flight in (1, 4):
                progress(f"pings on {_SESSIONS + 50} sessions, {in_flight} in flight")
                pongs: list[float] = []
                echoes: list[float] = []
                for _ in range(_ROUNDS):
                    for process, raw, rates in ((relay, False, pongs), (echo, True, echoes)):
                        cpu = _cpu_seconds(process.pid)
                        answer = _ask(peers, in_flight=in_flight, seconds=_SECONDS, raw=raw)
                        rates.append(answer["answered"] / (_cpu_seconds(process.pid) - cpu))
                rows.append(
                    Row(
                        f"pongs, {_SESSIONS + 50:,} sessions, {in_flight} in flight",
                        "/CPU-s",
                        pongs,
                        {"a plain uvloop echo": echoes},
                    )
                )
    return Results(rows)


if __name__ == "__main__":
    main("What a session costs", run)
