"""The caller's turns where only a speech model heard them: their words come late, or never."""

from __future__ import annotations

from dataclasses import dataclass

from rtcore.agent.conversation import Conversation
from rtcore.speech_port import CallerSaid

__all__ = ["CallerTurns"]

OPEN_MAX = 64  # turns whose words are awaited; older ones stay as they are
SAID_MAX = 256  # transcripts of turns that are not over, or never will be


@dataclass(slots=True, eq=False)
class _Turn:
    parts: tuple[str, ...]  # what the model calls the stretches of it
    known: str  # what others than the model know of it: our recogniser's words, keys
    is_worded: bool  # ``known`` has all its words
    entry: int | None = None  # in the conversation, once it had to be written


class CallerTurns:
    """Writes each turn into the conversation once, in order, and its words when they come."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._turns: list[_Turn] = []
        self._last: _Turn | None = None
        self._said: dict[str, CallerSaid] = {}

    def again(self, parts: tuple[str, ...]) -> None:
        """The last turn was told to another session, which calls it ``parts``."""
        if self._last is None:
            return
        self._last.parts = parts
        if self._last not in self._turns and not self._last.is_worded:
            self._turns.append(self._last)

    def over(self, parts: tuple[str, ...], *, words: str = "", keys: str = "") -> None:
        """A turn is over: ``parts`` name what the model heard of it.

        ``words``: all of it, where somebody else has recognised it. ``keys``: pressed in it.
        """
        known = " ".join(part for part in (words, keys) if part)
        self._last = _Turn(parts, known, is_worded=bool(words) or not parts)
        self._turns.append(self._last)
        del self._turns[:-OPEN_MAX]
        self.write()

    def said(self, said: CallerSaid) -> None:
        """The model has recognised something."""
        self._said[said.turn] = said
        while len(self._said) > SAID_MAX:
            del self._said[next(iter(self._said))]
        self.write()

    def write(self, *, is_last_chance: bool = False) -> None:
        """Write what is known; with ``is_last_chance`` turns without their words, too.

        Later turns wait for earlier ones, so that the conversation stays in order.
        """
        for turn in tuple(self._turns):
            said = [self._said.get(part) for part in turn.parts]
            is_known = turn.is_worded or all(each is not None and each.is_final for each in said)
            if turn.entry is None and not is_known and not is_last_chance:
                return
            text = self._text(turn, said)
            if turn.entry is None:
                turn.entry = self._conversation.user(text)
            elif text:
                self._conversation.resolve(turn.entry, text)
            if is_known:
                self._turns.remove(turn)
                for part in turn.parts:
                    self._said.pop(part, None)

    def _text(self, turn: _Turn, said: list[CallerSaid | None]) -> str:
        if turn.is_worded:
            return turn.known
        spoken = [each.text.strip() for each in said if each is not None]
        return " ".join(part for part in (*spoken, turn.known) if part)
