"""The functions a speech model calls, and another agent that goes on with its call."""

from __future__ import annotations

import dataclasses

import pytest

from rtcore.agent.agent import Colleague
from rtcore.config import CallConfig
from rtcore.errors import ConfigError
from rtcore.ports import Hit, ToolCall
from rtcore.speech_port import (
    Instruct,
    Say,
    ToolResult,
)
from rtcore.testing import (
    ScriptedSynthesizer,
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
    VOICE,
    make_call,
    said,
    scripted,
    tool,
)

EFFECTS = {"read_a": "read", "read_b": "read", "write_a": "write", "write_b": "write"}


def test_a_function_is_run_and_its_result_told() -> None:
    done: list[str] = []
    talker = model(("Let me look.", asked("look")), ANSWERS[1])
    made = simulate(make_call, agent_of(talker, tool("look", "read", done)), ASK)
    assert said(made.record, "assistant") == ["Let me look.", "That is done."]
    (result,) = told(talker, ToolResult)
    assert result.text == "done"
    wanted, held = made.record.transcript[1:3]
    assert [call.name for call in wanted.tool_calls] == ["look"]
    assert (held.role, held.text, held.tool_call_id) == ("tool", "done", result.call_id)
    assert made.record.stats.tool_calls == 1


def test_what_only_reads_runs_together_and_writes_run_in_order() -> None:
    done: list[str] = []
    tools = [tool(name, effect, done, 0.5) for name, effect in EFFECTS.items()]
    parts = tuple(asked(name) for name in ("read_a", "read_b", "write_a", "write_b"))

    talker = model(parts)
    made = simulate(make_call, agent_of(talker, *tools), ASK)
    order = [tuple(line.split()[:2]) for line in done]
    assert set(order[:2]) == {("read_a", "begun"), ("read_b", "begun")}
    assert set(order[2:4]) == {("read_a", "done"), ("read_b", "done")}
    assert order[4:] == [
        ("write_a", "begun"),
        ("write_a", "done"),
        ("write_b", "begun"),
        ("write_b", "done"),
    ]
    assert len(told(talker, ToolResult)) == 4
    assert made.record.stats.tool_calls == 4


def test_a_write_of_a_discarded_answer_never_runs() -> None:
    done: list[str] = []
    talker = model((asked("order"),), first_audio_ms=50)
    script = [wait(500), say(VOICE), wait(600), say(VOICE), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent_of(talker, tool("order", "write", done)), script)
    assert made.record.stats.discarded == 1
    assert [line.split()[1] for line in done] == ["begun", "done"]
    cancelled, told_ = told(talker, ToolResult)
    assert cancelled.text.startswith("cancelled")
    assert told_.text == "done"


def test_a_write_outlives_the_interruption_and_the_model_learns_of_it() -> None:
    done: list[str] = []
    talker = model((asked("order"),), ANSWERS[1])
    agent = agent_of(talker, tool("order", "write", done, 3.0), filler_line="")
    script = [wait(500), say(VOICE), wait(2000), say(VOICE), wait_for_agent_quiet(2500)]
    made = simulate(make_call, agent, script)
    assert [line.split()[1] for line in done] == ["begun", "done"]
    assert [m.text for m in made.record.transcript if m.role == "tool"] == ["done"]
    assert [each.text for each in told(talker, ToolResult)] == ["done"]
    assert talker.sessions.open == 0


def test_a_long_function_is_bridged_once() -> None:
    done: list[str] = []
    talker = model((asked("order"),))
    agent = agent_of(talker, tool("order", "write", done, 6.0))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(5000)])
    filler = agent.definition.filler_line
    assert said(made.record, "assistant") == ["", filler, "That is done."]
    assert [each.text for each in told(talker, Say)] == [filler]


def test_hang_up_waits_until_the_goodbye_is_heard() -> None:
    goodbye = "Thank you and goodbye."
    talker = model((goodbye, ToolCall(id="h", name="hang_up", arguments="")))
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(20_000)])
    assert made.record.ended_by == "agent_hung_up"
    assert said(made.record, "assistant") == [goodbye]
    start, end = made.report.agent_runs[0]
    assert end - start >= speak(goodbye, 300).samples - 800
    assert made.report.counts.played_checkpoints == 1


def test_a_function_that_cannot_be_called_is_explained_to_the_model() -> None:
    talker = model((ToolCall(id="x", name="nothing", arguments="{"),))
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(4000)])
    (result,) = told(talker, ToolResult)
    assert result.text == "error: there is no function 'nothing'; there are: hang_up"
    assert made.record.stats.tool_calls == 0
    assert said(made.record, "assistant")[-1] == "That is done."


def test_a_model_that_only_calls_is_stopped() -> None:
    done: list[str] = []
    talker = model(tuple(part for _ in range(9) for part in ("So.", asked("look"))))
    agent = agent_of(talker, tool("look", "read", done), voice=ScriptedSynthesizer(100))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1000)])
    limit = CallConfig().tool_steps_max
    assert made.record.stats.tool_calls == limit
    results = [each.text for each in told(talker, ToolResult)]
    assert results == ["done"] * limit + ["error: too many functions, one after another"]
    assert said(made.record, "assistant")[-1] == agent.definition.apology_line


@pytest.mark.parametrize("can_be_instructed", [True, False])
def test_another_agent_goes_on_with_the_call(can_be_instructed: bool) -> None:
    talker = model(
        ("One moment.", ToolCall(id="h", name="hand_over", arguments='{"to":"law"}')),
        ANSWERS[1],
        can_be_instructed=can_be_instructed,
    )
    law = agent_of(talker, welcome="This is the law desk.", prompt="You know the law.")
    desk = dataclasses.replace(
        agent_of(talker, prompt="You are the desk."), colleagues={"law": Colleague(law, "law")}
    )
    made = simulate(make_call, desk, [wait(500), *TWICE])
    heard = ["One moment.", "This is the law desk.", ANSWERS[1]]
    assert [text for text in said(made.record, "assistant") if text] == heard
    if can_be_instructed:
        assert [each.instructions for each in told(talker, Instruct)] == ["You know the law."]
    else:
        assert [each.instructions for each in talker.begun] == [
            "You are the desk.",
            "You know the law.",
        ]
        assert [m.text for m in talker.begun[1].messages if m.role == "assistant"] == heard[:1]


def test_agents_that_talk_in_another_way_cannot_take_over() -> None:
    for other in (scripted(welcome="Hello."), agent_of(model(turns="theirs"), welcome="Hello.")):
        with pytest.raises(ConfigError, match=r"colleagues\.law\.speech_model"):
            dataclasses.replace(agent_of(model()), colleagues={"law": Colleague(other, "law")})


def test_documents_are_a_function_of_the_model() -> None:
    class Index:
        async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
            assert question == "opening hours"
            return (Hit(text="We open at nine.", title="Hours"),)

    call = ToolCall(id="l", name="look_up", arguments='{"question":"opening hours"}')
    talker = model((call,))
    agent = dataclasses.replace(agent_of(talker), knowledge=Index())
    simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1000)])
    assert "look_up" in [spec.name for spec in talker.begun[0].tools]
    (result,) = told(talker, ToolResult)
    assert "We open at nine." in result.text
