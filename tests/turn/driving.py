"""Drives a TurnDetector by the clock of its own samples, in milliseconds."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from rtcore.turn import TurnConfig, TurnDetector
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    CallerIdle,
    Event,
    FloorLost,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEager,
    TurnEnded,
    TurnResumed,
    Word,
)
from tests.turn.sounds import silence, tone, voice

VOICE = [voice(index, -18.0) for index in range(100)]
FAR = [voice(index, -15.0) for index in range(50, 150)]
ECHO = [voice(index, -40.0) for index in range(50, 150)]
SILENCE = silence()
NOTE = [tone(220.0, -18.0, at=index) for index in range(50)]

LETTERS = {
    SpeechStarted: "started",
    SpeechStopped: "stopped",
    TurnEager: "eager",
    TurnResumed: "resumed",
    TurnEnded: "ended",
    BargeInSuspected: "suspected",
    BargeInConfirmed: "confirmed",
    BargeInDismissed: "dismissed",
    CallerIdle: "idle",
    FloorLost: "lost",
}


class Line:
    """A caller and an agent on one line; ``log`` keeps (ms when decided, event)."""

    def __init__(self, config: TurnConfig | None = None, **overrides: Any) -> None:
        if overrides:
            config = TurnConfig.preset("balanced", **overrides)
        self.detector = TurnDetector(config)
        self.log: list[tuple[float, Event]] = []
        self._segment = 0
        self._frame = 0
        self._plays = False

    # --- what happens on the line

    def push(self, pcm: array[int]) -> list[Event]:
        far = FAR[self._frame % len(FAR)] if self._plays else None
        self._frame += 1
        return self._keep(self.detector.push(pcm, far))

    def voice(self, ms: int) -> list[Event]:
        return self._many(VOICE, ms)

    def hush(self, ms: int) -> list[Event]:
        return self._many([SILENCE], ms)

    def note(self, ms: int) -> list[Event]:
        return self._many(NOTE, ms)

    def echo(self, ms: int) -> list[Event]:
        return self._many(ECHO, ms)

    def _many(self, sounds: Sequence[array[int]], ms: int) -> list[Event]:
        events: list[Event] = []
        for _ in range(ms // 20):
            events += self.push(sounds[self._frame % len(sounds)])
        return events

    # --- what others know

    def words(
        self,
        text: str,
        *,
        final: bool = True,
        same: bool = False,
        end_of_turn: float | None = None,
        timed: bool = False,
    ) -> list[Event]:
        """A transcript of what was just said; ``same`` replaces the one before."""
        if not same:
            self._segment += 1
        now = self.detector.now_samples
        spoken = (
            (Word(text=text, start_sample=max(0, now - 4000), end_sample=now),) if timed else ()
        )
        return self._keep(
            self.detector.transcript(
                Transcript(
                    segment=self._segment,
                    text=text,
                    is_final=final,
                    end_of_turn=end_of_turn,
                    words=spoken,
                )
            )
        )

    def agent(
        self, state: AgentState, *, plays: bool | None = None, interruptible: bool = True
    ) -> list[Event]:
        """The agent's state; when it speaks, the caller hears it, unless ``plays`` is False."""
        self._plays = state is AgentState.SPEAKING if plays is None else plays
        return self._keep(self.detector.agent(state, interruptible=interruptible))

    def play(self, plays: bool) -> None:
        """Sound of ours on the line, without a word about the agent's state."""
        self._plays = plays

    def keys(self, digits: str) -> list[Event]:
        return self._keep(self.detector.dtmf(digits))

    # --- what was decided

    def _keep(self, events: list[Event]) -> list[Event]:
        self.log += [(self.now_ms, event) for event in events]
        return events

    @property
    def now_ms(self) -> float:
        return self.detector.now_samples / 8

    @property
    def names(self) -> list[str]:
        return [LETTERS[type(event)] for _, event in self.log]

    def of(self, kind: type[Event]) -> list[tuple[float, Event]]:
        return [(at, event) for at, event in self.log if type(event) is kind]

    def forget(self) -> None:
        self.log.clear()


def names(events: Sequence[Event]) -> list[str]:
    return [LETTERS[type(event)] for event in events]


def speaking(**overrides: Any) -> Line:
    """A line on which the agent has been speaking for 2 s."""
    line = Line(**overrides)
    line.agent(AgentState.SPEAKING)
    line.echo(2000)
    assert line.names == []
    return line
