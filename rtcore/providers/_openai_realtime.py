"""What is said between us and OpenAI Realtime: its settings, its messages, how a session is set up.

Source: openai-python 3.52 ``types/realtime`` (the generally available event names).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.ports import Message, ToolSpec
from rtcore.providers._settings import Deadlines, Settings
from rtcore.speech_port import SpeechSession, SpeechUsage

__all__ = [
    "EVENT",
    "PCM_RATE_HZ",
    "Error",
    "Event",
    "Item",
    "OpenAIRealtimeSettings",
    "Response",
    "Status",
    "Usage",
    "items_of",
    "message_of",
    "session_of",
    "tools_of",
]

PCM_RATE_HZ = 24_000  # the one rate its pcm may have


class OpenAIRealtimeSettings(Settings, frozen=True):
    """``turns``: ``ours`` ends turns and interrupts by our detector, and sends speech only;
    ``theirs`` leaves both to the service, by ``detection``, and sends all audio. ``extra`` is
    merged into the session: ``reasoning``, ``truncation``, ``tracing``..."""

    model: str = "gpt-realtime-1.5"
    voice: str = "marin"
    turns: Literal["ours", "theirs"] = "ours"
    detection: Literal["server_vad", "semantic_vad"] = "semantic_vad"
    vad_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5  # server_vad
    vad_prefix_ms: Annotated[int, Meta(ge=0, le=5000)] = 300
    vad_silence_ms: Annotated[int, Meta(ge=50, le=10_000)] = 500
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"  # semantic_vad
    transcription_model: str | None = "gpt-4o-mini-transcribe"  # None: the caller's words stay
    # unknown to us, and the conversation says so
    language: str | None = None  # of the transcription; None: the call's
    noise_reduction: Literal["near_field", "far_field"] | None = None  # for microphones
    speed: Annotated[float, Meta(ge=0.25, le=1.5)] = 1.0
    max_output_tokens: Annotated[int, Meta(ge=1, le=4096)] | None = None
    encoding: Literal["mulaw", "pcm"] = "mulaw"  # pcm, at 24 kHz: for servers that know no other
    key_name: str | None = "OPENAI_API_KEY"  # None: a local server that asks for none
    base_url: str = "wss://api.openai.com/v1"
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


# --- the service's messages ---------------------------------------------------------------


class Error(msgspec.Struct):
    type: str = ""
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class _TokenDetails(msgspec.Struct):
    audio_tokens: int | None = None
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _TokenDetails | None = None
    output_token_details: _TokenDetails | None = None

    def told(self) -> SpeechUsage:
        read = self.input_token_details or _TokenDetails()
        written = self.output_token_details or _TokenDetails()
        return SpeechUsage(
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            input_audio_tokens=read.audio_tokens or 0,
            output_audio_tokens=written.audio_tokens or 0,
            cached_tokens=read.cached_tokens or 0,
        )


class Status(msgspec.Struct):
    reason: str | None = None
    error: Error | None = None


class Response(msgspec.Struct):
    id: str = ""
    status: str | None = None
    status_details: Status | None = None
    metadata: dict[str, str] | None = None
    usage: Usage | None = None


class Item(msgspec.Struct):
    id: str = ""
    type: str = ""
    name: str | None = None


class Event(msgspec.Struct):
    type: str = ""
    item_id: str = ""
    response_id: str = ""
    delta: str | None = None
    transcript: str = ""
    call_id: str = ""
    name: str | None = None
    arguments: str = ""
    audio_start_ms: int = 0
    item: Item | None = None
    response: Response | None = None
    error: Error | None = None


EVENT = msgspec.json.Decoder(Event)


# --- what we say ----------------------------------------------------------------------------


def session_of(settings: OpenAIRealtimeSettings, session: SpeechSession) -> dict[str, Any]:
    """The ``session`` of ``session.update``."""
    pcm = {"type": "audio/pcm", "rate": PCM_RATE_HZ}
    format = {"type": "audio/pcmu"} if settings.encoding == "mulaw" else pcm
    reduction, transcription = settings.noise_reduction, None
    if settings.transcription_model:
        language = (settings.language or session.context.language).split("-")[0]  # ISO 639-1
        transcription = {"model": settings.transcription_model, "language": language}
    told: dict[str, Any] = {
        "type": "realtime",
        "instructions": session.instructions,
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": format,
                "transcription": transcription,
                "noise_reduction": {"type": reduction} if reduction else None,
                "turn_detection": _turn_detection(settings),
            },
            "output": {"format": format, "voice": settings.voice, "speed": settings.speed},
        },
        "tools": tools_of(session.tools),
        "tool_choice": "auto",
    }
    if settings.max_output_tokens is not None:
        told["max_output_tokens"] = settings.max_output_tokens
    return told | settings.extra


def _turn_detection(settings: OpenAIRealtimeSettings) -> dict[str, Any] | None:
    if settings.turns == "ours":
        return None
    acts = {"create_response": True, "interrupt_response": True}
    if settings.detection == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": settings.eagerness} | acts
    return {
        "type": "server_vad",
        "threshold": settings.vad_threshold,
        "prefix_padding_ms": settings.vad_prefix_ms,
        "silence_duration_ms": settings.vad_silence_ms,
    } | acts


def tools_of(tools: tuple[ToolSpec, ...]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {"type": "object", "properties": {}},
        }
        for tool in tools
    ]


def items_of(message: Message) -> list[dict[str, Any]]:
    """A message of the conversation so far, as items of a new one."""
    if message.role == "tool":
        answer = {"call_id": message.tool_call_id or "", "output": message.text}
        return [{"type": "function_call_output"} | answer]
    items = [message_of(message.role, message.text)] if message.text else []
    for call in message.tool_calls:
        asked = {"call_id": call.id, "name": call.name, "arguments": call.arguments or "{}"}
        items.append({"type": "function_call"} | asked)
    return items


def message_of(role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
