"""Looks after idle sessions: a ping when a peer is silent, an end when it stays so."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from lightning_proxy.relay.session import Session

_log = structlog.get_logger()

#: Seconds between two looks; every look deals with one share of the sessions, so that thousands
#: of them never make the event loop wait.
_TICK: Final = 0.25
#: How often a session is looked at within the shorter of the two time limits.
_LOOKS: Final = 4


async def keep_alive(
    sessions: Callable[[], Iterable[Session]], ping_interval: float, pong_timeout: float
) -> None:
    """Run for ever; `sessions` gives those that are there now. Times are in seconds."""
    loop = asyncio.get_running_loop()
    period = min(ping_interval, pong_timeout) / _LOOKS
    tick = min(_TICK, period)
    while True:
        now_there = list(sessions())
        share = max(1, round(len(now_there) * tick / period))
        for start in range(0, max(1, len(now_there)), share):
            await asyncio.sleep(tick)
            for session in now_there[start : start + share]:
                # Jitter: sessions that began together must not ping together for ever.
                ping_after = ping_interval * random.uniform(0.75, 1.25)  # noqa: S311
                try:
                    session.check_alive(loop.time(), ping_after)
                except Exception as error:  # noqa: BLE001 - one session's fault is not the others'
                    _log.error("session_failed", session_id=session.id, exc_info=error)
                    session.abort("internal error")
