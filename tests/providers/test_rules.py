"""The mind of a few plain rules: what it answers to what."""

from __future__ import annotations

import msgspec
import pytest

from rtcore.ports import Delta, Message, TextDelta, ToolCall, ToolSpec
from rtcore.providers.rules import RulesResponder, RulesSettings

BOOK = ToolSpec(
    name="book_table",
    description="Book a table",
    parameters={
        "type": "object",
        "properties": {
            "day": {"type": "string"},
            "persons": {"type": "integer"},
            "place": {"type": "string", "enum": ["inside", "outside"]},
        },
        "required": ["day", "persons"],
    },
)
SEARCH = ToolSpec(name="search_knowledge", description="Look up")
HANG_UP = ToolSpec(name="hang_up", description="End the call")
PEOPLE = {"properties": {"to": {"enum": ["billing", "sales"]}}}
TRANSFER = ToolSpec(name="transfer", description="To a person", parameters=PEOPLE)
TOOLS = (BOOK, SEARCH, HANG_UP, TRANSFER)


def decide(*messages: Message, tools: tuple[ToolSpec, ...] = TOOLS) -> list[Delta]:
    return RulesResponder(RulesSettings(), {}).decide(messages, tools)


def caller(text: str) -> Message:
    return Message(role="user", text=text)


def called(deltas: list[Delta]) -> tuple[str, object]:
    (call,) = [delta for delta in deltas if isinstance(delta, ToolCall)]
    return call.name, msgspec.json.decode(call.arguments)


@pytest.mark.parametrize(
    ("said", "name", "arguments"),
    [
        (
            "Book a table for four outside, on Friday",
            "book_table",
            {"day": "friday", "persons": 4, "place": "outside"},
        ),
        ("a table for 12 tomorrow, book it", "book_table", {"day": "tomorrow", "persons": 12}),
        ("when are you open", "search_knowledge", {"question": "when are you open"}),
        ("can I talk to a person", "transfer", {"to": "billing"}),
        ("thank you, goodbye", "hang_up", {}),
    ],
)
def test_a_function_is_found_and_filled_in(said: str, name: str, arguments: object) -> None:
    assert called(decide(caller(said))) == (name, arguments)


def test_what_is_missing_is_asked_for() -> None:
    assert decide(caller("book a table")) == [
        TextDelta(text="Please tell me the day and the persons.")
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("[1] menu.md / Hours\nFrom five.\n\n[2] menu.md\nNo dogs.", "From five."),
        ("nothing was found; do not guess", "I have found nothing about that."),
        ("error: it is down", "That did not work."),
    ],
)
def test_what_a_function_answers_is_read_out(found: str, said: str) -> None:
    answer = Message(role="tool", text=found, tool_call_id="c")
    assert decide(caller("when"), answer) == [TextDelta(text=said)]


def test_what_was_looked_up_before_is_used() -> None:
    told = Message(role="system", text="Found in the documents; use it:\n\n[Hours]\nFrom five.")
    assert decide(told, caller("when are you open")) == [TextDelta(text="From five.")]


def test_without_a_rule_it_says_so() -> None:
    assert decide(caller("hm"), tools=()) == [
        TextDelta(text="I do not know that. Is there anything else?")
    ]
