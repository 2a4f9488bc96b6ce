"""A database that an older node has filled: after the upgrade all of it is served."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from api.app import create_app
from api.calls.joining import add_telephony
from api.settings import ApiSettings
from api.specs import AgentPlan, AgentSpec
from api.store import Actor, Store, upgrade
from api.store.agents import create_agent
from api.store.database import Tx
from api.store.keys import SCOPES, create_key
from rtcore.agent.agent import Agent
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
from tests.api.client import Api

ME = Actor("test")
OVER, GOING, CHAT = "call_" + "a" * 24, "call_" + "b" * 24, "cht_" + "c" * 24
CALLER, OURS = "14155550100", "14155550199"
# as revision 0003 kept it: what has come since is not in it
RECORD = {
    "call_id": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "stream_id": "s-1",
    "ended_by": "hung_up",
    "duration_s": 42.5,
    "turns": [
        {
            "endpointing_ms": 300.0,
            "stt_final_ms": 0.0,
            "llm_first_token_ms": 220.0,
            "first_sentence_ms": 20.0,
            "tts_first_audio_ms": 98.0,
            "playout_ms": 2.0,
            "is_speculative": True,
        }
    ],
    "barge_ins": [{"pause_ms": 140.0, "clear_ms": 360.0, "heard_ms": 1820.0}],
    "stats": {"turns": 1, "replies": 2},
    "transcript": [
        {"role": "assistant", "text": "Good day."},
        {"role": "user", "text": "do you open on sunday"},
    ],
    "notes": [{"at_ms": 1.5, "kind": "call_started", "fields": {"rate_hz": 8000}}],
}
CALLS = sa.text(
    "INSERT INTO calls (id, direction, agent_id, agent_version, from_number, to_number, state,"
    " carrier_id, request_id, plan, is_machine, transfer, media_nonce, streams, hangup,"
    " created_at_ms, answered_at_ms, ended_at_ms) VALUES (:id, 'inbound', :agent, 1, :caller,"
    " :ours, :state, :carrier, NULL, :plan, 0, NULL, NULL, 1, :hangup, :at, :at, :ended)"
)
STREAMS = sa.text(
    "INSERT INTO call_streams (call_id, number, record, is_final, updated_at_ms)"
    " VALUES (:id, 1, :record, :is_final, :at)"
)
NUMBERS = sa.text(
    "INSERT INTO numbers (number, agent_id, app_id, created_at_ms, updated_at_ms)"
    " VALUES (:number, :agent, '17', :at, :at)"
)
CHATS = sa.text(
    "INSERT INTO chats (id, agent_id, version, revision, log, has_ended, created_at_ms,"
    " updated_at_ms) VALUES (:id, :agent, 1, 1, :log, 0, :at, :at)"
)
SAID = [{"role": "user", "text": "hello"}, {"role": "assistant", "text": "Hello there."}]


def fill(tx: Tx, agent_id: str) -> None:
    """Two calls, one of them cut off by a crash of its node, a number, a conversation."""
    common = {"agent": agent_id, "caller": CALLER, "ours": OURS, "at": tx.now_ms - 60_000}
    plan = json.dumps({"variables": {"name": "Ann"}, "on_machine": "", "machine_message": ""})
    hangup = json.dumps({"state": "completed", "cause": "Normal Hangup", "code": 4000})
    over = {"id": OVER, "state": "completed", "carrier": "c-1", "hangup": hangup}
    going = {"id": GOING, "state": "in_progress", "carrier": "c-2", "hangup": None}
    tx.conn.execute(CALLS, {**common, **over, "plan": plan, "ended": tx.now_ms - 1000})
    tx.conn.execute(CALLS, {**common, **going, "plan": plan, "ended": None})
    for id, is_final, ended_by in ((OVER, 1, "hung_up"), (GOING, 0, "")):
        record = json.dumps({**RECORD, "ended_by": ended_by})
        row = {"id": id, "record": record, "is_final": is_final, "at": common["at"]}
        tx.conn.execute(STREAMS, row)
    tx.conn.execute(NUMBERS, {"number": OURS, "agent": agent_id, "at": common["at"]})
    chat = {"id": CHAT, "agent": agent_id, "log": json.dumps(SAID), "at": common["at"]}
    tx.conn.execute(CHATS, chat)


def agent_for(plan: AgentPlan) -> Agent:
    return Agent(
        definition=plan.definition,
        transcriber=ScriptedTranscriber(["unheard"]),
        responder=ScriptedResponder(["Hello there."]),
        synthesizer=ScriptedSynthesizer(),
    )


async def test_a_database_of_the_last_release_is_served_whole(empty_url: str) -> None:
    upgrade(empty_url, "0003")
    store = Store.open(empty_url)
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk", prompt="Be brief."))
    store.run(fill, True, agent.id)
    _, token = store.run(create_key, True, ME, "test", SCOPES)
    store.close()

    upgrade(empty_url)
    store = Store.open(empty_url)
    app = create_app(store, ApiSettings(), agent_for=agent_for)
    add_telephony(app, account=None, secret=b"0123456789abcdef")
    async with app.test_app() as running:
        api = Api(running.test_client(), token)

        async def read(path: str) -> Any:
            answer = await api.ask("GET", path)
            assert answer.status == 200, answer.body
            return answer.json

        assert (await read(f"/v1/agents/{agent.id}"))["prompt"] == "Be brief."
        assert {call["id"] for call in (await read("/v1/calls"))["items"]} == {OVER, GOING}
        call = await read(f"/v1/calls/{OVER}")
        assert (call["from"], call["variables"]) == (CALLER, {"name": "Ann"})
        assert call["hangup"]["cause"] == "Normal Hangup"
        lines = (await read(f"/v1/calls/{OVER}/transcript"))["items"]
        assert [line["text"] for line in lines] == ["Good day.", "do you open on sunday"]
        (stream,) = (await read(f"/v1/calls/{OVER}/metrics"))["streams"]
        assert (stream["ended_by"], stream["turns"][0]["response_ms"]) == ("hung_up", 640.0)
        assert (await read(f"/v1/calls/{OVER}/events"))["items"][0]["event"] == "call_started"
        (stream,) = (await read(f"/v1/calls/{GOING}/metrics"))["streams"]
        assert stream["ended_by"] == "crashed"
        assert (await read(f"/v1/numbers/{OURS}"))["agent_id"] == agent.id
        assert (await api.ask("GET", f"/v1/calls/{OVER}/recording")).status == 404

        body = {"message": "and now?", "conversation_id": CHAT}
        answer = await api.ask("POST", f"/v1/agents/{agent.id}/chat", body)
        assert answer.json["response"] == "Hello there."
        erased = (await api.ask("DELETE", f"/v1/callers/{CALLER}")).json
        assert (erased["calls"], erased["calls_going_on"]) == (1, 1)
        assert (await api.ask("GET", f"/v1/calls/{OVER}")).status == 404
    store.close()
