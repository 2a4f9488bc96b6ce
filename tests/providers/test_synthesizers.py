"""What every voice must do, whatever its protocol: the fault matrix over real sockets."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Segment, SpeechAudio, Synthesizer, WordTime
from rtcore.providers.cartesia import CartesiaSettings, CartesiaSynthesizer
from rtcore.providers.deepgram_speech import DeepgramSpeechSettings, DeepgramSynthesizer
from rtcore.providers.elevenlabs import ElevenLabsSettings, ElevenLabsSynthesizer
from rtcore.providers.openai_speech import OpenAISpeechSettings, OpenAISynthesizer
from tests.fakes import _voice
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes.cartesia import FakeCartesia
from tests.fakes.deepgram_speak import FakeDeepgramSpeak
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.openai_speech import FakeOpenAISpeech
from tests.providers._harness import CONTEXT, KEY, SHORT, pcm_of, spoken

SECRETS = {
    "DEEPGRAM_API_KEY": KEY,
    "ELEVENLABS_API_KEY": KEY,
    "CARTESIA_API_KEY": KEY,
    "OPENAI_API_KEY": KEY,
}
TEXTS = ("Good morning, you are through.", "How can I help you today?", "Take your time.")
LONG = "This sentence is a good deal longer than the patience of whoever is calling us. " * 4


def _deepgram(url: str, secrets: dict[str, str]) -> Synthesizer:
    return DeepgramSynthesizer(DeepgramSpeechSettings(base_url=url, deadlines=SHORT), secrets)


def _elevenlabs(url: str, secrets: dict[str, str]) -> Synthesizer:
    settings = ElevenLabsSettings(
        voice_id="v", base_url=url, voice_settings={"speed": 1.0}, deadlines=SHORT
    )
    return ElevenLabsSynthesizer(settings, secrets)


def _cartesia(url: str, secrets: dict[str, str]) -> Synthesizer:
    settings = CartesiaSettings(voice_id="v", base_url=url, deadlines=SHORT)
    return CartesiaSynthesizer(settings, secrets)


def _openai(url: str, secrets: dict[str, str]) -> Synthesizer:
    return OpenAISynthesizer(OpenAISpeechSettings(base_url=url, deadlines=SHORT), secrets)


class Kind:
    """One protocol: its fake, and the synthesizer that talks to it."""

    def __init__(
        self, fake: Callable[..., Any], connect: Callable[[str, dict[str, str]], Synthesizer]
    ) -> None:
        self.fake, self.connect = fake, connect


SOCKETS = {
    "deepgram": Kind(FakeDeepgramSpeak, _deepgram),
    "elevenlabs": Kind(FakeElevenLabs, _elevenlabs),
    "cartesia": Kind(FakeCartesia, _cartesia),
}
KINDS = SOCKETS | {"openai": Kind(FakeOpenAISpeech, _openai)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=SOCKETS)
def socket_kind(request: pytest.FixtureRequest) -> Kind:
    return SOCKETS[request.param]


async def _pair(kind: Kind, nursery: trio.Nursery, **how: Any) -> tuple[Any, Synthesizer]:
    fake = kind.fake(**how)
    return fake, kind.connect(await nursery.start(fake.serve), SECRETS)


def says(audio: list[SpeechAudio], *texts: str) -> bool:
    """Whether the sound of each segment is that of its text (near it, when resampled)."""
    for segment, text in enumerate(texts):
        found = array.array("h", pcm_of(audio, segment))
        wanted = array.array("h", _voice.pcm_of(text))
        if abs(len(found) - len(wanted)) > 40:
            return False
        middles = range(_voice.CHAR_SAMPLES // 2, min(len(found), len(wanted)), _voice.CHAR_SAMPLES)
        if any(abs(found[at] - wanted[at]) > 600 + abs(wanted[at]) // 8 for at in middles):
            return False
    return True


async def test_segments_are_spoken_in_order(kind: Kind, nursery: trio.Nursery) -> None:
    _, voice = await _pair(kind, nursery)
    audio = await spoken(voice, *TEXTS)
    assert says(audio, *TEXTS)
    assert [each.segment for each in audio] == sorted(each.segment for each in audio)
    assert [each.segment for each in audio if each.is_last] == [0, 1, 2]
    assert all(len(each.pcm) % 2 == 0 for each in audio)
    await voice.aclose()


async def test_a_connection_serves_many_replies(kind: Kind, nursery: trio.Nursery) -> None:
    fake, voice = await _pair(kind, nursery)
    await voice.warm()
    for _ in range(3):
        assert says(await spoken(voice, *TEXTS[:1]), *TEXTS[:1])
    connections = fake.connections if isinstance(fake, FakeOpenAISpeech) else len(fake.sessions)
    assert connections == 1
    await voice.aclose()


async def test_nothing_to_say(kind: Kind, nursery: trio.Nursery) -> None:
    _, voice = await _pair(kind, nursery)
    assert await spoken(voice) == []
    await voice.aclose()


async def _cut_off(voice: Synthesizer, text: str, pieces: int) -> None:
    """Speak, and cancel after ``pieces`` of audio."""
    segment_tx, segment_rx = trio.open_memory_channel[Segment](2)
    audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](0)
    segment_tx.send_nowait(Segment(index=0, text=text))
    segment_tx.send_nowait(Segment(index=1, text=text))
    with segment_tx, segment_rx, audio_tx, audio_rx:
        async with trio.open_nursery() as reply:
            reply.start_soon(voice.synthesize, CONTEXT, segment_rx, audio_tx)
            for _ in range(pieces):
                await audio_rx.receive()
            reply.cancel_scope.cancel()


async def test_a_barge_in_stops_the_service(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, voice = await _pair(socket_kind, nursery, piece_s=0.003)
    await _cut_off(voice, LONG, pieces=3)
    await eventually(lambda: _was_told_to_stop(fake))
    spoken_pieces = fake.spoken_pieces
    await trio.sleep(0.03)
    assert fake.spoken_pieces <= spoken_pieces + 2
    assert spoken_pieces < len(_voice.pieces_of(LONG))
    await voice.aclose()
    await eventually(lambda: fake.open_sessions == 0)


def _was_told_to_stop(fake: Any) -> bool:
    texts = fake.sessions[0].texts
    if isinstance(fake, FakeDeepgramSpeak):
        return fake.sessions[0].kinds()[-1] == "Clear"
    if isinstance(fake, FakeCartesia):
        return {text["context_id"] for text in texts if text.get("cancel")} == {"s0", "s1"}
    closed = [text["context_id"] for text in texts if text.get("close_context")]
    return sorted(closed) == ["s0", "s0", "s1", "s1"]


async def test_late_audio_is_never_heard(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, voice = await _pair(socket_kind, nursery, piece_s=0.003, late_pieces=5)
    for _ in range(3):
        await _cut_off(voice, LONG, pieces=2)
        assert says(await spoken(voice, *TEXTS), *TEXTS)
    assert len(fake.sessions) == 1  # and the connection was kept
    await voice.aclose()


async def test_a_barge_in_over_http_disconnects(nursery: trio.Nursery) -> None:
    fake, voice = await _pair(KINDS["openai"], nursery)
    fake.faults.add(Fault(gap_s=0.005), Fault(gap_s=0.005))
    await _cut_off(voice, LONG, pieces=3)
    await eventually(lambda: fake.disconnects >= 1 and fake.open_connections == 0)
    assert says(await spoken(voice, *TEXTS), *TEXTS)
    await voice.aclose()


async def test_a_slow_listener_is_no_stall(kind: Kind, nursery: trio.Nursery) -> None:
    _, voice = await _pair(kind, nursery)
    segment_tx, segment_rx = trio.open_memory_channel[Segment](1)
    audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](0)
    segment_tx.send_nowait(Segment(index=0, text=TEXTS[0]))
    found: list[SpeechAudio] = []
    with segment_tx, segment_rx, audio_tx, audio_rx:
        async with trio.open_nursery() as reply:
            reply.start_soon(voice.synthesize, CONTEXT, segment_rx, audio_tx)
            while not found or not found[-1].is_last:
                await trio.sleep(0.1)  # slower in sum than any deadline
                found.append(await audio_rx.receive())
            await trio.sleep(SHORT.first_byte_s + 0.05)  # nothing is due while nothing is asked
            segment_tx.send_nowait(Segment(index=1, text=TEXTS[1]))
            segment_tx.close()
            while not found[-1].is_last or found[-1].segment == 0:
                found.append(await audio_rx.receive())
    assert says(found, *TEXTS[:2])
    await voice.aclose()


HTTP_FAULTS = [
    (Fault(status=401), False),
    (Fault(status=400), False),
    (Fault(status=429, retry_after="3"), True),
    (Fault(status=503), True),
    (Fault(drop_after=1), True),
    (Fault(stall_after=1), True),
    (Fault(first_delay_s=5.0), True),
]
SOCKET_FAULTS = [
    (Fault(error_after=2), True),
    (Fault(malformed_after=2), True),
    (Fault(drop_after=2, close_code=1011), True),
    (Fault(drop_after=2, close_code=1008), False),
    (Fault(drop_after=2, close_code=1000), True),
]


@pytest.mark.parametrize(("fault", "retryable"), HTTP_FAULTS + SOCKET_FAULTS, ids=repr)
async def test_each_fault_is_one_plain_error(
    kind: Kind, nursery: trio.Nursery, fault: Fault, retryable: bool
) -> None:
    if kind is KINDS["openai"] and (fault, retryable) in SOCKET_FAULTS:
        pytest.skip("raw audio holds no message to be wrong")
    fake, voice = await _pair(kind, nursery)
    fake.faults.add(fault)
    with trio.fail_after(3), pytest.raises(ProviderError) as caught:
        await spoken(voice, *TEXTS)
    assert caught.value.retryable is retryable
    assert KEY not in str(caught.value)
    assert says(await spoken(voice, *TEXTS), *TEXTS)
    await voice.aclose()


async def test_unknown_messages_are_ignored(socket_kind: Kind, nursery: trio.Nursery) -> None:
    fake, voice = await _pair(socket_kind, nursery)
    fake.faults.add(Fault(unknown_messages=True))
    assert says(await spoken(voice, *TEXTS), *TEXTS)
    await voice.aclose()


@pytest.mark.parametrize("name", ["elevenlabs", "cartesia"])
async def test_words_have_times(name: str, nursery: trio.Nursery) -> None:
    _, voice = await _pair(KINDS[name], nursery)
    audio = await spoken(voice, *TEXTS[:2])
    words = [word for each in audio if each.segment == 1 for word in each.words]
    assert [word.text for word in words] == TEXTS[1].split()
    assert words[1] == WordTime(text="can", start_sample=320, end_sample=560)
    assert words[-1].end_sample == len(TEXTS[1]) * _voice.CHAR_SAMPLES
    await voice.aclose()


async def test_elevenlabs_in_snake_case_and_within_its_limit(nursery: trio.Nursery) -> None:
    fake, voice = await _pair(KINDS["elevenlabs"], nursery, snake_case=True, piece_s=0.001)
    texts = TEXTS * 4
    assert says(await spoken(voice, *texts), *texts)
    assert fake.most_contexts <= 2
    assert fake.sessions[0].headers["xi-api-key"] == KEY
    await voice.aclose()


async def test_an_idle_connection_that_died_is_replaced(
    socket_kind: Kind, nursery: trio.Nursery
) -> None:
    fake, voice = await _pair(socket_kind, nursery)
    await spoken(voice, *TEXTS)
    await trio.aclose_forcefully(fake.sessions[0].socket._stream)
    assert says(await spoken(voice, *TEXTS), *TEXTS)
    assert len(fake.sessions) == 2
    await voice.aclose()


async def test_what_was_asked_before_a_refusal_is_spoken(nursery: trio.Nursery) -> None:
    fake, voice = await _pair(KINDS["openai"], nursery)
    fake.faults.add(Fault(gap_s=0.005), Fault(status=500))
    segment_tx, segment_rx = trio.open_memory_channel[Segment](2)
    audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](1000)
    for index, text in enumerate((LONG, TEXTS[0])):
        segment_tx.send_nowait(Segment(index=index, text=text))
    with segment_tx, segment_rx, audio_rx:
        with audio_tx, pytest.raises(ProviderError, match="500"):
            await voice.synthesize(CONTEXT, segment_rx, audio_tx)
        found = [audio async for audio in audio_rx]
    assert says(found, LONG)
    assert found[-1].is_last
    await voice.aclose()


async def test_openai_pcm_at_the_telephones_rate(nursery: trio.Nursery) -> None:
    fake = FakeOpenAISpeech(rate_hz=8000)
    url = await nursery.start(fake.serve)
    settings = OpenAISpeechSettings(base_url=url, key_name=None, rate_hz=8000, deadlines=SHORT)
    voice = OpenAISynthesizer(settings, {})
    assert pcm_of(await spoken(voice, *TEXTS), 1) == _voice.pcm_of(TEXTS[1])
    assert fake.requests[0].json()["voice"] == "marin"
    await voice.aclose()


def test_a_rate_we_cannot_take_is_named() -> None:
    with pytest.raises(ConfigError, match="rate_hz"):
        OpenAISynthesizer(OpenAISpeechSettings(key_name=None, rate_hz=11_025), {})


def test_a_missing_key_is_named(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="_API_KEY"):
        kind.connect("ws://127.0.0.1:1", {})


def test_a_key_is_never_shown(kind: Kind) -> None:
    voice = kind.connect("ws://127.0.0.1:1", SECRETS)
    assert KEY not in repr(voice) + repr(vars(voice))
