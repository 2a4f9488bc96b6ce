"""Providers by name: clear errors, presets, and a clean end."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import trio

from rtcore.errors import ConfigError
from rtcore.providers import (
    build_responder,
    build_speech_model,
    build_synthesizer,
    build_transcriber,
    provider_names,
    serve_providers,
    warm_providers,
)
from rtcore.providers._registry import REGISTRY
from rtcore.providers.callable_responder import CallableResponder
from rtcore.speech_port import SpeechModel
from tests.fakes._http import eventually
from tests.fakes.deepgram_speak import FakeDeepgramSpeak
from tests.fakes.openai_chat import FakeOpenAIChat
from tests.providers._harness import KEY, answer_of, spoken, text_of

SECRETS = {
    f"{name}_API_KEY": KEY
    for name in (
        "ANTHROPIC",
        "ASSEMBLYAI",
        "CARTESIA",
        "DEEPGRAM",
        "ELEVENLABS",
        "GEMINI",
        "GROQ",
        "OPENAI",
    )
}
NEEDED: dict[str, dict[str, Any]] = {
    "responder": {"model": "m"},
    "cartesia": {"voice_id": "v"},
    "elevenlabs": {"voice_id": "v"},
    "openai_compatible": {"base_url": "http://127.0.0.1:1"},
}
BUILD = {
    "transcriber": build_transcriber,
    "responder": build_responder,
    "synthesizer": build_synthesizer,
    "speech_model": build_speech_model,
}
LOCAL = ("embedded", "piper")  # need what is installed beside them: tested apart
ALL = [(kind, name) for kind in REGISTRY for name in provider_names(kind) if name not in LOCAL]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_provider_can_be_built(kind: str, name: str) -> None:
    needed = NEEDED.get(kind, {}) | NEEDED.get(name, {})
    if name == "http":
        needed = {"url": "http://127.0.0.1:1/think"}
    if name == "rules":
        needed = {}  # has no model
    built: Any = BUILD[kind]([{"provider": name, **needed}], SECRETS)
    assert [member.name for member in built.members] == [name]


def test_a_speech_model_s_name_may_be_written_with_dashes() -> None:
    (model,) = build_speech_model([{"provider": "openai-realtime"}], SECRETS).members
    assert isinstance(model, SpeechModel)
    assert (model.name, model.turns) == ("openai_realtime", "ours")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"provider": "opnai_realtime"}, "speech_model.provider.*did you mean 'openai_realtime'"),
        (
            {"provider": "openai_realtime", "turn": "ours"},
            "speech_model.openai_realtime.turn.*did you mean 'turns'",
        ),
        ({"provider": "openai_realtime", "turns": "mine"}, "speech_model.openai_realtime.turns"),
        ({"provider": "openai_realtime", "speed": 9}, "speech_model.openai_realtime.speed"),
    ],
)
def test_a_speech_model_that_cannot_be_is_refused_by_name(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_speech_model([spec], SECRETS)


def test_a_speech_model_needs_its_key() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY: is missing"):
        build_speech_model([{"provider": "openai_realtime"}], {})


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("transcriber", {}, r"transcriber.provider: None is unknown: it is one of assemblyai"),
        (
            "transcriber",
            {"provider": "deepgrm"},
            r"transcriber.provider: 'deepgrm' .* did you mean 'deepgram'",
        ),
        (
            "responder",
            {"provider": "openai", "model": "m", "temprature": 1.0},
            r"responder.openai.temprature: .* did you mean 'temperature'",
        ),
        ("responder", {"provider": "openai"}, r"responder.openai.model: is missing"),
        (
            "responder",
            {"provider": "openai_compatible", "model": "m"},
            r"responder.openai_compatible.base_url: is missing",
        ),
        (
            "transcriber",
            {"provider": "deepgram", "endpointing_ms": 2},
            r"transcriber.deepgram.endpointing_ms: Expected `int` >= 10",
        ),
        (
            "synthesizer",
            {"provider": "deepgram", "deadlines": {"connect_s": 0}},
            r"synthesizer.deepgram.deadlines.connect_s: Expected `float` > 0",
        ),
        (
            "synthesizer",
            {"provider": "elevenlabs", "voice_id": 7},
            r"synthesizer.elevenlabs.voice_id: Expected `str`",
        ),
    ],
)
def test_what_is_wrong_is_named(kind: str, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BUILD[kind]([spec], SECRETS)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"OTHER_KEY: is missing: set it in the environment"):
        build_transcriber([{"provider": "deepgram", "key_name": "OTHER_KEY"}], SECRETS)


def test_a_key_with_a_line_end_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="is not a key") as caught:
        build_transcriber([{"provider": "deepgram"}], {"DEEPGRAM_API_KEY": "abc\ndef"})
    assert "abc" not in str(caught.value)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        build_responder([], SECRETS)


async def test_served_providers_are_closed_at_the_end(nursery: trio.Nursery) -> None:
    chat, voice = FakeOpenAIChat(), FakeDeepgramSpeak()
    chat_url, voice_url = await nursery.start(chat.serve), await nursery.start(voice.serve)
    mind = build_responder(
        [{"provider": "openai_compatible", "model": "m", "base_url": chat_url}], SECRETS
    )
    speaker = build_synthesizer([{"provider": "deepgram", "base_url": voice_url}], SECRETS)
    async with trio.open_nursery() as serving:
        await serving.start(serve_providers, [mind, speaker])
        await warm_providers([mind, speaker, object()])
        assert (chat.open_connections, voice.open_sessions) == (1, 1)
        assert text_of(await answer_of(mind)) == "Hello there."
        assert await spoken(speaker, "Hello.")
        assert (chat.connections, len(voice.sessions)) == (1, 1)
        serving.cancel_scope.cancel()
    await eventually(lambda: not chat.open_connections and not voice.open_sessions)


async def test_warming_what_is_down_does_no_harm() -> None:
    mind = build_responder(
        [{"provider": "openai_compatible", "model": "m", "base_url": "http://127.0.0.1:1"}], {}
    )
    await warm_providers([mind])


async def test_work_beside_the_calls_is_run() -> None:
    class Working(CallableResponder):
        state = "idle"

        async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
            self.state = "running"
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.state = "over"

    working = Working(lambda _request: None)  # type: ignore[arg-type,return-value]
    async with trio.open_nursery() as serving:
        await serving.start(serve_providers, [working])
        assert working.state == "running"
        serving.cancel_scope.cancel()
    assert working.state == "over"


def test_what_is_not_named_is_not_imported() -> None:
    code = "import sys, rtcore.providers; print('httpx' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
