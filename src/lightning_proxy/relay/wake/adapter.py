"""What every way to wake a wallet has in common: webhook and Web Push here, FCM and APNs later."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from lightning_proxy.rpc import WakeKind, WakeReason


class WakeError(Exception):
    """Wallets can't be woken as it was configured; the text says why."""


@dataclass(frozen=True, slots=True)
class Notice:
    """All that a push says; `lifetime` is how many seconds it is worth delivering for."""

    reason: WakeReason
    id: str
    lifetime: float


class Delivered(Struct, frozen=True):
    """The receiver took it."""


class Failed(Struct, frozen=True):
    """It didn't; `retry_after` seconds, where it said so.

    `why` goes to the wallet and the log; `words`, the receiver's own, to the wallet alone: they may
    repeat what is secret, as its path is.
    """

    why: str
    words: str = ""
    retry_after: float | None = None


class Gone(Struct, frozen=True):
    """The receiver wants no more of these, ever; `why` and `words` as above."""

    why: str
    words: str = ""


class Spared(Struct, frozen=True):
    """When its turn had come it was not needed any more, and did not leave."""


Outcome = Delivered | Failed | Gone | Spared
#: What there is to say, asked when a push is about to leave; None: nothing any more.
Say = Callable[[], Notice | None]


class Adapter(Protocol):
    """One way to wake; a target is what the wallet registered, one of `rpc`'s `WakeBy…`."""

    kind: ClassVar[WakeKind]
    #: The type of its targets.
    target: ClassVar[type[Any]]

    def check(self, target: Any) -> str:
        """Returns the host that will be called; raises `RpcError` for a target that won't do."""
        ...

    async def send(self, target: Any, say: Say) -> Outcome:
        """Push; never raises for what the receiver does."""
        ...
