"""Where callers' numbers and words lie, table by table; and that each of them lets go of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import trio

from api.calls.erasing import Policy, erase_call, erase_due, forget_targets
from api.calls.records import Ended, begin_inbound, get_call, mark_ended, write_notes, write_streams
from api.calls.sweeping import erase_expired
from api.campaigns.specs import CampaignSpec, TargetSpec
from api.messages import find_messages, keep_message
from api.specs import AgentSpec, Retention
from api.store import Actor, Store, Tx
from api.store.agents import create_agent
from api.store.attempts import claim_call, look, settle
from api.store.campaigns import create_campaign, report_on, start_campaign
from api.store.errors import NotFound
from api.store.keys import find_audit
from api.store.tables import analyses, metadata
from api.store.targets import add_targets, find_targets, retry_targets
from rtcore.journal import Noted
from rtcore.ports import ToolCall
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from tests.api.telephone import ASKS, CALLER, OURS, Node, serving
from tests.api.test_erasing import OVER, record

ME = Actor("test")
WORDS = "xylophonist"
DAY_MS = 86_400_000
HOLDS = {  # what is known of callers
    "analyses", "call_notes", "call_streams", "calls", "campaign_attempts", "campaign_targets",
    "chats", "deliveries", "do_not_call", "idempotency", "messages",
}  # fmt: skip
NEVER = {  # what is the operator's own, or says nothing of anybody
    "agent_versions", "agents", "api_keys", "audit", "campaigns", "documents", "functions",
    "knowledge_bases", "nodes", "numbers", "passage_vectors", "passages", "recordings", "secrets",
    "uses", "webhooks",
}  # fmt: skip
PASSING = {"commands"}  # from node to node, for some seconds
LEAVE = ToolCall(
    id="m",
    name="leave_message",
    arguments=msgspec.json.encode({"text": f"{WORDS}, {CALLER}", "name": "Ann"}).decode(),
)


def tables_with(store: Store, *texts: str) -> set[str]:
    """The tables in which one of ``texts`` is, in whatever column."""

    def has(value: object) -> bool:
        octets = value if isinstance(value, bytes) else str(value).encode()
        return any(text.encode() in octets for text in texts)

    def work(tx: Tx) -> set[str]:
        return {
            table.name
            for table in metadata.tables.values()
            if any(has(value) for row in tx.conn.execute(sa.select(table)) for value in row)
        }

    return store.run(work, False)


def files_with(root: Path, text: str) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in files if text.encode() in path.read_bytes() or text in str(path)]


async def fill(node: Node) -> None:
    """Have a caller be known in every way there is."""
    node.answers = [LEAVE, f"I shall tell them, {WORDS}."]  # type: ignore[list-item]
    agent_id = await node.bound(recording=True, takes_messages=True)
    hook = {"name": "office", "url": "https://office.example.com/x"}
    await node.ask("POST", "/v1/webhooks", hook, 201)
    node.plivo.phones[CALLER] = Phone(scripts=[[wait(300), hang_up()]])
    rung = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
    await node.until(rung.over.is_set)
    body = {"agent_id": agent_id, "from": OURS, "to": CALLER, "variables": {"name": WORDS}}
    await node.ask("POST", "/v1/calls", body, 201, **{"Idempotency-Key": "one"})
    await node.until(lambda: all(call.over.is_set() for call in node.plivo.calls.values()))
    campaign = {"name": "news", "agent_id": agent_id, "from": OURS, "time_zone": "UTC"}
    campaign |= {"windows": []}  # at any hour
    id = (await node.ask("POST", "/v1/campaigns", campaign, 201))["id"]
    targets = [{"number": CALLER, "variables": {"name": WORDS}}]
    await node.ask("POST", f"/v1/campaigns/{id}/targets", {"targets": targets})
    await node.ask("POST", f"/v1/campaigns/{id}/start")
    with trio.fail_after(10):
        while (await node.ask("GET", f"/v1/campaigns/{id}"))["state"] != "completed":
            await trio.sleep(0.02)
    chat = {"message": f"I am {CALLER}", "variables": {"name": WORDS}}
    await node.ask("POST", f"/v1/agents/{agent_id}/chat", chat)
    blocked = {"numbers": [CALLER], "note": f"the {WORDS} asked for it"}
    await node.ask("POST", "/v1/do-not-call", blocked)
    assert node.line.recordings is not None
    await node.line.recordings.flush()
    await node.line.keeper.flush()
    (call, *_) = (await node.ask("GET", "/v1/calls"))["items"]

    def analyse(tx: Tx) -> None:
        """As the model would have it; and a stream that went down with its node."""
        found = {"call_id": call["id"], "agent_id": agent_id, "agent_version": 1, "state": "done"}
        found |= {"attempts": 1, "due_at_ms": 0, "requested_at_ms": 0, "updated_at_ms": 0}
        tx.conn.execute(sa.insert(analyses).values(**found, result=f'{{"summary": "{WORDS}"}}'))
        write_notes(tx, {(call["id"], 9): [(0, (Noted(at_ms=0, kind=WORDS, fields={}),))]})

    await node.line.store.write(analyse)


def test_of_every_table_it_is_known_whether_callers_are_in_it() -> None:
    assert {table.name for table in metadata.tables.values()} == HOLDS | NEVER | PASSING


async def test_somebody_who_is_forgotten_is_nowhere(sqlite_url: str, tmp_path: Path) -> None:
    """Not in one table, not in one file: neither their number nor a word of theirs."""
    async with serving(
        sqlite_url, plivo=FakePlivo(scale=0.001), recordings=tmp_path / "kept"
    ) as node:
        store = node.line.store
        await fill(node)
        assert tables_with(store, CALLER, WORDS) == HOLDS
        assert files_with(tmp_path, CALLER) != []
        assert list((tmp_path / "kept").rglob("*.wav")) != []
        erased = await node.ask("DELETE", f"/v1/callers/+{CALLER}")
        assert (erased["calls"], erased["campaign_targets"]) == (3, 1)
        assert erased["is_complete"]
        assert tables_with(store, CALLER, WORDS) == {"do_not_call"}  # the wish is kept to
        assert tables_with(store, WORDS) == set()
        await node.ask("DELETE", f"/v1/do-not-call/{CALLER}", status=204)
        await store.settle()
        assert files_with(tmp_path, CALLER) == []
        assert files_with(tmp_path, WORDS) == []
        assert list((tmp_path / "kept").rglob("*.wav")) == []


async def test_what_is_kept_for_longer_than_wished_is_nowhere(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with serving(
        sqlite_url, plivo=FakePlivo(scale=0.001), recordings=tmp_path / "kept"
    ) as node:
        store = node.line.store
        await fill(node)
        node.line.settings = msgspec.structs.replace(
            node.line.settings, retention=Retention(calls_days=30)
        )
        await erase_expired(node.line)
        assert tables_with(store, CALLER) >= {"calls", "campaign_targets"}  # not due yet
        now_s = store.now_s
        store.now_s = lambda: now_s() + 31 * 86_400
        await erase_expired(node.line)
        assert tables_with(store, CALLER, WORDS) == {"do_not_call"}
        (target,) = await _targets(node)
        assert (target["number"], target["state"], target["outcome"]) == (None, "done", "answered")
        store.now_s = now_s


async def test_the_audit_log_is_kept_for_as_long_as_the_node_says(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound()
        store = node.line.store
        lines = (await node.ask("GET", "/v1/audit"))["total"]
        assert lines > 0
        now_s, later_s = store.now_s, 0
        for days, left in ((364, lines), (2, 0)):
            later_s += days * 86_400
            store.now_s = lambda: now_s() + later_s  # noqa: B023 - read while it is this
            await erase_expired(node.line)
            assert (await store.read(find_audit, 1, 0)).total == left
        store.now_s = now_s


async def _targets(node: Node) -> Any:
    (campaign,) = (await node.ask("GET", "/v1/campaigns"))["items"]
    return (await node.ask("GET", f"/v1/campaigns/{campaign['id']}/targets"))["items"]


# --- one at a time ----------------------------------------------------------------------


def call_of(store: Store, carrier_id: str, *, is_over: bool = True) -> str:
    def work(tx: Tx) -> str:
        agent_id = create_agent(tx, ME, AgentSpec(name="desk")).id
        id = begin_inbound(tx, agent_id, carrier_id, CALLER, OURS).id
        if is_over:
            mark_ended(tx, id, OVER)
        return id

    return store.run(work, True)


def left(store: Store) -> Iterable[str]:
    return [each.text for each in store.run(find_messages, False, 10, 0).items]


def test_a_message_that_is_left_as_its_call_is_erased_is_not_kept(store: Store) -> None:
    """A function that writes outlives the call by some seconds."""
    id = call_of(store, "uuid-1")
    store.run(erase_call, True, ME, id)
    with pytest.raises(NotFound):
        store.run(keep_message, True, "agt_1", "uuid-1", "Ann", WORDS, "key")
    assert tables_with(store, WORDS) == set()


def test_a_message_that_comes_first_is_erased_with_its_call(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    id = call_of(store, "uuid-1")
    erasing = threading.Thread(target=lambda: store.run(erase_call, True, ME, id))

    def keep(tx: Tx) -> None:
        keep_message(tx, "agt_1", "uuid-1", "Ann", WORDS, "key")
        erasing.start()
        erasing.join(0.3)  # it waits for us

    store.run(keep, True)
    erasing.join(5)
    assert not erasing.is_alive()
    assert tables_with(store, WORDS) == set()
    with pytest.raises(NotFound):
        store.run(get_call, False, id)


def test_messages_go_with_what_was_said(store: Store) -> None:
    id = call_of(store, "uuid-1")
    store.run(write_streams, True, {(id, 1): (record("hello"), True)})
    policy = Policy(Retention(transcripts_days=1), {})
    now_s = store.now_s()
    store.now_s = lambda: now_s + 2 * 86_400
    store.run(erase_due, True, ME, "transcripts", policy)
    store.run(keep_message, True, "agt_1", "uuid-1", "Ann", WORDS, "key")
    assert left(store) == [WORDS]
    assert store.run(erase_due, True, ME, "transcripts", policy).transcripts == 1
    assert left(store) == []
    assert store.run(erase_due, True, ME, "transcripts", policy).transcripts == 0


def test_words_that_are_written_late_are_erased_too(store: Store) -> None:
    """The store was away, and a stream was taken for dead that was not."""
    id = call_of(store, "uuid-1")
    store.run(write_streams, True, {(id, 1): (record("so far"), False)})
    policy = Policy(Retention(transcripts_days=0), {})
    now_s = store.now_s()
    store.now_s = lambda: now_s + 120
    assert store.run(erase_due, True, ME, "transcripts", policy).transcripts == 1
    store.run(write_streams, True, {(id, 1): (record(WORDS), True)})
    assert store.run(erase_due, True, ME, "transcripts", policy).transcripts == 1
    assert tables_with(store, WORDS) == set()


def test_a_forgotten_number_is_neither_listed_nor_called_again(store: Store) -> None:
    other = "14155550101"

    def begin(tx: Tx) -> str:
        agent_id = create_agent(tx, ME, AgentSpec(name="desk")).id
        spec = CampaignSpec(name="news", agent_id=agent_id, from_=OURS, time_zone="UTC", windows=())
        id = create_campaign(tx, ME, spec).id
        add_targets(tx, ME, id, [TargetSpec(number=CALLER), TargetSpec(number=other)])
        start_campaign(tx, ME, id)
        return id

    id = store.run(begin, True)
    claimed = store.run(claim_call, True, "node", 1000)
    assert claimed is not None
    assert claimed.call.to_number == CALLER
    rejected = Ended(state="failed", source="Callee", code=3020)
    store.run(mark_ended, True, claimed.call.id, rejected)
    store.run(settle, True, claimed.call.id)
    before = store.run(report_on, False, id)
    assert before.states == {"done": 1, "waiting": 1}
    policy = Policy(Retention(calls_days=1), {})
    now_s = store.now_s()
    assert store.run(forget_targets, True, policy) == 0
    store.now_s = lambda: now_s + 2 * 86_400
    assert store.run(forget_targets, True, Policy(Retention(), {})) == 0
    assert store.run(forget_targets, True, policy) == 1
    assert store.run(forget_targets, True, policy) == 0
    assert tables_with(store, CALLER) == {"calls"}  # which is another step's
    assert store.run(report_on, False, id) == before
    page = store.run(find_targets, False, id, 10, 0, {})
    assert [each.number for each in page.items] == [None, other]
    assert store.run(retry_targets, True, ME, id, outcome="rejected", target_ids=[]) == 0
    assert store.run(look, False, "node").ended == ()
