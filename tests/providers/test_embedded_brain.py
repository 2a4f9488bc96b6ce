"""The embedded brain: what it answers, and that it asks for the hang-up it may ask for."""

from __future__ import annotations

import pytest
import trio

from rtcore.errors import ConfigError
from rtcore.ports import (
    CallContext,
    Delta,
    Finished,
    Message,
    ResponderRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
)
from rtcore.providers.embedded import EmbeddedBrain, load_agent, load_demo_agent
from rtcore.providers.embedded._slots import find_day, find_name, find_time
from rtcore.providers.embedded.brain import HANG_UP, PLEASE_REPEAT, PLEASE_REPHRASE

AGENT = load_demo_agent()
BRAIN = EmbeddedBrain(AGENT)
QUESTIONS = [(q, entry.id) for entry in AGENT.entries for q in entry.questions]


def talk(*said: str) -> list[tuple[str, str]]:
    """Hold a conversation; return the intent and text of each answer."""
    messages: list[Message] = []
    answers = []
    for text in said:
        messages.append(Message(role="user", text=text))
        answers.append(tuple(BRAIN.plan(messages)))
        messages.append(Message(role="assistant", text=answers[-1][1]))
    return answers


@pytest.mark.parametrize(("question", "entry"), QUESTIONS)
def test_each_question_finds_its_entry(question: str, entry: str) -> None:
    assert talk(question)[0][0] == entry


@pytest.mark.parametrize(
    ("said", "intent"),
    [
        ("hello", "greeting"),
        ("Good morning!", "greeting"),
        ("thank you very much", "thanks"),
        ("no thank you", "goodbye"),
        ("Thanks, bye.", "goodbye"),
        ("are you a machine", "person"),
        ("yes please", "yes"),
        ("what did you say", "repeat"),
        ("colourless green ideas sleep furiously", "unknown"),
        ("", "unknown"),
        ('" OR 1 NEAR( *', "unknown"),
    ],
)
def test_what_is_no_question_is_understood_too(said: str, intent: str) -> None:
    assert talk(said)[0][0] == intent


def test_what_is_not_understood_is_asked_again_and_then_in_other_words() -> None:
    answers = talk("blue ideas", "furious ideas", "do you have parking", "green ideas")
    assert [text for intent, text in answers if intent == "unknown"] == [
        PLEASE_REPEAT,
        PLEASE_REPHRASE,
        PLEASE_REPEAT,
    ]


def test_repeat_says_the_last_answer_again() -> None:
    (_, answer), (_, again) = talk("where are you", "can you repeat that")
    assert again == answer


def test_an_appointment_is_taken_slot_by_slot() -> None:
    assert AGENT.booking is not None
    answers = talk(
        "I would like to make an appointment",
        "on tuesday please",
        "do you have parking",
        "at three thirty in the afternoon",
        "it is mary smith",
        "thank you",
    )
    assert [text for _, text in answers[:2]] == [AGENT.booking.ask_day, AGENT.booking.ask_time]
    assert answers[2][0] == "parking"
    assert answers[3][1] == AGENT.booking.ask_name
    assert "Mary Smith" in answers[4][1]
    assert "Tuesday at three thirty in the afternoon" in answers[4][1]
    assert answers[5][0] == "thanks"


def test_all_slots_may_come_at_once() -> None:
    ((_, text),) = talk("Can I book a visit tomorrow at 10:30? My name is John")
    assert "John" in text
    assert "tomorrow at 10:30" in text


@pytest.mark.parametrize(
    ("said", "time"),
    [
        ("at ten", "ten"),
        ("nine o'clock", "nine o'clock"),
        ("half past two", "half past two"),
        ("three", "three"),
        ("10 am", "10 am"),
        ("15:45 please", "15:45"),
        ("i have two children", None),
    ],
)
def test_times(said: str, time: str | None) -> None:
    assert find_time(said) == time


def test_days_and_names() -> None:
    assert find_day("on Monday, please", ["monday"]) == "Monday"
    assert find_day("today", ["today"]) == "today"
    assert find_day("some day", ["monday"]) is None
    assert find_name("this is Zaphod", [], is_asked=True) == "Zaphod"
    assert find_name("Ford Prefect", [], is_asked=True) == "Ford Prefect"
    assert find_name("where is my towel and my bag today", [], is_asked=True) is None
    assert find_name("this is urgent", [], is_asked=False) is None


async def deltas(request: ResponderRequest) -> list[Delta]:
    out, got = trio.open_memory_channel[Delta](100)
    with out:
        await BRAIN.respond(request, out)
    return [delta async for delta in got]


async def test_the_answer_comes_word_by_word(autojump_clock: trio.testing.MockClock) -> None:
    request = ResponderRequest(
        context=CallContext(call_id="c"), messages=(Message(role="user", text="can i pay by card"),)
    )
    *words, last = await deltas(request)
    texts = [word.text for word in words if isinstance(word, TextDelta)]
    assert len(texts) == len(words) > 5
    assert "".join(texts) == next(e.answer for e in AGENT.entries if e.id == "payment")
    assert last == Finished()


@pytest.mark.parametrize("offered", [True, False])
async def test_after_goodbye_the_hang_up_is_asked_for_if_it_is_offered(
    offered: bool, autojump_clock: trio.testing.MockClock
) -> None:
    request = ResponderRequest(
        context=CallContext(call_id="c"),
        messages=(Message(role="user", text="goodbye"),),
        tools=(ToolSpec(name=HANG_UP, description="end the call"),) if offered else (),
    )
    got = await deltas(request)
    calls = [delta.name for delta in got if isinstance(delta, ToolCall)]
    assert calls == ([HANG_UP] if offered else [])
    assert got[-1] == Finished(stop_reason="tool_calls" if offered else "stop")


async def test_a_tool_s_result_needs_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    result = Message(role="tool", text="done", tool_call_id="hang_up-1")
    request = ResponderRequest(context=CallContext(call_id="c"), messages=(result,))
    assert await deltas(request) == [Finished()]


async def test_a_full_channel_holds_the_answer_and_a_cancel_ends_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    out, got = trio.open_memory_channel[Delta](2)
    request = ResponderRequest(
        context=CallContext(call_id="c"), messages=(Message(role="user", text="where are you"),)
    )
    with trio.move_on_after(1) as scope:
        await BRAIN.respond(request, out)
    assert scope.cancelled_caught
    assert got.statistics().current_buffer_used == 2


def test_a_small_agent_answers_too() -> None:
    agent = load_agent(
        b'name="A"\nwelcome="Hi"\ngoodbye="Bye"\n'
        b'[[entries]]\nid="price"\nquestions=["what does it cost"]\nanswer="Nothing."\n'
    )
    plan = EmbeddedBrain(agent).plan([Message(role="user", text="how much does it cost")])
    assert plan.text == "Nothing."


@pytest.mark.parametrize("toml", [b"name = 1", b'name = "A"', b"= broken", b'nam = "A"'])
def test_a_broken_agent_file_is_refused(toml: bytes) -> None:
    with pytest.raises(ConfigError):
        load_agent(toml)


def test_the_script_is_answered() -> None:
    assert [intent for intent, _ in talk(*(line.say for line in AGENT.script))] == [
        line.expect for line in AGENT.script
    ]
