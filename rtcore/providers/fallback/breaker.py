"""Circuit breakers: a service that keeps failing is left alone for a while. No clock inside."""

from __future__ import annotations

from collections import deque
from typing import Annotated
from weakref import WeakValueDictionary

from msgspec import Meta

from rtcore.errors import ProviderError
from rtcore.providers._settings import Seconds, Settings

__all__ = ["BreakerSettings", "Breakers", "CircuitBreaker"]


class BreakerSettings(Settings, frozen=True):
    """When a service counts as down, and for how long."""

    failures_max: Annotated[int, Meta(ge=1, le=100)] = 3  # one may be chance, three are not
    window_s: Seconds = 30.0  # ... within so long
    open_s: Seconds = 5.0  # a turn or two on the backup, then one call tries again
    open_max_s: Seconds = 120.0  # doubled at each failed trial up to this


class CircuitBreaker:
    """One service's health as its callers report it; every time is handed in, in seconds.

    Closed: all may ask. Open: none may. After ``open_s`` one may try, the others wait as long
    again; success closes it, failure doubles the time. A trial that is never reported on (its
    call was hung up) only costs that time.
    """

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._failed_at: deque[float] = deque(maxlen=settings.failures_max)
        self._open_s = 0.0  # 0: closed
        self._open_until_s = 0.0

    @property
    def is_closed(self) -> bool:
        return self._open_s == 0.0

    def allows(self, now_s: float) -> bool:
        """Whether to ask the service now; of an open one, the answer is a trial's leave."""
        if self.is_closed:
            return True
        if now_s < self._open_until_s:
            return False
        self._open_until_s = now_s + self._open_s
        return True

    def succeeded(self) -> None:
        """The service answered."""
        self._failed_at.clear()
        self._open_s = 0.0

    def failed(self, now_s: float, error: ProviderError) -> None:
        """The service failed. What is our own fault (not retryable) says nothing of it."""
        if not error.retryable:
            return
        limits = self._settings
        self._failed_at.append(now_s)
        is_often = len(self._failed_at) == limits.failures_max
        if not self.is_closed:
            self._open_s = min(self._open_s * 2, limits.open_max_s)
        elif error.retry_after_s or (is_often and now_s - self._failed_at[0] <= limits.window_s):
            self._open_s = limits.open_s
        else:
            return
        asked_s = min(error.retry_after_s or 0.0, limits.open_max_s)
        self._open_until_s = now_s + max(self._open_s, asked_s)


class Breakers:
    """The breakers of a node, one for each provider's name, shared by all its calls.

    One that no list has any more is forgotten.
    """

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self._settings = settings or BreakerSettings()
        self._breakers: WeakValueDictionary[str, CircuitBreaker] = WeakValueDictionary()

    def of(self, name: str) -> CircuitBreaker:
        """The breaker of the provider called ``name``."""
        return self._breakers.setdefault(name, CircuitBreaker(self._settings))
