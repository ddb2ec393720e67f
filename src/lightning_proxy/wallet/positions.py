"""Which of the relay's notifications this wallet has had, and that the relay knows it."""

from collections.abc import Awaitable, Callable

from lightning_proxy.rpc import Position


class Positions:
    """`acknowledge` tells the relay that all up to a position was had; it raises `WalletError`.

    `run_errand` runs work that may fail: then the relay says everything again, which is when it is
    told again.
    """

    def __init__(
        self,
        acknowledge: Callable[[Position], Awaitable[None]],
        run_errand: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._acknowledge = acknowledge
        self._run_errand = run_errand
        self._inbox: str | None = None
        self._came = self._had = self._told = 0
        self._telling = False
        self._stuck = False

    def connected(self, inbox: str) -> None:
        """A connection to the relay was made; positions of another inbox say nothing here."""
        if self._stuck:
            self._stuck = False
            self._came = self._had
        if inbox != self._inbox:
            self._inbox = inbox
            self._came = self._had = self._told = 0

    def is_new(self, position: Position) -> bool:
        """Whether this one did not come before; what has no position is always new."""
        if position == 0:
            return True
        if position > self._came:
            self._came = position
            return True
        # The relay says it again because it does not know.
        self._told = min(self._told, position - 1)
        self._tell()
        return False

    def failed(self) -> None:
        """One could not be dealt with: on this connection nothing is acknowledged any more."""
        self._stuck = True

    def had(self, position: Position) -> None:
        """This one was dealt with."""
        if position > self._had and not self._stuck:
            self._had = position
            self._tell()

    def _tell(self) -> None:
        if not self._telling:
            self._telling = True
            self._run_errand(self._tell_all)

    async def _tell_all(self) -> None:
        """One request at a time, each for all that came meanwhile."""
        try:
            while self._told < self._had:
                position = self._had
                await self._acknowledge(position)
                self._told = position
        finally:
            self._telling = False
