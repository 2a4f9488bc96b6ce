"""Several nodes on one store: who is up, who holds a call, and what reaches it from elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest
import trio
from prometheus_client import CollectorRegistry

from api.calls.erasing import erase_call
from api.calls.live import CallEvent
from api.calls.records import (
    CallPlan,
    Ended,
    begin_outbound,
    find_unended,
    get_call,
    mark_answered,
    mark_ended,
    open_stream,
)
from api.nodes import bus as bus_module
from api.nodes.bus import Bus, NodeSilent
from api.nodes.channel import listen_for_ever
from api.nodes.presence import Presence, PresenceConfig
from api.nodes.records import (
    NodeState,
    beat,
    bury,
    channel_of,
    claim_commands,
    find_nodes,
    node_with_room,
    notify,
    put_command,
    release,
    take_answers,
)
from api.specs import AgentSpec
from api.store import Actor, Store
from api.store.agents import create_agent
from rtcore.node import NodeConfig
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from tests.api.telephone import ASKS, CALLER, HUMAN, OURS, Node, serving

ME = Actor("test")
QUICK = PresenceConfig(heartbeat_s=0.2)
STEADY = PresenceConfig(heartbeat_s=1.0)  # a test machine is shared: 4 s of silence are a death
STATE = NodeState(url="", calls=1, capacity=10, has_room=True, is_draining=False)


def url_of(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def held_call(store: Store, node_id: str, carrier_id: str) -> str:
    """A call in the store whose first stream is on that node."""
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    call = store.run(begin_outbound, True, ME, agent.id, "1", "2", CallPlan())
    answered = store.run(mark_answered, True, call.id, carrier_id)
    assert answered.media_nonce is not None
    opened = store.run(open_stream, True, carrier_id, answered.media_nonce, node_id)
    assert opened is not None
    assert opened.node_id == node_id
    return call.id


def fallen_silent(store: Store, node_id: str, ms: int) -> None:
    """Let the last heartbeat of a node be so long ago."""
    with store.engine.begin() as conn:
        conn.exec_driver_sql(
            f"UPDATE nodes SET heartbeat_at_ms = heartbeat_at_ms - {ms} WHERE id = '{node_id}'"
        )


# --- what is kept -----------------------------------------------------------------------


def test_the_calls_of_a_dead_node_end_once(store: Store) -> None:
    for node_id in ("node_a", "node_b"):
        store.run(beat, True, node_id, STATE)
    lost = held_call(store, "node_b", "uuid-lost")
    kept = held_call(store, "node_a", "uuid-kept")
    assert store.run(bury, True, 20_000) == ()
    fallen_silent(store, "node_b", 20_001)
    assert [call.id for call in store.run(bury, True, 20_000)] == [lost]
    assert store.run(bury, True, 20_000) == ()
    ended = store.run(get_call, False, lost)
    assert ended.ended is not None
    assert (ended.state, ended.ended.cause, ended.node_id) == ("failed", "node_lost", None)
    assert store.run(get_call, False, kept).ended_at_ms is None
    page = store.run(find_nodes, False, 10, 0)
    assert [node.id for node in page.items] == ["node_a"]
    store.run(beat, True, "node_b", STATE)  # it was only slow: it is one of them again
    assert store.run(find_nodes, False, 10, 0).total == 2


def test_the_emptiest_node_that_can_be_reached_takes_what_another_cannot(store: Store) -> None:
    def node(id: str, **changes: Any) -> None:
        url = f"https://{id}.example.com"
        store.run(beat, True, id, msgspec.structs.replace(STATE, url=url, **changes))

    node("full", calls=10)
    node("here", calls=0)
    node("drains", calls=0, is_draining=True)
    node("lags", calls=0, has_room=False)
    assert store.run(node_with_room, False, "here", 20_000) is None
    node("half", calls=5)
    node("emptier", calls=40, capacity=100)
    store.run(beat, True, "behind", msgspec.structs.replace(STATE, calls=0))  # without a URL
    found = store.run(node_with_room, False, "here", 20_000)
    assert found is not None
    assert found.id == "emptier"
    fallen_silent(store, "emptier", 20_001)
    found = store.run(node_with_room, False, "here", 20_000)
    assert found is not None
    assert found.id == "half"


def test_a_command_is_given_out_once_and_not_past_its_time(store: Store) -> None:
    store.run(put_command, True, "cmd_1", "node_b", "node_a", b"do it", 5000)
    store.run(put_command, True, "cmd_2", "node_b", "node_a", b"too late", -1)
    store.run(put_command, True, "cmd_3", "node_c", "node_a", b"of another", 5000)
    assert [each.body for each in store.run(claim_commands, True, "node_b")] == [b"do it"]
    assert store.run(claim_commands, True, "node_b") == ()
    assert store.run(take_answers, True, ("cmd_1",)) == {}


def test_a_call_another_node_holds_is_not_asked_after(store: Store) -> None:
    mine, other = held_call(store, "node_a", "uuid-a"), held_call(store, "node_b", "uuid-b")
    later_ms = store.run(get_call, False, other).created_at_ms + 1
    found = store.run(find_unended, False, "node_a", later_ms, 10)
    assert [call.id for call in found] == [mine]
    store.run(release, True, "node_b", [(other, 1)])
    found = store.run(find_unended, False, "node_a", later_ms, 10)
    assert {call.id for call in found} == {mine, other}


# --- the bus ----------------------------------------------------------------------------


@asynccontextmanager
async def two_ends(store: Store) -> AsyncIterator[tuple[Bus, Bus, list[bytes]]]:
    """Two ends of the bus; ``b`` answers what it is asked in capitals."""
    heard: list[bytes] = []

    async def shout(body: bytes) -> bytes:
        if body == b"fail":
            raise ValueError("a fault of ours")
        return body.upper()

    a = Bus(store, "node_a", shout, heard.append, CollectorRegistry())
    b = Bus(store, "node_b", shout, heard.append, CollectorRegistry())
    for node_id in ("node_a", "node_b"):
        store.run(beat, True, node_id, STATE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.run)
        nursery.start_soon(b.run)
        with trio.fail_after(20):
            yield a, b, heard
        nursery.cancel_scope.cancel()


async def test_a_command_is_answered(store: Store) -> None:
    async with two_ends(store) as (a, b, _):
        assert await a.ask("node_b", b"hello") == b"HELLO"
        assert await b.ask("node_a", b"and back") == b"AND BACK"
        answers: list[bytes] = []

        async def ask(number: int) -> None:
            answers.append(await a.ask("node_b", b"n%d" % number))

        async with trio.open_nursery() as nursery:
            for number in range(100):  # more than are worked on at a time
                nursery.start_soon(ask, number)
        assert sorted(answers) == sorted(b"N%d" % number for number in range(100))


async def test_a_node_that_is_gone_or_silent_is_told_as_such(store: Store) -> None:
    async with two_ends(store) as (a, _, _):
        with pytest.raises(NodeSilent, match="is gone; nothing was done") as caught:
            await a.ask("node_x", b"hello", 0.2)
        assert not caught.value.may_have_happened
        with pytest.raises(NodeSilent, match="it may have been done") as caught:
            await a.ask("node_b", b"fail", 1.0)
        assert caught.value.may_have_happened
        assert await a.ask("node_b", b"still there") == b"STILL THERE"


async def test_events_reach_one_node_or_all_but_the_teller(store: Store) -> None:
    async with two_ends(store) as (a, b, heard):
        await a.ask("node_b", b"up")  # both ends listen now
        assert a.tell("node_b", b"to one")
        assert b.tell(None, b"to all")
        long = b"x" * 20_000  # more than a notification holds
        assert a.tell("node_b", long)
        assert a.tell(None, long.upper())
        while len(heard) < 4:
            await trio.sleep(0.01)
        assert sorted(heard) == [long.upper(), b"to all", b"to one", long]


async def test_a_full_queue_drops_events_and_counts_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "TOLD_MAX", 3)

    async def perform(body: bytes) -> bytes:
        return body

    bus = Bus(store, "node_a", perform, print, CollectorRegistry())
    assert [bus.tell("node_b", b"x") for _ in range(5)] == [True] * 3 + [False] * 2
    assert bus.dropped._value.get() == 2


async def test_a_lost_connection_is_made_anew_and_nothing_is_missed(store: Store) -> None:
    if store.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connections to lose")
    heard: list[str] = []
    fresh: list[float] = []
    async with trio.open_nursery() as nursery:
        listen = (store.engine, ("rtcore_x",), heard.append, lambda: fresh.append(1))
        nursery.start_soon(listen_for_ever, *listen)
        with trio.fail_after(20):
            for number in range(1, 3):
                while len(fresh) < number:
                    await trio.sleep(0.01)
                store.run(lambda tx: notify(tx, "rtcore_x", "hello"), True)
                while len(heard) < number:
                    await trio.sleep(0.01)
                with store.engine.begin() as conn:  # as an operator, or a restart, would
                    conn.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE query LIKE 'LISTEN %%' AND datname = current_database()"
                    )
        nursery.cancel_scope.cancel()


async def test_a_command_whose_notification_is_lost_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_ends(store) as (a, _, _):
        await a.ask("node_b", b"up")
        monkeypatch.setattr("api.nodes.records.notify", lambda tx, channel, payload: None)
        assert await a.ask("node_b", b"unnotified") == b"UNNOTIFIED"


async def test_presence_takes_out_who_is_silent(store: Store) -> None:
    lost: list[str] = []
    told = trio.Event()

    async def tell(calls: Any) -> None:
        lost.extend(call.id for call in calls)
        told.set()

    store.run(beat, True, "node_dead", STATE)
    call_id = held_call(store, "node_dead", "uuid-1")
    presence = Presence(store, "node_a", QUICK, lambda: STATE, tell)
    async with trio.open_nursery() as nursery:
        await nursery.start(presence.run)
        assert presence.nodes == 2
        with trio.fail_after(10):
            await told.wait()
        assert lost == [call_id]
        assert presence.nodes == 1
        nursery.cancel_scope.cancel()
    assert store.run(find_nodes, False, 10, 0).total == 0  # it signed off


def test_a_dead_node_is_noticed_within_half_a_minute() -> None:
    config = PresenceConfig()
    assert config.silent_ms / 1000 + config.heartbeat_s <= 30 - 5  # 5 s for a slow database


# --- whole nodes ------------------------------------------------------------------------


@asynccontextmanager
async def pair(store: Store) -> AsyncIterator[tuple[Node, Node]]:
    """Node A and node B on one store, and one carrier; numbers are bound to B."""
    plivo = FakePlivo()
    async with AsyncExitStack() as stack:
        node = partial(serving, url_of(store), plivo=plivo, presence=STEADY)
        a, b = [await stack.enter_async_context(node()) for _ in range(2)]
        await a.until(lambda: a.line.presence.nodes == 2 and b.line.presence.nodes == 2)
        yield a, b


async def test_what_is_asked_of_one_node_reaches_the_call_on_the_other(store: Store) -> None:
    async with pair(store) as (a, b):
        await b.bound()
        call = b.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(30_000)]]))
        await b.until(lambda: b.line.live)
        assert not a.line.live
        (held,) = b.line.live.values()
        nodes = (await a.ask("GET", "/v1/nodes"))["items"]
        assert {node["id"] for node in nodes} == {a.line.node_id, b.line.node_id}
        assert [node["is_this"] for node in nodes if node["id"] == a.line.node_id] == [True]
        path = f"/v1/calls/{held.call_id}"
        await a.ask("POST", f"{path}/say", {"text": "One more thing."}, 204)
        await b.until(lambda: "One more thing." in [m.text for m in held.call.conversation.log])
        await a.ask("POST", f"{path}/whisper", {"text": "Be brief."}, 204)
        assert held.call.conversation.log[-1].text.endswith("Be brief.")
        await a.ask("POST", f"{path}/mute", None, 204)
        assert held.call.is_muted
        await a.ask("POST", f"{path}/unmute", None, 204)
        assert not held.call.is_muted
        other = await a.agent(name="billing", welcome_message="Billing, {caller}.", prompt="Bill.")
        change = {"agent_id": other, "says_welcome": True}
        shown = await a.ask("POST", f"{path}/agent", change)
        assert shown["agent_id"] == other
        assert held.call.conversation.system == "Bill."
        await a.ask("POST", f"{path}/agent", {"prompt": "Talk with {caller}."})
        assert held.call.conversation.system == f"Talk with {CALLER}."
        welcome = f"Billing, {CALLER}."
        await b.until(lambda: welcome in [m.text for m in held.call.conversation.log])
        nobody = {"agent_id": "agt_" + "0" * 24}
        await a.ask("POST", f"{path}/agent", nobody, 422)
        await a.ask("POST", f"{path}/hangup", None, 202)
        await b.until(call.over.is_set)
        await b.until(lambda: not b.line.live)
        await b.line.keeper.flush()
        assert (await a.line.store.read(get_call, held.call_id)).node_id is None
        await a.ask("POST", f"{path}/say", {"text": "Too late."}, 409)
        await a.ask("POST", f"{path}/agent", {"prompt": "Too late."}, 409)


async def events(node: Node, call_id: str, into: list[tuple[str, Any]]) -> None:
    """Listen to a call at ``node`` until it is over."""
    headers = {"Accept": "text/event-stream"}
    stream = node.http.stream("GET", f"/v1/calls/{call_id}/events", headers=headers)
    name = ""
    async with stream as response:
        assert response.status_code == 200
        async for text in response.aiter_lines():
            kind, _, rest = text.partition(": ")
            if kind == "event":
                name = rest
            elif kind == "data":
                into.append((name, msgspec.json.decode(rest)))


def texts(heard: list[tuple[str, Any]]) -> list[str]:
    return [data["text"] for name, data in heard if name == "transcript"]


async def test_a_call_is_listened_to_from_the_other_node(store: Store) -> None:
    async with pair(store) as (a, b):
        await b.bound()
        call = b.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, wait(1000), hang_up()]]))
        await b.until(lambda: b.line.live)
        (held,) = b.line.live.values()
        first: list[tuple[str, Any]] = []
        second: list[tuple[str, Any]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events, a, held.call_id, first)
            await b.until(lambda: texts(first))
            nursery.start_soon(events, a, held.call_id, second)  # comes later, hears all
        assert call.over.is_set() or call.hangup is not None
        said = ["Good day.", "do you open on sunday", "We open at nine."]
        assert texts(first)[:3] == said
        assert texts(second)[:3] == said
        assert [data["state"] for name, data in first if name == "state"][-1] == "completed"
        assert "turn_committed" in [name for name, _ in first]
        partial = [data["text"] for name, data in first if name == "partial"]
        assert any(text and "We open at nine.".startswith(text) for text in partial)
        assert "do you open on sunday" in partial
        assert not a.line.followers._listening


async def test_a_call_erased_while_it_is_listened_to_ends_the_listening(store: Store) -> None:
    async with pair(store) as (a, _):
        call_id = held_call(store, a.line.node_id, "0b0b0b0b-0000-4000-8000-000000000000")
        with a.line.listeners.listen(call_id) as heard:
            assert heard is not None
            async with a.line.followers.follow(call_id):
                store.run(mark_ended, True, call_id, Ended(state="completed"))
                store.run(erase_call, True, Actor("test"), call_id)
                with trio.fail_after(10):
                    async for event in heard:
                        assert event.event == "state"
        assert (await a.http.get("/healthz")).status_code == 200


async def test_a_stranger_on_the_channel_ends_nothing(store: Store) -> None:
    async with pair(store) as (a, b):
        with a.line.listeners.listen("call_1") as heard:
            assert heard is not None
            b.line.bus.tell(a.line.node_id, b"not ours")
            b.line.bus.tell(a.line.node_id, b'{"call_id": 1}')
            b.line.tell("call_1", CallEvent(event="ours"))
            with trio.fail_after(10):
                assert (await heard.receive()).event == "ours"


async def test_a_stream_that_ended_elsewhere_is_not_opened_again(store: Store) -> None:
    """The carrier asks node A what comes after a stream that the agent ended on node B."""
    async with pair(store) as (a, b):
        agent_id = await b.bound()
        call = b.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(30_000)]] * 3))
        await b.until(lambda: b.line.live)
        (held,) = b.line.live.values()
        b.line.public_url = a.line.public_url  # from now on callbacks go to A
        stored = await a.line.store.read(get_call, held.call_id)
        held.call.say("Goodbye.", ends_call=True)
        await b.until(call.over.is_set)
        assert await a.line.ending_of(stored) == "agent_hung_up"  # by the bus
        await b.line.keeper.flush()
        stored = await a.line.store.read(get_call, held.call_id)
        assert stored.node_id is None
        assert await a.line.ending_of(stored) == "agent_hung_up"  # from the record
        assert len(call.reports) == 1
        assert agent_id == stored.agent_id


async def test_a_node_that_is_gone_is_a_problem_and_not_a_silence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(store) as (a, _):
        call_id = held_call(store, "node_gone", "0a0a0a0a-0000-4000-8000-000000000000")
        monkeypatch.setattr("api.calls.commands.ANSWER_LIMIT_S", 0.2)
        body = {"text": "Anybody?"}
        response = await a.http.request("POST", f"/v1/calls/{call_id}/say", json=body)
        assert response.status_code == 504
        assert "is gone; nothing was done" in response.json()["detail"]
        assert channel_of("node_gone") == "rtcore_node_gone"


async def test_a_call_that_one_node_has_no_room_for_is_taken_by_another(store: Store) -> None:
    plivo = FakePlivo()
    full = NodeConfig(lag_max_ms=10_000, calls_max=1, drain_s=1)
    async with AsyncExitStack() as stack:
        node = partial(serving, url_of(store), plivo=plivo, presence=STEADY)
        a = await stack.enter_async_context(node(config=full))
        b = await stack.enter_async_context(node(splits=True))  # with a media URL of its own
        await a.until(lambda: a.line.presence.nodes == 2)
        await a.bound()
        talks = Phone(scripts=[[wait(3000), hang_up()]])
        first = plivo.ring(CALLER, OURS, talks)
        await a.until(lambda: a.line.live)
        second = plivo.ring("14155550101", OURS, talks)
        await b.until(lambda: b.line.live)
        (held,) = b.line.live.values()
        stored = await a.line.store.read(get_call, held.call_id)
        assert stored.node_id == b.line.node_id
        assert a.line.no_room.labels("other_node")._value.get() == 1
        await a.until(lambda: first.over.is_set() and second.over.is_set())
        assert [report.ended_by for report in second.reports] == ["caller"]


async def test_another_node_goes_on_with_the_calls_of_one_that_is_stopped(store: Store) -> None:
    plivo = FakePlivo()
    async with AsyncExitStack() as stack:
        node = partial(serving, url_of(store), plivo=plivo, presence=STEADY)
        a = await stack.enter_async_context(node())
        b = await stack.enter_async_context(node(splits=True))  # with a media URL of its own
        await a.until(lambda: a.line.presence.nodes == 2)
        await a.bound()
        silent = [wait(60_000)]
        call = plivo.ring(CALLER, OURS, Phone(scripts=[silent, [wait(200), hang_up()]]))
        await a.until(lambda: a.line.live)
        (call_id,) = a.line.live
        a.line.node.stop()
        await b.until(lambda: call_id in b.line.live)
        await b.until(call.over.is_set)
        assert [report.ended_by for report in call.reports] == ["node", "caller"]
        assert a.line.node.stats.failed == b.line.node.stats.failed == 0


async def test_without_room_callers_hear_busy_or_are_put_through(sqlite_url: str) -> None:
    full = NodeConfig(lag_max_ms=10_000, calls_max=1, drain_s=1)
    async with serving(sqlite_url, config=full) as node:
        await node.bound()
        first = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(2500), hang_up()]]))
        await node.until(lambda: node.line.live)
        busy = node.plivo.ring("14155550101", OURS, Phone())
        await node.until(busy.over.is_set)
        assert busy.hangup is not None
        assert (busy.hangup.code, busy.hangup.status) == (3010, "busy")
        assert node.line.no_room.labels("busy")._value.get() == 1

        node.plivo.phones[HUMAN] = Phone()
        await node.bound(overflow_to=HUMAN)
        over = node.plivo.ring("14155550102", OURS, Phone())
        await node.until(over.over.is_set)
        assert over.dialled == [HUMAN]
        assert node.line.no_room.labels("overflow")._value.get() == 1
        await node.until(first.over.is_set)


async def test_only_admins_see_the_nodes(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        made = await node.ask("POST", "/v1/keys", {"name": "reader", "scopes": ["read"]}, 201)
        headers = {"Authorization": f"Bearer {made['token']}"}
        async with httpx.AsyncClient(base_url=node.url, trust_env=False) as reader:
            assert (await reader.get("/v1/nodes", headers=headers)).status_code == 403
