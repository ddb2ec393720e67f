"""A wallet's handle on one connection to a peer, which the relay holds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol, TypeVar

from lightning_proxy.bolt.address import NodeAddress
from lightning_proxy.bolt.features import DEFAULT_FEATURES, Features
from lightning_proxy.bolt.messages import Init, Message
from lightning_proxy.rpc import Close, Done, Send, SessionInfo, Subscribe
from lightning_proxy.wallet.events import ReceivedMessage
from lightning_proxy.wallet.stream import Stream

T = TypeVar("T")

#: Messages that wait for a reader; of more, the oldest go.
_MAX_WAITING: Final = 512


class Relay(Protocol):
    """Whom a wallet asks."""

    async def request(self, method: str, params: Any, kind: type[T]) -> T:
        """The result of a method of the signing channel's, as `kind`."""


class Session:
    """Made by `Wallet`. Its methods raise what `Wallet.request` raises.

    `peer_init` is the peer's `init`; None until it came. `own_init` is this wallet's, where it
    said another one than the relay's default.
    """

    def __init__(
        self, relay: Relay, session_id: str, peer: NodeAddress, own_init: Init | None = None
    ) -> None:
        self.id = session_id
        self.peer = peer
        self.peer_init: Init | None = None
        self.own_init = own_init
        self._relay = relay
        self._messages: Stream[ReceivedMessage] = Stream(_MAX_WAITING)
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Session(id={self.id!r}, peer={str(self.peer)!r})"

    @property
    def features(self) -> Features:
        """What both nodes support, as far as this wallet knows (BOLT #1: what both offered)."""
        ours = DEFAULT_FEATURES if self.own_init is None else _features_of(self.own_init)
        return ours if self.peer_init is None else ours & _features_of(self.peer_init)

    async def send(self, message: Message | bytes) -> None:
        """Send the peer a message, as an object or as its bytes with the type in front."""
        data = message.encode() if isinstance(message, Message) else message
        await self._relay.request("send", Send(self.id, data.hex()), Done)

    async def subscribe(self, *, raw: bool = True, short_channel_ids: tuple[int, ...] = ()) -> None:
        """Ask for every message (`raw`), or for those about the wallet's channels only.

        `short_channel_ids` name channels whose `channel_update`s are wanted even without `raw`.
        """
        params = Subscribe(self.id, raw, list(short_channel_ids))
        await self._relay.request("subscribe", params, SessionInfo)

    async def close(self) -> None:
        """Ask the relay to close the connection; `closed()` tells when it is."""
        await self._relay.request("close", Close(self.id), Done)

    async def closed(self) -> str:
        """Wait until the session is over; returns why.

        Raises the `WalletError` by which the wallet itself ended before.
        """
        return await asyncio.shield(self._closed)

    @property
    def is_closed(self) -> bool:
        """Whether it is over, as far as this wallet knows."""
        return self._closed.done()

    def messages(self) -> AsyncIterator[ReceivedMessage]:
        """What the peer sends, until the session is over; for one reader."""
        return self._messages

    # ---- the wallet's side ----

    def put(self, received: ReceivedMessage) -> None:
        """A message came."""
        self._messages.put(received)

    def end(self, reason: str) -> None:
        """The session is over."""
        self._messages.end()
        if not self._closed.done():
            self._closed.set_result(reason)

    def abandon(self, error: Exception) -> None:
        """The wallet ended; the session may live on at the relay."""
        self._messages.end(error)
        if not self._closed.done():
            self._closed.set_exception(error)
            # Who never asks for the outcome is not to be warned about it.
            self._closed.exception()


def _features_of(init: Init) -> Features:
    return Features.from_bytes(init.globalfeatures) | Features.from_bytes(init.features)
