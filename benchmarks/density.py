"""What does a session more cost a process that holds thousands: memory while idle, time per ping?

Memory is what a server's resident set grows by, from the first hundred sessions on, so that what a
server needs by itself is left out; it counts after a second of rest. Time is the server's
processor time by pings answered, one in flight on each of the first so many sessions, with all of
them there. The servers and the load are those of pong.py; every ping has to be answered.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.load import LoadError, cpu_seconds, resident_bytes, two_cpus
from benchmarks.load.servers import ECHO, RELAY, RIVALS, RivalMissing, contest
from benchmarks.report import Results, Row, main, progress

#: The first of them warm the server up.
_SESSIONS = (100, 1000, 5000, 15_000)
#: LDK's sessions stay this few: tried with 15,000, handshakes timed out and its sessions got lost.
_MOST = {"LDK": 1000}
_ROUNDS = 4
_SECONDS = 0.5
_REST = 1.0


class _Costs(NamedTuple):
    """Of one server: bytes a session and microseconds a ping, by the number of sessions."""

    memory: dict[int, float]
    pings: dict[int, Sequence[float]]
    worst: float

    @property
    def growth(self) -> float:
        few, *_, many = (median(samples) for samples in self.pings.values())
        return many / few


def _measure(name: str, cpus: tuple[int, int]) -> _Costs:
    counts = [sessions for sessions in _SESSIONS if sessions <= _MOST.get(name, sessions)]
    memory: dict[int, float] = {}
    pings: dict[int, list[float]] = {sessions: [] for sessions in counts}
    worst, there, base = 0.0, 0, 0
    with contest(name, cpus) as (server, load):
        for sessions in counts:
            progress(f"{name}: {sessions:,} sessions")
            server.set_up(load, sessions - there)
            there = sessions
            time.sleep(_REST)
            if sessions == _SESSIONS[0]:
                base = resident_bytes(server.pid)
            else:
                memory[sessions] = (resident_bytes(server.pid) - base) / (sessions - _SESSIONS[0])
        progress(f"{name}: pings")
        for _ in range(_ROUNDS):
            for sessions, samples in pings.items():
                cpu = cpu_seconds(server.pid)
                outcome = load.run(sessions, 1, _SECONDS).check()
                samples.append(1e6 * (cpu_seconds(server.pid) - cpu) / outcome.answered)
                worst = max(worst, outcome.worst)
    return _Costs(memory, dict(pings), worst)


def run() -> Results:
    cpus = two_cpus()
    costs: dict[str, _Costs] = {}
    missing: dict[str, str] = {}
    for name in (RELAY, ECHO, *RIVALS):
        try:
            costs[name] = _measure(name, cpus)
        except RivalMissing as reason:
            missing[name] = str(reason)
        except LoadError as failure:
            if name == RELAY:
                raise
            missing[name] = f"it did not last: {failure}"
        else:
            if name in _MOST:
                missing[f"{name} past {_MOST[name]:,} sessions"] = "it did not hold 15,000"
    ours = costs.pop(RELAY)
    rows = [
        Row(
            f"resident memory per idle session, {sessions:,} sessions",
            "B",
            [value],
            {
                name: [each.memory[sessions]]
                for name, each in costs.items()
                if sessions in each.memory
            },
            more_is_better=False,
            params={"sessions": sessions},
        )
        for sessions, value in ours.memory.items()
    ]
    rows += [
        Row(
            f"processor time per ping, {sessions:,} sessions",
            "µs",
            samples,
            {name: each.pings[sessions] for name, each in costs.items() if sessions in each.pings},
            more_is_better=False,
            params={"sessions": sessions},
        )
        for sessions, samples in ours.pings.items()
    ]
    rows += [
        Row(
            f"time per ping, {_SESSIONS[-1]:,} sessions by {_SESSIONS[0]}",
            "times",
            [ours.growth],
            {name: [each.growth] for name, each in costs.items() if _SESSIONS[-1] in each.pings},
            more_is_better=False,
        ),
        Row("longest wait for a pong", "s", [ours.worst], more_is_better=False),
    ]
    return Results(rows, missing)


if __name__ == "__main__":
    main("What a session costs while it lives", run)
