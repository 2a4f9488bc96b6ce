"""OpenAI Realtime in whole calls on the simulated clock, and its faults."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool, ToolUse
from rtcore.audio import mulaw_to_pcm
from rtcore.errors import ProviderError, first_error
from rtcore.ports import CallContext, CallerAudio, Message, ToolCall, ToolSpec
from rtcore.providers.openai_realtime import OpenAIRealtime, OpenAIRealtimeSettings
from rtcore.speech_port import (
    CancelReply,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    Respond,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechSession,
    ToolResult,
    Truncate,
)
from rtcore.testing import (
    Action,
    ScriptedSynthesizer,
    hang_up,
    heard_samples,
    interrupt_after,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.fakes._faults import Fault
from tests.fakes.openai_realtime import FakeOpenAIRealtime
from tests.providers._dial import reaching
from tests.providers._harness import KEY
from tests.test_call import ANSWERS, LONG, QUESTIONS, VOICE, WELCOME, Made, make_call, said

TURNS = ("ours", "theirs")
ASK = [wait(500), say(VOICE), wait_for_agent_quiet(1000)]
TWICE = [*ASK, say(VOICE), wait_for_agent_quiet(1000)]
FRAME_MS = 20
SPOKEN = speak("tell me this").pcm


def model(fake: FakeOpenAIRealtime, **settings: Any) -> OpenAIRealtime:
    chosen = msgspec.convert(
        {"detection": "server_vad", "base_url": "ws://fake/v1", **settings}, OpenAIRealtimeSettings
    )
    return OpenAIRealtime(chosen, {"OPENAI_API_KEY": KEY})


def call(
    fake: FakeOpenAIRealtime,
    script: list[Action],
    *tools: Tool,
    settings: dict[str, Any] | None = None,
    voice: ScriptedSynthesizer | None = None,
    **words: Any,
) -> tuple[Made, Agent]:
    """One call through the adapter to ``fake``; nothing of it is left at the fake."""
    talker = model(fake, **settings or {})
    definition = AgentDefinition(name="desk", **words)
    agent = Agent(definition, speech_model=talker, tools=tools)
    if voice is not None:
        agent = Agent(definition, synthesizer=voice, speech_model=talker, tools=tools)

    async def run() -> Made:
        async with reaching(fake=fake):
            return await make_call(agent, script)

    return simulate(run), agent


def booking(done: list[str], takes_s: float = 0.0) -> Tool:
    async def run(use: ToolUse) -> str:
        done.append(f"{use.arguments['day']} {use.key}")
        await trio.sleep(takes_s)
        return "booked"

    properties = {"day": {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": ["day"]}
    spec = ToolSpec(name="book", description="Book a table.", parameters=parameters)
    return Tool(spec=spec, effect="write", run=run)


BOOK = ("book", {"day": "Friday"})


# --- whole calls --------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["mulaw", "pcm"])
@pytest.mark.parametrize("turns", TURNS)
def test_a_conversation(turns: str, encoding: str) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS, first_s=0.3)
    settings = {"turns": turns, "encoding": encoding}
    script = [wait_for_agent_quiet(500), say(VOICE), *TWICE[2:], hang_up()]
    made, _ = call(fake, script, settings=settings, welcome_message=WELCOME, prompt="Be brief.")
    assert said(made.record, "assistant") == [WELCOME, *ANSWERS]
    assert said(made.record, "user") == list(QUESTIONS)
    assert made.report.counts.stale_messages == 0
    assert made.report.gaps == ()
    (held,) = fake.conversations
    assert held.errors == []
    assert held.settings["instructions"] == "Be brief."
    assert (held.settings["audio"]["input"]["turn_detection"] is None) == (turns == "ours")
    assert [item.text for item in held.items if item.role] == [
        WELCOME, QUESTIONS[0], ANSWERS[0], QUESTIONS[1], ANSWERS[1],
    ]  # fmt: skip
    (usage,) = made.record.usage
    assert usage.input_tokens == 100 * usage.requests
    assert usage.audio_tokens == 100 * usage.requests
    assert usage.cached_tokens == 64 * usage.requests


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("speed", [1.3, 10.0])
@pytest.mark.parametrize("after_ms", [400, 1900])
def test_the_item_is_truncated_to_what_was_heard(turns: str, speed: float, after_ms: int) -> None:
    fake = FakeOpenAIRealtime(
        (LONG, ANSWERS[1]), QUESTIONS, speed=speed, cancel_s=0.15, late_deltas=2
    )
    script = [*ASK[:2], interrupt_after(after_ms, VOICE), wait_for_agent_quiet(1000)]
    made, _ = call(fake, script, settings={"turns": turns})
    (held,) = fake.conversations
    ((_, end_ms),) = held.truncations
    onset = made.report.turns[0].response_onset_sample
    assert onset is not None
    ear = mulaw_to_pcm(bytes(made.tape.agent[onset : onset + 8 * 20_000]))
    assert end_ms == pytest.approx(heard_samples(speak(LONG), ear) / 8, abs=FRAME_MS)
    assert made.report.counts.stale_messages == 0
    (barge_in,) = made.record.barge_ins
    assert 40 <= barge_in.clear_ms < 600
    first, second = said(made.record, "assistant")
    assert LONG.startswith(first)
    assert second == ANSWERS[1]
    assert set(held.errors) <= {"response_cancel_not_active"}


def test_a_caller_who_goes_on_is_answered_once() -> None:
    fake = FakeOpenAIRealtime(ANSWERS, first_s=0.1, cancel_s=0.2)
    script = [wait(500), say(VOICE), wait(600), say(VOICE), wait_for_agent_quiet(1000)]
    made, _ = call(fake, script)
    (held,) = fake.conversations
    assert made.record.stats.discarded == 1
    assert said(made.record, "assistant") == [item.text for item in held.items if item.samples]
    assert len(said(made.record, "assistant")) == 1
    assert len(held.deletions) == 1
    assert held.errors == []


@pytest.mark.parametrize("turns", TURNS)
def test_a_function_is_called_once_and_its_answer_spoken(turns: str) -> None:
    done: list[str] = []
    fake = FakeOpenAIRealtime(((("Let me book that.", BOOK, "It is booked."),)), QUESTIONS)
    made, _ = call(fake, ASK, booking(done), settings={"turns": turns})
    assert [line.split()[0] for line in done] == ["Friday"]
    assert said(made.record, "assistant") == ["Let me book that.", "It is booked."]
    (held,) = fake.conversations
    outputs = [item.text for item in held.items if item.kind == "function_call_output"]
    assert outputs == ["booked"]
    assert [tool["name"] for tool in held.settings["tools"]] == ["book", "hang_up"]
    assert held.errors == []


def test_a_long_function_is_bridged_within_the_reply() -> None:
    done: list[str] = []
    fake = FakeOpenAIRealtime(((BOOK, "It is booked."),))
    made, agent = call(fake, [*ASK[:2], wait_for_agent_quiet(4000)], booking(done, 4.0))
    filler = agent.definition.filler_line
    assert said(made.record, "assistant") == ["", filler, "It is booked."]
    assert fake.conversations[0].errors == []


def test_an_interrupted_write_is_done_once_and_told() -> None:
    done: list[str] = []
    fake = FakeOpenAIRealtime(((BOOK, "It is booked."), ANSWERS[1]))
    script = [*ASK[:2], wait(2000), say(VOICE), wait_for_agent_quiet(2500)]
    made, _ = call(fake, script, booking(done, 3.0), filler_line="")
    assert len(done) == 1
    assert [m.text for m in made.record.transcript if m.role == "tool"] == ["booked"]
    (held,) = fake.conversations
    outputs = [item.text for item in held.items if item.kind == "function_call_output"]
    assert outputs == ["booked"]
    assert held.errors == []


def test_a_hang_up_leaves_no_session_open() -> None:
    for at_ms in range(0, 5000, 490):
        fake = FakeOpenAIRealtime((LONG,), created_s=0.2, first_s=0.2)
        made, _ = call(fake, [say(VOICE), wait(at_ms), hang_up()], welcome_message=WELCOME)
        assert made.teardown_s - made.ended_s < 0.2
        assert fake.sessions[0].close_code is not None


# --- faults -------------------------------------------------------------------------------


LOST = [Fault(drop_after=at) for at in (0, 1, 6, 12)] + [Fault(malformed_after=9)]


@pytest.mark.parametrize("fault", [*LOST, Fault(error_after=9), Fault(status=503)], ids=repr)
@pytest.mark.parametrize("turns", TURNS)
def test_a_lost_session_is_opened_anew_with_what_was_said(turns: str, fault: Fault) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS, first_s=0.3)
    fake.faults.add(fault)
    made, _ = call(fake, TWICE, settings={"turns": turns})
    assert said(made.record, "assistant") == list(ANSWERS)
    assert said(made.record, "user") == list(QUESTIONS)
    assert len(fake.sessions) + fake.refusals == 2
    (usage,) = made.record.usage
    assert usage.failures == 1


@pytest.mark.parametrize("turns", TURNS)
def test_a_session_at_its_time_limit_goes_on_in_another(turns: str) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS, expires_s=13.0)
    made, _ = call(fake, [*ASK, wait(6000), *TWICE[3:]], settings={"turns": turns})
    assert len(fake.sessions) == 2
    told = [(item.role, item.text) for item in fake.conversations[1].items][:2]
    assert told == [("user", QUESTIONS[0]), ("assistant", ANSWERS[0])]
    assert said(made.record, "assistant")[0] == ANSWERS[0]
    assert len(said(made.record, "assistant")) == 2


@pytest.mark.parametrize("fault", [Fault(status=401), Fault(status=503), Fault(drop_after=0)])
def test_a_service_that_cannot_be_had_ends_in_a_farewell(fault: Fault) -> None:
    fake = FakeOpenAIRealtime()
    fake.faults.add(*[fault] * 9)
    voice = ScriptedSynthesizer(100)
    made, agent = call(fake, [wait(30_000)], voice=voice, welcome_message=WELCOME)
    assert said(made.record, "assistant") == [WELCOME, agent.definition.farewell_line]
    assert made.record.ended_by == "agent_hung_up"
    assert len(fake.sessions) + fake.refusals == (1 if fault.status == 401 else 5)


def test_a_service_that_falls_silent_is_apologised_for() -> None:
    fake = FakeOpenAIRealtime(ANSWERS)
    fake.faults.add(Fault(stall_after=9))
    made, agent = call(fake, [*ASK[:2], wait(15_000)], voice=ScriptedSynthesizer(100))
    assert said(made.record, "assistant")[0] == agent.definition.apology_line


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error"])
def test_a_response_that_fails_is_apologised_for_and_the_session_goes_on(code: str) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, failing={0: code})
    made, agent = call(fake, TWICE)
    assert said(made.record, "assistant")[0] == agent.definition.apology_line
    assert said(made.record, "assistant")[1] in ANSWERS
    assert len(fake.sessions) == 1


def test_what_is_unknown_is_passed_over() -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS)
    fake.faults.add(Fault(unknown_messages=True))
    made, _ = call(fake, TWICE)
    assert said(made.record, "assistant") == list(ANSWERS)


def test_a_slow_service_is_waited_for() -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS)
    fake.faults.add(Fault(gap_s=0.05, first_delay_s=1.0))
    made, _ = call(fake, ASK)
    assert said(made.record, "assistant") == [ANSWERS[0]]


def test_the_names_of_the_beta_are_refused_and_not_passed_over() -> None:
    fake = FakeOpenAIRealtime(ANSWERS, is_beta=True)
    made, agent = call(fake, [*ASK[:2], wait(15_000)], voice=ScriptedSynthesizer(100))
    assert said(made.record, "assistant") == [agent.definition.farewell_line]
    assert len(fake.sessions) == 1


# --- one session --------------------------------------------------------------------------


async def hold(
    fake: FakeOpenAIRealtime,
    steps: list[SpeechCommand | float],
    settings: dict[str, Any] | None = None,
    **session: Any,
) -> list[SpeechEvent]:
    """One session that is told commands, with pauses in seconds between them."""
    events: list[SpeechEvent] = []
    begun = SpeechSession(context=CallContext(call_id="c"), **session)
    tx, rx = trio.open_memory_channel[SpeechCommand](100)
    async with reaching(fake=fake), trio.open_nursery() as nursery:

        async def tell() -> None:
            with tx:
                for step in steps:
                    if isinstance(step, float):
                        await trio.sleep(step)
                    else:
                        tx.send_nowait(step)

        nursery.start_soon(tell)
        with rx:
            talker = model(fake, deadlines={"first_byte_s": 1.0}, **settings or {})
            await talker.converse(begun, rx, events.append)
        nursery.cancel_scope.cancel()
    return events


def statuses(events: list[SpeechEvent]) -> dict[str, str]:
    return {event.reply: event.status for event in events if isinstance(event, ReplyDone)}


HEARD = CallerAudio(pcm=SPOKEN, start_sample=0)


def test_a_response_waits_until_the_one_before_is_over() -> None:
    """However soon it is asked for after a cancel, and whatever has come of it by then."""
    for pause_s in (0.0, 0.05, 0.15, 0.4):
        fake = FakeOpenAIRealtime((LONG, "Yes."), created_s=0.1, cancel_s=0.3, late_deltas=1)
        steps: list[SpeechCommand | float] = [HEARD, Respond(reply="a"), pause_s]
        steps += [CancelReply(reply="a"), HEARD, Respond(reply="b"), 3.0]
        events = simulate(hold, fake, steps)
        assert statuses(events) == {"a": "cancelled", "b": "whole"}
        (held,) = fake.conversations
        assert held.errors == []
        assert len(held.creates) == 2
        heard = [event.reply for event in events if isinstance(event, ReplyAudio)]
        assert heard.count("b") > 0
        assert "a" not in heard[heard.index("b") :]


def test_a_reply_cancelled_before_it_was_made_is_cancelled_when_it_appears() -> None:
    fake = FakeOpenAIRealtime((LONG,), created_s=0.2, first_s=0.2)
    events = simulate(hold, fake, [HEARD, Respond(reply="a"), 0.1, CancelReply(reply="a"), 2.0])
    assert statuses(events) == {"a": "cancelled"}
    assert not any(isinstance(event, ReplyBegun) for event in events)
    assert fake.conversations[0].cancels == 1
    assert fake.conversations[0].errors == []


def test_what_appears_of_a_cancelled_reply_is_taken_out_of_the_conversation() -> None:
    fake = FakeOpenAIRealtime((LONG,), cancel_s=0.2)
    steps: list[SpeechCommand | float] = [HEARD, Respond(reply="a"), 0.05]
    steps += [CancelReply(reply="a"), Truncate(reply="a", step=0, heard_ms=0), 1.0]
    simulate(hold, fake, steps)
    (held,) = fake.conversations
    assert [item.role for item in held.items if item.role] == ["user"]


def test_no_more_is_truncated_than_was_given() -> None:
    fake = FakeOpenAIRealtime(("Yes.",))
    steps: list[SpeechCommand | float] = [HEARD, Respond(reply="a"), 2.0]
    steps += [Truncate(reply="a", step=0, heard_ms=99_999), 0.5]
    simulate(hold, fake, steps)
    (held,) = fake.conversations
    assert [end_ms for _, end_ms in held.truncations] == [len(speak("Yes.").pcm) // 16]
    assert held.errors == []


def test_a_turn_shorter_than_the_service_takes_is_filled_up() -> None:
    fake = FakeOpenAIRealtime(("Yes.",))
    blip = CallerAudio(pcm=SPOKEN[: 16 * 60], start_sample=0)
    events = simulate(hold, fake, [blip, Respond(reply="a"), 1.0])
    assert statuses(events) == {"a": "whole"}
    assert fake.conversations[0].heard_samples == 800
    assert fake.conversations[0].errors == []


def test_a_fixed_line_is_said_word_for_word() -> None:
    fake = FakeOpenAIRealtime()
    events = simulate(hold, fake, [Say(reply="w", text=WELCOME), 2.0])
    text = "".join(event.text for event in events if isinstance(event, ReplyText))
    assert text == WELCOME
    (created,) = fake.conversations[0].creates
    assert created["input"] == []
    assert created["tool_choice"] == "none"


def test_a_session_begins_with_the_conversation_so_far() -> None:
    call = ToolCall(id="c1", name="book", arguments='{"day":"Friday"}')
    messages = (
        Message(role="system", text="Until now: nothing."),
        Message(role="user", text="A table on Friday."),
        Message(role="assistant", text="", tool_calls=(call,)),
        Message(role="tool", text="booked", tool_call_id="c1"),
        Message(role="assistant", text="It is booked."),
    )
    fake = FakeOpenAIRealtime()
    late = ToolResult(reply="old", call_id="c0", text="done after all")
    simulate(lambda: hold(fake, [late, 0.5], messages=messages))
    (held,) = fake.conversations
    kinds = [(item.kind, item.role, item.text) for item in held.items]
    assert kinds[:-1] == [
        ("message", "system", "Until now: nothing."),
        ("message", "user", "A table on Friday."),
        ("function_call", "", '{"day":"Friday"}'),
        ("function_call_output", "", "booked"),
        ("message", "assistant", "It is booked."),
    ]
    assert kinds[-1][:2] == ("message", "system")
    assert "done after all" in kinds[-1][2]
    assert held.errors == []


def fault_of(fake: FakeOpenAIRealtime, **settings: Any) -> ProviderError:
    """How a session ends that is set up so."""
    with pytest.raises(ExceptionGroup) as caught:
        simulate(lambda: hold(fake, [HEARD, 5.0], settings=settings))
    error = first_error(caught.value)
    assert isinstance(error, ProviderError)
    return error


def test_settings_that_are_refused_end_the_session() -> None:
    error = fault_of(FakeOpenAIRealtime(), extra={"output_modalities": ["video"]})
    assert "invalid_value" in str(error)
    assert not error.retryable


def test_a_service_that_does_not_take_the_settings_is_not_waited_for() -> None:
    fake = FakeOpenAIRealtime()
    fake.faults.add(Fault(stall_after=1))
    error = fault_of(fake)
    assert "setting up the session took longer than 1 s" in str(error)
    assert error.retryable


def test_a_cancel_at_any_moment_closes_the_session() -> None:
    for number in range(40):
        fake = FakeOpenAIRealtime((LONG,), created_s=0.02, first_s=0.02)
        fake.faults.add(Fault(gap_s=0.003))

        async def run(fake: FakeOpenAIRealtime = fake, limit_s: float = number * 0.006) -> None:
            with trio.move_on_after(limit_s):
                await hold(fake, [HEARD, Respond(reply="a"), 5.0])
            await trio.sleep(1)

        simulate(run)
        assert fake.open_sessions == 0
