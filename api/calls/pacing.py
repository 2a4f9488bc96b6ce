"""How fast calls may begin: one after the other, so many a second."""

from __future__ import annotations

import trio

__all__ = ["Pace"]


class Pace:
    """Gives out moments, evenly spaced; a burst waits its turn."""

    def __init__(self, per_s: float) -> None:
        self._gap_s = 1 / per_s
        self._next_s = 0.0

    async def turn(self, limit_s: float) -> float:
        """Wait for the next moment; return 0, or how long it would take if past ``limit_s``.

        Cancelled: the moment is lost to others.
        """
        now_s = trio.current_time()
        at_s = max(self._next_s, now_s)
        if at_s - now_s > limit_s:
            return at_s - now_s
        self._next_s = at_s + self._gap_s
        await trio.sleep_until(at_s)
        return 0.0
