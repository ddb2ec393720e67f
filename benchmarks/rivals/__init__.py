"""What hosting providers would use instead of us: other BOLT #8 transports, on the same machine.

For the frames benchmark, `frames.rival(name)` gives an implementation in the same process, which
`frames.RIVALS` names. For the loop, `with server(name) as running:` gives a process of its own,
"lnd brontide" or "LDK", that answers pings: `running.address` is where to dial it ("node
id@127.0.0.1:port"), `running.pid` what to measure. Each is built when it is first needed, and
`RivalMissing` says why one can't be.
"""

from benchmarks.rivals.build import RivalMissing
from benchmarks.rivals.servers import Server, server

__all__ = ["RivalMissing", "Server", "server"]
