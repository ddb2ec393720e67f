"""Publishing a transaction for as long as that takes."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from lightning_proxy.chain.source import BroadcastRejected, ChainError, ChainSource, Tip

#: Seconds after which a refused transaction is tried again where no block comes: fees fall, too.
_LONGEST: Final = 600.0
#: Seconds between attempts while the source can't be reached, at most.
_LONGEST_RETRY: Final = 120.0
#: A day more than BOLT #2's 2016 blocks; in seconds.
_GIVEN_UP_AFTER: Final = 15 * 86_400.0

_log = structlog.get_logger()


async def publish(
    source: ChainSource,
    transaction: bytes,
    refused: Callable[[BroadcastRejected], None],
    *,
    interval: float = 10.0,
) -> bool:
    """Hand a transaction to the source until it takes it; False: it never will.

    What it refuses for now is tried again with each block, for two weeks; `refused` hears of each
    reason once. `interval`: seconds between two looks for a block. Raises `ValueError` for bytes
    that are no transaction.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _GIVEN_UP_AFTER
    told: str | None = None
    failures = 0
    while loop.time() < until:
        tip = await _tip(source)
        try:
            txid = await source.broadcast(transaction)
        except BroadcastRejected as error:
            if str(error) != told:
                told = str(error)
                _log.warning("broadcast_refused", reason=told, final=error.is_final)
                refused(error)
            if error.is_final:
                return False
            failures = 0
            await _next_block(source, tip, interval)
        except ChainError as error:
            _log.warning("broadcast_delayed", reason=str(error))
            await asyncio.sleep(min(interval * 2.0**failures, _LONGEST_RETRY))
            failures = min(failures + 1, 16)
        else:
            _log.info("broadcast", txid=txid[::-1].hex())
            return True
    return False


async def _tip(source: ChainSource) -> Tip | None:
    try:
        return await source.tip()
    except ChainError:
        return None


async def _next_block(source: ChainSource, tip: Tip | None, interval: float) -> None:
    """Until the source has another tip, or for as long as nothing is to be expected of that."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LONGEST
    while loop.time() < until:
        await asyncio.sleep(interval)
        now = await _tip(source)
        if now is not None and now != tip:
            return
