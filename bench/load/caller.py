"""One caller: says something, listens, interrupts every other answer, and times what it hears.

A plain state machine, asked for a frame every 20 ms and told of each message: no clock, no I/O.
The caller's own sound is placed where it should have been sent, so a generator that is late
makes the server look slow, never fast.
"""

from __future__ import annotations

import enum

import msgspec

from bench.load.ear import Ear
from bench.load.results import Counts, Heard
from bench.load.voice import FRAME_S, Speech, hush
from rtcore.audio import RATE_HZ

__all__ = ["Caller", "Plan"]

GREETING_S = 2.0  # a server that greets has begun by then
ANSWER_LIMIT_S = 12.0  # the slowest answer that still counts as one
REPLY_LIMIT_S = 30.0  # who speaks longer is asked the next thing anyway
STALE_S = 0.25  # audio so soon after its clear can only be of the old reply
TAIL_S = 0.3  # a reply that is short by less has been said: servers round, and cut their tails


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What every caller does, over and over."""

    speech: Speech
    interrupt_every: int = 2  # of so many answers one is talked over; 0: none
    interrupt_after_s: float = 1.5  # of the agent's being heard
    paused: Speech | None = None  # said instead, every `paused_every`th time
    paused_every: int = 3
    pause_s: float = 0.8  # from the end of an answer to the next question; over QUIET_S
    reply_s: float = 0.0  # of sound in every answer; 0: not known, and none is known to stall


class State(enum.Enum):
    """What the caller is doing."""

    BEFORE = enum.auto()  # lets the agent greet
    TALKING = enum.auto()
    WAITING = enum.auto()  # for the answer to begin
    LISTENING = enum.auto()
    INTERRUPTING = enum.auto()


class Caller:
    """The caller of call ``number``; ``begins_s`` is when it first opens its mouth."""

    def __init__(
        self, number: int, plan: Plan, heard: Heard, counts: Counts, begins_s: float
    ) -> None:
        self.number = number
        self.ear = Ear()
        self.heard = heard
        self.counts = counts
        self._plan = plan
        self._speech = plan.speech  # the utterance being said
        self._hush = hush()
        self._state = State.BEFORE
        self._since_s = begins_s  # the state's beginning
        self._frame = 0  # of the utterance
        self._answers = 0
        self._questions = 0
        self._voice_began_s = 0.0  # of the utterance being said
        self._voice_ended_s = 0.0
        self._cleared_s: float | None = None  # since the interruption
        self._was_silenced = False  # by that clear, and not before it by itself
        self._silent_s: float | None = None  # when, if why is not yet known
        self._owed_s = 0.0  # of an answer whose length is known, what has not come yet
        self._beat = number  # where in the noise this line is

    @property
    def is_speaking(self) -> bool:
        return self._state in (State.TALKING, State.INTERRUPTING)

    def waited_ms(self, now_s: float) -> float:
        """How long the question asked last has been waiting for its answer; 0: it is not."""
        is_waiting = self._state is State.WAITING
        return max((now_s - self._voice_ended_s) * 1000, 0.0) if is_waiting else 0.0

    def next_frame(self, due_s: float) -> bytes:
        """What was spoken in the 20 ms that end at ``due_s``, base64."""
        if self._frame:  # in the middle of an utterance
            return self._go_on(due_s)
        if self._may_speak(due_s):
            return self._begin(due_s)
        self._beat += 1
        return self._hush[self._beat % len(self._hush)]

    def on_audio(self, payload: bytes, now_s: float) -> None:
        """A piece of the agent's voice came."""
        ear = self.ear
        self.counts.pieces += 1
        if self._cleared_s is not None and now_s - self._cleared_s < STALE_S:
            self.counts.stale_pieces += 1
        if self._state is not State.LISTENING:
            ear.end_of_speech()  # a hole while the caller speaks is an answer to that
        before_s, silent_s = ear.onset_s, ear.until_s
        ear.push(payload, now_s)
        if ear.onset_s is not before_s and ear.onset_s is not None:
            self._on_onset(ear.onset_s, ear.onset_s - silent_s)
        elif self._silent_s is not None and ear.until_s > self._silent_s:
            self._silent_s = None  # it has only drawn breath
            self.counts.uninterrupted += 1
        self._owed_s -= len(payload) / RATE_HZ

    def on_clear(self, now_s: float) -> None:
        """The server dropped what was queued."""
        is_said = self.ear.is_marked or (self._plan.reply_s > 0 and not self._is_owed)
        is_over = is_said and self.ear.until_s <= now_s
        self.ear.clear(now_s)
        self._owed_s = 0.0
        self.heard.cleared.append((self.number, now_s))
        if self._state is State.INTERRUPTING and self._cleared_s is None:
            self._cleared_s, self._was_silenced = now_s, not is_over
            self.heard.clear_ms.append((now_s - self._voice_began_s) * 1000)
        elif self._silent_s is not None:  # a server may hold its voice, and decide afterwards
            self.heard.clear_ms.append((now_s - self._voice_began_s) * 1000)
            self._judge(not is_over)

    # --- speaking -----------------------------------------------------------------------

    def _may_speak(self, now_s: float) -> bool:
        if self._state is State.LISTENING:
            ear, plan = self.ear, self._plan
            onset_s = ear.onset_s if ear.onset_s is not None else now_s
            is_to_interrupt = plan.interrupt_every and self._answers % plan.interrupt_every == 0
            if is_to_interrupt and onset_s + plan.interrupt_after_s <= now_s < ear.until_s:
                return True
            return now_s - ear.until_s >= plan.pause_s or now_s - onset_s > REPLY_LIMIT_S
        if self._state is State.WAITING:
            if now_s - self._voice_ended_s <= ANSWER_LIMIT_S:
                return False
            self.counts.unanswered += 1
            return True
        # before the first word: when it is time, and nobody speaks
        return now_s >= self._since_s and now_s - self.ear.until_s >= self._plan.pause_s

    def _begin(self, due_s: float) -> bytes:
        began_s = due_s - FRAME_S
        self._judge(was_silenced=False)
        interrupts = self._state is State.LISTENING and self.ear.until_s > began_s
        if self._state is State.LISTENING and self._is_owed and not interrupts:
            self.counts.stalled += 1
            self.ear.gaps_s.append(began_s - self.ear.until_s)  # as far as it was borne
        self._end_reply()
        self._speech = self._plan.speech
        self._questions += not interrupts
        is_paused = not interrupts and self._questions % self._plan.paused_every == 0
        if self._plan.paused is not None and is_paused:
            self._speech = self._plan.paused
            self.counts.paused_turns += 1
        self._voice_began_s = began_s + self._speech.first_s
        self._voice_ended_s = began_s + self._speech.last_s
        self._state = State.INTERRUPTING if interrupts else State.TALKING
        self._cleared_s, self._was_silenced = None, False
        self.counts.turns += 1
        self.counts.interruptions += interrupts
        return self._go_on(due_s)

    def _go_on(self, due_s: float) -> bytes:
        frames = self._speech.frames
        frame = frames[self._frame]
        self._frame += 1
        if self._frame == len(frames):
            self._frame = 0
            if self._state is State.INTERRUPTING:
                self._after_interruption(due_s)
            self._state = State.WAITING
            if self.ear.onset_s is not None and self.ear.onset_s > self._voice_began_s:
                self._state = State.LISTENING  # it did not wait for us to finish
        return frame

    def _after_interruption(self, now_s: float) -> None:
        """The agent should be silent by now: say when it fell silent, if it did."""
        if self.ear.until_s >= now_s:
            self.counts.uninterrupted += 1
            return
        self._silent_s = self.ear.until_s
        if self._cleared_s is not None:
            self._judge(self._was_silenced)

    def _judge(self, was_silenced: bool) -> None:
        """Say whether the agent fell silent for the caller, if that is still to be said."""
        silent_s, self._silent_s = self._silent_s, None
        if silent_s is None:
            return
        if was_silenced:
            took_ms = (silent_s - self._voice_began_s) * 1000
            self.heard.silence_ms.append(took_ms)
            self.heard.interruptions.append((self.number, self._voice_began_s, took_ms))
        elif self._is_owed:  # it goes on, or nobody has told it not to
            self.counts.uninterrupted += 1
        else:
            self.counts.ended_alone += 1

    # --- listening ----------------------------------------------------------------------

    @property
    def _is_owed(self) -> bool:
        """Whether some of the answer has not come yet."""
        return self._owed_s > TAIL_S

    def _on_onset(self, onset_s: float, silence_s: float) -> None:
        if self._state in (State.BEFORE, State.LISTENING):
            return  # a pause in what is being said
        self._judge(was_silenced=False)
        is_rest = self._is_owed  # of a reply that the caller took for over
        if not is_rest:
            self._owed_s = self._plan.reply_s
        if self._state is State.INTERRUPTING:
            return
        if is_rest:
            self.ear.gaps_s.append(silence_s)
        if self._state is State.TALKING:
            self.counts.cut_offs += 1
        elif is_rest:  # soon, maybe, but no answer
            self.counts.unanswered += 1
            self._state = State.LISTENING
        elif onset_s > self._voice_ended_s:
            took_ms = (onset_s - self._voice_ended_s) * 1000
            self.heard.response_ms.append(took_ms)
            self.heard.turns.append((self.number, self._voice_ended_s, took_ms))
            self._answers += 1
            self.counts.sized_replies += self._plan.reply_s > 0
            self._state = State.LISTENING

    def _end_reply(self) -> None:
        """Take stock of the reply that was heard until now: its holes."""
        gaps_s = self.ear.gaps_s
        if gaps_s:
            self.heard.gap_ms.extend(gap * 1000 for gap in gaps_s)
            self.heard.worst_gap_ms.append(max(gaps_s) * 1000)
            gaps_s.clear()
        self.ear.end_of_speech()
