"""How many pings does a processor answer, for sessions that are all busy at once?

The server has one CPU and its load another (`load/`, in C): pings of 150 bytes, so many in flight
on each session, and a pong of 148 to each, opened and checked. What is counted is pongs by the
server's processor time, user and system. Ours is `lightning-proxy serve`, its sessions made over
REST; the rivals are the bare transports of lnd and LDK, which the load dials, and a plain uvloop
echo of as many bytes, which is what the event loop costs. All take turns. The share of its CPU that
a server took is shown: where it is small, something else on the machine held the server up, or the
load did.
"""

from contextlib import ExitStack
from statistics import median

from benchmarks.load import Load, cpu_seconds, two_cpus
from benchmarks.load.servers import ECHO, RELAY, RIVALS, RivalMissing, Server, contest
from benchmarks.report import Results, Row, main, progress

#: Sessions, and pings in flight on each.
_RUNS = ((1000, 1), (1000, 4), (100, 16))
_ROUNDS = 7
_SECONDS = 0.4


class _Contestant:
    """One server with its load, and the samples of the run at hand."""

    def __init__(self, server: Server, load: Load) -> None:
        self._server = server
        self._load = load
        self.rates: list[float] = []
        self.shares: list[float] = []

    def measure(self, sessions: int, in_flight: int) -> None:
        cpu = cpu_seconds(self._server.pid)
        outcome = self._load.run(sessions, in_flight, _SECONDS).check()
        cpu = cpu_seconds(self._server.pid) - cpu
        self.rates.append(outcome.answered / cpu)
        self.shares.append(cpu / outcome.seconds)


def run() -> Results:
    cpus = two_cpus()
    sessions = max(sessions for sessions, _ in _RUNS)
    contestants: dict[str, _Contestant] = {}
    missing: dict[str, str] = {}
    rows = []
    with ExitStack() as stack:
        for name in (RELAY, ECHO, *RIVALS):
            progress(f"{name}: {sessions:,} sessions")
            try:
                server, load = stack.enter_context(contest(name, cpus))
            except RivalMissing as reason:
                missing[name] = str(reason)
                continue
            server.set_up(load, sessions)
            contestants[name] = _Contestant(server, load)
            contestants[name].measure(sessions, 1)
        for sessions, in_flight in _RUNS:
            progress(f"pings on {sessions:,} sessions, {in_flight} in flight")
            for each in contestants.values():
                each.rates, each.shares = [], []
            for _ in range(_ROUNDS):
                for each in contestants.values():
                    each.measure(sessions, in_flight)
            shares = {name: median(each.shares) for name, each in contestants.items()}
            progress(
                "of its CPU took "
                + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
            )
            rates = {name: each.rates for name, each in contestants.items()}
            title = f"pongs, {sessions:,} sessions, {in_flight} in flight"
            rows.append(Row(title, "/CPU-s", rates.pop(RELAY), rates))
    return Results(rows, missing)


if __name__ == "__main__":
    main("Pongs by processor time", run)
