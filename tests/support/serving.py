"""`lightning-proxy serve` as a process of its own."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.cli.commands import TIMEOUT, environ


@asynccontextmanager
async def serving(folder: Path, *flags: str) -> AsyncIterator[tuple[Any, str]]:
    """The process, and the URL at which it is ready; its files are in `folder`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lightning_proxy", "serve", "--port", "0"),
        *("--log-format", "json", *flags),
        env=environ(folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), TIMEOUT))
        yield process, ready["url"]
    finally:
        process.terminate()
        await process.communicate()
