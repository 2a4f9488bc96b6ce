"""An agent that only listens, over a whole node and its carrier: both tracks, by name and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from api.agents import SharedProviders
from api.specs import AgentPlan, ProviderChoice
from api.store import Store
from rtcore.agent.absent import ABSENT
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.listening import Listening
from rtcore.errors import ConfigError
from rtcore.recording import HEADER_BYTES
from rtcore.testing import Phone, hang_up, say, speak, wait
from rtcore.testing.caller import Action
from tests.api.telephone import CALLER, HUMAN, OURS, serving
from tests.api.test_recordings import loud

VOICE = speak("do you open on sunday please").pcm
SAYS: list[Action] = [wait(400), say(VOICE), wait(3500), hang_up()]
HEARS: list[Action] = [wait(2500), say(VOICE)]
RULES = [{"event": "weekend", "words": ["sunday"], "track": "inbound"}]


def stream_of(document: str) -> ElementTree.Element:
    found = ElementTree.fromstring(document).find("Stream")
    assert found is not None
    return found


async def test_a_call_to_a_human_is_listened_to(store: Store, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    async with serving(url, recordings=tmp_path) as node:
        listening = {"dial": f"+{HUMAN}", "keywords": RULES}
        await node.bound(listening=listening, recording=True)
        node.plivo.phones[HUMAN] = Phone(talk_s=30.0)
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[SAYS], hears=[HEARS]))
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
        assert call.dialled == [HUMAN]
        assert call.reports[0].violations == ()
        stream = stream_of(call.documents[0])
        assert stream.attrib["audioTrack"] == "both"
        assert (stream.attrib["bidirectional"], stream.attrib["keepCallAlive"]) == (
            "false",
            "false",
        )

        told = [(data["track"], data["role"]) for name, data in heard if name == "transcript"]
        assert told == [("inbound", "user"), ("outbound", "assistant")]
        (keyword,) = [data for name, data in heard if name == "keyword"]
        assert (keyword["name"], keyword["track"]) == ("weekend", "inbound")

        assert node.line.recordings is not None
        await node.line.recordings.flush()
        await node.line.keeper.flush()
        lines = (await node.ask("GET", f"/v1/calls/{call_id}/transcript"))["items"]
        assert [(line["track"], line["text"]) for line in lines] == [
            ("inbound", "do you open on sunday"),
            ("outbound", "do you open on sunday"),
        ]
        assert lines[0]["at_ms"] == pytest.approx(400, abs=250)
        assert lines[1]["at_ms"] == pytest.approx(2500, abs=250)
        assert all(line["until_ms"] > line["at_ms"] for line in lines)
        sound = (await node.http.get(f"/v1/calls/{call_id}/recording")).content[HEADER_BYTES:]
        caller, human = loud(sound[0::2]), loud(sound[1::2])
        assert caller[1] < human[0]
        shown = await node.ask("GET", f"/v1/calls/{call_id}")
        assert shown["state"] == "completed"


async def test_a_caller_is_listened_to_alone(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound(listening={"track": "inbound"})
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[SAYS], hears=[HEARS]))
        await node.until(lambda: node.line.live)
        (call_id,) = node.line.live
        problem = await node.ask("POST", f"/v1/calls/{call_id}/say", {"text": "Hello?"}, 409)
        assert problem["detail"]
        await node.until(call.over.is_set)
        stream = stream_of(call.documents[0])
        assert (stream.attrib["audioTrack"], stream.attrib["keepCallAlive"]) == ("inbound", "true")
        await node.line.keeper.flush()
        lines = (await node.ask("GET", f"/v1/calls/{call_id}/transcript"))["items"]
        assert [line["track"] for line in lines] == ["inbound"]
        assert call.reports[0].violations == ()


async def test_a_human_who_does_not_answer_ends_it(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound(listening={"dial": HUMAN})
        node.plivo.phones[HUMAN] = Phone(when_rung="busy")
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[SAYS]))
        await node.until(call.over.is_set)
        assert call.dialled == [HUMAN]
        assert call.hangup is not None
        assert len(call.reports) == 1  # no agent takes the caller back


@pytest.mark.parametrize(
    ("listening", "field"),
    [
        ({"dial": "nonsense"}, "listening.dial"),
        ({"dial": HUMAN, "then_url": "https://x.example/"}, "listening"),
        ({"keywords": [{"event": "Not A Name", "words": ["x"]}]}, "listening.keywords"),
        ({"sentiment_every_s": 1}, "listening.sentiment_every_s"),
    ],
)
async def test_what_cannot_be_listened_to(
    sqlite_url: str, listening: dict[str, Any], field: str
) -> None:
    async with serving(sqlite_url) as node:
        body = {"name": "ear", "listening": listening}
        problem = await node.ask("POST", "/v1/agents", body, 422)
        assert problem["errors"][0]["field"].startswith(field)


def test_an_agent_that_listens_needs_ears_alone() -> None:
    def plan(listening: Listening) -> AgentPlan:
        definition = AgentDefinition(name="ear", listening=listening)
        return AgentPlan(definition=definition, stt=(ProviderChoice(provider="deepgram"),))

    factory = SharedProviders({"DEEPGRAM_API_KEY": "a"})
    assert factory(plan(Listening())).synthesizer is ABSENT
    with pytest.raises(ConfigError, match="llm"):
        factory(plan(Listening(sentiment_every_s=30)))
