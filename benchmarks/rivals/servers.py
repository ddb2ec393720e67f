"""Rivals as servers that answer pings, each a process of its own."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.rivals.build import PROGRAM, RivalMissing, home


class Server(NamedTuple):
    """`address` is "node id@host:port"."""

    address: str
    pid: int


@contextmanager
def server(name: str) -> Iterator[Server]:
    """A server, built if need be, until the context ends; raises `RivalMissing` with the reason.

    It completes BOLT #8's handshake with whoever dials, says an `init` without networks, reads
    that of the peer and answers its pings. "lnd brontide" asks nothing of its peers; "LDK" pings
    them every ten seconds and hangs up on who doesn't answer.
    """
    process = subprocess.Popen(
        [home(name) / PROGRAM],
        # A benchmark gives each server one CPU: Go behaves as on a machine that has no more.
        env={**os.environ, "GOMAXPROCS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RivalMissing(f"{name} ended at once, with {process.wait()}")
        yield Server(json.loads(line)["address"], process.pid)
    finally:
        process.kill()
        process.communicate()
