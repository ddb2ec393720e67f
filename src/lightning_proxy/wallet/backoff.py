"""How long a wallet waits before it dials again."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before dialling again: doubling, from `first` to `most` seconds.

    Half of it is left to chance, so that a relay's wallets don't come back all at once. A
    connection that held for `most` seconds starts the count anew.
    """

    first: float = 0.5
    most: float = 30.0

    def delay(self, attempt: int) -> float:
        """Seconds before this attempt, the first being 0."""
        delay = min(self.most, self.first * 2.0 ** min(attempt, 32))
        return delay * (0.5 + random.random() / 2)  # noqa: S311 - no secret
