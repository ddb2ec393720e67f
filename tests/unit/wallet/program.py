"""`lightning-proxy wallet` as a program of its own."""

import asyncio
import json
import os
import sys
from typing import Any

from tests.support.zygote import run_forked

_WAIT = 30.0
_PROGRAM = "from lightning_proxy.cli.wallet import app; app()"


class Program:
    """One run of `lightning-proxy wallet`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str, **environment: str) -> "Program":
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _PROGRAM,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environ(environment),
            )
        )

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), _WAIT)
        assert line, (await self.end())[2]
        value: dict[str, Any] = json.loads(line)
        return value

    async def until(self, event: str) -> dict[str, Any]:
        while (line := await self.line())["event"] != event:
            pass
        return line

    async def shown_until(self, words: str) -> str:
        """What it has printed up to the line with these words."""
        assert self.process.stdout is not None
        shown = ""
        while words not in shown:
            line = await asyncio.wait_for(self.process.stdout.readline(), _WAIT)
            assert line, shown
            shown += line.decode()
        return shown

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())

    async def end(self) -> tuple[int, str, str]:
        out, err = await asyncio.wait_for(self.process.communicate(), _WAIT)
        assert self.process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return self.process.returncode, out.decode(), err.decode()


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run it to its end, with nothing on its stdin; exit code, stdout and stderr."""
    code, out, err = await run_forked(list(arguments), _environ(environment))
    assert "Traceback" not in err, err
    return code, out, err


def _environ(variables: dict[str, str]) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("LIGHTNING_PROXY_")
    }
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1", **variables}
