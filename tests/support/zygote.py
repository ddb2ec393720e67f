"""Runs `lightning-proxy wallet` in processes that need not import it anew: each is a fork.

A command takes a moment, and to import what it needs takes a second; there are dozens of them.
"""

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from typing import Final

_MAX_REQUEST: Final = 1 << 20
_WAIT: Final = 60.0


async def run_forked(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one run to its end, with nothing on stdin."""
    return await asyncio.to_thread(_run, arguments, environment)


def _run(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        open(os.devnull, "rb") as nothing,  # noqa: PTH123
    ):
        request = json.dumps({"arguments": arguments, "environment": environment}).encode()
        files = [nothing.fileno(), out.fileno(), err.fileno(), theirs.fileno()]
        socket.send_fds(_zygote(), [request], files)
        theirs.close()
        ours.settimeout(_WAIT)
        code = int(ours.recv(16))
        for file in (out, err):
            file.seek(0)
        return code, out.read().decode(), err.read().decode()


@cache
def _zygote() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait(_WAIT)

    atexit.register(end)
    return ours


# ---- in the process that forks ----


def _serve(requests: socket.socket) -> None:
    from lightning_proxy.cli.wallet import COMMANDS, Commands, app  # noqa: PLC0415 - its purpose

    # Each is imported when it is run, which would be in the fork.
    for name in COMMANDS:
        Commands.load(name)
    while True:
        data, files, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 4)
        if not data:
            return
        process_id = os.fork()
        if process_id == 0:
            requests.close()
            os._exit(_be(app, json.loads(data), files))
        for file in files[:-1]:
            os.close(file)
        threading.Thread(target=_tell, args=(process_id, files[-1]), daemon=True).start()


def _tell(process_id: int, status: int) -> None:
    """Its exit code, as a shell has it, once it has ended."""
    _, code = os.waitpid(process_id, 0)
    os.write(status, str(os.waitstatus_to_exitcode(code)).encode())
    os.close(status)


def _be(app: object, request: dict[str, object], files: list[int]) -> int:
    """The command, in a fresh fork; returns its exit code."""
    assert callable(app)
    for number, file in enumerate(files[:-1]):
        os.dup2(file, number)
    os.close(files[-1])
    environment = request["environment"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    try:
        app(request["arguments"], prog_name="lightning-proxy wallet")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - as an interpreter would tell it
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    # Ctrl-C is for those who started this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        _serve(channel)
