"""The 20 ms beat of a telephone line, one for as many lines as there are."""

from __future__ import annotations

from collections.abc import Callable

import trio

from rtcore.audio import FRAME_MS

__all__ = ["LineClock"]


class LineClock:
    """Ticks at absolute deadlines every 20 ms, each line in one of ``phases``.

    With 10 phases it wakes every 2 ms for a tenth of the lines, so that hundreds of callers do
    not speak in the same instant.
    """

    def __init__(self, phases: int = 1) -> None:
        self._phases: list[dict[Callable[[float], None], None]] = [{} for _ in range(phases)]

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
            for tick in self._phases[number % phases]:
                tick(due_s)
            number += 1
