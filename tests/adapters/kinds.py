"""The adapters: how each is named in an agent's file, its fake, and what the fake must see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rtcore.usage import Kind
from tests.adapters.talk import (
    FOUND,
    FUNCTION,
    GOODBYE,
    HOURS,
    LONG,
    OPEN,
    SAID,
    SENTENCES,
    STORY,
    plan,
)
from tests.fakes import anthropic, gemini, openai_chat, own_endpoint
from tests.fakes._faults import Fault
from tests.fakes._http import HttpRequest
from tests.fakes._talker import Answer
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.assemblyai import FakeAssemblyAI
from tests.fakes.cartesia import FakeCartesia
from tests.fakes.deepgram_agent import FakeDeepgramAgent
from tests.fakes.deepgram_flux import FakeDeepgramFlux
from tests.fakes.deepgram_listen import FakeDeepgramListen
from tests.fakes.deepgram_speak import FakeDeepgramSpeak
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.gemini import FakeGemini
from tests.fakes.gemini_live import FakeGeminiLive
from tests.fakes.openai_chat import FakeOpenAIChat
from tests.fakes.openai_realtime import FakeOpenAIRealtime
from tests.fakes.openai_realtime_ears import FakeRealtimeEars
from tests.fakes.openai_speech import FakeOpenAISpeech
from tests.fakes.openai_transcription import FakeOpenAITranscription
from tests.fakes.own_endpoint import FakeOwnEndpoint

PORTS: dict[Kind, str] = {
    "stt": "transcriber",
    "llm": "responder",
    "tts": "synthesizer",
    "speech": "speech_model",
}
TOKEN_S = 0.012  # a long answer takes its model seconds, and its voice is busy meanwhile
PIECE_S = 0.07  # a voice that speaks 80 ms in 70
SPEECH_PIECE_S = 0.08  # 83 ms at 24 kHz
DEADLINES = {"connect_s": 1.0, "first_byte_s": 1.5, "stall_s": 1.0}
CALL = ("c1", FUNCTION, ("{", '"id": 7}'))


# --- minds that know the talk -------------------------------------------------------------


class OpenAIMind(FakeOpenAIChat):
    def choose(self, request: HttpRequest) -> openai_chat.Answer:
        last = request.json()["messages"][-1]
        texts, call = plan(last["content"], is_result=last["role"] == "tool")
        return openai_chat.Answer(texts, [CALL] if call else [])


class AnthropicMind(FakeAnthropic):
    def choose(self, request: HttpRequest) -> anthropic.Answer:
        *_, block = request.json()["messages"][-1]["content"]
        is_result = block["type"] == "tool_result"
        texts, call = plan(block.get("text", ""), is_result=is_result)
        return anthropic.Answer(texts, [CALL] if call else [])


class GeminiMind(FakeGemini):
    def choose(self, request: HttpRequest) -> gemini.Answer:
        *_, part = request.json()["contents"][-1]["parts"]
        texts, call = plan(part.get("text", ""), is_result="functionResponse" in part)
        return gemini.Answer(texts, [("c1", FUNCTION, {"id": 7}, None)] if call else [])


class OwnMind(FakeOwnEndpoint):
    def choose(self, request: HttpRequest) -> own_endpoint.Answer:
        last = request.json()["messages"][-1]
        texts, call = plan(last["text"], is_result=last["role"] == "tool")
        return own_endpoint.Answer(texts, [CALL] if call else [])


# --- what a fake saw ----------------------------------------------------------------------


def has_disconnected(fake: Any) -> bool:
    """Its client left before an answer was whole."""
    return bool(fake.disconnects)


def all_closed(fake: Any) -> bool:
    """It had sessions, and none of them is open."""
    return bool(fake.sessions) and fake.open_sessions == 0


def none_open(fake: Any) -> bool:
    """It was asked, and is not being asked any more."""
    return bool(fake.requests) and not fake.answering


def was_told(found: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """One of its sessions heard a message like that."""
    return lambda fake: any(found(text) for session in fake.sessions for text in session.texts)


def has_closed_twice(fake: Any) -> bool:
    """A context of ElevenLabs that was closing was closed again: it stops at once."""
    for session in fake.sessions:
        closed = [text["context_id"] for text in session.texts if text.get("close_context")]
        if len(closed) > len(set(closed)):
            return True
    return False


def sent_s(fake: Any) -> float:
    """Seconds of µ-law that a recogniser got as binary messages."""
    return sum(len(session.octets) for session in fake.sessions) / 8000


def octets_of(audio: Iterable[str]) -> int:
    """How much is told in so many messages of base64."""
    return sum(len(text) * 3 // 4 - text.count("=") for text in audio)


def appended_s(fake: Any) -> float:
    """The same for one that gets it as base64."""
    appended = (
        text["audio"]
        for session in fake.sessions
        for text in session.texts
        if text["type"] == "input_audio_buffer.append"
    )
    return octets_of(appended) / 8000


def posted_s(fake: Any) -> float:
    """The same for one that gets WAV files."""
    seconds: float = fake.samples / 8000
    return seconds


def spoken_chars(member: str) -> Callable[[Any], float]:
    """How much text the sessions of a voice were told in ``member``."""

    def chars(fake: Any) -> float:
        told = (text for session in fake.sessions for text in session.texts)
        return sum(len(text.get(member, "").rstrip()) for text in told)

    return chars


def posted_chars(fake: Any) -> float:
    posts = (request for request in fake.requests if request.method == "POST")
    return sum(len(request.json()["input"]) for request in posts)


def wide_s(fake: Any) -> float:
    """Seconds of audio that Gemini gets, at 16 kHz."""
    sent = (
        text["realtimeInput"]["audio"]["data"]
        for session in fake.sessions
        for text in session.texts
        if "audio" in text.get("realtimeInput", {})
    )
    return octets_of(sent) / 32_000


def posts(fake: Any) -> float:
    return len([request for request in fake.requests if request.method == "POST"])


def told_results(fake: Any) -> str:
    """What a speech model was told of its functions' results."""
    return " ".join(str(each) for each in fake.results)


def told_items(fake: Any) -> str:
    """The same where they are items of a conversation."""
    items = (item for each in fake.conversations for item in each.items)
    return " ".join(item.text for item in items if item.kind == "function_call_output")


# --- all of them --------------------------------------------------------------------------


@dataclass(frozen=True)
class Adapter:
    """One provider: ``used`` is what its fake counts, to be held against the record.

    That is seconds of audio of a recogniser or a speech model, requests of a mind, characters of
    a voice.
    """

    kind: Kind
    provider: str
    fake: Callable[[], Any]
    options: Mapping[str, Any]
    is_cancelled: Callable[[Any], bool]
    told: str  # by what it knew
    used: Callable[[Any], float]
    note: str = ""
    url: str = "base_url"
    usual: Fault = field(default_factory=Fault)  # how its fake answers when nothing is wrong
    said: tuple[str, ...] = SAID  # by the agent, turn by turn
    steady: Callable[[], Any] | None = None  # its fake, where all turns are to be answered alike
    ahead: int = 1  # sentences that a voice may be asked for and nobody hears
    results: Callable[[Any], str] = lambda fake: ""  # of functions, as the fake was told them

    @property
    def name(self) -> str:
        return f"{PORTS[self.kind]} {self.provider}{self.note and ', '}{self.note}"

    @property
    def peer(self) -> Adapter:
        """What stands before it in a list and refuses all."""
        return self

    def counted(self, seen: Any) -> float:
        """What was used of it in the call of ``seen``, by the service's own count."""
        return self.used(seen.fakes[self.kind][-1])

    def spec(self, url: str) -> dict[str, Any]:
        """How an agent's file names it."""
        return {
            "provider": self.provider,
            self.url: url,
            "deadlines": DEADLINES,
            **self.options,
        }


TOKENS = Fault(gap_s=TOKEN_S)
SPEECH = Fault(gap_s=SPEECH_PIECE_S)
MODEL = {"model": "scripted"}
CLOSED, AT_ONCE, LEFT = "closed with the call", "nothing open after the call", "disconnect"


def _mind(provider: str, fake: Callable[[], Any], url: str = "base_url") -> Adapter:
    options = {} if provider == "http" else MODEL
    return Adapter(
        "llm", provider, fake, options, has_disconnected, LEFT, posts, url=url, usual=TOKENS
    )


EARS = (
    Adapter("stt", "deepgram", FakeDeepgramListen, {}, all_closed, CLOSED, sent_s),
    Adapter("stt", "deepgram_flux", FakeDeepgramFlux, {}, all_closed, CLOSED, sent_s),
    Adapter("stt", "assemblyai", FakeAssemblyAI, {}, all_closed, CLOSED, sent_s),
    Adapter("stt", "openai_realtime", FakeRealtimeEars, {}, all_closed, CLOSED, appended_s),
    Adapter("stt", "openai", FakeOpenAITranscription, {}, none_open, AT_ONCE, posted_s),
    Adapter(
        "stt",
        "openai_compatible",
        lambda: FakeOpenAITranscription(streams=False),
        MODEL,
        none_open,
        AT_ONCE,
        posted_s,
        "not streaming",
    ),
)
MINDS = (
    _mind("openai", OpenAIMind),
    _mind("openai_compatible", OpenAIMind),
    _mind("anthropic", AnthropicMind),
    _mind("gemini", GeminiMind),
    _mind("http", OwnMind, "url"),
)
VOICES = (
    Adapter(
        "tts",
        "deepgram",
        lambda: FakeDeepgramSpeak(piece_s=PIECE_S, late_pieces=2),
        {},
        was_told(lambda text: text["type"] == "Clear"),
        "`Clear`",
        spoken_chars("text"),
    ),
    Adapter(
        "tts",
        "elevenlabs",
        lambda: FakeElevenLabs(piece_s=PIECE_S, late_pieces=2),
        {"voice_id": "v"},
        has_closed_twice,
        "`close_context`",
        spoken_chars("text"),
    ),
    Adapter(
        "tts",
        "cartesia",
        lambda: FakeCartesia(piece_s=PIECE_S, late_pieces=2),
        {"voice_id": "v"},
        was_told(lambda text: text.get("cancel", False)),
        "`cancel`",
        spoken_chars("transcript"),
    ),
    Adapter(
        "tts", "openai", FakeOpenAISpeech, {}, has_disconnected, LEFT, posted_chars, usual=SPEECH
    ),
    Adapter(
        "tts",
        "openai_compatible",
        lambda: FakeOpenAISpeech(rate_hz=16_000),
        {"rate_hz": 16_000, **MODEL},
        has_disconnected,
        LEFT,
        posted_chars,
        usual=SPEECH,
    ),
)


class Onward(list[Any]):
    """These fakes tell again what was talked over; here the story is followed by what is next."""

    was_told = False

    def __getitem__(self, at: Any) -> Any:
        is_again = at == SENTENCES.index(STORY) and self.was_told
        self.was_told = self.was_told or at == SENTENCES.index(STORY)
        return super().__getitem__(at + is_again)


# a model that hears, thinks and speaks: what it says is scripted, by turn
OPEN_BY_LOOK_UP: Answer = (("look_up", {"question": HOURS}), OPEN)
FOUND_BY_CALL: Answer = ((FUNCTION, {"id": 7}), FOUND)
SPOKEN: tuple[Answer, ...] = (OPEN_BY_LOOK_UP, FOUND_BY_CALL, LONG, GOODBYE)
STEADY: tuple[Answer, ...] = (OPEN_BY_LOOK_UP,)


MODELS = (
    Adapter(
        "speech",
        "openai_realtime",
        lambda: FakeOpenAIRealtime(SPOKEN, SENTENCES, speed=1.2),
        {},
        lambda fake: any(each.truncations for each in fake.conversations) and all_closed(fake),
        "`truncate`; closed with the call",
        appended_s,
        steady=lambda: FakeOpenAIRealtime(STEADY, (HOURS,), speed=1.2),
        results=told_items,
    ),
    Adapter(
        "speech",
        "gemini_live",
        lambda: FakeGeminiLive(Onward(SPOKEN), Onward(SENTENCES), piece_s=PIECE_S),
        {},
        all_closed,
        CLOSED,
        wide_s,
        steady=lambda: FakeGeminiLive(STEADY, (HOURS,), piece_s=PIECE_S),
        results=told_results,
    ),
    Adapter(
        "speech",
        "deepgram_agent",
        lambda: FakeDeepgramAgent(Onward(SPOKEN), Onward(SENTENCES), piece_s=PIECE_S),
        {},
        all_closed,
        CLOSED,
        sent_s,
        steady=lambda: FakeDeepgramAgent(STEADY, (HOURS,), piece_s=PIECE_S),
        results=told_results,
    ),
)
# minds of a program of one's own: what they counted stands for a fake
OWN_MINDS = tuple(
    Adapter(
        "llm",
        kind,
        lambda: None,
        {},
        lambda mind: bool(mind.stopped),
        "closed at its next step",
        lambda mind: float(mind.asked),
        "in a program",
    )
    for kind in ("callable", "thread")
)
ADAPTERS = EARS + MINDS + VOICES
Agent = Mapping[Kind, Adapter]
USUAL: Agent = {"stt": EARS[0], "llm": MINDS[0], "tts": VOICES[0]}
# as few agents as have every adapter in one of them
AGENTS: tuple[Agent, ...] = tuple(
    {"stt": EARS[n % len(EARS)], "llm": MINDS[n % len(MINDS)], "tts": VOICES[n % len(VOICES)]}
    for n in range(max(len(EARS), len(MINDS), len(VOICES)))
)
