"""What goes into the turn machine beside audio, and what comes out of it.

Every position is a sample of the caller's audio at 8000 Hz, counted from the first frame
pushed: there is no other clock here.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "AgentState",
    "BargeInConfirmed",
    "BargeInDismissed",
    "BargeInSuspected",
    "CallerIdle",
    "Event",
    "FloorLost",
    "SpeechStarted",
    "SpeechStopped",
    "Transcript",
    "TurnEager",
    "TurnEnded",
    "TurnResumed",
    "Word",
]


class AgentState(enum.Enum):
    """What the agent does with the floor, as far as the caller can tell."""

    LISTENING = "listening"
    THINKING = "thinking"  # a turn was committed, nothing of the answer is audible yet
    SPEAKING = "speaking"  # the caller hears us, or is about to (what is sent is not yet played)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One recognised word and where it lies in the caller's audio."""

    text: str
    start_sample: int
    end_sample: int
    confidence: float = 1.0


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """What a recogniser believes was said in one stretch of speech.

    A newer transcript of a ``segment`` replaces the older one; the text of a turn is its
    segments joined in order. ``is_final``: these words will not change any more.
    ``end_of_turn`` is the recogniser's own belief that the turn is over (0..1), if it has one.
    """

    segment: int
    text: str
    is_final: bool
    end_of_turn: float | None = None
    words: tuple[Word, ...] = ()
    language: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A decision; ``at_sample`` is the caller-audio sample it speaks of.

    It is returned by the call that decided it, so the decision's delay is the number of
    samples pushed by then less ``at_sample``.
    """

    at_sample: int


class SpeechStarted(Event, frozen=True):
    """The caller's voice began at ``at_sample``."""


class SpeechStopped(Event, frozen=True):
    """The caller's voice ended: ``at_sample`` is the end of the last voiced frame."""


class TurnEager(Event, frozen=True):
    """The turn may be over: begin the answer, silently and without side effects."""


class TurnResumed(Event, frozen=True):
    """The caller went on after ``TurnEager``: what was begun must leave no trace."""


class TurnEnded(Event, frozen=True):
    """The turn is over: the agent has the floor. At most one for each turn.

    ``reason``: ``silence`` (the delay its words asked for ran out), ``dtmf`` (keys were
    entered), ``no_words`` (a streaming recogniser made nothing of it: if the caller is owed no
    answer from before, it may be let pass), ``too_long`` (the limit of one turn).
    """

    reason: str = "silence"


class BargeInSuspected(Event, frozen=True):
    """Voice over the agent's speech: hold the playout, keep what is left of it."""


class BargeInConfirmed(Event, frozen=True):
    """The caller wants the floor: cancel the reply and clear the line, now."""


class BargeInDismissed(Event, frozen=True):
    """It was a noise or a backchannel: the agent goes on where it was held.

    ``reason``: ``blip`` (voicing ended too soon), ``no_words`` (it lasted, but nothing in it was
    speech), ``backchannel``, ``yielded`` (the agent stopped by itself), ``protected`` (the
    segment became uninterruptible), ``ended`` (the call did).
    """

    reason: str = "blip"


class CallerIdle(Event, frozen=True):
    """Nobody has spoken for a while: remind the caller, or say goodbye if ``is_last``."""

    count: int
    is_last: bool = False


class FloorLost(Event, frozen=True):
    """Somebody should have spoken by now and did not: act, whatever went wrong.

    ``reason``: ``no_reply`` (a turn ended, nothing of the answer is audible), ``mute`` (the agent
    is said to speak, the line is silent), ``abandoned`` (the goodbye led to nothing).
    """

    reason: str
    count: int
