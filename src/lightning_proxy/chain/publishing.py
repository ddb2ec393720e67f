"""Publishing a transaction for as long as that takes."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from lightning_proxy.chain.source import (
    BroadcastGivenUp,
    BroadcastRejected,
    ChainError,
    ChainSource,
    Tip,
)

#: Seconds after which a refused transaction is tried again where no block comes: fees fall, too.
_LONGEST: Final = 600.0
#: Seconds between attempts while the source can't be reached, at most.
_LONGEST_RETRY: Final = 120.0
#: A day more than BOLT #2's 2016 blocks; in seconds.
GIVEN_UP_AFTER: Final = 15 * 86_400.0

_log = structlog.get_logger()


async def publish(
    source: ChainSource,
    transaction: bytes,
    refused: Callable[[BroadcastRejected], None],
    *,
    interval: float = 10.0,
    seconds: float = GIVEN_UP_AFTER,
    stopped: asyncio.Event | None = None,
) -> bool:
    """Hand a transaction to the source until it takes it; False: it never will, or was stopped.

    What it refuses for now is tried again with each block, for so many `seconds`; `refused` hears
    whenever the kind of reason changes, and of the end, but of no stop. `interval`: seconds between
    two looks for a block. Once it is `stopped`, nothing more is handed to the source, and what it
    says to a call that was made already is waited for. Raises `ValueError` for bytes that are no
    transaction.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    stopped = stopped or asyncio.Event()
    told: str | None = None
    why = "the chain source can't be reached"
    failures = 0
    while loop.time() < until:
        tip = await _tip(source)
        if stopped.is_set():
            return False
        try:
            txid = await source.broadcast(transaction)
        except BroadcastRejected as error:
            why = str(error)
            if error.kind != told or error.is_final:
                told = error.kind
                _log.warning("broadcast_refused", reason=why, final=error.is_final)
                refused(error)
            if error.is_final:
                return False
            failures = 0
            await _next_block(source, tip, interval, stopped)
        except ChainError as error:
            _log.warning("broadcast_delayed", reason=str(error))
            await _sleep(min(interval * 2.0**failures, _LONGEST_RETRY), stopped)
            failures = min(failures + 1, 16)
        else:
            _log.info("broadcast", txid=txid[::-1].hex())
            return True
        if stopped.is_set():
            return False
    _log.warning("broadcast_given_up", reason=why)
    refused(BroadcastGivenUp(f"it is given up after {GIVEN_UP_AFTER / 86_400:.0f} days: {why}"))
    return False


async def _tip(source: ChainSource) -> Tip | None:
    try:
        return await source.tip()
    except ChainError:
        return None


async def _next_block(
    source: ChainSource, tip: Tip | None, interval: float, stopped: asyncio.Event
) -> None:
    """Until the source has another tip, or for as long as nothing is to be expected of that."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LONGEST
    while loop.time() < until and not stopped.is_set():
        await _sleep(interval, stopped)
        now = await _tip(source)
        if now is not None and now != tip:
            return


async def _sleep(seconds: float, stopped: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopped.wait()
