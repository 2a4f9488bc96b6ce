"""What is made of a call once it is over: asked, checked, kept, and begun again where it broke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio

from api.analysis.asking import RECORD, questions
from api.analysis.findings import Findings
from api.analysis.queueing import SETTLE_MS
from api.analysis.records import (
    ATTEMPTS_MAX,
    CRASHED_MS,
    LEASE_MS,
    StoredAnalysis,
    claim_analysis,
    finish_analysis,
    get_analysis,
    is_analysis_due,
    request_analysis,
    save_findings,
)
from api.analysis.running import Analyst
from api.analysis.transcript import CHARS_PER_TOKEN, Line, cut, find_quote
from api.calls.records import (
    CallPlan,
    Ended,
    begin_outbound,
    mark_answered,
    mark_ended,
    open_stream,
    write_streams,
)
from api.outgoing.outbox import claim_deliveries, create_webhook
from api.outgoing.specs import WebhookSpec
from api.specs import AgentPlan, AgentSpec, AnalysisSpec, Criterion
from api.store import Actor, Store
from api.store.agents import create_agent, delete_agent, update_agent
from api.store.errors import Conflict
from rtcore.agent.agent import Agent
from rtcore.call import CallRecord
from rtcore.metrics import CallStats
from rtcore.ports import Message, ToolCall
from rtcore.testing import (
    Phone,
    ProviderFault,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
)
from tests.api.client import Api
from tests.api.telephone import ASKS, CALLER, OURS, serving

ME = Actor("rtk_test")
POLITE = Criterion(name="politeness", description="1 rude, 5 warm")
SCHEMA = {
    "type": "object",
    "properties": {"persons": {"type": "integer", "minimum": 1}},
    "required": ["persons"],
}
WISHES = AnalysisSpec(extract=SCHEMA, rubric=(POLITE,))
SAID = (
    Message(role="assistant", text="Good day, Trattoria Roma."),
    Message(role="user", text="A table for four, please."),
    Message(role="tool", text="booked", tool_call_id="c1"),
    Message(role="assistant", text="With pleasure: a table for four. Goodbye!"),
)


def record(said: Sequence[Message] = SAID) -> CallRecord:
    return CallRecord(
        call_id="uuid",
        stream_id="stream",
        ended_by="hung_up",
        duration_s=10,
        turns=(),
        barge_ins=(),
        stats=CallStats(),
        transcript=tuple(said),
        notes=(),
    )


def recorded(**arguments: Any) -> ToolCall:
    return ToolCall(id="r", name=RECORD, arguments=msgspec.json.encode(arguments).decode())


def polite(**changes: Any) -> ToolCall:
    given = {"reason": "warm", "score": 5, "quote": "with pleasure", "turn": 3}
    return recorded(politeness={**given, **changes})


class Answers(ScriptedResponder):
    """A model that answers its n-th request with the n-th reply."""

    def __init__(self, *replies: str | ToolCall, **options: Any) -> None:
        super().__init__(replies, **options)
        self.asked: list[Any] = []

    def reply_to(self, request: Any) -> Any:
        self.asked.append(request)
        return self._replies[(len(self.asked) - 1) % len(self._replies)]


GOOD = ("They booked a table.", recorded(persons=4), polite())


# --- plain functions --------------------------------------------------------------------


def lines(number: int, chars: int = 100) -> list[Line]:
    return [Line(turn, "Caller", f"{turn}:".ljust(chars, "x")) for turn in range(number)]


def test_a_transcript_that_fits_is_whole() -> None:
    shown = cut(lines(10), 1000)
    assert (shown.head, shown.tail, shown.left_out) == (tuple(lines(10)), (), 0)


@pytest.mark.parametrize("max_tokens", [100, 500, 2000])
def test_the_middle_of_a_long_transcript_goes(max_tokens: int) -> None:
    shown = cut(lines(200), max_tokens)
    kept = [line.turn for line in (*shown.head, *shown.tail)]
    assert kept[-1] == 199
    assert kept == sorted(set(kept))
    assert shown.left_out == 200 - len(kept)
    assert len(shown.text) <= max_tokens * CHARS_PER_TOKEN
    assert len(shown.head) < len(shown.tail)
    assert f"[{shown.left_out} turns are left out here]" in shown.text


def test_one_long_answer_does_not_take_all_the_room() -> None:
    shown = cut([*lines(3), Line(3, "Caller", "y" * 100_000), *lines(3)], 500)
    assert shown.left_out == 0
    assert len(shown.text) <= 500 * CHARS_PER_TOKEN
    function = cut([Line(0, "Function", "z" * 5000)], 100_000)
    assert len(function.text) < 500


@pytest.mark.parametrize(
    ("quote", "turn", "found"),
    [
        ("table for FOUR", 1, 1),
        ("a  table — for four!", 0, 1),  # said, but in another turn than the model thinks
        ("table for four", 3, 3),
        ("table for five", 1, None),
        ("", 1, None),
        ("booked", 2, None),  # a function's words are nobody's
    ],
)
def test_a_quote_must_have_been_said(quote: str, turn: int, found: int | None) -> None:
    said = [
        Line(0, "Agent", "Good day."),
        Line(1, "Caller", "A table for four, please."),
        Line(2, "Function", "booked"),
        Line(3, "Agent", "A table for four."),
    ]
    assert find_quote(said, quote, turn) == found


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"score": 9}, "9 is greater than the maximum"),
        ({"score": "5"}, "integer"),
        ({"quote": "never said"}, "was not said"),
        ({"quote": ""}, "needs a quote"),
        ({"mood": 1}, "mood"),
    ],
)
def test_a_score_without_its_evidence_does_not_hold(given: dict[str, Any], fault: str) -> None:
    said = [Line(3, "Agent", "With pleasure: a table for four.")]
    (question,) = questions(AnalysisSpec(summary=False, rubric=(POLITE,)), said)
    judged = question.judge("", [polite(**given)])
    assert fault in judged.faults
    assert (judged.part.state, judged.part.scores) == ("failed", ())
    assert question.judge("", [polite()]).part.scores[0].turn == 3
    unseen = question.judge("", [recorded(politeness={"reason": "not shown"})])
    assert (unseen.faults, unseen.part.scores[0].score) == ("", None)


def test_a_model_that_writes_json_is_read_too() -> None:
    (question,) = questions(AnalysisSpec(summary=False, extract=SCHEMA), [])
    assert question.judge('Here: ```json\n{"persons": 2}\n```', []).part.data == {"persons": 2}
    assert "call the function" in question.judge("I cannot.", []).faults
    assert "not JSON" in question.judge("{persons: 2}", []).faults


# --- the queue and the work -------------------------------------------------------------


class Desk:
    """A store with an agent, its calls, and a clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = 1_800_000_000.0
        store.now_s = lambda: self.now_s
        self.agent_id = ""

    def agent(self, wishes: AnalysisSpec | None = WISHES, **spec: Any) -> str:
        made = AgentSpec(name="desk", analysis=wishes, **spec)
        self.agent_id = self.store.run(create_agent, True, ME, made).id
        return self.agent_id

    def call(self, *, is_final: bool = True, said: Sequence[Message] = SAID) -> str:
        """A call that is over."""
        run = self.store.run
        numbers = ("14155550199", "14155550100")
        call = run(begin_outbound, True, ME, self.agent_id, *numbers, CallPlan())
        answered = run(mark_answered, True, call.id, f"uuid-{call.id}")
        assert answered.media_nonce is not None
        run(open_stream, True, f"uuid-{call.id}", answered.media_nonce, "node_1")
        run(write_streams, True, {(call.id, 1): (record(said), is_final)})
        run(mark_ended, True, call.id, Ended(state="completed"))
        return call.id

    def found(self, call_id: str) -> StoredAnalysis:
        analysis = self.store.run(get_analysis, False, call_id)
        assert analysis is not None
        return analysis

    def later(self, ms: int) -> None:
        self.now_s += ms / 1000

    async def analysed(self, call_id: str, responder: ScriptedResponder) -> StoredAnalysis:
        """What an analyst makes of it, with time passing as it must."""
        self.later(SETTLE_MS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Analyst(self.store, made_of(responder)).run)
            with trio.fail_after(10):
                while self.found(call_id).state == "waiting":
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return self.found(call_id)


def made_of(responder: ScriptedResponder) -> Callable[[AgentPlan], Agent]:
    def agent_for(plan: AgentPlan) -> Agent:
        return Agent(plan.definition, ScriptedTranscriber(["x"]), responder, ScriptedSynthesizer())

    return agent_for


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


async def test_a_call_is_summed_up_extracted_and_scored(desk: Desk, store: Store) -> None:
    desk.agent()
    store.run(
        create_webhook,
        True,
        ME,
        WebhookSpec(name="x", url="https://x.com", events=("call.analysed",)),
    )
    call_id = desk.call()
    model = Answers(*GOOD)
    analysis = await desk.analysed(call_id, model)
    found = analysis.findings
    assert (analysis.state, analysis.attempts, found.requests) == ("done", 1, 3)
    assert found.summary is not None
    assert found.summary.text == "They booked a table."
    assert found.extraction is not None
    assert found.extraction.data == {"persons": 4}
    assert found.evaluation is not None
    (score,) = found.evaluation.scores
    assert (score.score, score.quote, score.turn) == (5, "with pleasure", 3)
    assert found.input_tokens > 0
    assert found.output_tokens > 0
    asked = model.asked[0].messages[-1].text
    assert "[1] Caller: A table for four, please." in asked
    assert "[2] Function: booked" in asked
    (told,) = store.run(claim_deliveries, True, 10)
    event = msgspec.json.decode(told.body)
    assert event["type"] == "call.analysed"
    assert event["data"]["call_id"] == call_id
    assert event["data"]["analysis"]["extraction"]["data"] == {"persons": 4}


async def test_what_does_not_hold_goes_back_once(desk: Desk) -> None:
    desk.agent(AnalysisSpec(summary=False, extract=SCHEMA))
    model = Answers(recorded(persons=0), recorded(persons=2))
    analysis = await desk.analysed(desk.call(), model)
    assert analysis.findings.extraction is not None
    assert analysis.findings.extraction.data == {"persons": 2}
    back = model.asked[1].messages[-1]
    assert (back.role, back.tool_call_id) == ("tool", "r")
    assert "less than the minimum" in back.text


async def test_what_never_holds_is_recorded_as_failed(desk: Desk) -> None:
    second = Criterion(name="speed", description="1 slow, 5 quick")
    desk.agent(AnalysisSpec(summary=False, rubric=(POLITE, second)))
    made_up = recorded(
        politeness={"reason": "warm", "score": 5, "quote": "with pleasure", "turn": 3},
        speed={"reason": "quick", "score": 5, "quote": "I was very quick", "turn": 3},
    )
    analysis = await desk.analysed(desk.call(), Answers(made_up))
    assert (analysis.state, analysis.findings.requests) == ("failed", 2)
    found = analysis.findings.evaluation
    assert found is not None
    assert [score.criterion for score in found.scores] == ["politeness"]
    assert found.reason.startswith("speed: the quote was not said")


async def test_a_model_that_fails_is_asked_again_later_and_given_up_at_last(desk: Desk) -> None:
    desk.agent()
    call_id = desk.call()
    down = {number: ProviderFault(kind="raise") for number in range(100)}
    model = Answers(*GOOD, faults=down)
    desk.later(SETTLE_MS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Analyst(desk.store, made_of(model)).run)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            with trio.fail_after(10):
                while desk.found(call_id).findings.requests < attempt:  # and all of it is kept
                    await trio.sleep(0.01)
            desk.later(LEASE_MS * 10)
        with trio.fail_after(10):
            while desk.found(call_id).state == "waiting":
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    found = desk.found(call_id)
    assert (found.state, found.attempts) == ("failed", ATTEMPTS_MAX)
    assert found.findings.error == "scripted-llm did not answer"


async def test_a_model_whose_code_breaks_ends_neither_the_node_nor_comes_back(desk: Desk) -> None:
    class Broken(Answers):
        def reply_to(self, request: Any) -> Any:
            raise KeyError("with pleasure")

    desk.agent()
    found = await desk.analysed(desk.call(), Broken())
    assert (found.state, found.attempts) == ("failed", 1)
    assert found.findings.error == "a fault of ours: see the node's log"


async def test_what_was_found_is_not_asked_again(desk: Desk, store: Store) -> None:
    desk.agent()
    call_id = desk.call()
    desk.later(SETTLE_MS)
    work = store.run(claim_analysis, True)
    assert work is not None
    assert not store.run(is_analysis_due, False)
    summary = {"state": "done", "text": "First."}
    begun = msgspec.convert({"summary": summary, "requests": 1}, Findings)
    assert store.run(save_findings, True, work, begun)
    desk.later(LEASE_MS)  # the node died: another takes over
    model = Answers(recorded(persons=4), polite())
    analysis = await desk.analysed(call_id, model)
    assert (analysis.state, analysis.attempts) == ("done", 2)
    assert analysis.findings.summary is not None
    assert analysis.findings.summary.text == "First."
    assert len(model.asked) == 2
    assert analysis.findings.requests == 3
    # the dead one's late word changes nothing
    assert not store.run(save_findings, True, work, Findings())
    store.run(finish_analysis, True, work, Findings(), try_again=False)
    assert desk.found(call_id).findings == analysis.findings


async def test_the_last_record_of_a_call_is_waited_for(desk: Desk, store: Store) -> None:
    desk.agent(AnalysisSpec())
    call_id = desk.call(is_final=False, said=SAID[:1])
    desk.later(SETTLE_MS)
    assert not store.run(is_analysis_due, False)
    assert store.run(claim_analysis, True) is None
    store.run(write_streams, True, {(call_id, 1): (record(), True)})
    model = Answers("All of it.")
    assert (await desk.analysed(call_id, model)).state == "done"
    assert "Goodbye!" in model.asked[0].messages[-1].text


async def test_a_record_whose_node_died_is_not_waited_for_for_ever(desk: Desk) -> None:
    desk.agent(AnalysisSpec())
    call_id = desk.call(is_final=False, said=SAID[:2])
    desk.later(CRASHED_MS)
    model = Answers("What there is.")
    assert (await desk.analysed(call_id, model)).state == "done"
    assert "A table for four" in model.asked[0].messages[-1].text


def test_only_calls_that_were_held_and_wished_for_are_queued(desk: Desk, store: Store) -> None:
    agent_id = desk.agent(None)
    call_id = desk.call()
    assert store.run(get_analysis, False, call_id) is None
    with pytest.raises(Conflict, match="wants nothing"):
        store.run(request_analysis, True, ME, call_id, None)
    numbers = ("14155550199", "14155550100")
    unheard = store.run(begin_outbound, True, ME, agent_id, *numbers, CallPlan())
    with pytest.raises(Conflict, match="goes on"):
        store.run(request_analysis, True, ME, unheard.id, None)
    store.run(mark_ended, True, unheard.id, Ended(state="busy"))
    with pytest.raises(Conflict, match="nobody talked"):
        store.run(request_analysis, True, ME, unheard.id, None)


async def test_it_is_done_again_as_the_agent_wishes_now(desk: Desk, store: Store) -> None:
    agent_id = desk.agent(AnalysisSpec())
    call_id = desk.call()
    assert (await desk.analysed(call_id, Answers("First."))).agent_version == 1

    def change(spec: AgentSpec) -> AgentSpec:
        return msgspec.structs.replace(spec, analysis=AnalysisSpec(summary_prompt="In one word."))

    store.run(update_agent, True, ME, agent_id, None, change, publish=True)
    assert store.run(request_analysis, True, ME, call_id, None).agent_version == 2
    model = Answers("Booked.")
    analysis = await desk.analysed(call_id, model)
    assert analysis.findings.summary is not None
    assert analysis.findings.summary.text == "Booked."
    assert model.asked[0].messages[0].text.endswith("In one word.")
    store.run(delete_agent, True, ME, agent_id)


# --- through the API --------------------------------------------------------------------


async def test_wishes_that_cannot_be_are_refused(api: Api) -> None:
    for wishes, field in [
        ({"extract": {"type": "array"}}, "analysis.extract"),
        ({"rubric": [{"name": "a", "description": "x", "lowest": 5}]}, "analysis.rubric[0]"),
        ({"rubric": [{"name": "A", "description": "x"}]}, "analysis.rubric[0].name"),
        ({"llm": [{"provider": "openai", "secret": "none"}]}, "analysis.llm[0].secret"),
    ]:
        answer = await api.ask("POST", "/v1/agents", {"name": "desk", "analysis": wishes})
        assert (answer.status, answer.fields) == (422, [field])
    made = await api.create("/v1/agents", {"name": "desk"})
    path, any_ = f"/v1/agents/{made['id']}", {"If-Match": "*"}
    bad = await api.ask("PATCH", path, {"analysis": {"extract": {"type": 1}}}, headers=any_)
    assert (bad.status, bad.fields) == (422, ["analysis.extract"])


async def test_a_real_call_is_analysed_and_shown(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound(analysis={"summary": True})
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
        await node.until(call.over.is_set)
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        with trio.fail_after(20):
            while True:
                detail = await node.ask("GET", f"/v1/calls/{shown['id']}")
                if detail["analysis"]["state"] != "waiting":
                    break
                await trio.sleep(0.1)
        assert detail["analysis"]["summary"]["text"] == "We open at nine."
        again = await node.ask("POST", f"/v1/calls/{shown['id']}/analysis", {}, 202)
        assert (again["state"], again["summary"]) == ("waiting", None)
