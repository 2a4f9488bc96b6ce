"""The embedded brain: intents, an appointment's slots and a looked-up answer; no model.

What to say is a plain function of the conversation: the brain keeps no state between turns,
so it can be asked speculatively, twice or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import trio

from rtcore.channels import put
from rtcore.ports import Delta, Finished, Message, ResponderRequest, TextDelta, ToolCall
from rtcore.providers.embedded._language import words_of
from rtcore.providers.embedded._slots import find_day, find_name, find_time
from rtcore.providers.embedded.knowledge import AgentData, Booking, Index

__all__ = ["HANG_UP", "EmbeddedBrain", "Plan"]

HANG_UP = "hang_up"  # the terminal tool asked for after a goodbye
BOOKING = "booking"

WELCOME_BACK = "You are welcome. Is there anything else?"
GREETING = "Hello. What can I do for you?"
GO_ON = "Yes? What would you like to know?"
NOTHING_SAID = "I have not said anything yet. What would you like to know?"
PLEASE_REPEAT = "I am sorry, I did not understand. Could you please repeat that?"
PLEASE_REPHRASE = "I am sorry, I still did not get it. Could you say it in other words?"
NOT_A_PERSON = "I am an automatic assistant. Ask me about {name}, and I will do my best."

# Told by a whole utterance or a telling part of it; the first that matches wins.
INTENTS = {
    "goodbye": re.compile(
        r"\b(goodbye|good bye|bye|that is all|that's all|nothing else)\b|^no( thank you| thanks)?$"
    ),
    "repeat": re.compile(r"\b(repeat (that|it)|say (that|it) again|what did you say|pardon)\b"),
    "person": re.compile(r"\b(human|machine|robot|(real|to a) person|operator)\b"),
    "thanks": re.compile(r"^(okay )?(thank you|thanks)( very much| a lot| so much)?$"),
    "greeting": re.compile(r"^(hello|hi|good (morning|afternoon|evening))( there| hello)*$"),
    "yes": re.compile(r"^(yes|yeah|yes please|sure|okay|all right|correct)$"),
}


class Plan(NamedTuple):
    """What to answer, and why: ``intent`` is an entry's id or one of the brain's own."""

    intent: str
    text: str


class Slots(msgspec.Struct):
    """What is known of the appointment under way."""

    day: str | None = None
    time: str | None = None
    name: str | None = None

    def take(self, text: str, booking: Booking, *, is_answer: bool) -> bool:
        """Fill what is still open from ``text``; return whether anything was.

        ``is_answer``: ``text`` asks for nothing itself, so it may be a bare name.
        """
        before = (self.day, self.time, self.name)
        is_asked = is_answer and None not in (self.day, self.time)
        self.day = self.day or find_day(text, booking.days)
        self.time = self.time or find_time(text)
        self.name = self.name or find_name(text, booking.names, is_asked=is_asked)
        return (self.day, self.time, self.name) != before

    def next_line(self, booking: Booking) -> str:
        """The question that is next, or that all is done."""
        if self.day is None:
            return booking.ask_day
        if self.time is None:
            return booking.ask_time
        if self.name is None:
            return booking.ask_name
        return booking.done.format(day=self.day, time=self.time, name=self.name)

    @property
    def is_complete(self) -> bool:
        return None not in (self.day, self.time, self.name)


class EmbeddedBrain:
    """A :class:`~rtcore.ports.Responder` that answers from an agent's own data."""

    def __init__(self, agent: AgentData) -> None:
        self._agent = agent
        entries = {entry.id: entry.questions for entry in agent.entries}
        if agent.booking is not None:
            entries[BOOKING] = agent.booking.triggers
        self._index = Index(entries)
        self._answers = {entry.id: entry.answer for entry in agent.entries}

    @property
    def name(self) -> str:
        return "embedded.brain"

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Answer the last message, word by word; after a goodbye ask for ``hang_up``."""
        messages = request.messages
        if not messages or messages[-1].role == "tool":  # nothing to add to a tool's result
            await put(out, Finished())
            return
        plan = self.plan(messages)
        for piece in re.findall(r"\S+\s*", plan.text):
            await put(out, TextDelta(text=piece))
        if plan.intent == "goodbye" and any(tool.name == HANG_UP for tool in request.tools):
            await put(out, ToolCall(id=f"{HANG_UP}-{len(messages)}", name=HANG_UP, arguments="{}"))
            await put(out, Finished(stop_reason="tool_calls"))
        else:
            await put(out, Finished())

    def plan(self, messages: Sequence[Message]) -> Plan:
        """Decide what to answer to the last of ``messages``, in the light of those before it."""
        booking, slots = self._agent.booking, None
        plan = Plan("greeting", GREETING)
        said = ""  # by the agent, last
        for message in messages:
            if message.role == "assistant" and message.text:
                said = message.text
            if message.role != "user":
                continue
            found = self._index.find(message.text)
            if booking and slots and slots.take(message.text, booking, is_answer=found is None):
                plan = Plan(BOOKING, slots.next_line(booking))
            elif booking and found == BOOKING:
                slots = Slots()
                slots.take(message.text, booking, is_answer=False)
                plan = Plan(BOOKING, slots.next_line(booking))
            elif found is not None:
                plan = Plan(found, self._answers[found])
            else:
                plan = self._small_talk(message.text, plan, said)
            if slots and slots.is_complete:
                slots = None
        return plan

    def _small_talk(self, text: str, before: Plan, said: str) -> Plan:
        """Answer what asks for no entry; ``said`` is what the agent had said before it."""
        line = " ".join(words_of(text))
        intent = next((name for name, pattern in INTENTS.items() if pattern.search(line)), None)
        match intent:
            case "goodbye":
                return Plan(intent, self._agent.goodbye)
            case "repeat":
                return Plan(intent, said or NOTHING_SAID)
            case "person":
                return Plan(intent, NOT_A_PERSON.format(name=self._agent.name))
            case "thanks":
                return Plan(intent, WELCOME_BACK)
            case "greeting":
                return Plan(intent, GREETING)
            case "yes":
                return Plan(intent, GO_ON)
        again = before.intent == "unknown"
        return Plan("unknown", PLEASE_REPHRASE if again else PLEASE_REPEAT)
