"""One session's fault costs no other session its pings."""

import asyncio
from typing import cast

from structlog.testing import capture_logs

from lightning_proxy.relay.keepalive import keep_alive
from lightning_proxy.relay.session import Session


class Looked:
    """A session as far as the keepalive sees it."""

    def __init__(self, *, fails: bool) -> None:
        self.id = "faulty" if fails else "healthy"
        self.fails = fails
        self.looks = 0
        self.ended: str | None = None

    def check_alive(self, now: float, ping_after: float) -> None:
        assert 0.03 <= ping_after <= 0.05
        self.looks += 1
        if self.fails:
            raise LookupError("a bug")

    def abort(self, reason: str) -> None:
        self.ended = reason


async def test_a_bug_in_one_session() -> None:
    faulty, healthy = Looked(fails=True), Looked(fails=False)
    sessions = cast("list[Session]", [faulty, healthy])
    with capture_logs() as logs:
        task = asyncio.create_task(keep_alive(lambda: sessions, 0.04, 0.04))
        async with asyncio.timeout(10):
            while healthy.looks < 5:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert faulty.ended == "internal error"
    assert healthy.ended is None
    assert {entry["session_id"] for entry in logs} == {"faulty"}
