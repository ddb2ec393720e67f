"""Wakes by an HTTPS POST that says why, and nothing else, signed by the relay."""

from datetime import UTC, datetime
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from lightning_proxy.relay.wake.adapter import Notice, Outcome, Say
from lightning_proxy.relay.wake.http import GuardedHttp, Letter
from lightning_proxy.relay.wake.identity import Identity
from lightning_proxy.rpc import WakeByWebhook, WakeKind, WakeReason
from lightning_proxy.rpc.webhook import (
    SIGNATURE_HEADER,
    TIMESTAMP_FORMAT,
    TIMESTAMP_HEADER,
    webhook_text,
)

_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "lightning-proxy"}
#: Not 404: a receiver says so too while it is being set up anew.
_GONE: Final = frozenset({410})


class Body(Struct, frozen=True):
    """What a push says, here and in Web Push."""

    reason: WakeReason
    id: str

    @classmethod
    def of(cls, notice: Notice) -> bytes:
        return msgspec.json.encode(cls(notice.reason, notice.id))


class Webhook:
    """An `Adapter`."""

    kind: ClassVar = WakeKind.WEBHOOK
    target: ClassVar = WakeByWebhook

    def __init__(self, http: GuardedHttp, identity: Identity) -> None:
        self._http = http
        self._identity = identity

    def check(self, target: WakeByWebhook) -> str:
        return self._http.check(target.url)

    async def send(self, target: WakeByWebhook, say: Say) -> Outcome:
        async def write(notice: Notice) -> Letter:
            body = Body.of(notice)
            timestamp = datetime.now(UTC).strftime(TIMESTAMP_FORMAT)
            text = webhook_text(timestamp, target.url, body.decode())
            signed = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: self._identity.sign(text)}
            return body, _HEADERS | signed

        return await self._http.post(target.url, say, write, gone=_GONE)
