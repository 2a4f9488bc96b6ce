"""Every bound of a call with a speech model, filled."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from rtcore.agent.definition import IdlePolicy
from rtcore.agent.performing import CANCELLED
from rtcore.answering import LINES_MAX
from rtcore.call import Call, run_call
from rtcore.config import CallConfig
from rtcore.model_reply import CALLS_MAX, SOUND_MAX, ModelReply
from rtcore.model_turns import WAITING_MAX
from rtcore.ports import CallerAudio
from rtcore.speech_port import (
    CancelReply,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    ToolResult,
    Truncate,
)
from rtcore.testing import (
    FakeCarrier,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.conversing import (
    ASK,
    TWICE,
    agent_of,
    asked,
    model,
    told,
)
from tests.test_call import (
    ANSWERS,
    LONG,
    VOICE,
    WELCOME,
    Made,
    make_call,
    said,
    tool,
)


def test_a_model_too_far_ahead_of_the_line_is_stopped() -> None:
    talker = model(LONG, chunk_ms=1, speed=10_000)
    voice = ScriptedSynthesizer(100)
    agent = agent_of(talker, voice=voice)
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1500)])
    heard = said(made.record, "assistant")
    assert LONG.startswith(heard[0])
    assert heard[1] == agent.definition.apology_line
    assert [each.reply for each in told(talker, CancelReply)] == ["r1"]


@pytest.mark.parametrize(
    "one_too_many",
    [
        ReplyAudio(reply="m0", step=0, pcm=b"", is_last=True),
        ReplyText(reply="m0", step=1, text="And"),
        ReplyToolCall(reply="m0", step=0, call=asked("order")),
        ReplyDone(reply="m0"),
    ],
)
def test_also_the_end_of_what_fills_the_line_is_too_far_ahead(one_too_many: Any) -> None:
    class Bursting(ScriptedSpeechModel):
        """Says all at once what just fits."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            with self.sessions.session():
                emit(ReplyBegun(reply="m0"))
                for _ in range(SOUND_MAX):
                    emit(ReplyAudio(reply="m0", step=0, pcm=b"\0\0"))
                emit(one_too_many)
                async for command in commands:
                    self.told.append(command)

    talker = Bursting([""], turns="theirs")
    made = simulate(make_call, agent_of(talker), [wait(3000)])
    refused = [each.text for each in told(talker, ToolResult)]
    assert refused == [CANCELLED] * isinstance(one_too_many, ReplyToolCall)
    assert made.record.ended_by == "hung_up"
    assert made.record.stats.provider_errors == 1
    assert talker.sessions.opened == 1


async def test_what_comes_of_a_reply_that_nobody_plays_any_more_is_dropped() -> None:
    reply = ModelReply(number=1)
    reply.hear(0, b"\0\0")
    reply.sound_rx.close()
    reply.hear(0, b"\0\0")
    reply.step(1)
    reply.hear(1, b"\0\0")
    reply.close()
    assert reply.fault == ""


def test_more_functions_at_once_than_can_wait_are_refused() -> None:
    done: list[str] = []
    talker = model(tuple(asked("order") for _ in range(CALLS_MAX + 3)))
    agent = agent_of(talker, tool("order", "write", done))
    made = simulate(make_call, agent, ASK)
    results = [each.text for each in told(talker, ToolResult)]
    refused = [text for text in results if text == "error: too many functions at once"]
    assert len(results) == CALLS_MAX + 3
    assert len(refused) + made.record.stats.tool_calls == CALLS_MAX + 3
    assert refused
    calls = [call.id for m in made.record.transcript for call in m.tool_calls]
    assert calls == [m.tool_call_id for m in made.record.transcript if m.role == "tool"]
    assert said(made.record, "assistant")[-1] == "That is done."


def test_replies_a_model_begins_unasked_wait_their_turn_and_only_so_many() -> None:
    class Chatty(ScriptedSpeechModel):
        """Answers everything several times over."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            with self.sessions.session():
                await trio.sleep(1)
                for number in range(WAITING_MAX + 3):
                    emit(ReplyBegun(reply=f"m{number}"))
                    emit(ReplyText(reply=f"m{number}", step=0, text=f"Number {number}."))
                    emit(ReplyAudio(reply=f"m{number}", step=0, pcm=speak(f"n{number} x").pcm))
                    emit(ReplyDone(reply=f"m{number}"))
                async for command in commands:
                    if not isinstance(command, CallerAudio):
                        self.told.append(command)

    talker = Chatty([""], turns="theirs")
    made = simulate(make_call, agent_of(talker), [wait(8000)])
    spoken = [f"Number {number}." for number in range(WAITING_MAX + 1)]
    assert said(made.record, "assistant") == spoken
    assert [each.reply for each in told(talker, CancelReply)] == ["m5", "m6"]
    assert talker.sessions.open == 0


def test_lines_beyond_those_that_can_wait_are_refused() -> None:
    made = Made()
    taken: list[bool] = []

    async def call() -> None:
        here, there = memory_sockets()
        carrier = FakeCarrier([wait(60_000)])

        def started(begun: Call) -> None:
            begun.journal.listen = lambda noted: (
                taken.extend(begun.say(f"Line {n}.") for n in range(12))
                if noted.kind == "line_begun" and not taken
                else None
            )

        async def node() -> None:
            made.record = await run_call(
                there, agent_of(model(), welcome=WELCOME), on_start=started
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(node)
            await carrier.call(here)

    simulate(call)
    assert taken == [True] * LINES_MAX + [False] * (12 - LINES_MAX)
    expected = [WELCOME, *(f"Line {n}." for n in range(LINES_MAX))]
    assert said(made.record, "assistant")[: LINES_MAX + 1] == expected


def test_a_reply_that_takes_too_long_is_cut_and_the_call_goes_on() -> None:
    talker = model(LONG, ANSWERS[1])
    config = CallConfig(reply_limit_s=2.5)
    made = simulate(partial(make_call, config=config), agent_of(talker), [wait(500), *TWICE])
    first, second = said(made.record, "assistant")
    assert LONG.startswith(first)
    assert first != LONG
    assert second == ANSWERS[1]
    (truncate,) = told(talker, Truncate)
    assert 0 < truncate.heard_ms < 2500


def test_a_goodbye_that_takes_too_long_is_cut_and_ends_the_call() -> None:
    config = CallConfig(reply_limit_s=2.5)
    agent = agent_of(model(), idle=IdlePolicy(reminders=(), goodbye=LONG))
    made = simulate(partial(make_call, config=config), agent, [wait(60_000)])
    (heard,) = said(made.record, "assistant")
    assert LONG.startswith(heard)
    assert made.record.ended_by == "agent_hung_up"
    assert made.record.duration_s < config.turn.idle_ms / 1000 + 3
