"""Each flood, with those who mean well beside it, and what they saw before, meanwhile and after."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from benchmarks.load import cpu_seconds, resident_bytes
from tests.attack.floods import FLOODS
from tests.attack.honest import Honest, Seen
from tests.attack.relay import Relay, attacked
from tests.interop.lab.process import Child

#: What a flood may do: bytes, seconds, seconds.
MAX_GROWTH: Final = 64_000_000
MAX_PING: Final = 0.05
MAX_LOGIN: Final = 1.0
#: Seconds between two looks at the relay's memory.
_LOOK: Final = 0.1


@dataclass(frozen=True)
class Phase:
    """Before, during or after a flood. Bytes; seconds, of which `cpu` are the processor's."""

    flood: str
    number: int
    phase: str
    seconds: float
    rss: int
    growth: int
    stored: int
    cpu: float
    ping_p99: float
    login: float
    #: The slowest; none: every one was told to come again later, or failed.
    dial: float
    lost: int
    failed: list[str]
    #: How many messages or attempts the flood came to, and how many of these failed.
    done: int = 0
    refused: int = 0

    @property
    def missed(self) -> list[str]:
        """The limits that do not hold here."""
        return [
            name
            for name, holds in (
                ("memory", self.growth <= MAX_GROWTH),
                ("ping", self.ping_p99 <= MAX_PING),
                ("login", self.login <= MAX_LOGIN),
                ("lost", not self.lost and not self.failed),
            )
            if not holds
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"missed": self.missed}


async def run(
    floods: Iterable[str], seconds: float, python: str, report: Callable[[Phase], None]
) -> None:
    """Each against a fresh relay; `report` gets each phase as it is over. Raises `LabError`."""
    cpus = sorted(os.sched_getaffinity(0))
    ours, others = (cpus[0], cpus[1]) if len(cpus) > 1 else (None, None)
    if others is not None:
        os.sched_setaffinity(0, {others})
    try:
        for flood in floods:
            with tempfile.TemporaryDirectory(prefix="attack-") as folder:
                async with attacked(Path(folder), ours, python) as relay:
                    await _flood(flood, relay, seconds, report, others)
    finally:
        os.sched_setaffinity(0, set(cpus))


async def _flood(
    flood: str, relay: Relay, seconds: float, report: Callable[[Phase], None], cpu: int | None
) -> None:
    honest = Honest(relay.url)
    async with honest.there():
        # What a first login and a first message make is there before anything is compared.
        await honest.phase(min(1.0, seconds))
        base = resident_bytes(relay.pid)

        async def look(phase: str) -> Phase:
            return await _phase(flood, phase, relay, honest, seconds, base)

        report(await look("before"))
        tally: dict[str, Any] = {}
        async with _attacker(flood, relay, cpu, tally):
            during = await look("during")
        report(replace(during, done=tally.get("done", 0), refused=tally.get("failed", 0)))
        report(await look("after"))


@asynccontextmanager
async def _attacker(
    flood: str, relay: Relay, cpu: int | None, tally: dict[str, Any]
) -> AsyncIterator[None]:
    """The flood, while inside; `tally` gets what it came to."""
    words = ["-m", "tests.attack.attacker", flood, relay.url, "" if cpu is None else str(cpu)]
    log = relay.folder / "attacker.log"
    child = await Child.start("attacker", [sys.executable, *words], log)
    try:
        yield
        child.check()
    finally:
        await child.stop()
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            tally.update(json.loads(line))


async def _phase(
    flood: str, name: str, relay: Relay, honest: Honest, seconds: float, base: int
) -> Phase:
    cpu, began = cpu_seconds(relay.pid), time.monotonic()
    most = resident_bytes(relay.pid)
    looking = asyncio.create_task(honest.phase(seconds))
    try:
        while not looking.done():
            await asyncio.wait((looking,), timeout=_LOOK)
            most = max(most, resident_bytes(relay.pid))
    finally:
        looking.cancel()
    seen = looking.result()
    elapsed = time.monotonic() - began
    number, _ = FLOODS[flood]
    return Phase(
        flood=flood,
        number=number,
        phase=name,
        seconds=round(elapsed, 2),
        rss=most,
        growth=most - base,
        stored=relay.stored_bytes,
        cpu=round(cpu_seconds(relay.pid) - cpu, 3),
        ping_p99=_p99(seen.pings),
        login=max(seen.logins, default=float("inf")),
        dial=max(seen.dials, default=float("inf")),
        lost=seen.lost,
        failed=_told(seen),
    )


def _p99(samples: list[float]) -> float:
    return quantiles(samples, n=100)[98] if len(samples) > 1 else float("inf")


def _told(seen: Seen) -> list[str]:
    """The first few of what failed."""
    return seen.failed[:3] + ([f"and {len(seen.failed) - 3} more"] if len(seen.failed) > 3 else [])
