"""How a command of `lightning-proxy wallet` runs, and how it ends."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import typer

from lightning_proxy.bolt.errors import BoltError
from lightning_proxy.chain import ChainError
from lightning_proxy.cli.wallet_options import fail
from lightning_proxy.wallet.errors import WalletError
from lightning_proxy.wallet.printer import Printer

_INTERRUPTED: Final = 130


def run(
    output: Printer, work: Coroutine[Any, Any, None], *, interrupted: int = _INTERRUPTED
) -> None:
    """Run to the end; `interrupted` is the exit code after Ctrl-C, SIGTERM or a
    terminal that is closed."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this runs in one
        with suppress(NotImplementedError):
            for number in (signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(interrupted) from None
    except (WalletError, BoltError, ChainError) as error:
        fail(output, error)


def run_online(
    output: Printer, work: Coroutine[Any, Any, None], *, interrupted: int = _INTERRUPTED
) -> None:
    """As `run`, for what uses the SDK, which logs; results go to stdout, so its log must not."""
    import structlog  # noqa: PLC0415 - takes long, and who stays offline logs nothing

    from lightning_proxy import logs  # noqa: PLC0415 - as above

    structlog.configure(
        processors=[structlog.processors.add_log_level, *logs.for_people()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    run(output, work, interrupted=interrupted)
