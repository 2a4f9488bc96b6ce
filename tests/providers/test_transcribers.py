"""What every recogniser must do, whatever its protocol: the fault matrix over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import CallerAudio, Transcriber, Transcript, UtteranceEnd
from rtcore.providers._settings import Deadlines
from rtcore.providers.assemblyai import AssemblyAISettings, AssemblyAITranscriber
from rtcore.providers.deepgram import DeepgramSettings, DeepgramTranscriber
from rtcore.providers.deepgram_flux import DeepgramFluxSettings, DeepgramFluxTranscriber
from rtcore.providers.openai_realtime_transcription import (
    OpenAIRealtimeTranscriber,
    OpenAIRealtimeTranscriptionSettings,
)
from rtcore.providers.openai_transcription import (
    OpenAITranscriber,
    OpenAITranscriptionSettings,
)
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes.assemblyai import FakeAssemblyAI
from tests.fakes.deepgram_flux import FakeDeepgramFlux
from tests.fakes.deepgram_listen import FakeDeepgramListen
from tests.fakes.openai_realtime_ears import FakeRealtimeEars
from tests.fakes.openai_transcription import FakeOpenAITranscription
from tests.providers._harness import (
    CONTEXT,
    KEY,
    heard,
    pause,
    said,
    samples_of,
    text_heard,
)

EAR = Deadlines(connect_s=1.5, first_byte_s=0.9, stall_s=1.5)  # of a machine that is busy
SECRETS = {"DEEPGRAM_API_KEY": KEY, "ASSEMBLYAI_API_KEY": KEY, "OPENAI_API_KEY": KEY}
FIRST, SECOND = "my order number is", "three four"
GOODBYES = ("CloseStream", "Terminate", "input_audio_buffer.commit")
JUMP = 80_000  # ten seconds of silence between the two, withheld


def _deepgram(url: str, secrets: dict[str, str]) -> Transcriber:
    settings = DeepgramSettings(base_url=url, endpointing_ms=None, deadlines=EAR)
    return DeepgramTranscriber(settings, secrets)


def _flux(url: str, secrets: dict[str, str]) -> Transcriber:
    settings = DeepgramFluxSettings(base_url=url, force_end_of_turn=True, deadlines=EAR)
    return DeepgramFluxTranscriber(settings, secrets)


def _assemblyai(url: str, secrets: dict[str, str]) -> Transcriber:
    return AssemblyAITranscriber(AssemblyAISettings(base_url=url, deadlines=EAR), secrets)


def _realtime(url: str, secrets: dict[str, str]) -> Transcriber:
    settings = OpenAIRealtimeTranscriptionSettings(base_url=url, deadlines=EAR)
    return OpenAIRealtimeTranscriber(settings, secrets)


def _openai(url: str, secrets: dict[str, str]) -> Transcriber:
    return OpenAITranscriber(OpenAITranscriptionSettings(base_url=url, deadlines=EAR), secrets)


class Kind:
    """One protocol: its fake, and the transcriber that talks to it."""

    def __init__(
        self, fake: Callable[[], Any], connect: Callable[[str, dict[str, str]], Transcriber]
    ) -> None:
        self.fake, self.connect = fake, connect


WITH_TIMES = {
    "deepgram": Kind(FakeDeepgramListen, _deepgram),
    "flux": Kind(FakeDeepgramFlux, _flux),
    "assemblyai": Kind(FakeAssemblyAI, _assemblyai),
}
SOCKETS = WITH_TIMES | {"openai_realtime": Kind(FakeRealtimeEars, _realtime)}
KINDS = SOCKETS | {"openai": Kind(FakeOpenAITranscription, _openai)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=SOCKETS)
def socket_kind(request: pytest.FixtureRequest) -> Kind:
    return SOCKETS[request.param]


async def _pair(kind: Kind, nursery: trio.Nursery) -> tuple[Any, Transcriber]:
    fake = kind.fake()
    return fake, kind.connect(await nursery.start(fake.serve), SECRETS)


def two_utterances() -> list[CallerAudio | UtteranceEnd]:
    return [
        *said(FIRST),
        UtteranceEnd(at_sample=samples_of(FIRST)),
        *said(SECOND, JUMP),
        UtteranceEnd(at_sample=JUMP + samples_of(SECOND)),
    ]


async def test_two_utterances(kind: Kind, nursery: trio.Nursery) -> None:
    _, ear = await _pair(kind, nursery)
    found = await heard(ear, *two_utterances())
    assert text_heard(found) == f"{FIRST} {SECOND}"
    finals = [each for each in found if each.is_final]
    assert [each.text for each in finals] == [FIRST, SECOND]
    assert len({each.segment for each in finals}) == 2
    for final in finals:  # final words do not change any more
        assert found[-1].segment > final.segment or found[-1] is final
    await ear.aclose()


async def test_partial_words_come_before_the_end(kind: Kind, nursery: trio.Nursery) -> None:
    _, ear = await _pair(kind, nursery)
    found = await heard(ear, *said(FIRST), UtteranceEnd(at_sample=samples_of(FIRST)))
    partial = [each for each in found if not each.is_final]
    assert partial
    assert all(FIRST.startswith(each.text) for each in partial)
    await ear.aclose()


@pytest.mark.parametrize("name", WITH_TIMES)
async def test_times_are_the_callers(name: str, nursery: trio.Nursery) -> None:
    """Although ten seconds of silence were withheld from the service."""
    _, ear = await _pair(WITH_TIMES[name], nursery)
    found = await heard(ear, *two_utterances())
    words = [word for each in found if each.is_final for word in each.words]
    assert [word.text for word in words] == [*FIRST.split(), *SECOND.split()]
    starts = [*range(0, samples_of(FIRST), 2560), *range(JUMP, JUMP + samples_of(SECOND), 2560)]
    assert [word.start_sample for word in words] == starts
    assert [word.end_sample for word in words] == [start + 1920 for start in starts]


async def test_the_session_ends_with_the_hearing(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, ear = await _pair(socket_kind, nursery)
    found = await heard(ear, *said(FIRST))  # no end of an utterance was told: goodbye tells it
    assert text_heard(found) == FIRST
    await eventually(lambda: fake.open_sessions == 0)
    assert fake.sessions[0].close_code == 1000
    assert fake.sessions[0].kinds()[-1] in GOODBYES
    assert KEY in fake.sessions[0].headers["authorization"]
    assert b"" not in fake.sessions[0].binary_sizes


async def test_a_cancel_closes_the_session(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, ear = await _pair(socket_kind, nursery)
    tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](100)
    words = trio.Event()
    with tx, rx:
        for item in said(FIRST):
            tx.send_nowait(item)
        async with trio.open_nursery() as session:
            session.start_soon(ear.transcribe, CONTEXT, rx, lambda _: words.set())
            await words.wait()
            assert fake.open_sessions == 1
            session.cancel_scope.cancel()
    await eventually(lambda: fake.open_sessions == 0)


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (Fault(status=401), False),
        (Fault(status=400), False),
        (Fault(status=429, retry_after="3"), True),
        (Fault(status=503), True),
        (Fault(first_delay_s=5.0), True),
        (Fault(drop_after=1), True),
        (Fault(error_after=1), True),
        (Fault(malformed_after=1), True),
        (Fault(drop_after=1, close_code=1011), True),
        (Fault(drop_after=1, close_code=1008), False),
        (Fault(drop_after=1, close_code=1000), True),
        (Fault(stall_after=1), True),
    ],
    ids=repr,
)
async def test_each_fault_is_one_plain_error(
    socket_kind: Kind, nursery: trio.Nursery, fault: Fault, retryable: bool
) -> None:
    fake, ear = await _pair(socket_kind, nursery)
    fake.faults.add(fault)
    with trio.fail_after(3), pytest.raises(ProviderError) as caught:
        await heard(ear, *two_utterances())
    assert caught.value.retryable is retryable
    assert KEY not in str(caught.value)
    await eventually(lambda: fake.open_sessions == 0 or fault.stall_after is not None)
    assert text_heard(await heard(ear, *said(FIRST))) == FIRST


async def test_unknown_messages_are_ignored(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, ear = await _pair(socket_kind, nursery)
    fake.faults.add(Fault(unknown_messages=True))
    assert text_heard(await heard(ear, *two_utterances())) == f"{FIRST} {SECOND}"


def test_a_missing_key_is_named(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="_API_KEY"):
        kind.connect("ws://127.0.0.1:1", {})


def test_a_key_is_never_shown(kind: Kind) -> None:
    ear = kind.connect("ws://127.0.0.1:1", SECRETS)
    assert KEY not in repr(ear) + repr(vars(ear))


# --- each one's own -----------------------------------------------------------------------


async def test_deepgram_is_kept_alive(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtcore.providers.deepgram._Dialect.keep_alive_s", 0.02)
    fake = FakeDeepgramListen(idle_limit_s=0.1)
    ear = _deepgram(await nursery.start(fake.serve), SECRETS)
    found = await heard(ear, *said("one"), *said("two", 9000)[:3], gap_s=0.05)
    assert text_heard(found) == "one two"
    assert fake.sessions[0].kinds().count("KeepAlive") >= 5


async def test_deepgram_that_expires_is_a_retryable_error(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtcore.providers.deepgram._Dialect.keep_alive_s", 5.0)
    fake = FakeDeepgramListen(idle_limit_s=0.02)
    ear = _deepgram(await nursery.start(fake.serve), SECRETS)
    with pytest.raises(ProviderError, match="NET-0001") as caught:
        await heard(ear, *said("one"), gap_s=0.2)
    assert caught.value.retryable


async def test_deepgram_endpoints_by_itself_too(nursery: trio.Nursery) -> None:
    fake = FakeDeepgramListen()
    settings = DeepgramSettings(base_url=await nursery.start(fake.serve), deadlines=EAR)
    ear = DeepgramTranscriber(settings, SECRETS)
    found = await heard(ear, *said("one two"), *pause(5120, 5), *said("three", 8320))
    assert [each.text for each in found if each.is_final] == ["one two", "three"]
    assert fake.sessions[0].param("keyterm") == "Plivo"
    assert fake.sessions[0].param("interim_results") == "true"


async def test_flux_speaks_of_the_turn(nursery: trio.Nursery) -> None:
    fake = FakeDeepgramFlux()
    settings = DeepgramFluxSettings(base_url=await nursery.start(fake.serve), deadlines=EAR)
    ear = DeepgramFluxTranscriber(settings, SECRETS)
    audio = [*said("one two"), *pause(5120, 3), *said("three", 7040), *pause(9600, 8)]
    found = await heard(ear, *audio, UtteranceEnd(at_sample=14720))
    assert "ForceEndTurn" not in fake.sessions[0].kinds()
    assert max(each.end_of_turn or 0 for each in found if each.text == "one two") == 0.6
    assert found[-1] == Transcript(
        segment=0, text="one two three", is_final=True, end_of_turn=0.9, words=found[-1].words
    )
    assert set(fake.sessions[0].binary_sizes) == {640}


async def test_assemblyai_formats_a_turn_and_ends_it_once(nursery: trio.Nursery) -> None:
    fake = FakeAssemblyAI()
    url = await nursery.start(fake.serve)
    settings = AssemblyAISettings(base_url=url, format_turns=True, deadlines=EAR)
    found = await heard(AssemblyAITranscriber(settings, SECRETS), *two_utterances())
    finals = [each.text for each in found if each.is_final]
    assert finals == ["My order number is.", "Three four."]


async def test_assemblyai_gets_no_short_messages(nursery: trio.Nursery) -> None:
    fake = FakeAssemblyAI()
    ear = _assemblyai(await nursery.start(fake.serve), SECRETS)
    pieces = [
        CallerAudio(pcm=audio.pcm[at : at + 320], start_sample=audio.start_sample + at // 2)
        for audio in said(FIRST)
        for at in range(0, len(audio.pcm), 320)
    ]
    found = await heard(ear, *pieces[:-1], UtteranceEnd(at_sample=0), *said("one", JUMP))
    assert text_heard(found) == f"{FIRST} one"


async def test_assemblyai_is_kept_alive(nursery: trio.Nursery) -> None:
    fake = FakeAssemblyAI()
    url = await nursery.start(fake.serve)
    settings = AssemblyAISettings(base_url=url, inactivity_limit_s=0.15, deadlines=EAR)
    ear = AssemblyAITranscriber(settings, SECRETS)
    assert text_heard(await heard(ear, *said("one"), gap_s=0.25)) == "one"
    assert "KeepAlive" in fake.sessions[0].kinds()


async def test_assemblyai_that_expires_is_a_retryable_error(nursery: trio.Nursery) -> None:
    fake = FakeAssemblyAI(hurry=1000)
    ear = _assemblyai(await nursery.start(fake.serve), SECRETS)
    with pytest.raises(ProviderError, match="3008") as caught:
        await heard(ear, *said("one"), gap_s=0.1)
    assert caught.value.retryable


@pytest.mark.parametrize("connect", [_deepgram, _flux])
async def test_a_recogniser_fallen_silent_is_given_up(
    connect: Callable[[str, dict[str, str]], Transcriber],
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "EAR", Deadlines(stall_s=0.1))
    fake = FakeDeepgramListen() if connect is _deepgram else FakeDeepgramFlux()
    fake.faults.add(Fault(stall_after=1))
    ear = connect(await nursery.start(fake.serve), SECRETS)
    with pytest.raises(ProviderError, match="any answer"):
        await heard(ear, *said("one two three four"), gap_s=0.03)


async def test_openai_without_streaming(nursery: trio.Nursery) -> None:
    fake = FakeOpenAITranscription(streams=False)
    ear = _openai(await nursery.start(fake.serve), SECRETS)
    found = await heard(ear, *two_utterances())
    assert [each.text for each in found] == [FIRST, SECOND]
    assert fake.forms[0]["language"] == "en"
    assert fake.forms[0]["prompt"] == "Plivo"
    await ear.aclose()


async def test_openai_is_asked_again_once(nursery: trio.Nursery) -> None:
    fake = FakeOpenAITranscription()
    ear = _openai(await nursery.start(fake.serve), SECRETS)
    fake.faults.add(Fault(drop_after=1))
    assert text_heard(await heard(ear, *two_utterances())) == f"{FIRST} {SECOND}"
    fake.faults.add(Fault(status=500), Fault(status=500))
    with pytest.raises(ProviderError, match="500"):
        await heard(ear, *two_utterances())
    await ear.aclose()


async def test_openai_cuts_an_endless_utterance(nursery: trio.Nursery) -> None:
    fake = FakeOpenAITranscription()
    url = await nursery.start(fake.serve)
    settings = OpenAITranscriptionSettings(base_url=url, utterance_max_s=1.28, deadlines=EAR)
    ear = OpenAITranscriber(settings, SECRETS)
    assert text_heard(await heard(ear, *said("one two three four five six"))) == (
        "one two three four five six"
    )
    assert len(fake.forms) == 2
    await ear.aclose()


async def test_openai_skips_what_holds_no_word(nursery: trio.Nursery) -> None:
    fake = FakeOpenAITranscription()
    ear = _openai(await nursery.start(fake.serve), SECRETS)
    assert await heard(ear, *pause(0, 1), UtteranceEnd(at_sample=640)) == []
    assert not fake.requests
    await ear.aclose()


# --- OpenAI Realtime ------------------------------------------------------------------------


def _realtime_of(url: str, **how: Any) -> Transcriber:
    settings = OpenAIRealtimeTranscriptionSettings(base_url=url, deadlines=EAR, **how)
    return OpenAIRealtimeTranscriber(settings, SECRETS)


async def test_realtime_is_set_up_before_any_audio(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve), extra={"delay": "minimal"})
    await heard(ear, *two_utterances())
    assert fake.configured == [
        {
            "format": {"type": "audio/pcmu"},
            "transcription": {
                "model": "gpt-live-transcribe",
                "languages": ["en"],
                "keywords": ["Plivo"],
                "delay": "minimal",
            },
            "noise_reduction": None,
            "turn_detection": None,
        }
    ]
    kinds = fake.sessions[0].kinds()
    assert kinds[0] == "session.update"
    assert kinds.count("input_audio_buffer.commit") == 2


async def test_realtime_words_come_while_the_caller_speaks(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve))
    tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](0)
    found: list[Transcript] = []
    async with trio.open_nursery() as session:
        session.start_soon(ear.transcribe, CONTEXT, rx, found.append)
        for item in said("one two three"):
            await tx.send(item)
        await eventually(lambda: bool(found) and found[-1].text == "one two three")
        assert not any(each.is_final for each in found)
        tx.close()


async def test_realtime_models_that_wait_for_the_commit(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve), model="gpt-4o-transcribe", language="de-AT")
    assert text_heard(await heard(ear, *two_utterances())) == f"{FIRST} {SECOND}"
    assert fake.configured[0]["transcription"] == {"model": "gpt-4o-transcribe", "language": "de"}


async def test_realtime_pcm_at_24_khz(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve), encoding="pcm")
    assert text_heard(await heard(ear, *two_utterances())) == f"{FIRST} {SECOND}"
    assert fake.configured[0]["format"] == {"type": "audio/pcm", "rate": 24_000}


async def test_realtime_finds_turns_by_itself(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(
        await nursery.start(fake.serve),
        model="gpt-transcribe",
        endpointing="server_vad",
        vad_silence_ms=240,
    )
    assert ear.wants_all_audio
    audio = [*said("one two"), *pause(5120, 5), *said("three", 8320)]
    found = await heard(ear, *audio, UtteranceEnd(at_sample=10_880), *pause(10_880, 5))
    assert [each.text for each in found if each.is_final] == ["one two", "three", ""]
    # one, at the end: what had not been committed was silence
    assert fake.sessions[0].kinds().count("input_audio_buffer.commit") == 1
    assert fake.configured[0]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 240,
    }


async def test_realtime_finds_turns_by_their_meaning(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(
        await nursery.start(fake.serve),
        model="gpt-transcribe",
        endpointing="semantic_vad",
        eagerness="high",
    )
    found = await heard(ear, *said("one"), *pause(2560, 7))  # committed with the last of it
    assert [each.text for each in found if each.is_final] == ["one"]
    assert fake.configured[0]["turn_detection"] == {"type": "semantic_vad", "eagerness": "high"}


def test_realtime_models_without_turns_are_named() -> None:
    with pytest.raises(ConfigError, match=r"endpointing: gpt-realtime-whisper finds no turns"):
        _realtime_of("ws://127.0.0.1:1", model="gpt-realtime-whisper", endpointing="server_vad")


async def test_realtime_items_are_final_in_order(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars(held=frozenset({0}))
    ear = _realtime_of(await nursery.start(fake.serve))
    found = await heard(ear, *two_utterances())
    finals = [(each.segment, each.text) for each in found if each.is_final]
    assert finals == [(0, FIRST), (1, SECOND)]
    early = [each for each in found if each.text == SECOND]
    assert [each.is_final for each in early][-2:] == [False, True]


async def test_realtime_short_utterances_are_padded(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve))
    found = await heard(ear, *pause(0, 1), UtteranceEnd(at_sample=640), *said("one", JUMP))
    assert [each.text for each in found if each.is_final] == ["", "one"]


async def test_realtime_a_pause_without_audio_asks_for_nothing(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve))
    assert await heard(ear, UtteranceEnd(at_sample=0)) == []
    assert fake.sessions[0].kinds() == ["session.update"]


@pytest.mark.parametrize(
    "fault",
    [Fault(drop_after=4), Fault(stall_after=4), Fault(error_after=4), Fault(malformed_after=4)],
    ids=repr,
)
async def test_realtime_that_fails_in_mid_speech(nursery: trio.Nursery, fault: Fault) -> None:
    fake = FakeRealtimeEars()
    fake.faults.add(fault)
    ear = _realtime_of(await nursery.start(fake.serve))
    with trio.fail_after(3), pytest.raises(ProviderError) as caught:
        await heard(ear, *two_utterances())
    assert caught.value.retryable


async def test_realtime_words_that_are_owed_and_do_not_come(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars(held=frozenset({0}))
    ear = _realtime_of(await nursery.start(fake.serve))
    tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](20)
    for item in (*said("one"), UtteranceEnd(at_sample=2560)):
        tx.send_nowait(item)
    with tx, rx, trio.fail_after(3), pytest.raises(ProviderError, match="the last words"):
        await ear.transcribe(CONTEXT, rx, lambda _: None)


async def test_realtime_that_could_not_transcribe(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars(failed=1)
    ear = _realtime_of(await nursery.start(fake.serve))
    with pytest.raises(ProviderError, match="transcription_error: scripted") as caught:
        await heard(ear, *two_utterances())
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("code", "retryable"),
    [("session_expired", True), ("rate_limit_exceeded", True), ("unknown_parameter", False)],
)
async def test_realtime_errors_are_told_apart(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, code: str, retryable: bool
) -> None:
    """It files what passes and what does not under invalid requests alike."""
    told = {"type": "invalid_request_error", "code": code, "message": "scripted"}
    monkeypatch.setattr(FakeRealtimeEars, "error", {"type": "error", "error": told})
    fake = FakeRealtimeEars()
    fake.faults.add(Fault(error_after=3))
    ear = _realtime_of(await nursery.start(fake.serve))
    with pytest.raises(ProviderError, match=f"{code}: scripted") as caught:
        await heard(ear, *two_utterances())
    assert caught.value.retryable is retryable


async def test_realtime_settings_that_are_refused_are_final(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    url = await nursery.start(fake.serve)
    ear = _realtime_of(
        url, extra={"model": "gpt-live-transcribe"}, model="m", endpointing="server_vad"
    )
    with pytest.raises(ProviderError, match="Turn detection is not supported") as caught:
        await heard(ear, *said("one"))
    assert not caught.value.retryable


async def test_realtime_without_a_key(nursery: trio.Nursery) -> None:
    fake = FakeRealtimeEars()
    ear = _realtime_of(await nursery.start(fake.serve), key_name=None)
    assert text_heard(await heard(ear, *said("one"))) == "one"
    assert "authorization" not in fake.sessions[0].headers


async def test_realtime_is_what_the_official_types_know(nursery: trio.Nursery) -> None:
    """Both what we say and what the fake does."""
    realtime = pytest.importorskip("openai.types.realtime")
    pydantic = pytest.importorskip("pydantic")
    fake = FakeRealtimeEars()
    url = await nursery.start(fake.serve)
    await heard(_realtime_of(url), *two_utterances())
    turns = {"model": "gpt-transcribe", "endpointing": "server_vad", "vad_silence_ms": 240}
    await heard(_realtime_of(url, **turns), *said("one"), *pause(2560, 5))
    client = pydantic.TypeAdapter(realtime.RealtimeClientEvent)
    for text in [text for session in fake.sessions for text in session.texts]:
        assert client.validate_python(text).type == text["type"]
    server = pydantic.TypeAdapter(realtime.RealtimeServerEvent)
    assert {server.validate_python(message).type for message in fake.said} >= {
        "session.created",
        "session.updated",
        "input_audio_buffer.committed",
        "input_audio_buffer.speech_started",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    }
