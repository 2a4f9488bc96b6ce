"""Whole calls whose functions steer them: hand-over, patience, expectation, keys, knowledge."""

from __future__ import annotations

import dataclasses

import pytest
import trio

from rtcore.agent.agent import Agent, Colleague
from rtcore.agent.builtins import send_dtmf, transfer, wait_for_caller
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.call import Call, CallRecord, run_call
from rtcore.errors import ConfigError
from rtcore.ports import Hit, ToolCall
from rtcore.testing import (
    Action,
    CarrierReport,
    FakeCarrier,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.agent.test_knowledge import ScriptedIndex

VOICE = speak("tell me this then please").pcm
TURN = [say(VOICE), wait_for_agent_quiet(1000)]


def desk(*replies: str | ToolCall, tools: tuple[Tool, ...] = ()) -> Agent:
    return Agent(
        AgentDefinition(name="desk", prompt="You are the desk."),
        ScriptedTranscriber(["tell me this then please"], 100, partial_ms=100),
        ScriptedResponder(replies, 100),
        ScriptedSynthesizer(50, ms_per_word=100),
        tools=tools,
    )


def make_call(
    agent: Agent, script: list[Action], transferred: list[str] | None = None
) -> tuple[CallRecord, CarrierReport]:
    async def transferring(to: str, summary: str) -> None:
        assert transferred is not None
        transferred.append(to)

    def on_start(call: Call) -> None:
        if transferred is not None:
            call.steering.transferring = transferring

    async def run() -> tuple[CallRecord, CarrierReport]:
        here, there = memory_sockets()
        record: list[CallRecord] = []

        async def node() -> None:
            record.append(await run_call(there, agent, on_start=on_start))

        with trio.fail_after(200):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node)
                report = await FakeCarrier(script).call(here)
        return record[0], report

    return simulate(run)


def wants(name: str, arguments: str = "{}") -> ToolCall:
    return ToolCall(id="c1", name=name, arguments=arguments)


def said(record: CallRecord) -> list[str]:
    return [m.text for m in record.transcript if m.role == "assistant" and m.text]


def test_another_agent_goes_on_with_the_call_in_its_own_words() -> None:
    sales = dataclasses.replace(
        desk("The blue one."),
        definition=AgentDefinition(
            name="sales", welcome_message="Sales, good day.", prompt="Sell."
        ),
    )
    agent = dataclasses.replace(
        desk(wants("hand_over", '{"to": "sales"}')),
        colleagues={"sales": Colleague(sales, "prices and orders")},
    )
    record, report = make_call(agent, [wait(200), *TURN, *TURN, hang_up()])
    assert said(record) == ["Sales, good day.", "The blue one."]
    results = [m.text for m in record.transcript if m.role == "tool"]
    assert results == ["sales goes on with the call"]
    assert report.counts.stale_messages == 0


def test_a_colleague_without_a_welcome_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"colleagues\.sales\.welcome_message"):
        dataclasses.replace(desk(""), colleagues={"sales": Colleague(desk(""), "prices")})


def test_a_caller_who_asked_for_a_moment_is_not_reminded() -> None:
    patient = desk(
        wants("wait_for_caller", '{"seconds": 60}'), "Go on.", tools=(wait_for_caller(),)
    )
    script = [wait(200), *TURN, wait(40_000), *TURN, wait(15_000), hang_up()]
    record, _ = make_call(patient, script)
    reminder = patient.definition.idle.reminders[0]
    assert said(record) == ["That is done.", "Go on.", reminder]  # after the second turn, as ever


def test_keys_reach_the_carrier() -> None:
    agent = desk(wants("send_dtmf", '{"keys": "12#"}'), tools=(send_dtmf(),))
    record, report = make_call(agent, [wait(200), *TURN, hang_up()])
    assert [m.text for m in record.transcript if m.role == "tool"] == ["pressed"]
    assert report.violations == ()


@pytest.mark.parametrize("is_possible", [True, False])
def test_a_transfer_is_asked_of_who_can_do_it(is_possible: bool) -> None:
    agent = desk(wants("transfer", '{"to": "sales"}'), tools=(transfer({"sales": "+15550100"}),))
    asked: list[str] = []
    record, _ = make_call(agent, [wait(200), *TURN, hang_up()], asked if is_possible else None)
    results = [m.text for m in record.transcript if m.role == "tool"]
    if is_possible:
        assert asked == ["+15550100"]
        assert results == ["the caller is being put through"]
    else:
        assert results == ["error: this call cannot be transferred"]


def test_what_is_known_was_looked_up_while_the_caller_spoke() -> None:
    index = ScriptedIndex(Hit(text="Behind the house.", source="place.md"), takes_s=0.15)
    agent = dataclasses.replace(desk("Behind the house."), knowledge=index)
    record, _ = make_call(agent, [wait(200), *TURN, hang_up()])
    assert index.asked[-1] == "tell me this then please"
    assert len(index.asked) > 1
    assert record.stats.lookups == len(index.asked)
    assert record.stats.skipped_lookups == 0
    notes = [note for note in record.notes if note.kind == "answered_from"]
    assert [note.fields["sources"] for note in notes] == [["place.md"]]
    assert index.open == 0


def test_an_index_that_hangs_delays_no_answer() -> None:
    def response_ms(agent: Agent) -> tuple[float, int]:
        record, _ = make_call(agent, [wait(200), *TURN, hang_up()])
        return record.turns[0].response_ms, record.stats.skipped_lookups

    without, _ = response_ms(desk("Yes."))
    hanging = dataclasses.replace(desk("Yes."), knowledge=ScriptedIndex(takes_s=60.0))
    with_hanging, skipped = response_ms(hanging)
    assert with_hanging - without < 51
    assert skipped >= 1


def test_a_long_call_is_summed_up_beside_the_talk() -> None:
    agent = desk(*(["word " * 100] * 8), "Summary.")
    definition = AgentDefinition(name="desk", context_max_tokens=500)
    agent = dataclasses.replace(agent, definition=definition)
    record, _ = make_call(agent, [wait(200), *(TURN * 10), hang_up()])
    assert len([m for m in record.transcript if m.role == "user"]) == 10
    assert agent.responder.sessions.opened > 10  # type: ignore[attr-defined] # scripted
    assert agent.responder.sessions.open == 0  # type: ignore[attr-defined]
