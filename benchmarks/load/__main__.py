"""The load's process: Python shakes hands, C plays the sessions; JSON lines in and out.

Who dials the load gets the rehearsed handshake. Where it dials itself, each session is another
node, with one ephemeral key for all: the server's work is measured, not that of the load.
"""

import ctypes
import json
import select
import socket
import sys
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_double, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from benchmarks.native import KERNEL, library
from benchmarks.rehearsed import ACT_ONE, ACT_THREE, ACT_TWO, INIT, KEYS
from lightning_proxy.bolt.address import parse
from lightning_proxy.transport.handshake import ACT_TWO_SIZE, HandshakeError, Initiator

_EPHEMERAL = b"\x12" * 32
#: Handshakes under way at once.
_BATCH = 100
#: Seconds that a server gets for an act, and for the pongs that are owed when a run ends.
_PATIENCE = 10.0


class _Outcome(Structure):
    _fields_ = (
        ("answered", c_uint64),
        ("unanswered", c_uint64),
        ("lost", c_uint64),
        ("seconds", c_double),
        ("worst", c_double),
    )


def _library() -> ctypes.CDLL:
    sources = [Path(__file__).with_name("load.c"), *sorted(KERNEL.glob("*.c"))]
    loaded = library("load", sources)
    key = init = ctypes.c_char_p
    keys = (key, key, key, init, c_size_t)
    for name, result, arguments in (
        ("load_new", c_void_p, ()),
        ("load_fd", c_int, (c_void_p,)),
        ("load_live", c_size_t, (c_void_p,)),
        ("load_turn", c_int, (c_void_p, c_int)),
        ("load_listen", c_int, (c_void_p, c_int, key, key, key, *keys)),
        ("load_add", c_int, (c_void_p, c_int, *keys)),
        ("load_add_raw", c_int, (c_void_p, c_int)),
        (
            "load_run",
            c_int,
            (c_void_p, c_size_t, c_uint, c_double, c_double, POINTER(_Outcome)),
        ),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class _Generator:
    """The C side, and the commands."""

    def __init__(self) -> None:
        self._c = _library()
        self._load = self._c.load_new()
        if not self._load:
            raise OSError("the load could not be made")
        self._dialled = 0

    def listen(self) -> int:
        """Play back the fixed acts to whoever dials; returns the port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        port: int = listener.getsockname()[1]
        listener.setblocking(False)
        acts = (ACT_ONE, ACT_TWO, ACT_THREE)
        if not self._c.load_listen(self._load, listener.detach(), *acts, *KEYS, INIT, len(INIT)):
            raise OSError("the load could not listen")
        return port

    def dial(self, address: str, sessions: int) -> dict[str, float]:
        peer = parse(address)
        for first in range(0, sessions, _BATCH):
            begun = []
            for _ in range(min(_BATCH, sessions - first)):
                self._dialled += 1
                static = self._dialled.to_bytes(32, "big")
                handshake = Initiator(static, peer.node_id, _EPHEMERAL)
                connection = socket.create_connection((peer.host, peer.port), _PATIENCE)
                connection.sendall(handshake.act_one())
                begun.append((connection, handshake))
            for connection, handshake in begun:
                act_two = connection.recv(ACT_TWO_SIZE, socket.MSG_WAITALL)
                connection.sendall(handshake.act_two(act_two))
                connection.setblocking(False)
                if not self._c.load_add(
                    self._load, connection.detach(), *handshake.keys, INIT, len(INIT)
                ):
                    raise OSError("a session could not be handed over")
            # A server may have begun to ping the first of them.
            while self._c.load_turn(self._load, 0):
                pass
        return self.live()

    def dial_raw(self, port: int, sessions: int) -> dict[str, float]:
        for _ in range(sessions):
            connection = socket.create_connection(("127.0.0.1", port), _PATIENCE)
            connection.setblocking(False)
            if not self._c.load_add_raw(self._load, connection.detach()):
                raise OSError("a connection could not be handed over")
        return self.live()

    def live(self) -> dict[str, float]:
        return {"live": self._c.load_live(self._load)}

    def run(self, sessions: int, in_flight: int, seconds: float) -> dict[str, float]:
        outcome = _Outcome()
        if not self._c.load_run(
            self._load, sessions, in_flight, seconds, _PATIENCE, byref(outcome)
        ):
            raise OSError(f"there are not {sessions} live sessions")
        return {name: getattr(outcome, name) for name, _ in _Outcome._fields_}

    def serve(self) -> None:
        """Until standard input ends; meanwhile the sessions are looked after."""
        commands: dict[str, Callable[..., dict[str, float]]] = {
            "dial": self.dial,
            "dial_raw": self.dial_raw,
            "live": self.live,
            "run": self.run,
        }
        ready = select.poll()
        ready.register(self._c.load_fd(self._load), select.POLLIN)
        ready.register(sys.stdin, select.POLLIN)
        while True:
            for descriptor, _ in ready.poll():
                if descriptor != sys.stdin.fileno():
                    self._c.load_turn(self._load, 0)
                    continue
                # One command a line, each sent after the answer to the one before.
                line = sys.stdin.readline()
                if not line:
                    return
                command: dict[str, Any] = json.loads(line)
                try:
                    answer: dict[str, Any] = commands[command.pop("do")](**command)
                except (OSError, ValueError, HandshakeError) as error:
                    answer = {"error": str(error)}
                print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    generator = _Generator()
    print(json.dumps({"port": generator.listen()}), flush=True)
    generator.serve()
