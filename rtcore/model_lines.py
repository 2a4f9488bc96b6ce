"""What a speech-to-speech model is to say word for word, and what is said when it fails.

Who says a line depends on what is known and what still works: the model, the sound it made of the
same line before, or the voice beside it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from rtcore.answering import FAILURES_MAX, LINES_MAX, Answers
from rtcore.model_replies import ModelReplies
from rtcore.model_reply import ModelReply, RecalledLine
from rtcore.reply import Reply
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import Say

__all__ = ["ModelLines"]


class Floor(Protocol):
    """Who speaks: the agent's turn, as a line that waits for it sees it."""

    reply: Reply | None

    def start(self, reply: Reply, noted_as: str) -> None:
        """Begin to say ``reply``: the floor is free."""
        ...


@dataclass(slots=True, frozen=True)
class WaitingLine:
    """A line that waits to be said."""

    text: str
    is_interruptible: bool
    ends_call: bool
    is_said_anew: bool = False  # it was begun, and nothing of it heard


class ModelLines:
    """The fixed lines of one call."""

    def __init__(
        self, call: Answers, link: SpeechLink, replies: ModelReplies, floor: Floor
    ) -> None:
        self._call = call
        self._link = link
        self._replies = replies
        self._floor = floor
        self._waiting: deque[WaitingLine] = deque()
        self._failures = 0
        self.is_leaving = False  # the last line of the call has been begun

    def add(self, text: str, *, is_interruptible: bool, ends_call: bool) -> bool:
        """Have ``text`` said when its time has come; False if too many wait."""
        if len(self._waiting) >= LINES_MAX:
            return False
        self._waiting.append(WaitingLine(text, is_interruptible, ends_call))
        return True

    def put_back(self, reply: ModelReply) -> None:
        """Nothing of the line ``reply`` was heard: it is the first that waits again."""
        line = WaitingLine(reply.text, reply.is_interruptible, reply.ends_call, is_said_anew=True)
        self._waiting.appendleft(line)
        self.is_leaving = False

    def clear(self) -> None:
        """What waits is not said any more."""
        self._waiting.clear()

    def next(self) -> None:
        """The floor is free: say what waits; goodbye, where there is no model any more."""
        if self._waiting:
            self._say(self._waiting.popleft())
        elif self._link.is_lost:
            self._say(WaitingLine(self._goodbye, is_interruptible=True, ends_call=True))

    @property
    def can_apologise(self) -> bool:
        """Whether the apology can be said without a session."""
        return self._can_say(self._call.agent.definition.apology_line)

    @property
    def _goodbye(self) -> str:
        """The farewell; the apology, if that alone is known of a model that is lost."""
        lines = self._call.agent.definition
        knows_better = self.can_apologise and not self._can_say(lines.farewell_line)
        return lines.apology_line if self._link.is_lost and knows_better else lines.farewell_line

    def _can_say(self, text: str) -> bool:
        agent = self._call.agent
        return agent.has_voice or agent.lines.get(self._link.voice_name, text) is not None

    def _say(self, line: WaitingLine) -> None:
        """Have the model say ``line``; the voice beside it, if there is one, where it failed."""
        agent = self._call.agent
        reply: Reply
        if agent.has_voice and (self._link.is_lost or self._link.is_refused or self._failures):
            reply = Reply(
                number=self._replies.next_number(),
                text=line.text,
                is_interruptible=line.is_interruptible,
                ends_call=line.ends_call,
            )
        elif agent.lines.get(self._link.voice_name, line.text) is not None:
            reply = RecalledLine(
                voice=self._link.voice_name,
                number=self._replies.next_number(),
                text=line.text,
                is_interruptible=line.is_interruptible,
                ends_call=line.ends_call,
            )
        elif self._link.is_lost:  # nobody can say it any more
            self._call.end("providers_failed")
            return
        else:
            reply = self._replies.new(
                text=line.text, is_interruptible=line.is_interruptible, ends_call=line.ends_call
            )
            self._replies.ask(reply, Say(reply=reply.id, text=line.text))
        self.is_leaving = line.ends_call
        reply.committed.set()
        self._floor.start(reply, "line_said_anew" if line.is_said_anew else "line_begun")

    # --- when the model fails ---------------------------------------------------------------

    def succeeded(self) -> None:
        """A reply was said whole."""
        self._failures = 0

    def was_silent(self) -> None:
        """The model is silent about a line: the voice beside it says that, and the next ones."""
        self._failures += 1

    def failed(self, reply: Reply) -> tuple[str, bool] | None:
        """What to say as ``reply`` has failed, and whether it ends the call; None: nothing.

        It is goodbye, if it goes on going wrong.
        """
        self._failures += 1
        lines, is_lost = self._call.agent.definition, self._link.is_lost
        if self._floor.reply is not None:
            return None  # something else is being said already
        if reply.ends_call and not (isinstance(reply, ModelReply) and self._call.agent.has_voice):
            self._call.end("providers_failed")
            return None
        if self._failures >= FAILURES_MAX or is_lost:
            return self._goodbye, True
        return lines.apology_line, False
