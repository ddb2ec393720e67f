"""A waker over a database in memory, and somebody who is pushed to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lightning_proxy.relay import DialSettings
from lightning_proxy.relay.dial_policy import DialPolicy
from lightning_proxy.relay.resolver import Resolver
from lightning_proxy.relay.store import Database
from lightning_proxy.relay.wake.adapter import Notice, Outcome
from lightning_proxy.relay.wake.http import GuardedHttp, Letter
from lightning_proxy.relay.wake.settings import WakeSettings
from lightning_proxy.relay.wake.waker import Waker
from lightning_proxy.rpc import WakeReason
from tests.support.receivers import Receiver

POLICY = DialPolicy(DialSettings(), relay_is_local=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().serve() as listening:
        yield listening


@asynccontextmanager
async def waking(database: Database | None = None, **settings: Any) -> AsyncIterator[Waker]:
    chosen = {"cooldown": 0.05, "retry_first": 0.05, **settings}
    if database is not None:
        async with (
            Resolver() as resolver,
            Waker(WakeSettings(**chosen), POLICY, resolver, database) as waker,
        ):
            yield waker
    else:
        async with Database(":memory:") as own, waking(own, **settings) as waker:
            yield waker


async def post(http: GuardedHttp, url: str, body: bytes = b"") -> Outcome:
    """What a receiver makes of this body."""

    async def write(_: Notice) -> Letter:
        return body, {}

    return await http.post(url, lambda: Notice(WakeReason.TEST, "0" * 32, 60.0), write)
