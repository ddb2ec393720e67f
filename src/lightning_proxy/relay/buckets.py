"""Token buckets by key; what is remembered of keys is bounded."""

import asyncio
from collections import OrderedDict
from typing import Final

#: Keys that are remembered; of more, those are forgotten that asked longest ago, which by then
#: have all of their burst again or are few among very many.
_MAX_KEYS: Final = 50_000


class Buckets:
    """`burst` at once, `rate` a second."""

    def __init__(self, rate: float, burst: float, max_keys: int = _MAX_KEYS) -> None:
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        #: Tokens, and the loop time at which they were counted.
        self._of: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def wait(self, key: str | bytes, amount: float = 1.0) -> float:
        """Seconds until so much may be taken; 0: now."""
        return max(0.0, (amount - self._tokens(key)) / self._rate)

    def take(self, key: str | bytes, amount: float = 1.0) -> float:
        """Take so much, unless that has to wait: then nothing is taken; returns `wait`."""
        tokens = self._tokens(key)
        if tokens < amount:
            return (amount - tokens) / self._rate
        self._of[key] = tokens - amount, asyncio.get_running_loop().time()
        self._of.move_to_end(key)
        if len(self._of) > self._max_keys:
            self._of.popitem(last=False)
        return 0.0

    def _tokens(self, key: str | bytes) -> float:
        known = self._of.get(key)
        if known is None:
            return self._burst
        tokens, at = known
        since = asyncio.get_running_loop().time() - at
        return min(self._burst, tokens + since * self._rate)
