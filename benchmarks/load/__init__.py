"""A process full of peers, in C: `Load` starts it and tells it what to do.

Ours and every rival's server meets the same load: pings of 150 bytes (184 in their frame) that ask
for pongs of 148, so many in flight on each session, every pong opened and its length checked.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.rehearsed import PEER_NODE_ID


class Outcome(NamedTuple):
    """What one run counted; `seconds` are the wall's, `worst` is the longest wait for a pong."""

    answered: int
    unanswered: int
    lost: int
    seconds: float
    worst: float

    def check(self) -> "Outcome":
        """Itself; raises `LoadError` where a ping stayed unanswered or a session was lost."""
        if self.unanswered or self.lost:
            raise LoadError(f"{self.unanswered} pings unanswered, {self.lost} sessions lost")
        return self


class LoadError(Exception):
    """A server, or the load itself, did not do what a run asks of it."""


class Process:
    """`python -m <arguments>` that says a line of JSON when it is ready, on one CPU if told so."""

    def __init__(
        self,
        *arguments: str,
        cpu: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.ready = self._line()
        if cpu is not None:
            pin(self.pid, cpu)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **command: object) -> dict[str, Any]:
        """Send one command, return its answer; `LoadError` with the reason if it failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        answer = self._line()
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"{self._process.args!r} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Load(Process):
    """The peers of one server. Its sessions last as long as it."""

    def __init__(self, cpu: int | None = None) -> None:
        super().__init__("benchmarks.load", cpu=cpu)
        #: Where a relay finds the peer, as "node id@host:port".
        self.address = f"{PEER_NODE_ID.hex()}@127.0.0.1:{self.ready['port']}"

    def dial(self, address: str, sessions: int) -> None:
        """Open sessions to a server of Lightning's transport, "node id@host:port"."""
        self.ask(do="dial", address=address, sessions=sessions)

    def dial_raw(self, port: int, sessions: int) -> None:
        """Open connections to an echo server on 127.0.0.1."""
        self.ask(do="dial_raw", port=port, sessions=sessions)

    def live(self) -> int:
        """Sessions whose handshake is done."""
        return self.ask(do="live")["live"]  # type: ignore[no-any-return]

    def run(self, sessions: int, in_flight: int, seconds: float) -> Outcome:
        """Ping on the first `sessions` of them; then wait for what is still owed."""
        answer = self.ask(do="run", sessions=sessions, in_flight=in_flight, seconds=seconds)
        return Outcome(**answer)


def pin(pid: int, cpu: int) -> None:
    """Keep a process on one CPU, with all the threads that it has and will have."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})


def two_cpus() -> tuple[int, int]:
    """For a server and for its load; raises `OSError` where they would share one."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise OSError("a server and its load need a CPU each")
    return cpus[0], cpus[1]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
