"""A caller is handed to a human who hears first what it is about; or stays with the agent."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from api.calls.live import LiveCall
from api.calls.records import get_call
from api.nodes.presence import PresenceConfig
from api.store import Store
from rtcore.agent.tools import ToolUse
from rtcore.errors import ToolError
from rtcore.testing import FakePlivo, Phone, wait
from rtcore.testing.plivo import Fault, PlacedCall
from tests.api.telephone import ASKS, CALLER, HUMAN, OURS, Node, serving

SUMMARY = "Ann wants to know when you open."
WARM = {
    "to": f"+{HUMAN}",
    "mode": "warm",
    "summary": SUMMARY,
    "ring_timeout_s": 20,
    "hold_line": "I am getting Bob.",
    "take_back_line": "Bob is not there.",
}


@asynccontextmanager
async def talking(
    store_url: str, human: Phone | None, *, asks: bool = False, **spec: Any
) -> AsyncIterator[tuple[Node, PlacedCall, LiveCall]]:
    """A caller who was welcomed (and has asked something), and a human who may be fetched."""
    async with serving(store_url, plivo=FakePlivo()) as node:
        await node.bound(**spec)
        if human is not None:
            node.plivo.phones[HUMAN] = human
        node.answers.append("A caller asks about Sunday.")  # what the model makes of it
        script = [*ASKS, wait(60_000)] if asks else [wait(60_000)]
        caller = Phone(scripts=[script], talk_s=math.inf)
        call = node.plivo.ring(CALLER, OURS, caller)
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        await node.until(lambda: len(held.call.conversation.log) >= (3 if asks else 1))
        yield node, call, held
        call.end("normal", "Caller")
        await node.until(call.over.is_set)


def human_call(node: Node) -> PlacedCall:
    return next(c for c in node.plivo.calls.values() if c.order.to_number == HUMAN)


def said(held: LiveCall) -> list[str]:
    return [message.text for message in held.call.conversation.log]


async def outcome(node: Node, held: LiveCall) -> str:
    """What became of the transfer; waits until that is decided."""
    while True:
        stored = await node.line.store.read(get_call, held.call_id)
        assert stored.transfer is not None
        if stored.transfer.outcome:
            return stored.transfer.outcome


async def test_a_human_hears_the_summary_takes_the_call_and_talks_with_the_caller(
    store: Store,
) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    human = Phone(keys=["1"], talk_s=0.3)
    async with talking(url, human) as (node, call, held):
        shown = await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        assert shown["transfer"] == {"to": HUMAN, "mode": "warm", "outcome": ""}
        await node.until(call.over.is_set)
        fetched = human_call(node)
        await node.until(fetched.over.is_set)
        assert fetched.spoken == [f"{SUMMARY} To take the call, press 1. To decline, press 2."]
        (room,) = node.plivo.rooms.held
        assert room.met == {call.uuid, fetched.uuid}  # they were in it together
        assert held.call.ended_by == "transferred"
        assert await outcome(node, held) == "completed"
        assert len(call.reports) == 1  # the caller was with the agent until then
        made = [each for each in node.plivo.callbacks.made if each.status != 200]
        assert made == []


async def test_the_caller_is_told_to_wait_and_kept_company(sqlite_url: str) -> None:
    human = Phone(ring_s=1.5, keys=["1"])
    async with talking(sqlite_url, human) as (node, call, held):
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        await node.until(lambda: "I am getting Bob." in said(held))
        assert held.call.waiting_line == "I am getting Bob."
        assert not held.call.ended_by
        for body in (WARM, {"to": HUMAN}):
            again = await node.http.post(f"/v1/calls/{held.call_id}/transfer", json=body)
            assert again.status_code == 409
        await node.until(call.over.is_set)
        assert "Bob is not there." not in said(held)


@pytest.mark.parametrize(
    ("human", "expected"),
    [
        (Phone(when_rung="busy"), "busy"),
        (Phone(when_rung="ignore"), "no-answer"),
        (Phone(when_rung="reject"), "failed"),
        (Phone(keys=["2"]), "declined"),
        (Phone(keys=["7", "8"]), "declined"),
        (Phone(), "declined"),  # an answering machine presses nothing
    ],
)
async def test_the_agent_goes_on_when_nobody_takes_the_call(
    sqlite_url: str, human: Phone, expected: str
) -> None:
    async with talking(sqlite_url, human) as (node, call, held):
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        assert await outcome(node, held) == expected
        await node.until(lambda: "Bob is not there." in said(held))
        assert held.call.waiting_line == ""
        assert node.line.live[held.call_id] is held  # never left
        assert node.plivo.rooms.held == []
        assert any("did not take the call" in text for text in said(held))
        # and once more, with more luck
        node.plivo.phones[HUMAN] = Phone(keys=["1"])
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        await node.until(call.over.is_set)
        assert len(node.plivo.rooms.held) == 1


async def test_a_human_who_pressed_a_wrong_key_may_press_again(sqlite_url: str) -> None:
    async with talking(sqlite_url, Phone(keys=["9", "1"])) as (node, call, held):
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        await node.until(call.over.is_set)
        assert len(human_call(node).spoken) == 2
        assert await outcome(node, held) == "completed"


async def test_the_human_is_let_go_when_the_caller_hangs_up(sqlite_url: str) -> None:
    async with talking(sqlite_url, Phone(ring_s=60)) as (node, call, held):
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        fetched = await node.until(lambda: human_call(node))
        call.end("normal", "Caller")
        await node.until(fetched.over.is_set)
        assert fetched.hangup is not None
        assert fetched.hangup.code == 1000  # their telephone stopped ringing
        assert await outcome(node, held) == "caller_left"


async def test_a_carrier_that_does_not_ring_the_human_leaves_the_caller_with_the_agent(
    sqlite_url: str,
) -> None:
    async with talking(sqlite_url, None) as (node, _, held):
        node.plivo.faults.append(Fault(status=400, body=b'{"error": "no such number"}'))
        refused = await node.http.post(f"/v1/calls/{held.call_id}/transfer", json=WARM)
        assert refused.status_code == 422
        assert "no such number" in refused.json()["detail"]
        await node.until(lambda: "Bob is not there." in said(held))
        assert await outcome(node, held) == "failed"


async def test_the_summary_is_made_of_the_conversation(sqlite_url: str) -> None:
    async with talking(sqlite_url, Phone(keys=["1"]), asks=True) as (node, call, held):
        body = {key: value for key, value in WARM.items() if key != "summary"}
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", body, 202)
        await node.until(call.over.is_set)
        assert human_call(node).spoken[0].startswith("A caller asks about Sunday. To take")


async def test_nobody_waits_for_ever_for_a_human_of_whom_nothing_is_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.calls.handing.BRIEFING_S", -19.5)  # of 20 s of ringing, half a one
    async with talking(sqlite_url, Phone(ring_s=60)) as (node, _, held):
        await node.ask("POST", f"/v1/calls/{held.call_id}/transfer", WARM, 202)
        await node.until(lambda: "Bob is not there." in said(held))
        assert await outcome(node, held) == "failed"
        fetched = human_call(node)
        await node.until(fetched.over.is_set)


async def test_the_agent_fetches_a_human_by_name_and_tells_them_what_it_knows(
    sqlite_url: str,
) -> None:
    targets = {"bob": {"to": HUMAN, "mode": "warm", "what_for": "questions about opening"}}
    fetched = Phone(keys=["1"])
    async with talking(sqlite_url, fetched, transfer_targets=targets) as (node, call, held):
        (tool,) = [tool for tool in held.call.agent.tools if tool.name == "transfer"]
        assert tool.spec.parameters["properties"]["to"]["enum"] == ["bob"]
        assert HUMAN not in str(tool.spec)  # the model never sees a number
        with pytest.raises(ToolError, match="there are: bob"):
            await held.call.steering.transfer(HUMAN)
        use = ToolUse(
            arguments={"to": "bob", "summary": SUMMARY},
            key="k",
            call_id="c",
            control=held.call.steering,
        )
        assert "keep the caller company" in await tool.run(use)
        await node.until(call.over.is_set)
        assert human_call(node).spoken[0].startswith(SUMMARY)


async def test_a_human_is_fetched_through_another_node_than_the_one_that_holds_the_call(
    store: Store,
) -> None:
    url, plivo = store.engine.url.render_as_string(hide_password=False), FakePlivo()
    steady = PresenceConfig(heartbeat_s=1.0)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(serving(url, plivo=plivo, presence=steady))
        b = await stack.enter_async_context(serving(url, plivo=plivo, presence=steady))
        await a.until(lambda: a.line.presence.nodes == 2 == b.line.presence.nodes)
        await b.bound()
        call = plivo.ring(CALLER, OURS, Phone(scripts=[[wait(60_000)]], talk_s=math.inf))
        await b.until(lambda: b.line.live)
        (held,) = b.line.live.values()
        plivo.phones[HUMAN] = Phone(keys=["2"])
        path = f"/v1/calls/{held.call_id}/transfer"
        await a.ask("POST", path, WARM, 202)  # the human's callbacks come to A, too
        assert await outcome(a, held) == "declined"
        await b.until(lambda: "Bob is not there." in said(held))
        assert "I am getting Bob." in said(held)
        assert held.call.waiting_line == ""
        plivo.phones[HUMAN] = Phone(keys=["1"], talk_s=0.1)
        await a.ask("POST", path, WARM, 202)
        await b.until(call.over.is_set)
        assert await outcome(a, held) == "completed"
        assert held.call.ended_by == "transferred"
