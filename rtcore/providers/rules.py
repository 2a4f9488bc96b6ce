"""A mind of a few plain rules: no model, no key, no network.

For trying an agent's functions, knowledge and hand-overs, and for tests. It finds a function by
the words of its name and description, fills in what the caller's words and the function's schema
give, looks up what it is asked, and reads out what it found. It understands nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from rtcore.ports import (
    Delta,
    Finished,
    Message,
    ResponderRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
)
from rtcore.providers._settings import Settings

__all__ = ["RulesResponder", "RulesSettings"]

READ_OUT_MAX_CHARS = 300
NOTHING_LINE = "I have found nothing about that."
CHARS_PER_TOKEN = 4
GOODBYE = re.compile(r"\b(bye|goodbye|hang up|that is all)\b")
PERSON = re.compile(r"\b(person|human|somebody|someone|manager|colleague)\b")
DAY = re.compile(r"\b(today|tonight|tomorrow|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b")
COUNTED = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
NUMBERS = {word: number for number, word in enumerate(COUNTED)}
LOOKUPS = ("search_knowledge",)
OWN = ("hang_up", "transfer", "hand_over", *LOOKUPS)
PASSAGE_MARK = re.compile(r"^\[[^\]]*\][^\n]*\n")  # where a passage is from
MARKUP = re.compile(r"[#*_`{}\[\]\"]+")


class RulesSettings(Settings, frozen=True):
    """What is said where no rule fits."""

    unknown_line: str = "I do not know that. Is there anything else?"
    goodbye_line: str = "Goodbye."


class RulesResponder:
    """Fills :class:`rtcore.ports.Responder`; its answers are whole at once."""

    def __init__(
        self, settings: RulesSettings, secrets: Mapping[str, str], *, name: str = "rules"
    ) -> None:
        self.name = name
        self._settings = settings

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Answer by the first rule that fits; see :class:`rtcore.ports.Responder`."""
        deltas = self.decide(request.messages, request.tools)
        for delta in deltas:
            await out.send(delta)
        read = sum(len(message.text) for message in request.messages)
        written = sum(len(delta.text) for delta in deltas if isinstance(delta, TextDelta))
        has_called = any(isinstance(delta, ToolCall) for delta in deltas)
        await out.send(
            Finished(
                stop_reason="tool_calls" if has_called else "stop",
                input_tokens=read // CHARS_PER_TOKEN,
                output_tokens=written // CHARS_PER_TOKEN,
            )
        )

    def decide(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Delta]:
        """What to answer to the last of ``messages``; a plain function."""
        last = messages[-1] if messages else Message(role="user")
        if last.role == "tool":
            return [TextDelta(text=_read_out(last.text))]
        said = last.text.lower()
        by_name = {tool.name: tool for tool in tools}
        if GOODBYE.search(said):
            line: list[Delta] = [TextDelta(text=self._settings.goodbye_line)]
            return [*line, _call("hang_up", {})] if "hang_up" in by_name else line
        if PERSON.search(said):
            for name in ("transfer", "hand_over"):
                if name in by_name:
                    to = by_name[name].parameters["properties"]["to"]["enum"][0]
                    return [TextDelta(text="I will put you through."), _call(name, {"to": to})]
        wanted = _wanted(said, [tool for tool in tools if tool.name not in OWN])
        if wanted is not None:
            arguments, missing = _filled(wanted, said)
            if missing:
                return [TextDelta(text=f"Please tell me the {' and the '.join(missing)}.")]
            return [_call(wanted.name, arguments)]
        found = next((m for m in reversed(messages) if _is_knowledge(m)), None)
        if found is not None and messages.index(found) >= len(messages) - 2:
            return [TextDelta(text=_read_out(found.text.partition("\n\n")[2]))]
        if (lookup := next((n for n in LOOKUPS if n in by_name), None)) is not None and said:
            return [_call(lookup, {"question": last.text})]
        return [TextDelta(text=self._settings.unknown_line)]


def _call(name: str, arguments: Mapping[str, Any]) -> ToolCall:
    return ToolCall(id="", name=name, arguments=msgspec.json.encode(arguments).decode())


def _is_knowledge(message: Message) -> bool:
    return message.role == "system" and message.text.startswith("Found in the documents")


def _wanted(said: str, tools: Iterable[ToolSpec]) -> ToolSpec | None:
    """The first function of whose name all words of three letters and more were said."""
    for tool in tools:
        words = [word for word in re.split(r"[_-]+", tool.name.lower()) if len(word) > 2]
        if words and all(re.search(rf"\b{re.escape(word)}", said) for word in words):
            return tool
    return None


def _filled(tool: ToolSpec, said: str) -> tuple[dict[str, Any], list[str]]:
    """The arguments that ``said`` gives, and which required ones it does not."""
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    numbers = [
        int(word) if word.isdigit() else NUMBERS[word]
        for word in re.findall(r"\w+", said)
        if word.isdigit() or word in NUMBERS
    ]
    arguments: dict[str, Any] = {}
    for name, schema in properties.items():
        if schema.get("type") in ("integer", "number"):
            if numbers:
                arguments[name] = numbers.pop(0)
        elif options := [o for o in schema.get("enum", ()) if str(o).lower() in said]:
            arguments[name] = options[0]
        elif name in ("day", "date"):
            if day := DAY.search(said):
                arguments[name] = day[1]
        elif schema.get("type") == "string" and "enum" not in schema:
            arguments[name] = said
    required = tool.parameters.get("required", ())
    return arguments, [name for name in required if name not in arguments]


def _read_out(found: str) -> str:
    """The first passage of ``found``, as it can be said."""
    text = MARKUP.sub(" ", PASSAGE_MARK.sub("", found)).split("\n\n")
    first = next((part for part in text if part.strip()), "").replace("\n", " ").strip()
    if first.startswith("error:"):
        return "That did not work."
    if first.startswith("nothing was found"):
        return NOTHING_LINE
    return first[:READ_OUT_MAX_CHARS] or NOTHING_LINE
