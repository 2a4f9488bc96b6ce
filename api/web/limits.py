"""A token bucket for each API key. Plain functions of a time handed in."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["RateLimiter"]

BUCKETS_MAX = 10_000  # keys seen lately; a forgotten one starts full again


class RateLimiter:
    """Each key may ask ``rate_per_s`` times a second for long, ``burst`` times at once."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def wait_s(self, key: str, now_s: float) -> float:
        """Take one token: 0 if there was one, else how long until there is."""
        tokens, at_s = self._buckets.pop(key, (float(self._burst), now_s))
        tokens = min(self._burst, tokens + (now_s - at_s) * self._rate_per_s)
        taken = tokens >= 1
        self._buckets[key] = (tokens - taken, now_s)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self._rate_per_s
