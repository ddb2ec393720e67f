"""One flood, in a process of its own: `python -m tests.attack.attacker NAME URL CPU`."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

import uvloop

from tests.attack.floods import FLOODS
from tests.attack.means import Tally


async def flood(name: str, url: str) -> None:
    """Until SIGTERM."""
    _, attack = FLOODS[name]
    task = asyncio.ensure_future(attack(url))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
    print(json.dumps({"done": Tally.done, "failed": Tally.failed, "last": Tally.last}))


if __name__ == "__main__":
    name, url, cpu = sys.argv[1:]
    os.nice(10)
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})
    uvloop.run(flood(name, url))
