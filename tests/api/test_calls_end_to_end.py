"""Whole calls on one machine, all of them signed: in, out, and to a human and back."""

from __future__ import annotations

import pytest

from api.store import Store
from rtcore.errors import ToolError
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from rtcore.testing.plivo import Fault
from tests.api.telephone import ASKS, CALLER, HUMAN, OURS, serving


async def test_somebody_calls_and_talks(store: Store) -> None:
    async with serving(store.engine.url.render_as_string(hide_password=False)) as node:
        agent_id = await node.bound(prompt="You talk with {caller}.")
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
        await node.until(call.over.is_set)
        report = call.reports[0]
        assert report.violations == ()
        assert [turn.response_ms is not None for turn in report.turns] == [True]
        assert all(made.status == 200 for made in node.plivo.callbacks.made)
        assert node.plans[-1].definition.prompt == "You talk with {caller}."
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        assert (shown["from"], shown["to"]) == (CALLER, OURS)
        assert (shown["direction"], shown["state"]) == ("inbound", "completed")
        assert shown["agent_id"] == agent_id
        assert shown["hangup"]["source"] == "Caller"
        await node.line.keeper.flush()
        said = (await node.ask("GET", f"/v1/calls/{shown['id']}/transcript"))["items"]
        assert [(line["role"], line["text"]) for line in said] == [
            ("assistant", "Good day."),
            ("user", "do you open on sunday"),
            ("assistant", "We open at nine."),
        ]
        (stream,) = (await node.ask("GET", f"/v1/calls/{shown['id']}/metrics"))["streams"]
        assert stream["ended_by"] == "hung_up"
        assert len(stream["turns"]) == 1
        assert {used["kind"]: used["requests"] for used in stream["usage"]}["llm"] >= 1
        events = (await node.ask("GET", f"/v1/calls/{shown['id']}/events"))["items"]
        assert events[0]["event"] == "call_started"
        assert not node.line.live


async def test_the_node_calls_somebody(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent(welcome_message="Hello {name}, this is {called}.")
        node.plivo.phones[CALLER] = Phone(scripts=[[*ASKS, wait(30_000)]])
        body = {
            "to": f"+{CALLER}",
            "from": OURS,
            "agent_id": agent_id,
            "variables": {"name": "Ann"},
        }
        made = await node.ask("POST", "/v1/calls", body, 201, **{"Idempotency-Key": "one"})
        again = await node.ask("POST", "/v1/calls", body, 201, **{"Idempotency-Key": "one"})
        assert again == made
        assert len(node.plivo.calls) == 1
        (call,) = node.plivo.calls.values()
        await node.until(lambda: node.line.live)
        await node.ask("POST", f"/v1/calls/{made['id']}/dtmf", {"digits": "12#"}, 204)
        assert call.keys_heard == "12#"
        await node.ask("POST", f"/v1/calls/{made['id']}/say", {"text": "One more thing."}, 204)
        held = node.line.live[made["id"]]
        await node.until(lambda: len(held.call.conversation.log) >= 4)
        said = [message.text for message in held.call.conversation.log]
        assert said[0] == f"Hello Ann, this is {OURS}."
        assert "One more thing." in said
        await node.ask("POST", f"/v1/calls/{made['id']}/hangup", None, 202)
        await node.until(call.over.is_set)
        shown = await node.ask("GET", f"/v1/calls/{made['id']}")
        assert (shown["state"], shown["hangup"]["source"]) == ("completed", "API Request")
        await node.ask("POST", f"/v1/calls/{made['id']}/hangup", None, 202)  # over: no error
        await node.ask("POST", f"/v1/calls/{made['id']}/dtmf", {"digits": "1"}, 409)


async def test_a_human_who_does_not_answer_gives_the_caller_back(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound()
        node.plivo.phones[HUMAN] = Phone(when_rung="ignore")
        caller = Phone(scripts=[[*ASKS, wait(30_000)], [*ASKS, wait(30_000)]])
        call = node.plivo.ring(CALLER, OURS, caller)
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        await node.until(lambda: len(held.call.conversation.log) == 3)
        transfer = {"to": f"+{HUMAN}", "ring_timeout_s": 5, "take_back_line": "Nobody is there."}
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", transfer, 202)
        again = await node.until(
            lambda: (now := node.line.live.get(held.call_id)) and now is not held and now
        )
        assert call.dialled == [HUMAN]
        assert "do you open on sunday" in node.line.live[held.call_id].call.conversation.system
        await node.until(lambda: len(again.call.conversation.log) >= 3)
        shown = await node.ask("GET", f"/v1/calls/{held.call_id}")
        assert shown["transfer"] == {"to": HUMAN, "mode": "cold", "outcome": "no-answer"}

        node.plivo.phones[HUMAN] = Phone()  # and now they are there
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", transfer, 202)
        await node.until(call.over.is_set)
        shown = await node.ask("GET", f"/v1/calls/{held.call_id}")
        assert shown["transfer"]["outcome"] == "completed"
        assert shown["state"] == "completed"
        await node.line.keeper.flush()
        said = (await node.ask("GET", f"/v1/calls/{held.call_id}/transcript"))["items"]
        assert said[0]["stream"] == 1
        assert said[-1]["stream"] == 2
        assert "Nobody is there." in [line["text"] for line in said]
        assert len(call.reports) == 2
        assert [report.violations for report in call.reports] == [(), ()]


async def test_the_agent_itself_hands_the_caller_over(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound(transfer_targets={"doctor": {"to": HUMAN}})
        node.plivo.phones[HUMAN] = Phone()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(30_000)]]))
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        node.plivo.faults.append(Fault(status=400, body=b'{"error": "not now"}'))
        with pytest.raises(ToolError, match="not now"):
            await held.call.steering.transfer("doctor")
        with pytest.raises(ToolError, match="there are: doctor"):
            await held.call.steering.transfer(HUMAN)  # a number is nobody's name
        assert not held.call.ended_by
        await held.call.steering.transfer("doctor")
        await node.until(call.over.is_set)
        assert call.dialled == [HUMAN]
        assert held.call.ended_by == "transferred"


async def test_a_line_that_is_busy(sqlite_url: str) -> None:
    async with serving(sqlite_url, plivo=FakePlivo(scale=0.001)) as node:
        agent_id = await node.agent()
        for when_rung, state in (("busy", "busy"), ("ignore", "no_answer"), ("reject", "failed")):
            node.plivo.phones[CALLER] = Phone(when_rung=when_rung)  # type: ignore[arg-type]
            body = {"to": CALLER, "from": OURS, "agent_id": agent_id}
            made = await node.ask("POST", "/v1/calls", body, 201)
            call = list(node.plivo.calls.values())[-1]
            await node.until(call.over.is_set)
            assert (await node.ask("GET", f"/v1/calls/{made['id']}"))["state"] == state
        page = await node.ask("GET", "/v1/calls?state=busy&direction=outbound")
        assert page["total"] == 1
