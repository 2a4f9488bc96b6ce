"""The 20 ms beat of a telephone line, one for as many lines as there are."""

from __future__ import annotations

from collections.abc import Callable

import trio

from rtcore.audio import FRAME_MS

__all__ = ["LineClock"]

LATE_MS = 5  # a caller this late is heard late: it would be counted against the node


class LineClock:
    """Ticks at absolute deadlines every 20 ms, each line in one of ``phases``.

    With 10 phases it wakes every 2 ms for a tenth of the lines, so that hundreds of callers do
    not speak in the same instant.

    ``late_ticks`` of ``ticks`` were more than 5 ms behind, the worst by ``latest_ms``: whoever
    measures a node under load has to show that these are few.
    """

    def __init__(self, phases: int = 1) -> None:
        self._phases: list[dict[Callable[[float], None], None]] = [{} for _ in range(phases)]
        self.ticks = 0
        self.late_ticks = 0
        self.latest_ms = 0.0

    def join(self, tick: Callable[[float], None]) -> None:
        """Call ``tick(due_s)`` every 20 ms from now on, in the emptiest phase."""
        min(self._phases, key=len)[tick] = None

    def leave(self, tick: Callable[[float], None]) -> None:
        """Do not call ``tick`` any more."""
        for phase in self._phases:
            phase.pop(tick, None)

    async def run(self) -> None:
        """Tick until cancelled; late ticks are made up for at once, never skipped."""
        began_s, number, phases = trio.current_time(), 0, len(self._phases)
        while True:
            due_s = began_s + number * FRAME_MS / 1000 / phases
            await trio.sleep_until(due_s)
            late_ms = (trio.current_time() - due_s) * 1000
            self.ticks += 1
            self.late_ticks += late_ms > LATE_MS
            self.latest_ms = max(self.latest_ms, late_ms)
            for tick in self._phases[number % phases]:
                tick(due_s)
            number += 1
