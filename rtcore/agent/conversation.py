"""What was said, in order, by whom: append-only. The model's messages are a projection of it.

Only what was heard enters for the agent, only committed turns enter for the caller; so a
discarded thought or an unheard sentence leaves no trace.
"""

from __future__ import annotations

import msgspec

from rtcore.ports import Message, ToolCall

__all__ = ["HINT", "Conversation"]

UNKNOWN_OUTCOME = "still running; its outcome is not known yet"
HINT = "A note for you, which the caller does not hear: "
UNKNOWN_WORDS = "(not transcribed)"  # of a turn that only a speech model has heard


class Conversation:
    """The log of one call or chat. ``system`` is what the agent is told about itself."""

    def __init__(self, system: str = "") -> None:
        self.system = system  # may change in mid-call: the next request has the new one
        self.summary = ""  # of the first ``summarised`` entries
        self.summarised = 0
        self._log: list[Message] = []

    @property
    def log(self) -> tuple[Message, ...]:
        return tuple(self._log)

    def user(self, text: str) -> int:
        """The caller's turn. Two in a row stay two: the model sees that it did not answer.

        Returns the entry to :meth:`resolve` where its words are known only later.
        """
        self._log.append(Message(role="user", text=text or UNKNOWN_WORDS))
        return len(self._log) - 1

    def assistant(self, text: str, tool_calls: tuple[ToolCall, ...] = ()) -> None:
        """What the caller heard of us (nothing heard and nothing called is nothing said)."""
        if text or tool_calls:
            self._log.append(Message(role="assistant", text=text, tool_calls=tool_calls))

    def hint(self, text: str) -> None:
        """What somebody who listens wants the model to know; the caller does not hear it."""
        self._log.append(Message(role="system", text=f"{HINT}{text}"))

    def tool(self, call_id: str, result: str | None) -> int:
        """The outcome of a function, exactly one for every call; None: not known yet.

        Returns the entry to :meth:`resolve` once it is known.
        """
        text = UNKNOWN_OUTCOME if result is None else result
        self._log.append(Message(role="tool", text=text, tool_call_id=call_id))
        return len(self._log) - 1

    def resolve(self, entry: int, result: str) -> None:
        """A function that outlived its reply has returned, or the words of a turn are known."""
        self._log[entry] = msgspec.structs.replace(self._log[entry], text=result)

    def messages(self, *then: Message) -> tuple[Message, ...]:
        """What a model is given: the system text, the log or its summary, and ``then``."""
        head = (Message(role="system", text=self.system),) if self.system else ()
        return (*head, *self.messages_until(len(self._log)), *then)

    def messages_until(self, entry: int) -> tuple[Message, ...]:
        """The summary, if there is one, and the log from there up to ``entry``."""
        head: tuple[Message, ...] = ()
        if self.summary:
            head = (Message(role="system", text=f"Until now:\n{self.summary}"),)
        return (*head, *self._log[self.summarised : entry])

    @property
    def turns_left(self) -> int:
        """The caller's turns that are not summed up."""
        return sum(message.role == "user" for message in self._log[self.summarised :])

    def turn_start(self, turns: int) -> int:
        """The entry with which the caller's last ``turns`` turns begin; 0 if there are less."""
        starts = [at for at, message in enumerate(self._log) if message.role == "user"]
        return starts[-turns] if len(starts) >= turns else 0

    def summarise(self, until: int, text: str) -> None:
        """Give models ``text`` in place of the first ``until`` entries; the log stays whole."""
        self.summary, self.summarised = text, until
