"""The caller's turns as a speech-to-speech model hears them: parts, keys, times, words.

The model hears the sound itself; what is kept here is by what names it knows a turn, what else
was told with it, and when what was decided.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from rtcore.agent.caller_turns import CallerTurns
from rtcore.agent.caller_words import CallerWords
from rtcore.answering import Answers
from rtcore.metrics import TurnClock
from rtcore.ports import Message
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import CallerSaid, Tell

__all__ = ["ModelEars"]


class ModelEars:
    """The caller's open turn, and those that wait for their words."""

    def __init__(self, call: Answers, link: SpeechLink) -> None:
        self._call = call
        self._link = link
        self.words = CallerWords()  # what others than the model know of the open turn
        self._turns = CallerTurns(call.conversation)
        self.speech_end_s: float | None = None
        self._decided_s: float | None = None  # an end of the turn, if it stands
        self._parts: list[str] = []  # asked about already, by replies that came to nothing
        self._keys = ""  # pressed in the open turn, and told to the model
        self._last_keys = ""  # in the one before
        self._is_answer_due = False  # a turn is over, nothing of an answer has been heard
        self._is_told_again = False  # by which a new session will find that turn once more

    # --- the open turn ----------------------------------------------------------------------

    def decided(self) -> None:
        """The turn is over, or may be."""
        if self._decided_s is None:
            self._decided_s = trio.current_time()

    def goes_on(self) -> None:
        """It was not over."""
        self._decided_s = None

    def tell_keys(self, *, is_turn: bool) -> bool:
        """Tell the model the keys pressed since; whether any were, in this turn."""
        if keys := self.words.take_keys():
            self._link.tell(Tell(text=keys, is_turn=is_turn))
            self._keys = f"{self._keys} {keys}".strip()
        return bool(self._keys)

    def dropped(self, reply: str) -> None:
        """An answer to the turn so far came to nothing; by this name the model knows that part."""
        self._parts.append(reply)

    def asked(self) -> TurnClock:
        """The model is asked now: the clock of its answer."""
        now_s = trio.current_time()
        return TurnClock(
            speech_end_s=self.speech_end_s if self.speech_end_s is not None else now_s,
            decided_s=self._decided_s,
            asked_s=now_s,
        )

    def answered_unasked(self) -> TurnClock | None:
        """The model answers a turn that it took to be over; None: nobody had said anything."""
        decided_s, self._decided_s = self._decided_s, None
        if decided_s is None or self.speech_end_s is None:
            return None
        return TurnClock(
            speech_end_s=min(self.speech_end_s, decided_s),
            decided_s=decided_s,
            asked_s=decided_s,
            committed_s=decided_s,
        )

    # --- its end ----------------------------------------------------------------------------

    def over(self, *names: str) -> None:
        """The turn is over; the model knows (the rest of) it by ``names``."""
        parts = (*self._parts, *names)
        self._call.stats.turns += 1
        self._call.steering.caller_spoke()
        self._turns.over(parts, words=self.words.text, keys=self._keys)
        self.words.close()
        self._parts.clear()
        self._last_keys, self._keys = self._keys, ""
        self._decided_s = None
        self._is_answer_due = True
        self._is_told_again = False
        self._call.note("turn_committed", parts=len(parts))

    def over_by_model(self, turn: str) -> None:
        """The model takes ``turn`` to be over; it may have been told of it by another session."""
        if self._is_told_again:
            self._is_told_again = False
            self._turns.again((turn,))
        else:
            self.over(turn)
        self._decided_s = trio.current_time()

    def said(self, event: CallerSaid) -> None:
        """The model has recognised words of a turn."""
        self._call.stats.transcripts += 1
        self._call.note("words", chars=len(event.text), is_final=event.is_final)
        self._turns.said(event)

    def answered(self) -> None:
        """Something of an answer was heard."""
        self._link.answered()
        self._is_answer_due = False

    def write(self) -> None:
        """What follows in the conversation comes after the turns so far."""
        self._turns.write(is_last_chance=True)

    # --- another session --------------------------------------------------------------------

    @property
    def is_told_anew(self) -> bool:
        """Whether a new session is told, as sound or as keys, a turn that nobody has answered."""
        return self._is_answer_due and (self._link.has_unanswered or bool(self._last_keys))

    def lost(self) -> None:
        """A session has ended: the next one has its own names."""
        self._is_told_again = self.is_told_anew and not self._last_keys  # keys it finds nowhere
        self._parts.clear()

    def known(self, messages: Sequence[Message]) -> list[Message]:
        """Of ``messages``, those a new session is not told as sound or as keys."""
        known = list(messages)
        while self.is_told_anew and known and known[-1].role == "user":
            known.pop()
        return known

    @property
    def untold_keys(self) -> str:
        """The keys of the turns that a new session is told: one not answered, the open one."""
        last = self._last_keys if self.is_told_anew else ""
        return f"{last} {self._keys}".strip()
