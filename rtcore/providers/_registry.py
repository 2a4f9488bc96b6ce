"""Providers by name: settings checked, keys found, lists joined, all kept and closed.

A provider's module is imported when it is first named: what is not used costs nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Responder, Synthesizer, Transcriber
from rtcore.providers._service import Service
from rtcore.speech_port import SpeechModels

if TYPE_CHECKING:
    from rtcore.providers.fallback import Breakers

__all__ = [
    "build_responder",
    "build_speech_model",
    "build_synthesizer",
    "build_transcriber",
    "provider_names",
    "serve_providers",
    "turns_of",
    "warm_providers",
]

Kind = Literal["transcriber", "responder", "synthesizer", "speech_model"]
CLOSE_LIMIT_S = 2.0  # for all connections of one provider, at the end of the process
FIELD = re.compile(r"field `([^`]+)`|`\$\.([^`]+)`")  # where msgspec says what is wrong


class _Entry(NamedTuple):
    """Where a provider is, and what its name presets."""

    module: str
    service: str
    settings: str
    presets: Mapping[str, Any] = {}
    takes_secrets: bool = True


OPENAI_CHAT = ("openai_chat", "OpenAIChatResponder", "OpenAIChatSettings")
OPENAI_EAR = ("openai_transcription", "OpenAITranscriber", "OpenAITranscriptionSettings")
OPENAI_LIVE_EAR = (
    "openai_realtime_transcription",
    "OpenAIRealtimeTranscriber",
    "OpenAIRealtimeTranscriptionSettings",
)
OPENAI_VOICE = ("openai_speech", "OpenAISynthesizer", "OpenAISpeechSettings")
LOCAL = {"key_name": None}
GROQ = {"base_url": "https://api.groq.com/openai/v1", "key_name": "GROQ_API_KEY"}
OLLAMA = {"base_url": "http://127.0.0.1:11434/v1", "key_name": None}

REGISTRY: dict[Kind, dict[str, _Entry]] = {
    "transcriber": {
        "deepgram": _Entry("deepgram", "DeepgramTranscriber", "DeepgramSettings"),
        "deepgram_flux": _Entry("deepgram_flux", "DeepgramFluxTranscriber", "DeepgramFluxSettings"),
        "assemblyai": _Entry("assemblyai", "AssemblyAITranscriber", "AssemblyAISettings"),
        "openai": _Entry(*OPENAI_EAR),
        "openai_compatible": _Entry(*OPENAI_EAR, LOCAL),
        "openai_realtime": _Entry(*OPENAI_LIVE_EAR),
        "embedded": _Entry(
            "embedded", "EmbeddedRecogniser", "RecogniserSettings", takes_secrets=False
        ),
    },
    "responder": {
        "openai": _Entry(*OPENAI_CHAT),
        "groq": _Entry(*OPENAI_CHAT, GROQ),
        "ollama": _Entry(*OPENAI_CHAT, OLLAMA),
        "openai_compatible": _Entry(*OPENAI_CHAT, LOCAL),
        "anthropic": _Entry("anthropic", "AnthropicResponder", "AnthropicSettings"),
        "gemini": _Entry("gemini", "GeminiResponder", "GeminiSettings"),
        "http": _Entry("http_responder", "HttpResponder", "HttpResponderSettings"),
        "rules": _Entry("rules", "RulesResponder", "RulesSettings"),
    },
    "synthesizer": {
        "deepgram": _Entry("deepgram_speech", "DeepgramSynthesizer", "DeepgramSpeechSettings"),
        "elevenlabs": _Entry("elevenlabs", "ElevenLabsSynthesizer", "ElevenLabsSettings"),
        "cartesia": _Entry("cartesia", "CartesiaSynthesizer", "CartesiaSettings"),
        "openai": _Entry(*OPENAI_VOICE),
        "openai_compatible": _Entry(*OPENAI_VOICE, LOCAL),
        "piper": _Entry("piper", "PiperSynthesizer", "PiperSettings", takes_secrets=False),
        "embedded": _Entry("embedded", "EmbeddedVoice", "VoiceSettings", takes_secrets=False),
    },
    "speech_model": {
        "openai_realtime": _Entry("openai_realtime", "OpenAIRealtime", "OpenAIRealtimeSettings"),
        "gemini_live": _Entry("gemini_live", "GeminiLive", "GeminiLiveSettings"),
        "deepgram_agent": _Entry("deepgram_agent", "DeepgramAgent", "DeepgramAgentSettings"),
    },
}
NEEDS_URL = frozenset({"openai_compatible"})
Spec = Mapping[str, Any]  # {"provider": a name, and its options beside it; "public_only": whether
# no private address may be connected to, for an address that somebody else has chosen}


def provider_names(kind: Kind) -> tuple[str, ...]:
    """The providers there are of one kind."""
    return tuple(sorted(REGISTRY[kind]))


def build_transcriber(
    specs: Sequence[Spec], secrets: Mapping[str, str], *, breakers: Breakers | None = None
) -> Transcriber:
    """The recognisers of ``specs`` as one, in order; one alone reconnects.

    Args:
        specs: each ``{"provider": name}`` with that provider's options beside it.
        secrets: keys by name: the environment, or a secrets file.
        breakers: the node's, shared by all its lists.

    Raises:
        ConfigError: an unknown provider or option, a bad value or a missing key; it names the
            field and the fix.
    """
    from rtcore.providers.fallback import FallbackTranscriber

    members, keys = _build_all("transcriber", specs, secrets)
    return FallbackTranscriber(members, breakers=breakers, keys=keys)


def build_responder(
    specs: Sequence[Spec],
    secrets: Mapping[str, str],
    *,
    breakers: Breakers | None = None,
    hedge_after_s: float | None = None,
) -> Responder:
    """The minds of ``specs`` as one; arguments and errors as :func:`build_transcriber`."""
    from rtcore.providers.fallback import FallbackResponder

    members, keys = _build_all("responder", specs, secrets)
    return FallbackResponder(members, breakers=breakers, keys=keys, hedge_after_s=hedge_after_s)


def build_synthesizer(
    specs: Sequence[Spec], secrets: Mapping[str, str], *, breakers: Breakers | None = None
) -> Synthesizer:
    """The voices of ``specs`` as one; arguments and errors as :func:`build_transcriber`."""
    from rtcore.providers.fallback import FallbackSynthesizer

    members, keys = _build_all("synthesizer", specs, secrets)
    return FallbackSynthesizer(members, breakers=breakers, keys=keys)


def build_speech_model(
    specs: Sequence[Spec], secrets: Mapping[str, str], *, breakers: Breakers | None = None
) -> SpeechModels:
    """The speech-to-speech models of ``specs``, for a call to go through in order.

    Arguments and errors as :func:`build_transcriber`; all must go by the same turns.
    """
    from rtcore.providers.fallback import FallbackSpeechModel

    members, keys = _build_all("speech_model", specs, secrets)
    return FallbackSpeechModel(members, breakers=breakers, keys=keys)


def turns_of(spec: Spec) -> Literal["ours", "theirs"] | None:
    """Whose turns the speech model of ``spec`` goes by; None: there is none such."""
    try:
        _, _, settings = _settings("speech_model", spec)
    except ConfigError:
        return None
    turns: Literal["ours", "theirs"] = settings.turns
    return turns


@runtime_checkable
class _Running(Protocol):
    """A provider with work of its own beside the calls: worker processes."""

    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...


async def serve_providers(
    providers: Iterable[object], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Keep what ``providers`` need beside the calls, until cancelled; then close them.

    Started once all are ready to be used.
    """
    members = list(_members(providers))
    try:
        async with trio.open_nursery() as nursery:
            for member in members:
                if isinstance(member, _Running):
                    await nursery.start(member.run)
            task_status.started()
            await trio.sleep_forever()
    finally:
        for member in members:
            if isinstance(member, Service):
                with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
                    await member.aclose()


async def warm_providers(providers: Iterable[object]) -> None:
    """Have connections ready: at ring, at answer, and when the caller begins to speak.

    A provider that cannot be reached is met, and replaced, when it is used.
    """

    async def warm(service: Service) -> None:
        try:
            await service.warm()
        except ProviderError:
            return

    async with trio.open_nursery() as nursery:
        for provider in providers:
            if isinstance(provider, Service):
                nursery.start_soon(warm, provider)


def _members(providers: Iterable[object]) -> Iterator[object]:
    """The providers themselves, lists taken apart."""
    for provider in providers:
        yield from getattr(provider, "members", (provider,))


def _build_all(
    kind: Kind, specs: Sequence[Spec], secrets: Mapping[str, str]
) -> tuple[list[Any], list[str]]:
    """The providers of ``specs``, and for each whose breaker is its own too."""
    made = [_build(kind, spec, secrets) for spec in specs]
    return [provider for provider, _ in made], [key for _, key in made]


def _build(kind: Kind, spec: Spec, secrets: Mapping[str, str]) -> tuple[Any, str]:
    name, entry, settings = _settings(kind, spec)
    module = importlib.import_module(f"rtcore.providers.{entry.module}")
    make: Callable[..., Any] = getattr(module, entry.service)
    provider = make(settings, secrets, name=name) if entry.takes_secrets else make(settings)
    return provider, _breaker_key(kind, name, settings, secrets)


def _settings(kind: Kind, spec: Spec) -> tuple[str, _Entry, Any]:
    """The provider that ``spec`` names, where it is, and how it is to be asked."""
    options = dict(spec)
    name = options.pop("provider", None)
    public_only = options.pop("public_only", False)
    if isinstance(name, str):
        name = name.replace("-", "_")
    entry = REGISTRY[kind].get(name) if isinstance(name, str) else None
    if not isinstance(name, str) or entry is None:
        raise ConfigError(f"{kind}.provider", _unknown(name, REGISTRY[kind]))
    if name in NEEDS_URL and "base_url" not in options:
        raise ConfigError(f"{kind}.{name}.base_url", "is missing: where is the server?")
    module = importlib.import_module(f"rtcore.providers.{entry.module}")
    settings_type = getattr(module, entry.settings)
    try:
        settings = msgspec.convert({**entry.presets, **options}, settings_type)
    except msgspec.ValidationError as exc:
        raise _bad_option(f"{kind}.{name}", settings_type, exc) from exc
    if public_only:
        deadlines = msgspec.structs.replace(settings.deadlines, public_only=True)
        settings = msgspec.structs.replace(settings, deadlines=deadlines)
    return name, entry, settings


def _breaker_key(kind: Kind, name: str, settings: object, secrets: Mapping[str, str]) -> str:
    """What fails together: one model at one address, asked with one key."""
    given = [getattr(settings, option, None) for option in ("base_url", "url", "model")]
    key = secrets.get(getattr(settings, "key_name", None) or "", "")
    asked_with = hashlib.sha256(key.encode()).hexdigest() if key else ""
    return " ".join([kind, name, *(str(each or "") for each in given), asked_with])


def _bad_option(prefix: str, settings_type: type, exc: msgspec.ValidationError) -> ConfigError:
    found = FIELD.search(str(exc))
    field = (found.group(1) or found.group(2)) if found else ""
    if "unknown field" in str(exc):
        known = [each.name for each in msgspec.structs.fields(settings_type)]
        return ConfigError(f"{prefix}.{field}", _unknown(field, known))
    if "missing required field" in str(exc):
        return ConfigError(f"{prefix}.{field}", "is missing: it has no default")
    return ConfigError(f"{prefix}.{field}".rstrip("."), str(exc).split(" - at ")[0])


def _unknown(name: object, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{name!r} is unknown: it is one of {', '.join(names)}{meant}"
