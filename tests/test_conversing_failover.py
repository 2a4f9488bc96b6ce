"""Speech models that take over from one another in the midst of a call, on the simulated clock."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import trio

from rtcore.agent.agent import Agent, Colleague
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.errors import ConfigError, SessionOver
from rtcore.ports import ToolCall
from rtcore.providers.fallback import Breakers, BreakerSettings, FallbackSpeechModel
from rtcore.speech_port import CallerEnded, ReplyDone, ToolResult
from rtcore.testing import (
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    say,
    simulate,
    wait,
    wait_for_agent_quiet,
)
from rtcore.usage import ProviderUsage
from tests.conversing import ASK, TALK, TURNS, TWICE, asked, told
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, Made, make_call, said, tool

Turns = Literal["ours", "theirs"]
ALWAYS = range(9)
LISTENING = [wait(500), say(VOICE), wait(9000)]


def talker(name: str, *replies: Any, **how: Any) -> ScriptedSpeechModel:
    given = {"first_audio_ms": 300, **how}
    return ScriptedSpeechModel(replies or ANSWERS, QUESTIONS, name=name, **given)


def failing(name: str, fault: ProviderFault, *replies: Any, **how: Any) -> ScriptedSpeechModel:
    return talker(name, *replies, faults=dict.fromkeys(ALWAYS, fault), **how)


def agent_of(*models: ScriptedSpeechModel, tools: tuple[Tool, ...] = (), **words: Any) -> Agent:
    return Agent(
        AgentDefinition(name="desk", **words),
        speech_model=FallbackSpeechModel(models),
        tools=tools,
    )


def used(made: Made) -> dict[str, ProviderUsage]:
    return {each.provider: each for each in made.record.usage if each.kind == "speech"}


def moves(made: Made) -> list[str]:
    """Who took over, as the notes of the call say."""
    notes = [note for note in made.record.notes if note.kind == "failed_over"]
    return [str(note.fields["provider"]) for note in notes]


def nothing_open(*models: ScriptedSpeechModel) -> bool:
    return all(model.sessions.open == 0 for model in models)


# --- one fails, the other goes on ---------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", ["raise", "end"])
@pytest.mark.parametrize("retryable", [True, False])
def test_a_model_that_cannot_be_had_is_not_noticed(kind: Any, retryable: bool, turns: Any) -> None:
    one = failing("one", ProviderFault(kind=kind, retryable=retryable), turns=turns)
    two = talker("two", turns=turns)
    made = simulate(make_call, agent_of(one, two), [wait(500), *TWICE])
    assert said(made.record, "user") == list(QUESTIONS)
    assert said(made.record, "assistant") == list(ANSWERS)
    assert (one.sessions.opened, two.sessions.opened) == (1, 1)
    assert moves(made) == ["two"]
    usage = used(made)
    assert (usage["one"].requests, usage["one"].failures, usage["one"].answered) == (1, 1, 0)
    assert (usage["two"].member, usage["two"].failovers, usage["two"].failures) == (1, 1, 0)
    assert usage["two"].requests == usage["two"].answered == 2
    assert usage["two"].speech_s > 1
    assert usage["one"].audio_s > 0
    assert nothing_open(one, two)


@pytest.mark.parametrize("turns", TURNS)
def test_the_next_knows_what_was_heard_of_an_answer_that_broke_off(turns: Any) -> None:
    one = talker(
        "one", turns=turns, speed=1.5, faults={0: ProviderFault(kind="raise", after_items=20)}
    )
    two = talker("two", turns=turns)
    agent = agent_of(one, two, prompt="Be brief.")
    made = simulate(make_call, agent, [wait(500), *TWICE])
    first, apology, second = said(made.record, "assistant")
    assert ANSWERS[0].startswith(first)
    assert (apology, second) == (agent.definition.apology_line, ANSWERS[1])
    (begun,) = two.begun
    assert begun.instructions == "Be brief."
    question, answer = begun.messages
    assert (question.role, question.text) == ("user", QUESTIONS[0])
    assert first.startswith(answer.text)
    assert moves(made) == ["two"]
    assert nothing_open(one, two)


@pytest.mark.parametrize("turns", TURNS)
def test_a_model_that_says_nothing_is_not_waited_for_by_an_apology(turns: Any) -> None:
    one, two = failing("one", ProviderFault(kind="stall"), turns=turns), talker("two", turns=turns)
    script = [wait(500), say(VOICE), wait(12_000), say(VOICE), wait_for_agent_quiet(1500)]
    made = simulate(make_call, agent_of(one, two), script)
    assert said(made.record, "assistant") == list(ANSWERS)
    assert said(made.record, "user") == list(QUESTIONS)
    assert made.record.stats.floor_lost == 0
    assert made.record.turns[0].response_ms < 6500
    assert (one.sessions.opened, two.sessions.opened) == (1, 1)
    assert nothing_open(one, two)


def test_a_model_that_ends_a_turn_and_begins_no_answer_is_given_up() -> None:
    class Absent(ScriptedSpeechModel):
        """Hears when the caller has ended, and nothing follows."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            def only_turns(event: Any) -> None:
                if isinstance(event, CallerEnded):
                    emit(event)

            await super().converse(session, commands, only_turns)

    one = Absent(ANSWERS, QUESTIONS, turns="theirs", name="one")
    two = talker("two", turns="theirs")
    script = [wait(500), say(VOICE), wait(12_000), say(VOICE), wait_for_agent_quiet(1500)]
    made = simulate(make_call, agent_of(one, two), script)
    assert said(made.record, "assistant") == list(ANSWERS)
    assert said(made.record, "user") == list(QUESTIONS)
    assert moves(made) == ["two"]
    assert nothing_open(one, two)


class Stuttering(ScriptedSpeechModel):
    """Says twice that a turn has ended; the second time later, or by another name."""

    after_s = 0.0
    turn = ""

    async def converse(self, session: Any, commands: Any, emit: Any) -> None:
        async def again(turn: str) -> None:
            await trio.sleep(self.after_s)
            emit(CallerEnded(turn=turn))

        def twice(event: Any) -> None:
            emit(event)
            if isinstance(event, CallerEnded) and self.turn:
                emit(CallerEnded(turn=self.turn))
            elif isinstance(event, CallerEnded):
                nursery.start_soon(again, event.turn)

        async with trio.open_nursery() as nursery:
            await super().converse(session, commands, twice)
            nursery.cancel_scope.cancel(reason="session over")


@pytest.mark.parametrize("after_s", [0.0, 0.2, 1.0, 3.0])
def test_an_end_of_a_turn_that_is_told_twice_is_one(after_s: float) -> None:
    one = Stuttering(ANSWERS[1:], QUESTIONS, turns="theirs", name="one", first_audio_ms=300)
    one.after_s = after_s
    made = simulate(make_call, agent_of(one, talker("two", turns="theirs")), LISTENING)
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [ANSWERS[1]]
    assert made.record.stats.turns == 1
    assert made.record.stats.floor_lost == 0
    assert moves(made) == []


def test_two_turns_ended_at_once_are_owed_one_answer() -> None:
    """A model that has answered the second is not given up for the first."""
    one = Stuttering(ANSWERS[1:], QUESTIONS, turns="theirs", name="one", first_audio_ms=300)
    one.turn = "other"
    made = simulate(make_call, agent_of(one, talker("two", turns="theirs")), LISTENING)
    assert said(made.record, "assistant") == [ANSWERS[1]]
    assert made.record.stats.turns == 2
    assert moves(made) == []


def test_a_model_that_falls_silent_in_its_answer_is_apologised_for_by_the_next() -> None:
    one = talker("one", faults={0: ProviderFault(kind="stall", after_items=6)})
    two = talker("two")
    agent = agent_of(one, two)
    script = [wait(500), say(VOICE), wait(9000), say(VOICE), wait_for_agent_quiet(2000)]
    made = simulate(make_call, agent, script)
    begun, apology, answer = said(made.record, "assistant")
    assert ANSWERS[0].startswith(begun)
    assert (apology, answer) == (agent.definition.apology_line, ANSWERS[1])
    assert moves(made) == ["two"]
    assert nothing_open(one, two)


def test_a_reply_that_a_model_cannot_make_is_asked_of_the_next() -> None:
    class Limited(ScriptedSpeechModel):
        """Refuses every answer, and goes on with its session."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            with self.sessions.session():
                async for command in commands:
                    if (reply := getattr(command, "reply", "")) and reply not in self.refused:
                        self.refused.add(reply)
                        emit(ReplyDone(reply=reply, status="failed", detail="rate_limit"))

        refused: set[str]

    one, two = Limited([""], name="one"), talker("two")
    one.refused = set()
    made = simulate(make_call, agent_of(one, two, welcome_message=WELCOME), TALK)
    assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]
    assert one.refused == {"r1"}
    assert moves(made) == ["two"]
    assert nothing_open(one, two)


class Expiring(ScriptedSpeechModel):
    """Ends its first session after so long, as a service does at its time limit."""

    limit_s = 8.0

    async def converse(self, *args: Any) -> None:
        with trio.move_on_after(self.limit_s if self.sessions.opened == 0 else 600.0):
            await super().converse(*args)
            return
        raise SessionOver(self.name, "expired")


def test_a_session_at_its_time_limit_is_opened_anew_with_the_same_model() -> None:
    one = Expiring(ANSWERS, QUESTIONS, first_audio_ms=300, name="one")
    two = talker("two")
    made = simulate(make_call, agent_of(one, two), [say(VOICE), wait(10_000), *TWICE[2:]])
    assert said(made.record, "assistant") == list(ANSWERS)
    assert (one.sessions.opened, two.sessions.opened) == (2, 0)
    assert used(made)["one"].failures == 0
    assert moves(made) == []


def test_one_that_expires_before_it_has_answered_anything_has_failed() -> None:
    one, two = Expiring(ANSWERS, QUESTIONS, name="one"), talker("two")
    one.limit_s = 0.2
    made = simulate(make_call, agent_of(one, two), ASK)
    assert said(made.record, "assistant") == [ANSWERS[0]]
    assert (one.sessions.opened, two.sessions.opened) == (1, 1)
    assert used(made)["one"].failures == 1


@pytest.mark.parametrize("turns", TURNS)
def test_a_caller_heard_by_two_models_loses_no_word(turns: Any) -> None:
    """Wherever the first session breaks, the second hears the turn from its first sample."""
    alone = talker("alone", turns=turns)
    simulate(make_call, Agent(AgentDefinition(name="desk"), speech_model=alone), ASK)
    for broken_s in (0.1, 0.6, 0.9, 1.2, 1.5, 1.8):
        one, two = Expiring(ANSWERS, QUESTIONS, turns=turns, name="one"), talker("two", turns=turns)
        one.limit_s = broken_s
        made = simulate(make_call, agent_of(one, two), ASK)
        assert said(made.record, "user") == [QUESTIONS[0]]
        assert said(made.record, "assistant") == [ANSWERS[0]]
        if turns == "ours":
            assert two.heard_samples == alone.heard_samples
        assert nothing_open(one, two)


# --- an end to trying ---------------------------------------------------------------------


def test_when_all_fail_the_voice_beside_them_says_what_waits_and_goodbye() -> None:
    fault = ProviderFault(kind="raise")
    one, two = failing("one", fault), failing("two", fault)
    agent = agent_of(one, two, welcome_message=WELCOME)
    beside = Agent(
        agent.definition, synthesizer=ScriptedSynthesizer(100), speech_model=agent.speech_model
    )
    made = simulate(make_call, beside, [wait(60_000)])
    assert said(made.record, "assistant") == [WELCOME, agent.definition.farewell_line]
    assert (one.sessions.opened, two.sessions.opened) == (2, 1)
    assert made.record.duration_s < 10
    assert moves(made) == ["two", "one"]


def test_two_that_say_nothing_are_apologised_for_in_the_end() -> None:
    stall = ProviderFault(kind="stall")
    one, two = failing("one", stall), failing("two", stall)
    agent = agent_of(one, two)
    beside = Agent(
        agent.definition, synthesizer=ScriptedSynthesizer(100), speech_model=agent.speech_model
    )
    made = simulate(make_call, beside, [wait(500), say(VOICE), wait(16_000)])
    assert said(made.record, "assistant")[0] == agent.definition.apology_line
    assert nothing_open(one, two)


def test_a_model_that_is_down_is_found_out_once_for_all_calls() -> None:
    breakers = Breakers(BreakerSettings(failures_max=1, open_s=300))
    one, two = failing("one", ProviderFault(kind="raise")), talker("two")
    agent = Agent(
        AgentDefinition(name="desk"),
        speech_model=FallbackSpeechModel([one, two], breakers=breakers),
    )
    first, second = (simulate(make_call, agent, ASK) for _ in range(2))
    for made in (first, second):
        assert said(made.record, "assistant") == [ANSWERS[0]]
        assert moves(made) == ["two"]
    assert (one.sessions.opened, two.sessions.opened) == (1, 2)
    assert set(used(second)) == {"two"}
    assert used(second)["two"].failovers == 1


def test_a_line_one_has_said_is_not_taken_for_the_voice_of_another() -> None:
    one, two = failing("one", ProviderFault(kind="raise")), talker("two")
    agent = agent_of(one, two, welcome_message=WELCOME)
    simulate(make_call, agent, [wait_for_agent_quiet(1000)])
    assert agent.lines.get("one", WELCOME) is None
    assert agent.lines.get("two 1", WELCOME) is not None


# --- functions ----------------------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("after_items", [1, 2, 3])
def test_a_write_is_done_once_whoever_goes_on(turns: Any, after_items: int) -> None:
    """Also where nothing of the answer was audible: heard again, the turn would be acted on."""
    done: list[str] = []
    order = (asked("order"), asked("order"), asked("order"))
    fault = ProviderFault(kind="raise", after_items=after_items)
    one = talker("one", order, ANSWERS[1], turns=turns, faults={0: fault})
    two = talker("two", order, ANSWERS[1], turns=turns)
    agent = agent_of(one, two, tools=(tool("order", "write", done, 0.5),))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(9000)])
    keys = [line.split()[2] for line in done if line.split()[1] == "begun"]
    assert len(keys) == len(set(keys))
    replies = {key.split("-")[2] for key in keys}
    assert len(replies) <= 1  # what was begun in advance, or broke off, is not done as well
    if turns == "theirs":
        assert said(made.record, "assistant")[-1] == agent.definition.apology_line
    assert len(two.begun) == 1
    assert nothing_open(one, two)


@pytest.mark.parametrize("turns", TURNS)
def test_a_turn_that_was_acted_on_is_not_told_again(turns: Any) -> None:
    """The session breaks while the function runs, and the next model would call it as well."""
    done: list[str] = []
    one = Expiring([(asked("order"), "It is done.")], QUESTIONS, turns=turns, name="one")
    one.limit_s = 3.5
    two = talker("two", (asked("order"), "It is done."), turns=turns)
    agent = agent_of(one, two, tools=(tool("order", "write", done, 3.0),), filler_line="")
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(9000)])
    assert [line.split()[1] for line in done] == ["begun", "done"]
    assert [m.text for m in made.record.transcript if m.role == "tool"] == ["done"]
    assert [call.name for m in two.begun[0].messages for call in m.tool_calls] == ["order"]
    assert two.begun[0].messages[0].role == "user"
    (result,) = told(two, ToolResult)
    assert result.text == "done"
    assert nothing_open(one, two)


# --- whom they may be ---------------------------------------------------------------------


def test_models_of_a_list_go_by_the_same_turns() -> None:
    ours, theirs = talker("one"), talker("two", turns="theirs")
    with pytest.raises(ConfigError) as caught:
        FallbackSpeechModel([ours, ours, theirs])
    assert caught.value.field == "speech_model[2].turns"


def test_a_list_of_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        FallbackSpeechModel([])


def test_failures_of_one_agent_do_not_count_against_the_next() -> None:
    """The first is lost once, is left for a colleague, whose model fails once too: no farewell."""
    hand_over = ToolCall(id="h", name="hand_over", arguments='{"to":"law"}')
    one = talker("one", ("One moment.", hand_over), faults={0: ProviderFault(kind="raise")})
    other = talker("other", ANSWERS[1], faults={0: ProviderFault(kind="raise")})
    law = Agent(
        AgentDefinition(name="law", welcome_message="This is the law desk."), speech_model=other
    )
    desk = Agent(
        AgentDefinition(name="desk"),
        speech_model=one,
        colleagues={"law": Colleague(law, "law")},
    )
    made = simulate(make_call, desk, [wait(500), *TWICE])
    heard = [text for text in said(made.record, "assistant") if text]
    assert heard == ["One moment.", "This is the law desk.", ANSWERS[1]]
    assert (one.sessions.opened, other.sessions.opened) == (2, 2)
    assert nothing_open(one, other)
