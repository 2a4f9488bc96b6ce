"""Liveness: at every instant somebody holds the floor, or a timer is armed that gives it away."""

from __future__ import annotations

from rtcore.turn.config import TurnConfig
from rtcore.turn.endpointing import NEVER
from rtcore.turn.events import CallerIdle, Event, FloorLost

__all__ = ["FloorWatch"]

SAMPLES_PER_MS = 8


class FloorWatch:
    """One timer over the whole call; whoever acts moves it.

    ``CallerIdle`` comes when nobody speaks, ``FloorLost`` when somebody was to and did not. Each
    arms the timer again, so silence is broken for as long as the call lasts.
    """

    __slots__ = ("_config", "_reason", "due", "idle_count", "lost_count")

    def __init__(self, config: TurnConfig) -> None:
        self._config = config
        self._reason = "idle"
        self.idle_count = 0
        self.lost_count = 0
        self.due = 0
        self.await_caller(0)

    def configure(self, config: TurnConfig) -> None:
        self._config = config

    def await_caller(self, now: int) -> None:
        """Nobody speaks and nothing is owed: the caller's silence counts from here."""
        self._arm(now, "idle", self._config.idle_ms)

    def await_reply(self, now: int) -> None:
        """The caller had a turn, so the agent owes something audible; reminders start anew."""
        self.idle_count = 0
        self._arm(now, "no_reply", self._config.watchdog_ms)

    def await_sound(self, now: int) -> None:
        """The agent is said to speak: its line must not stay silent."""
        self._arm(now, "mute", self._config.watchdog_ms)

    def rest(self) -> None:
        """Another timer is armed (that of an open turn): this one stands aside."""
        self.due = NEVER

    def fire(self, now: int) -> Event:
        """The timer ran out: say what is missing, and arm it again."""
        if self._reason == "idle" and self.idle_count <= self._config.idle_reminders:
            self.idle_count += 1
            is_last = self.idle_count > self._config.idle_reminders
            if is_last:
                self._arm(now, "abandoned", self._config.watchdog_ms)
            else:
                self._arm(now, "idle", self._config.idle_ms)
            return CallerIdle(at_sample=now, count=self.idle_count, is_last=is_last)
        reason = "abandoned" if self._reason == "idle" else self._reason
        self.lost_count += 1
        self._arm(now, reason, self._config.watchdog_ms)
        return FloorLost(at_sample=now, reason=reason, count=self.lost_count)

    def _arm(self, now: int, reason: str, delay_ms: int) -> None:
        self._reason = reason
        self.due = now + delay_ms * SAMPLES_PER_MS
