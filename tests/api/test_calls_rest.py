"""``/v1/calls`` and ``/v1/numbers``: what is refused, listened to, paced and kept."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import msgspec
import pytest
import trio
from quart_trio import QuartTrio

from api.app import create_app
from api.calls.control import make_call
from api.calls.examples import EXAMPLES
from api.calls.joining import add_telephony
from api.calls.live import EVENTS_MAX, LISTENERS_MAX, CallEvent, Listeners, RecordKeeper
from api.calls.pacing import Pace
from api.calls.records import (
    CRASHED,
    CallPlan,
    begin_inbound,
    begin_outbound,
    get_call,
    get_streams,
    touch_streams,
    write_streams,
)
from api.calls.sweeping import sweep
from api.calls.views import CallRequest
from api.plivo.client import OutboundCall
from api.plivo.numbers import get_number, put_number
from api.settings import ApiSettings
from api.specs import AgentSpec
from api.store import Actor, Store, Tx
from api.store.agents import create_agent, delete_agent
from api.store.do_not_call import block_numbers
from api.store.errors import InUse, StoreUnavailable
from api.web.operations import operation_of
from rtcore.call import CallRecord
from rtcore.journal import Journal, Noted
from rtcore.metrics import CallStats
from rtcore.ports import Message
from rtcore.testing import Phone, hang_up, wait
from tests.api.client import Api
from tests.api.telephone import ASKS, CALLER, HUMAN, OURS, SECRET, serving

ME = Actor("test")
CALL = "call_" + "0" * 24


# --- numbers ----------------------------------------------------------------------------


async def test_a_number_leads_to_an_agent_and_no_longer(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        first, second = await node.agent(), await node.agent()
        node.plivo.rent(OURS)
        put = await node.ask("PUT", f"/v1/numbers/+{OURS}", {"agent_id": first})
        assert (put["number"], put["agent_id"]) == (OURS, first)
        app = node.plivo.applications[put["app_id"]]
        assert app.answer_url == f"{node.url}/plivo/answer/{first}"
        assert app.hangup_url.startswith(f"{node.url}/plivo/hangup/{first}#rc=5")
        again = await node.ask("PUT", f"/v1/numbers/{OURS}", {"agent_id": first})
        assert again["app_id"] == put["app_id"]
        assert len(node.plivo.applications) == 1
        problem = await node.ask("DELETE", f"/v1/agents/{first}", status=409)
        assert problem["users"] == [{"kind": "number", "id": OURS, "name": OURS}]
        moved = await node.ask("PUT", f"/v1/numbers/{OURS}", {"agent_id": second})
        assert node.plivo.numbers[OURS].app_id == moved["app_id"] != put["app_id"]
        assert (await node.ask("GET", f"/v1/numbers?agent_id={second}"))["total"] == 1
        assert (await node.ask("GET", f"/v1/numbers/+{OURS}"))["agent_id"] == second
        await node.ask("DELETE", f"/v1/numbers/{OURS}", status=204)
        assert node.plivo.numbers[OURS].app_id == ""
        assert moved["app_id"] not in node.plivo.applications
        await node.ask("GET", f"/v1/numbers/{OURS}", status=404)
        await node.ask("DELETE", f"/v1/agents/{second}", status=204)
        await node.ask("PUT", f"/v1/numbers/{HUMAN}", {"agent_id": first}, 404)  # not ours
        await node.ask("PUT", f"/v1/numbers/{OURS}", {"agent_id": second}, 422)
        await node.ask("PUT", "/v1/numbers/nonsense", {"agent_id": first}, 404)


# --- calls ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": "nonsense"}, "to"),
        ({"to": ""}, "to"),
        ({"to": OURS}, "to"),
        ({"from": 7}, "from"),
        ({"agent_id": "agt_" + "0" * 24}, "agent_id"),
        ({"variables": {"Not A Name": "x"}}, "variables"),
        ({"ring_timeout_s": 1}, "ring_timeout_s"),
        ({"machine_detection": "leave_message"}, "machine_message"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_call_that_cannot_be_made(
    sqlite_url: str, change: dict[str, Any], field: str
) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        body = {"to": CALLER, "from": OURS, "agent_id": agent_id, **change}
        problem = await node.ask("POST", "/v1/calls", body, 422)
        assert problem["errors"][0]["field"].startswith(field)
        assert node.plivo.calls == {}
        assert (await node.ask("GET", "/v1/calls"))["total"] == 0


def test_a_number_that_two_bind_at_once_is_the_later_ones(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, later = (store.run(create_agent, True, ME, AgentSpec(name=name)).id for name in "ab")
    other = threading.Thread(target=lambda: store.run(put_number, True, ME, OURS, later, "app-b"))

    def put(tx: Tx) -> None:
        put_number(tx, ME, OURS, first, "app-a")
        other.start()
        other.join(0.3)  # it waits for us

    store.run(put, True)
    other.join(5)
    assert store.run(get_number, False, OURS).agent_id == later
    store.run(delete_agent, True, ME, first)  # nothing holds on to it any more
    with pytest.raises(InUse):
        store.run(delete_agent, True, ME, later)


async def test_a_client_that_goes_leaves_no_call_that_nobody_knows_of(sqlite_url: str) -> None:
    """The carrier was asked: by what it calls the call, it can be ended."""
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = Phone(ring_s=1.0, scripts=[[hang_up()]])
        agent_id = await node.agent()
        body = CallRequest(to=CALLER, from_=OURS, agent_id=agent_id)
        make = node.line.carrier.make_call

        async def make_and_wait(call: OutboundCall, *, repeats: bool = True) -> str:
            made = await make(call, repeats=repeats)
            asking.cancel()
            await trio.lowlevel.checkpoint()
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(node.line.carrier, "make_call", make_and_wait)
            with trio.CancelScope() as asking:
                await make_call(node.line, ME, body)
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        stored = await node.line.store.read(get_call, shown["id"])
        assert stored.request_id is not None
        await node.ask("POST", f"/v1/calls/{shown['id']}/hangup", status=202)
        await node.until(lambda: all(call.over.is_set() for call in node.plivo.calls.values()))


async def test_nobody_is_called_who_is_on_the_list(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        await node.line.store.write(block_numbers, ME, [CALLER], source="api")
        body = {"to": f"+{CALLER}", "from": OURS, "agent_id": agent_id}
        problem = await node.ask("POST", "/v1/calls", body, 422)
        assert problem["errors"][0]["field"] == "to"
        assert node.plivo.calls == {}


async def test_what_is_not_there(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/transcript", None),
            ("GET", "/metrics", None),
            ("GET", "/events", None),
            ("POST", "/hangup", None),
            ("POST", "/transfer", {"to": HUMAN}),
            ("POST", "/dtmf", {"digits": "1"}),
            ("POST", "/say", {"text": "Hello"}),
        ):
            await node.ask(method, f"/v1/calls/{CALL}{path}", body, 404)


async def test_a_call_is_heard_as_it_happens(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
        await node.until(lambda: node.line.live)
        (call_id,) = node.line.live
        heard: list[tuple[str, dict[str, Any]]] = []
        headers = {"Accept": "text/event-stream"}
        async with node.http.stream("GET", f"/v1/calls/{call_id}/events", headers=headers) as sse:
            name = ""
            async for text in sse.aiter_lines():
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    heard.append((name, msgspec.json.decode(text.removeprefix("data: "))))
        await node.until(call.over.is_set)
        assert heard[0] == ("state", {"state": "in_progress"})
        assert heard[-1] == ("state", {"state": "completed"})
        words = [(data["role"], data["text"]) for name, data in heard if name == "transcript"]
        assert words[-2:] == [("user", "do you open on sunday"), ("assistant", "We open at nine.")]
        assert "turn_committed" in [name for name, _ in heard]
        problem = await node.http.get(f"/v1/calls/{call_id}/events", headers=headers)
        assert problem.status_code == 409


async def test_a_crash_loses_at_most_the_last_second(sqlite_url: str) -> None:
    """What was said is in the database while the call goes on: nothing waits for its end."""
    async with serving(sqlite_url) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, wait(20_000)]]))
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        await node.until(lambda: len(held.call.conversation.log) == 3)
        await trio.sleep(1.0)
        path = sqlite_url.removeprefix("sqlite:///")
        with sqlite3.connect(path) as other:  # as whoever comes after a kill -9
            (record,) = other.execute("SELECT record FROM call_streams").fetchone()
        other.close()
        kept = msgspec.json.decode(record, type=CallRecord)
        assert [message.text for message in kept.transcript][-1] == "We open at nine."
        assert kept.ended_by == ""
        call.hang_up()
        await node.until(call.over.is_set)


async def test_a_call_whose_end_nobody_told_is_ended(store: Store) -> None:
    async with serving(store.engine.url.render_as_string(hide_password=False)) as node:
        agent_id = await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(20_000)]]))
        await node.until(lambda: node.line.live)
        held = node.line.live.copy()
        queued = store.run(begin_outbound, True, ME, agent_id, OURS, CALLER, CallPlan())

        def lost(tx: Tx) -> None:
            begin_inbound(tx, agent_id, "a-call-of-a-node-that-died", CALLER, OURS)

        store.run(lost, True)

        async def states() -> list[str]:
            items = (await node.ask("GET", "/v1/calls"))["items"]
            return sorted(item["state"] for item in items)

        await sweep(node.line)  # all are young
        assert await states() == ["in_progress", "queued", "ringing"]
        began_s = node.line.now_s()
        node.line.now_s = lambda: began_s + 100
        await sweep(node.line)
        assert await states() == ["completed", "in_progress", "queued"]
        node.line.now_s = lambda: began_s + 1000
        node.line.live.clear()  # held by another node, as far as this one knows
        await sweep(node.line)
        assert await states() == ["completed", "failed", "in_progress"]
        assert (await node.ask("GET", f"/v1/calls/{queued.id}"))["state"] == "failed"
        node.line.live.update(held)
        call.hang_up()
        await node.until(call.over.is_set)


# --- without a carrier ------------------------------------------------------------------


@pytest.fixture
def lone_app(sqlite_url: str) -> Any:
    store = Store.open(sqlite_url)
    app = create_app(store, ApiSettings(), agent_for=pytest.fail)
    add_telephony(app, account=None, secret=SECRET)
    yield app
    store.close()


async def test_a_node_without_an_account_says_so(lone_app: QuartTrio) -> None:
    from api.store.keys import SCOPES, create_key
    from api.web.services import EXTENSION

    store = lone_app.extensions[EXTENSION].store
    _, token = store.run(create_key, True, ME, "test", SCOPES)
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    async with lone_app.test_app() as running:
        api = Api(running.test_client(), token)
        body = {"to": CALLER, "from": OURS, "agent_id": agent.id}
        answer = await api.ask("POST", "/v1/calls", body)
        assert answer.status == 503
        assert "RTCORE_PLIVO_AUTH_ID" in answer.problem.detail


async def test_the_specification_knows_all_of_it(lone_app: QuartTrio) -> None:
    spec = (await Api(lone_app.test_client(), "").ask("GET", "/openapi.json")).json
    assert {"/v1/calls", "/v1/calls/{call_id}/transfer", "/v1/numbers/{number}"} <= set(
        spec["paths"]
    )
    text = msgspec.json.encode(spec).decode()
    for name in set(part.split('"')[0] for part in text.split("#/components/schemas/")[1:]):
        assert name in spec["components"]["schemas"]
    types = {
        each
        for endpoint, view in lone_app.view_functions.items()
        if endpoint.startswith(("calls.", "numbers."))
        for what in [operation_of(view)]
        if what is not None
        for each in (what.body, *what.returns.values())
        if each is not None
    }
    refs, _ = msgspec.json.schema_components(sorted(types, key=str))
    for type_, ref in zip(sorted(types, key=str), refs, strict=True):
        name = ref["$ref"].rpartition("/")[2]
        assert spec["components"]["schemas"][name]["examples"] == [EXAMPLES[name]]
        msgspec.convert(EXAMPLES[name], type_)
    events = spec["paths"]["/v1/calls/{call_id}/events"]["get"]["responses"]["200"]["content"]
    assert set(events) == {"application/json", "text/event-stream"}


# --- parts ------------------------------------------------------------------------------


async def test_calls_begin_at_a_pace(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(2.0)
    began_s = trio.current_time()
    for number in range(5):
        assert await pace.turn(10) == 0
        assert trio.current_time() - began_s == pytest.approx(number / 2)
    assert await pace.turn(0.2) == pytest.approx(0.5)  # too long a wait, and nobody waited
    await trio.sleep(10)
    assert await pace.turn(0) == 0


async def test_a_slow_listener_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    listeners = Listeners()
    with listeners.listen(CALL) as slow, listeners.listen(CALL) as quick:
        assert slow is not None
        assert quick is not None
        for _ in range(EVENTS_MAX + 1):
            listeners.tell(CALL, CallEvent(event="x"))
            await quick.receive()
        assert len([event async for event in slow]) == EVENTS_MAX
        listeners.end(CALL)
        assert [event async for event in quick] == []
    opened = [listeners.listen(CALL) for _ in range(LISTENERS_MAX + 1)]
    assert [each.__enter__() is None for each in opened] == [False] * LISTENERS_MAX + [True]
    for each in opened:
        each.__exit__(None, None, None)
    assert not listeners._of


def record(text: str) -> CallRecord:
    return CallRecord(
        call_id="c",
        stream_id="s",
        ended_by="",
        duration_s=1.0,
        turns=(),
        barge_ins=(),
        stats=CallStats(),
        transcript=(Message(role="user", text=text),),
        notes=(),
    )


def test_a_final_record_stands(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    call = store.run(begin_outbound, True, ME, agent.id, "1", "2", CallPlan())
    for text, is_final in (("one", False), ("two", False), ("three", True), ("late", False)):
        store.run(write_streams, True, {(call.id, 1): (record(text), is_final)})
    store.run(write_streams, True, {(call.id, 2): (record("again"), True)})
    texts = [each.transcript[0].text for each in store.run(get_streams, False, call.id)]
    assert texts == ["three", "again"]


class Away(Store):
    """A database that does not answer the first few times."""

    def __init__(self, store: Store, times: int) -> None:
        super().__init__(store.engine)
        self.times = times

    async def write(self, work: Any, *args: Any, **kw: Any) -> Any:
        if self.times:
            self.times -= 1
            raise StoreUnavailable("away")
        return await super().write(work, *args, **kw)


class Growing:
    """A stream that goes on, as far as the keeper looks at it."""

    number = 1

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.journal = Journal()
        self._kept = 0

    def grown(self, now_s: float) -> CallRecord | None:
        return record("said") if not self._kept else None

    def fresh_notes(self) -> tuple[int, tuple[Noted, ...]] | None:
        first, self._kept = self._kept, len(self.journal.notes)
        return (first, tuple(self.journal.notes[first:])) if self._kept > first else None


async def test_a_journal_is_kept_as_it_grows_whatever_the_database_does(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    call = store.run(begin_outbound, True, ME, agent.id, "1", "2", CallPlan())
    keeper, growing = RecordKeeper(Away(store, 1), "node_x"), Growing(call.id)

    def kept() -> list[str]:
        return [note.kind for each in store.run(get_streams, False, call.id) for note in each.notes]

    async with trio.open_nursery() as nursery:
        growing.journal.note(0.0, "one")
        nursery.start_soon(keeper.run, lambda: [growing])
        for kinds in (["one"], ["one", "two"], ["one", "two", "three"]):
            if len(kinds) > 1:
                growing.journal.note(1.0, kinds[-1])
            with trio.fail_after(10):
                while kept() != kinds:
                    await trio.sleep(0.05)
        final = msgspec.structs.replace(record("said"), notes=tuple(growing.journal.notes[:2]))
        keeper.put(call.id, 1, final, is_final=True)
        with trio.fail_after(10):
            while kept() != ["one", "two"]:  # the final record alone counts
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    (kept_record,) = store.run(get_streams, False, call.id)
    assert kept_record.transcript[0].text == "said"


def test_a_stream_without_a_pulse_has_crashed(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    call = store.run(begin_outbound, True, ME, agent.id, "1", "2", CallPlan())
    began_s = store.now_s()
    store.run(write_streams, True, {(call.id, 1): (record("one"), False)})

    def ended_by(after_s: float) -> str:
        store.now_s = lambda: began_s + after_s
        return store.run(get_streams, False, call.id)[0].ended_by

    assert ended_by(5) == ""
    assert ended_by(15) == CRASHED
    store.run(touch_streams, True, [(call.id, 1)])  # it was only out of reach
    assert ended_by(20) == ""
    store.run(write_streams, True, {(call.id, 1): (record("one"), True)})
    assert ended_by(1000) == ""


async def test_records_wait_for_a_database_that_is_away(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    call = store.run(begin_outbound, True, ME, agent.id, "1", "2", CallPlan())
    keeper = RecordKeeper(Away(store, 2), "node_a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, list)
        keeper.put(call.id, 1, record("kept"), is_final=True)
        await keeper.flush()
        keeper.put(call.id, 2, record("at the end"), is_final=True)
        nursery.cancel_scope.cancel()  # written all the same
    texts = [each.transcript[0].text for each in store.run(get_streams, False, call.id)]
    assert texts == ["kept", "at the end"]


async def test_a_record_that_cannot_be_written_takes_no_other_with_it(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    good, bad = (
        store.run(begin_outbound, True, ME, agent.id, "1", to, CallPlan()) for to in ("2", "3")
    )
    keeper = RecordKeeper(store, "node_a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, list)
        keeper.put(bad.id, 1, record("half a \ud83d"), is_final=True)  # of a mind of one's own
        keeper.put(good.id, 1, record("kept"), is_final=True)
        await keeper.flush()
        nursery.cancel_scope.cancel()
    texts = [
        [each.transcript[0].text for each in store.run(get_streams, False, call.id)]
        for call in (good, bad)
    ]
    assert (texts, keeper.dropped) == ([["kept"], []], 1)
