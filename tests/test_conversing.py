"""A call with one model that hears, thinks and speaks, on the simulated clock."""

from __future__ import annotations

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.testing import (
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    hang_up,
    say,
    simulate,
    wait_for_agent_quiet,
)
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, make_call, said

TALK = [wait_for_agent_quiet(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
TWICE = [say(VOICE), wait_for_agent_quiet(1000), say(VOICE), wait_for_agent_quiet(1000)]


def model(*replies, **how):  # type: ignore[no-untyped-def] # as the model takes them
    how.setdefault("first_audio_ms", 300)
    return ScriptedSpeechModel(replies or ANSWERS, QUESTIONS, **how)


def agent_of(
    model: ScriptedSpeechModel,
    *,
    welcome: str = "",
    tools: tuple[Tool, ...] = (),
    voice: ScriptedSynthesizer | None = None,
) -> Agent:
    definition = AgentDefinition(name="desk", welcome_message=welcome)
    agent = Agent(definition, speech_model=model, tools=tools)
    if voice is not None:
        agent = Agent(definition, speech_model=model, tools=tools, synthesizer=voice)
    return agent


def test_a_question_is_answered() -> None:
    talker = model()
    made = simulate(make_call, agent_of(talker, welcome=WELCOME), TALK)
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]
    assert made.record.ended_by == "hung_up"
    assert made.report.counts.stale_messages == 0
    assert made.report.violations == ()
    assert made.report.gaps == ()
    assert talker.sessions.open == 0
