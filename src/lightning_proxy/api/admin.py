"""The operator's view: what the relay holds, over a socket that only its own user can reach."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from lightning_proxy.api.admin_rows import PAGE, DelegationRow, SessionRow, WalletRow
from lightning_proxy.api.door import Door, at_the_door
from lightning_proxy.api.metrics import Metrics
from lightning_proxy.api.settings import ApiSettings, SettingsError
from lightning_proxy.relay import Relay

#: Seconds to find out whether somebody listens at a socket that is there already.
_PROBE_TIMEOUT: Final = 1.0
_BACKLOG: Final = 128


class Admin:
    """Use as an async context manager, within the relay's; raises `SettingsError`."""

    def __init__(self, relay: Relay, settings: ApiSettings, metrics: Metrics) -> None:
        assert settings.admin_socket is not None  # noqa: S101 - who wants one has said where
        self._relay = relay
        self._metrics = metrics
        self._settings = settings
        self._path = Path(settings.admin_socket)

    async def __aenter__(self) -> Self:
        application = web.Application(middlewares=[at_the_door])
        application.add_routes(
            [
                web.get("/sessions", self._sessions),
                web.get("/wallets", self._wallets),
                web.get("/delegations", self._delegations),
                web.get("/metrics", self._metrics.get),
            ]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=1.0)
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - it is set up
        settings = self._settings
        self._door = Door(
            self._runner.server,
            settings.limits,
            settings.request_timeout,
            settings.keepalive_timeout,
            self._relay.counters,
        )
        try:
            self._door.open(self._listen())
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise SettingsError(f"api.admin_socket: {self._path}: {reason}") from None
        return self

    def _listen(self) -> socket.socket:
        _remove_stale(self._path)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listening.bind(str(self._path))
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
        finally:
            os.umask(before)
        return listening

    async def __aexit__(self, *_: object) -> None:
        self._door.close()
        await self._door.finish()
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _sessions(self, request: web.Request) -> web.Response:
        rows = (
            SessionRow(_hex(session.inbox.node_id), session.describe())
            for session in self._relay.sessions()
        )
        return _page(request, rows)

    async def _wallets(self, request: web.Request) -> web.Response:
        return _page(request, self._wallet_rows())

    async def _delegations(self, request: web.Request) -> web.Response:
        return _page(request, self._delegation_rows())

    def _wallet_rows(self) -> Iterator[WalletRow]:
        relay = self._relay
        for inbox in relay.inboxes():
            if inbox.node_id is not None:
                yield WalletRow(
                    node_id=inbox.node_id.hex(),
                    sockets=len(inbox.sockets),
                    sessions=len(inbox.sessions),
                    open_delegations=sum(1 for _ in inbox.delegations),
                    queued_bytes=inbox.queued_bytes,
                    wake_targets=len(relay.waker.targets(inbox.node_id)),
                    free_slots=relay.slots.free(inbox.node_id),
                    devices=sum(
                        device.revoked is None for device in relay.devices.list(inbox.node_id)
                    ),
                )

    def _delegation_rows(self) -> Iterator[DelegationRow]:
        for inbox in self._relay.inboxes():
            for delegation in inbox.delegations:
                envelope = delegation.envelope
                yield DelegationRow(
                    id=envelope.id,
                    wallet=_hex(inbox.node_id) or "",
                    session_id=envelope.session_id,
                    peer=envelope.peer,
                    channel_id=envelope.channel_id,
                    kind=envelope.kind,
                    created=envelope.created,
                    remaining=envelope.remaining,
                )


def _page(request: web.Request, rows: Iterable[Any]) -> web.Response:
    """One page of the rows; `?skip=` says how many came before it."""
    try:
        skip = max(0, int(request.query.get("skip", "0")))
    except ValueError:
        raise web.HTTPBadRequest(text="skip is a number") from None
    page = list(islice(rows, skip, skip + PAGE))
    return web.Response(body=msgspec.json.encode(page), content_type="application/json")


def _hex(node_id: bytes | None) -> str | None:
    return None if node_id is None else node_id.hex()


def _remove_stale(path: Path) -> None:
    """A relay that was killed leaves its socket behind; raises `OSError` where one listens."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # One that is there but too busy to take the call is no stale one.
        probe.settimeout(_PROBE_TIMEOUT)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "it is another relay's")
