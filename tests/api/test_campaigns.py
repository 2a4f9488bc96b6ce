"""``/v1/campaigns`` and the node that runs them, against a Plivo on loopback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from api.agents import SharedProviders
from api.campaigns import resolving, running
from api.campaigns.tools import OPT_OUT
from api.plivo import webhooks
from api.store import Actor, attempts
from api.store.attempts import claim_call
from api.store.campaigns import start_campaign
from rtcore.node import NodeConfig
from rtcore.ports import ToolUse
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from rtcore.testing.plivo import Fault
from rtcore.testing.plivo.call import PlacedCall
from tests.api.telephone import CALLER, OURS, Node, serving

NUMBERS = [f"1415555{number:04}" for number in range(6)]
PATIENT = NodeConfig(lag_max_ms=10_000, drain_s=20)  # where a drain is what is tested
HANGS_UP = Phone(scripts=[[wait(300), hang_up()]])
STAYS = Phone(scripts=[[wait(30_000)]])


async def campaign(node: Node, *numbers: str, starts: bool = True, **changes: Any) -> str:
    """A campaign at any hour, as fast as it goes."""
    spec = {
        "name": "spring",
        "agent_id": await node.agent(),
        "from": OURS,
        "time_zone": "UTC",
        "windows": [],
        "calls_per_s": 50,
        **changes,
    }
    id = str((await node.ask("POST", "/v1/campaigns", spec, 201))["id"])
    if numbers:
        targets = [{"number": number} for number in numbers]
        await node.ask("POST", f"/v1/campaigns/{id}/targets", {"targets": targets})
    if starts:
        await node.ask("POST", f"/v1/campaigns/{id}/start")
    return id


async def until_state(node: Node, id: str, *states: str) -> Any:
    with trio.fail_after(15):
        while True:
            shown = await node.ask("GET", f"/v1/campaigns/{id}")
            if shown["state"] in states:
                return shown
            await trio.sleep(0.05)


def rung(node: Node) -> list[str]:
    return sorted(call.order.to_number for call in node.plivo.calls.values())


def asked(node: Node) -> list[str]:
    return [path for method, path in node.plivo.requests if method == "POST" and "Call" in path]


async def outcomes(node: Node, id: str) -> dict[str, str]:
    page = await node.ask("GET", f"/v1/campaigns/{id}/targets?limit=100")
    return {each["number"]: each["outcome"] for each in page["items"]}


# --- what a campaign does ---------------------------------------------------------------


async def test_every_number_is_called_and_told_apart(sqlite_url: str) -> None:
    async with serving(sqlite_url, plivo=FakePlivo(scale=0.001)) as node:
        answers, busy, nobody, machine, refuses, stranger = NUMBERS
        node.plivo.phones |= {
            answers: HANGS_UP,
            busy: Phone(when_rung="busy"),
            nobody: Phone(when_rung="ignore"),
            machine: Phone(is_machine=True),
            refuses: Phone(when_rung="reject"),
            stranger: HANGS_UP,
        }
        never = {name: {"times": 0, "after_s": 60} for name in ("busy", "no_answer", "failed")}
        id = await campaign(
            node, *NUMBERS, retries=never, machine_detection="hang_up", concurrency=3
        )
        ended = await until_state(node, id, "completed")
        assert ended["ended_at"] is not None
        assert rung(node) == NUMBERS
        assert await outcomes(node, id) == {
            answers: "answered",
            busy: "busy",
            nobody: "no_answer",
            machine: "machine",
            refuses: "rejected",
            stranger: "answered",
        }
        report = await node.ask("GET", f"/v1/campaigns/{id}/report")
        assert (report["numbers"], report["done"], report["attempts"]) == (6, 6, 6)
        assert report["outcomes"]["answered"] == 2
        metrics = (await node.http.get("/metrics")).text
        assert 'rtcore_campaign_attempts_total{outcome="answered"} 2.0' in metrics
        actions = [each["action"] for each in (await node.ask("GET", "/v1/audit"))["items"]]
        assert {"campaign.created", "campaign.started", "campaign.completed"} <= set(actions)


async def test_variables_reach_the_agent(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = STAYS
        agent_id = await node.agent(welcome_message="Hello {name} of {town}.")
        id = await campaign(
            node, agent_id=agent_id, starts=False, variables={"town": "Rome", "name": "you"}
        )
        body = {"targets": [{"number": f"+{CALLER}", "variables": {"name": "Ann"}}]}
        await node.ask("POST", f"/v1/campaigns/{id}/targets", body)
        await node.ask("POST", f"/v1/campaigns/{id}/start")
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        await node.until(lambda: held.call.conversation.log)
        assert held.call.conversation.log[0].text == "Hello Ann of Rome."
        await node.ask("POST", f"/v1/campaigns/{id}/cancel?hang_up=true")
        await until_ended(node)


async def until_ended(node: Node) -> None:
    with trio.fail_after(10):
        for call in list(node.plivo.calls.values()):
            await call.over.wait()


async def test_a_machine_is_left_the_message(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = Phone(scripts=[[wait(30_000)]], is_machine=True)
        message: dict[str, Any] = {
            "machine_detection": "leave_message",
            "machine_message": "Your table waits.",
        }
        id = await campaign(node, CALLER, **message)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "message_left"}
        (call,) = node.plivo.calls.values()
        assert call.reports[0].ended_by == "node"


async def test_never_more_calls_than_allowed_at_once(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, HANGS_UP)
        id = await campaign(node, *NUMBERS, concurrency=2)
        most = 0
        with trio.fail_after(20):
            while (await node.ask("GET", f"/v1/campaigns/{id}"))["state"] == "running":
                live = [c for c in node.plivo.calls.values() if c.state != "completed"]
                most = max(most, len(live))
                await trio.sleep(0.01)
        assert most == 2
        assert rung(node) == NUMBERS


async def test_a_node_without_room_begins_no_calls(sqlite_url: str) -> None:
    config = NodeConfig(lag_max_ms=10_000, calls_max=1, drain_s=1)
    async with serving(sqlite_url, config=config) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, HANGS_UP)
        id = await campaign(node, *NUMBERS[:3], concurrency=10)
        await until_state(node, id, "completed")
        assert set((await outcomes(node, id)).values()) == {"answered"}
        assert rung(node) == NUMBERS[:3]


async def test_a_pause_is_at_once_and_calls_go_on(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, STAYS)
        id = await campaign(node, *NUMBERS, concurrency=2)
        await node.until(lambda: len(node.line.live) == 2)
        shown = await node.ask("POST", f"/v1/campaigns/{id}/pause")
        assert (shown["state"], shown["reason"]) == ("paused", "")
        assert len(node.line.live) == 2
        await node.ask("POST", f"/v1/campaigns/{id}/pause?hang_up=true")
        await until_ended(node)
        assert len(node.plivo.calls) == 2
        assert await node.line.store.write(claim_call, "other node", 50.0) is None
        await node.ask("POST", f"/v1/campaigns/{id}/resume")
        await node.until(lambda: len(node.plivo.calls) == 4)
        await node.ask("POST", f"/v1/campaigns/{id}/cancel?hang_up=true")
        await until_ended(node)
        found = list((await outcomes(node, id)).values())
        assert found.count("cancelled") == 2  # the other four had answered


async def test_a_drain_begins_no_calls(sqlite_url: str) -> None:
    async with serving(sqlite_url, config=PATIENT) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, Phone(scripts=[[wait(1500), hang_up()]]))
        await campaign(node, *NUMBERS, concurrency=2)
        await node.until(lambda: len(node.line.live) == 2)
        node.line.node.drain()
        await until_ended(node)
        assert len(node.plivo.calls) == 2


# --- asked once -------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases and waits of the length of a test."""
    monkeypatch.setattr(attempts, "LEASE_MS", 200)
    monkeypatch.setattr(resolving, "UNKNOWN_AFTER_MS", 1500)
    monkeypatch.setattr(running, "IDLE_S", 0.2)
    monkeypatch.setattr(running, "LOOK_S", 0.2)


def ask_twice_fails(node: Node) -> Sequence[PlacedCall]:
    calls = list(node.plivo.calls.values())
    asked = [call.order.answer.url for call in calls]
    assert len(asked) == len(set(asked)), "one attempt was asked for twice"
    return calls


async def test_an_answer_that_is_lost_is_no_reason_to_call_again(
    sqlite_url: str, impatient: None
) -> None:
    """The call was made, the answer was not: the callbacks tell what became of it."""
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = HANGS_UP
        node.plivo.loses_answers = 1
        id = await campaign(node, CALLER)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "answered"}
        assert len(ask_twice_fails(node)) == 1


async def test_a_request_of_unknown_fate_counts_as_made(sqlite_url: str, impatient: None) -> None:
    """The carrier did not make it, and does not say so: it is not asked again by itself."""
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = HANGS_UP
        node.plivo.faults.append(Fault(status=503))
        id = await campaign(node, CALLER)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "unknown"}
        assert node.plivo.calls == {}
        retried = await node.ask("POST", f"/v1/campaigns/{id}/retry", {"outcome": "unknown"})
        assert retried == {"retried": 1}
        await node.until(lambda: node.plivo.calls)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "answered"}


async def test_the_carriers_record_tells_what_no_callback_did(
    sqlite_url: str, impatient: None
) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = Phone(when_rung="busy")
        node.plivo.loses_answers = 1
        node.plivo.callbacks.is_cut_off = True
        never = {"busy": {"times": 0, "after_s": 60}}
        id = await campaign(node, CALLER, retries=never)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "busy"}
        assert len(ask_twice_fails(node)) == 1


async def test_a_carrier_that_cannot_be_reached_has_not_called(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "AGAIN_S", 0.1)
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = HANGS_UP
        node.plivo.faults.append(Fault(status=429))
        id = await campaign(node, CALLER)
        await until_state(node, id, "completed")
        (target,) = (await node.ask("GET", f"/v1/campaigns/{id}/targets"))["items"]
        detail = await node.ask("GET", f"/v1/campaigns/{id}/targets/{target['id']}")
        assert [each["outcome"] for each in detail["calls"]] == ["not_made", "answered"]
        assert detail["attempts"] == 1


async def test_a_carrier_that_cannot_be_reached_is_left_alone(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, HANGS_UP)
        node.plivo.faults.extend([Fault(status=429)] * 100)
        id = await campaign(node, *NUMBERS, concurrency=1)
        began_s = trio.current_time()
        await node.until(lambda: len(asked(node)) == 3)
        assert trio.current_time() - began_s > 1.0  # half a second and one, not 50 a second
        assert (await node.ask("GET", f"/v1/campaigns/{id}"))["state"] == "running"


async def test_an_account_that_is_refused_pauses_and_calls_nobody(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, HANGS_UP)
        node.plivo.faults.append(Fault(status=401, body=b'{"error": "no such account"}'))
        id = await campaign(node, *NUMBERS, calls_per_s=2)
        shown = await until_state(node, id, "paused")
        assert "no such account" in shown["reason"]
        assert set((await outcomes(node, id)).values()) == {None}


async def test_an_agent_that_cannot_be_used_calls_nobody_else(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, STAYS)
        id = await campaign(node, *NUMBERS, starts=False, concurrency=1)
        monkeypatch.setattr(node, "agent_for", SharedProviders({}))
        await node.ask("POST", f"/v1/campaigns/{id}/start", status=409)
        await node.line.store.write(start_campaign, Actor("test"), id)  # it could be used then
        paused = await until_state(node, id, "paused")
        assert "cannot be used" in paused["reason"]
        assert len(rung(node)) == 1
        await node.ask("POST", f"/v1/campaigns/{id}/resume", status=409)


async def test_a_number_the_carrier_refuses_is_passed_over(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, HANGS_UP)
        node.plivo.faults.append(Fault(status=400, body=b'{"error": "to is invalid"}'))
        id = await campaign(node, *NUMBERS[:2], concurrency=1)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {NUMBERS[0]: "bad_number", NUMBERS[1]: "answered"}


# --- who is not to be called ------------------------------------------------------------


async def test_the_list_stops_what_waits(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones |= dict.fromkeys(NUMBERS, STAYS)
        id = await campaign(node, *NUMBERS, concurrency=1)
        await node.until(lambda: node.line.live)
        body = {"numbers": [f"+{number}" for number in NUMBERS[1:]], "note": "by letter"}
        added = await node.ask("POST", "/v1/do-not-call", body)
        assert added == {"added": 5, "stopped": 5}
        await node.ask("POST", f"/v1/campaigns/{id}/pause?hang_up=true")
        await node.ask("POST", f"/v1/campaigns/{id}/resume")
        await until_state(node, id, "completed")
        assert rung(node) == NUMBERS[:1]
        page = await node.ask("GET", f"/v1/do-not-call?number={NUMBERS[1]}")
        assert page["items"][0]["note"] == "by letter"
        await node.ask("DELETE", f"/v1/do-not-call/+{NUMBERS[1]}", status=204)
        await node.ask("DELETE", f"/v1/do-not-call/{NUMBERS[1]}", status=404)
        audit = (await node.ask("GET", "/v1/audit"))["items"]
        assert "do_not_call.removed" in [each["action"] for each in audit]
        assert NUMBERS[1] not in str(audit)


async def test_whoever_asks_the_agent_is_never_called_again(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        node.plivo.phones[CALLER] = STAYS
        id = await campaign(node, CALLER)
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        (tool,) = (each for each in held.call.agent.tools if each.name == OPT_OUT.name)
        told = await tool.run(ToolUse(arguments={}, key="1", call_id=held.call_id))
        assert "not be called again" in told
        await node.ask("POST", f"/v1/calls/{held.call_id}/hangup", status=202)
        await until_state(node, id, "completed")
        assert await outcomes(node, id) == {CALLER: "opted_out"}
        (blocked,) = (await node.ask("GET", "/v1/do-not-call"))["items"]
        assert (blocked["number"], blocked["source"]) == (CALLER, "agent")
        assert blocked["call_id"] == held.call_id


async def test_other_calls_have_no_such_function(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, STAYS)
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        assert OPT_OUT.name not in [tool.name for tool in held.call.agent.tools]
        call.hang_up()
        await node.until(call.over.is_set)


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"windows": [{"opens": "20:00", "closes": "09:00"}]}, "windows[0].closes"),
        ({"windows": [{"opens": "9", "closes": "10:00"}]}, "windows[0].opens"),
        ({"windows": [{"days": ["monday"]}]}, "windows[0].days[0]"),
        ({"except_dates": ["2026-02-30"]}, "except_dates[0]"),
        ({"machine_detection": "leave_message"}, "machine_message"),
        ({"concurrency": 0}, "concurrency"),
        ({"calls_per_s": 0}, "calls_per_s"),
        ({"calls_per_s": 5e-324}, "calls_per_s"),  # a pause without end: no number of ms
        ({"retries": {"busy": {"times": 1, "after_s": 1}}}, "retries.busy.after_s"),
        ({"agent_id": "agt_" + "0" * 24}, "agent_id"),
        ({"from": "nonsense"}, "from"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_campaign_that_cannot_be(
    sqlite_url: str, change: dict[str, Any], field: str
) -> None:
    async with serving(sqlite_url) as node:
        spec = {
            "name": "spring",
            "agent_id": await node.agent(),
            "from": OURS,
            "time_zone": "UTC",
            **change,
        }
        problem = await node.ask("POST", "/v1/campaigns", spec, 422)
        assert [each["field"] for each in problem["errors"]] == [field]


async def test_a_campaign_is_changed_by_who_has_seen_it(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        id = await campaign(node, CALLER, starts=False)
        path = f"/v1/campaigns/{id}"
        await node.ask("PATCH", path, {"from": "14155550198"}, 428)
        shown = await node.ask("PATCH", path, {"from": "14155550198"}, 200, **{"If-Match": '"1"'})
        assert shown["from"] == "14155550198"
        await node.ask("PATCH", path, {"concurrency": 9}, 412, **{"If-Match": '"1"'})
        await node.ask("PATCH", path, {"time_zone": "Nowhere"}, 422, **{"If-Match": '"2"'})
        listed = await node.ask("GET", "/v1/campaigns?state=draft&name=SPR")
        assert [each["id"] for each in listed["items"]] == [id]
        await node.ask("POST", f"{path}/pause", None, 409)
        await node.ask("DELETE", path, status=204)
        for method, rest, body in (
            ("GET", "", None),
            ("GET", "/report", None),
            ("GET", "/targets", None),
            ("GET", "/targets/tgt_" + "0" * 24, None),
            ("POST", "/start", None),
            ("POST", "/cancel", None),
            ("POST", "/targets", {"targets": [{"number": CALLER}]}),
            ("POST", "/retry", {"outcome": "busy"}),
        ):
            await node.ask(method, path + rest, body, 404)


async def test_a_list_with_a_fault_is_refused_whole(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        id = await campaign(node, starts=False)
        given = [
            {"number": CALLER},
            {"number": NUMBERS[0], "time_zone": "Nowhere"},
            {"number": f"+{OURS}"},
        ]
        path = f"/v1/campaigns/{id}/targets"
        problem = await node.ask("POST", path, {"targets": given}, 422)
        assert [each["field"] for each in problem["errors"]] == ["targets[1]", "targets[2]"]
        problem = await node.ask("POST", path, {"targets": [{"number": "12"}]}, 422)
        assert problem["errors"][0]["field"] == "targets[0].number"
        assert (await node.ask("GET", path))["total"] == 0
        added = await node.ask("POST", path, {"targets": given[:1] * 2})
        assert added == {"added": 1, "do_not_call": 0, "duplicates": [1]}
        await node.ask("POST", f"/v1/campaigns/{id}/retry", {}, 422)


async def upload(node: Node, id: str, text: str | bytes, status: int = 200) -> Any:
    content = text if isinstance(text, bytes) else text.encode()
    response = await node.http.post(
        f"/v1/campaigns/{id}/targets/csv", files={"file": ("list.csv", content)}
    )
    assert response.status_code == status, response.text
    return response.json()


async def test_a_file_of_numbers(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        id = await campaign(node, starts=False)
        await node.ask("POST", "/v1/do-not-call", {"numbers": [NUMBERS[2]]})
        text = (
            "\ufeffNumber;time_zone;name\r\n"
            f"+1 (415) 555-0000;Europe/Rome;Ann\r\n\r\n"
            f"{NUMBERS[1]};;\r\n{NUMBERS[0]};;twice\r\n{NUMBERS[2]};;\r\n"
        )
        added = await upload(node, id, text)
        assert added == {"added": 3, "do_not_call": 1, "duplicates": [5]}
        page = await node.ask("GET", f"/v1/campaigns/{id}/targets?state=waiting")
        assert [(t["number"], t["time_zone"], t["variables"]) for t in page["items"]] == [
            (NUMBERS[0], "Europe/Rome", {"name": "Ann"}),
            (NUMBERS[1], None, {}),
        ]
        found = await node.ask("GET", f"/v1/campaigns/{id}/targets?outcome=do_not_call")
        assert [each["number"] for each in found["items"]] == [NUMBERS[2]]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", ["row 1"]),
        ("phone\n14155550100\n", ["row 1"]),
        ("number,number\n1,2\n", ["row 1"]),
        ("number\n", ["row 2"]),
        ("number\nnonsense\n14155550100\n12\n", ["row 2", "row 4"]),
        ("number,name\n14155550100\n", ["row 2"]),
        ("number,Not A Name\n14155550100,x\n", ["row 2"]),
        ("number,time_zone\n14155550100,Nowhere\n", ["row 2"]),
        (f"number\n{OURS}\n", ["row 2"]),
        ('number\n"14155550100\n', ["row 2"]),
        ("number\n14155550100\0\n", ["file"]),
        (b"number\n\xff\xfe\n", ["file"]),
    ],
)
async def test_a_file_that_cannot_be_used(
    sqlite_url: str, text: str | bytes, fields: list[str]
) -> None:
    async with serving(sqlite_url) as node:
        id = await campaign(node, starts=False)
        problem = await upload(node, id, text, 422)
        assert [each["field"] for each in problem["errors"]] == fields
        assert (await node.ask("GET", f"/v1/campaigns/{id}/targets"))["total"] == 0


async def test_a_file_s_fault_is_told_by_its_column(sqlite_url: str) -> None:
    text = "number,name,Not A Name\nnonsense,Ann,x\n14155550100,Ann,x\n"
    async with serving(sqlite_url) as node:
        problem = await upload(node, await campaign(node, starts=False), text, 422)
        first, second = (each["message"] for each in problem["errors"])
        assert first.startswith("number: Expected")
        assert second.startswith("variables.not a name: Expected")
        assert not any("Z'" in each for each in (first, second))


# --- a node that leaves -----------------------------------------------------------------


async def test_whoever_is_being_rung_is_talked_with_though_the_node_drains(
    sqlite_url: str,
) -> None:
    """Nobody picks up to hear a busy tone, or nothing; and nobody else is rung."""
    async with serving(sqlite_url, config=PATIENT, linger_s=3) as node:
        node.plivo.phones[CALLER] = Phone(ring_s=1.0, scripts=[[wait(300), hang_up()]])
        node.plivo.phones[NUMBERS[1]] = HANGS_UP
        id = await campaign(node, CALLER, NUMBERS[1], concurrency=1)
        await node.until(lambda: rung(node) == [CALLER])
        node.line.node.drain()
        (call,) = node.plivo.calls.values()
        await node.until(call.over.is_set)
        assert [report.ended_by for report in call.reports] == ["caller"]
        report = await node.ask("GET", f"/v1/campaigns/{id}/report")
        assert report["outcomes"] in ({}, {"answered": 1})  # another node may find it out
        assert report["waiting"] == 1
    assert rung(node) == [CALLER]


async def test_a_node_that_drains_waits_for_nobody_who_does_not_answer(sqlite_url: str) -> None:
    with trio.fail_after(20):
        async with serving(sqlite_url, config=PATIENT) as node:
            node.plivo.phones[CALLER] = Phone(ring_s=0.5, when_rung="reject")
            await campaign(node, CALLER)
            await node.until(lambda: rung(node) == [CALLER])
            node.line.node.drain()


async def test_a_stream_on_its_way_is_not_lost_to_a_drain(sqlite_url: str) -> None:
    """The carrier has our answer to a call, and opens its stream a moment after SIGTERM."""
    async with serving(sqlite_url, config=PATIENT) as node:
        await node.bound()
        stream = webhooks._stream

        async def stream_late(*args: Any) -> bytes:
            document = await stream(*args)
            node.line.node.drain()
            return document

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(webhooks, "_stream", stream_late)
            call = node.plivo.ring(CALLER, OURS, HANGS_UP)
            await node.until(call.over.is_set)
        assert [report.ended_by for report in call.reports] == ["caller"]
