"""What is said between us and Gemini Live: its settings, its messages, and how a session is set up.

Source: google-genai 3.4 ``types.py`` and ``_live_converters.py``; names on the wire are camelCase.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.ports import Message, ToolSpec
from rtcore.providers._settings import Deadlines, Settings
from rtcore.speech_port import SpeechSession, SpeechUsage

__all__ = [
    "IN_RATE_HZ",
    "OUT_RATE_HZ",
    "SERVER_MESSAGE",
    "Blob",
    "FunctionCall",
    "GeminiLiveSettings",
    "ServerContent",
    "history_of",
    "rate_of",
    "setup_of",
]

IN_RATE_HZ, OUT_RATE_HZ = 16_000, 24_000
Sensitivity = Literal["low", "high"]


class GeminiLiveSettings(Settings, frozen=True):
    """``turns``: ``ours`` ends turns and interrupts by our detector, and sends speech only;
    ``theirs`` leaves both to the service and sends all audio. ``extra`` is merged into the setup,
    ``generation`` into its ``generationConfig``."""

    model: str = "gemini-3.8-live"
    voice: str | None = None  # None: the model's own
    turns: Literal["ours", "theirs"] = "ours"
    start_sensitivity: Sensitivity | None = None  # theirs; None: the service's own, as all below
    end_sensitivity: Sensitivity | None = None
    prefix_ms: Annotated[int, Meta(ge=0, le=5000)] | None = None
    silence_ms: Annotated[int, Meta(ge=50, le=10_000)] | None = None
    language: str | None = None  # of what it says; None: the model finds it
    transcribe: bool = True  # without it nobody knows what was said, and heard
    key_name: str = "GEMINI_API_KEY"
    base_url: str = "wss://generativelanguage.googleapis.com"
    generation: dict[str, Any] = msgspec.field(default_factory=dict)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(first_byte_s=5.0)  # setup -> setupComplete


class _Struct(msgspec.Struct, rename="camel"):
    """Base of what the service says."""


class Blob(_Struct):
    mime_type: str = ""
    data: str = ""


class _Part(_Struct):
    inline_data: Blob | None = None
    thought: bool | None = None


class _Content(_Struct):
    parts: list[_Part] | None = None


class _Transcription(_Struct):
    text: str | None = None


class ServerContent(_Struct):
    model_turn: _Content | None = None
    input_transcription: _Transcription | None = None
    output_transcription: _Transcription | None = None
    interrupted: bool | None = None
    generation_complete: bool | None = None
    turn_complete: bool | None = None
    turn_complete_reason: str | None = None


class FunctionCall(_Struct):
    id: str = ""
    name: str = ""
    args: dict[str, Any] | None = None


class _ToolCall(_Struct):
    function_calls: list[FunctionCall] | None = None


class _Cancellation(_Struct):
    ids: list[str] | None = None


class _Resumption(_Struct):
    new_handle: str | None = None
    resumable: bool | None = None


class _Tokens(_Struct):
    modality: str = ""
    token_count: int | None = None


class _Usage(_Struct):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    response_token_count: int | None = None
    thoughts_token_count: int | None = None
    prompt_tokens_details: list[_Tokens] | None = None
    response_tokens_details: list[_Tokens] | None = None

    def told(self) -> SpeechUsage:
        return SpeechUsage(
            input_tokens=self.prompt_token_count or 0,
            output_tokens=(self.response_token_count or 0) + (self.thoughts_token_count or 0),
            input_audio_tokens=_audio(self.prompt_tokens_details),
            output_audio_tokens=_audio(self.response_tokens_details),
            cached_tokens=self.cached_content_token_count or 0,
        )


def _audio(details: list[_Tokens] | None) -> int:
    return sum(each.token_count or 0 for each in details or () if each.modality == "AUDIO")


class ServerMessage(_Struct):
    setup_complete: dict[str, Any] | None = None
    server_content: ServerContent | None = None
    tool_call: _ToolCall | None = None
    tool_call_cancellation: _Cancellation | None = None
    usage_metadata: _Usage | None = None
    go_away: dict[str, Any] | None = None
    session_resumption_update: _Resumption | None = None


SERVER_MESSAGE = msgspec.json.Decoder(ServerMessage)


# --- what we say ----------------------------------------------------------------------------


def rate_of(mime_type: str) -> int:
    """The rate in ``audio/pcm;rate=24000``."""
    for parameter in mime_type.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name == "rate" and value.isdecimal():
            return int(value)
    return OUT_RATE_HZ


def setup_of(settings: GeminiLiveSettings, session: SpeechSession) -> dict[str, Any]:
    """The ``setup`` of a session."""
    model = settings.model
    generation: dict[str, Any] = {"responseModalities": ["AUDIO"]}
    speech: dict[str, Any] = {}
    if settings.voice:
        speech["voiceConfig"] = {"prebuiltVoiceConfig": {"voiceName": settings.voice}}
    if settings.language:
        speech["languageCode"] = settings.language
    if speech:
        generation["speechConfig"] = speech
    told: dict[str, Any] = {
        "model": model if "/" in model else f"models/{model}",
        "generationConfig": generation | settings.generation,
        "realtimeInputConfig": {
            "automaticActivityDetection": _detection(settings),
            "activityHandling": "START_OF_ACTIVITY_INTERRUPTS",
        },
        "sessionResumption": {},
        "contextWindowCompression": {"slidingWindow": {}},
    }
    if settings.transcribe:
        told |= {"inputAudioTranscription": {}, "outputAudioTranscription": {}}
    if session.instructions:
        told["systemInstruction"] = {"parts": [{"text": session.instructions}]}
    if session.tools:
        told["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in session.tools]}]
    if session.messages:
        told["historyConfig"] = {"initialHistoryInClientContent": True}
    return told | settings.extra


def _detection(settings: GeminiLiveSettings) -> dict[str, Any]:
    if settings.turns == "ours":
        return {"disabled": True}
    start, end = settings.start_sensitivity, settings.end_sensitivity
    given = {
        "disabled": False,
        "startOfSpeechSensitivity": f"START_SENSITIVITY_{start.upper()}" if start else None,
        "endOfSpeechSensitivity": f"END_SENSITIVITY_{end.upper()}" if end else None,
        "prefixPaddingMs": settings.prefix_ms,
        "silenceDurationMs": settings.silence_ms,
    }
    return {name: value for name, value in given.items() if value is not None}


def _declaration(tool: ToolSpec) -> dict[str, Any]:
    declared = {"name": tool.name, "description": tool.description, "behavior": "BLOCKING"}
    return declared | ({"parametersJsonSchema": tool.parameters} if tool.parameters else {})


def history_of(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The conversation so far; functions as notes, for calls of another session mean nothing."""
    contents: list[dict[str, Any]] = []
    for message in messages:
        texts = [message.text] if message.text else []
        if message.role == "tool":
            texts = [f"(A function returned: {message.text})"]
        elif message.role == "system":
            texts = [f"({message.text})"]
        texts += [f"(Called {call.name} with {call.arguments})" for call in message.tool_calls]
        role = "model" if message.role == "assistant" else "user"
        if texts:
            contents.append({"role": role, "parts": [{"text": text} for text in texts]})
    return contents
