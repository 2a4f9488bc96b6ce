"""Lists of providers: nothing lost, nothing twice, losers cancelled, breakers kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import (
    CallContext,
    CallerAudio,
    Delta,
    Finished,
    Hearing,
    Segment,
    SpeechAudio,
    TextDelta,
    Transcriber,
    Transcript,
    UtteranceEnd,
    Word,
)
from rtcore.providers._settings import Deadlines
from rtcore.providers.assemblyai import AssemblyAISettings, AssemblyAITranscriber
from rtcore.providers.deepgram import DeepgramSettings, DeepgramTranscriber
from rtcore.providers.deepgram_flux import DeepgramFluxSettings, DeepgramFluxTranscriber
from rtcore.providers.fallback import (
    Breakers,
    BreakerSettings,
    CircuitBreaker,
    FallbackResponder,
    FallbackSynthesizer,
    FallbackTranscriber,
)
from rtcore.providers.openai_transcription import (
    OpenAITranscriber,
    OpenAITranscriptionSettings,
)
from rtcore.testing.providers import ProviderFault, ScriptedResponder, ScriptedSynthesizer
from tests.fakes._faults import Fault
from tests.fakes._http import eventually
from tests.fakes.assemblyai import FakeAssemblyAI
from tests.fakes.deepgram_flux import FakeDeepgramFlux
from tests.fakes.deepgram_listen import FakeDeepgramListen
from tests.fakes.openai_transcription import FakeOpenAITranscription
from tests.providers._harness import (
    CONTEXT,
    KEY,
    answer_of,
    heard,
    pcm_of,
    request_of,
    said,
    samples_of,
    spoken,
    text_heard,
    text_of,
)

DOWN = ProviderError("p", "down", retryable=True)
BAD = ProviderError("p", "bad request", retryable=False)
SECRETS = {"DEEPGRAM_API_KEY": KEY, "ASSEMBLYAI_API_KEY": KEY, "OPENAI_API_KEY": KEY}
EAR = Deadlines(connect_s=1.0, first_byte_s=0.5, stall_s=1.0)
Clock = trio.testing.MockClock

# --- breakers ---------------------------------------------------------------------------


def test_a_breaker_opens_tries_and_closes() -> None:
    breaker = CircuitBreaker(BreakerSettings(failures_max=2, window_s=10, open_s=5, open_max_s=8))
    breaker.failed(0.0, DOWN)
    assert breaker.allows(1.0)
    breaker.failed(1.0, DOWN)
    assert not breaker.allows(5.9)
    assert breaker.allows(6.0)  # one trial
    assert not breaker.allows(6.1)
    breaker.failed(7.0, DOWN)  # doubled, and no more than the most
    assert not breaker.allows(14.9)
    assert breaker.allows(15.0)
    breaker.succeeded()
    assert breaker.allows(15.1)
    assert breaker.is_closed


def test_failures_far_apart_open_nothing() -> None:
    breaker = CircuitBreaker(BreakerSettings(failures_max=2, window_s=10))
    for now_s in range(0, 200, 11):
        breaker.failed(float(now_s), DOWN)
        assert breaker.allows(now_s)


def test_what_the_service_asks_for_is_kept_to() -> None:
    breaker = CircuitBreaker(BreakerSettings())
    breaker.failed(0.0, ProviderError("p", "429", retryable=True, retry_after_s=40.0))
    assert not breaker.allows(39.0)
    assert breaker.allows(40.0)


def test_our_own_faults_open_nothing() -> None:
    breaker = CircuitBreaker(BreakerSettings(failures_max=1))
    breaker.failed(0.0, BAD)
    assert breaker.is_closed


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=40))
def test_an_open_breaker_lets_one_in_a_while(events: list[tuple[float, bool]]) -> None:
    """Whatever happens, a service is tried again within the longest time."""
    limits = BreakerSettings(failures_max=1, open_max_s=60)
    breaker, now = CircuitBreaker(limits), 0.0
    for step, ok in events:
        now += step
        if breaker.allows(now):
            breaker.succeeded() if ok else breaker.failed(now, DOWN)
    assert breaker.allows(now + limits.open_max_s)


# --- minds ------------------------------------------------------------------------------


def mind(
    text: str, first_ms: float = 100, *, name: str = "m", fault: ProviderFault | None = None
) -> ScriptedResponder:
    faults = {n: fault for n in range(9)} if fault else None
    return ScriptedResponder([text], first_ms, 10, name=name, faults=faults)


FAILS = ProviderFault(kind="raise")
FAILS_LATER = ProviderFault(kind="raise", after_items=2)
STALLS = ProviderFault(kind="stall")


async def test_the_first_answers_alone(autojump_clock: Clock) -> None:
    first, second = mind("one two"), mind("three four")
    listed = FallbackResponder([first, second], hedge_after_s=0.2)
    assert text_of(await answer_of(listed)) == "one two"
    assert second.sessions.opened == 0


async def test_a_failure_before_the_first_delta_moves_on(autojump_clock: Clock) -> None:
    first, second = mind("one two", fault=FAILS), mind("three four")
    deltas = await answer_of(FallbackResponder([first, second]))
    assert text_of(deltas) == "three four"
    assert isinstance(deltas[-1], Finished)
    assert trio.current_time() < 0.3


async def test_a_failure_after_it_is_raised(autojump_clock: Clock) -> None:
    first, second = mind("one two three", fault=FAILS_LATER), mind("four")
    tx, rx = trio.open_memory_channel[Delta](math.inf)
    with tx, rx, pytest.raises(ProviderError):
        await FallbackResponder([first, second], hedge_after_s=1).respond(request_of(), tx)
    assert second.sessions.opened == 0


async def test_an_answer_without_an_end_is_a_failure(autojump_clock: Clock) -> None:
    first = mind("one", fault=ProviderFault(kind="end"))
    assert text_of(await answer_of(FallbackResponder([first, mind("two")]))) == "two"


async def test_the_hedge_wins_and_the_loser_is_cancelled(autojump_clock: Clock) -> None:
    slow, quick = mind("one two", 5000), mind("three four", 100)
    listed = FallbackResponder([slow, quick], hedge_after_s=0.3)
    assert text_of(await answer_of(listed)) == "three four"
    assert trio.current_time() < 1
    assert slow.sessions.open == 0


async def test_the_first_may_still_win_the_race(autojump_clock: Clock) -> None:
    first, second = mind("one two", 400), mind("three four", 200)
    listed = FallbackResponder([first, second], hedge_after_s=0.3)
    assert text_of(await answer_of(listed)) == "one two"
    assert second.sessions.opened == 1
    assert second.sessions.open == 0


async def test_one_alone_is_hedged_with_itself(autojump_clock: Clock) -> None:
    alone = ScriptedResponder(["one two"], 100, faults={0: STALLS})
    assert text_of(await answer_of(FallbackResponder([alone], hedge_after_s=0.5))) == "one two"
    assert trio.current_time() == pytest.approx(0.6, abs=0.1)


async def test_when_all_fail_the_last_failure_is_raised(autojump_clock: Clock) -> None:
    minds = [mind("x", name=name, fault=FAILS) for name in ("a", "b")]
    with pytest.raises(ProviderError) as caught:
        await answer_of(FallbackResponder(minds))
    assert caught.value.provider == "b"


async def test_a_cancel_ends_all_that_race(autojump_clock: Clock) -> None:
    minds = [mind("x", 9000), mind("y", 9000)]
    with trio.move_on_after(1):
        await answer_of(FallbackResponder(minds, hedge_after_s=0.1))
    assert [each.sessions.open for each in minds] == [0, 0]
    assert [each.sessions.opened for each in minds] == [1, 1]


async def test_a_broken_one_is_left_alone_then_tried_again(autojump_clock: Clock) -> None:
    first, second = mind("one", name="a", fault=FAILS), mind("two", name="b")
    breakers = Breakers(BreakerSettings(failures_max=2, open_s=5))
    listed = FallbackResponder([first, second], breakers=breakers)
    for _ in range(5):
        assert text_of(await answer_of(listed)) == "two"
    assert first.sessions.opened == 2
    await trio.sleep(5)
    await answer_of(listed)
    assert first.sessions.opened == 3


async def test_back_pressure_reaches_the_winner(autojump_clock: Clock) -> None:
    tx, rx = trio.open_memory_channel[Delta](0)
    with tx, rx:
        async with trio.open_nursery() as nursery:
            listed = FallbackResponder([mind("one two three")])
            nursery.start_soon(listed.respond, request_of(), tx)
            await trio.sleep(10)
            assert await rx.receive() == TextDelta(text="one")
            nursery.cancel_scope.cancel()


# --- voices -----------------------------------------------------------------------------

SENTENCES = ("The first sentence here.", "Then the second one.", "And a third at the end.")


def voice(fault: ProviderFault | None = None) -> ScriptedSynthesizer:
    faults = {n: fault for n in range(9)} if fault else None
    return ScriptedSynthesizer(50, faults=faults)


@pytest.mark.parametrize("kind", ["raise", "end"])
@pytest.mark.parametrize("after_items", range(0, 30, 3))
async def test_every_segment_is_wholly_spoken(
    autojump_clock: Clock, after_items: int, kind: str
) -> None:
    whole = await spoken(voice(), *SENTENCES)
    fault = ProviderFault(kind=kind, after_items=after_items)  # type: ignore[arg-type]
    found = await spoken(FallbackSynthesizer([voice(fault), voice()]), *SENTENCES)
    for index in range(len(SENTENCES)):
        wanted = pcm_of(whole, index)
        assert pcm_of(found, index).endswith(wanted)
        assert len(pcm_of(found, index)) < 2 * len(wanted)
    assert [each.segment for each in found if each.is_last] == [0, 1, 2]
    assert [each.segment for each in found] == sorted(each.segment for each in found)


async def test_a_voice_alone_gets_a_second_chance_and_no_third(autojump_clock: Clock) -> None:
    lame = ScriptedSynthesizer(50, faults={0: FAILS})
    assert await spoken(FallbackSynthesizer([lame]), *SENTENCES) == await spoken(
        voice(), *SENTENCES
    )
    dead = voice(FAILS)
    with pytest.raises(ProviderError):
        await spoken(FallbackSynthesizer([dead]), *SENTENCES)
    assert dead.sessions.opened == 2


async def test_a_cancelled_reply_ends_the_voice(autojump_clock: Clock) -> None:
    lists = [voice(FAILS_LATER), voice()]
    segment_tx, segment_rx = trio.open_memory_channel[Segment](1)
    audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](0)
    segment_tx.send_nowait(Segment(index=0, text=SENTENCES[0]))
    with segment_tx, segment_rx, audio_tx, audio_rx:
        async with trio.open_nursery() as nursery:
            listed = FallbackSynthesizer(lists)
            nursery.start_soon(listed.synthesize, CONTEXT, segment_rx, audio_tx)
            for _ in range(4):
                await audio_rx.receive()
            nursery.cancel_scope.cancel()
    assert [each.sessions.open for each in lists] == [0, 0]


# --- ears -------------------------------------------------------------------------------

FIRST, SECOND = "my order number is one two three", "please send it to Berlin"
JUMP = 60_000
CALL: list[CallerAudio | UtteranceEnd] = [
    *said(FIRST),
    UtteranceEnd(at_sample=samples_of(FIRST)),
    *said(SECOND, JUMP),
    UtteranceEnd(at_sample=JUMP + samples_of(SECOND)),
]


@pytest.mark.parametrize("drop_after", range(14))
@pytest.mark.parametrize("backup", ["deepgram", "assemblyai", "openai"])
async def test_no_word_is_lost_wherever_it_breaks(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, drop_after: int, backup: str
) -> None:
    monkeypatch.setattr("rtcore.rotation.AGAIN_PAUSE_S", 0.01)
    primary = FakeDeepgramListen()
    primary.faults.add(Fault(drop_after=drop_after))
    settings = DeepgramSettings(
        base_url=await nursery.start(primary.serve), endpointing_ms=None, deadlines=EAR
    )
    first = DeepgramTranscriber(settings, SECRETS)
    if backup == "deepgram":
        listed = FallbackTranscriber([first])  # reconnects
    elif backup == "assemblyai":
        url = await nursery.start(FakeAssemblyAI().serve)
        second = AssemblyAITranscriber(AssemblyAISettings(base_url=url, deadlines=EAR), SECRETS)
        listed = FallbackTranscriber([first, second])
    else:
        url = await nursery.start(FakeOpenAITranscription().serve)
        third = OpenAITranscriber(OpenAITranscriptionSettings(base_url=url, deadlines=EAR), SECRETS)
        listed = FallbackTranscriber([first, third])
    found = await heard(listed, *CALL)
    assert text_heard(found) == f"{FIRST} {SECOND}"
    finals = [each.segment for each in found if each.is_final]
    assert len(finals) == len(set(finals))  # a final is final
    await eventually(lambda: primary.open_sessions == 0)
    await listed.aclose()


@pytest.mark.parametrize("drop_after", range(0, 24, 2))
@pytest.mark.parametrize("primary", ["flux", "assemblyai"])
async def test_no_word_is_lost_from_a_turn_that_never_ended(
    nursery: trio.Nursery, drop_after: int, primary: str
) -> None:
    """A recogniser of turns has nothing final until the turn ends: all of it is heard again."""
    fake = FakeDeepgramFlux() if primary == "flux" else FakeAssemblyAI()
    fake.faults.add(Fault(drop_after=drop_after))
    url = await nursery.start(fake.serve)
    first: Transcriber = AssemblyAITranscriber(
        AssemblyAISettings(base_url=url, deadlines=EAR), SECRETS
    )
    if primary == "flux":
        first = DeepgramFluxTranscriber(DeepgramFluxSettings(base_url=url, deadlines=EAR), SECRETS)
    backup = DeepgramSettings(
        base_url=await nursery.start(FakeDeepgramListen().serve), endpointing_ms=None, deadlines=EAR
    )
    listed = FallbackTranscriber([first, DeepgramTranscriber(backup, SECRETS)])
    assert listed.wants_all_audio is (primary == "flux")
    found = await heard(listed, *CALL)
    assert text_heard(found) == f"{FIRST} {SECOND}"
    await eventually(lambda: fake.open_sessions == 0)


class Deaf:
    """A recogniser by script: what it says after each item it is given, then it fails."""

    wants_all_audio = False
    name = "deaf"

    def __init__(self, *says: Transcript | None, fails: bool = True) -> None:
        self._says = says
        self._fails = fails
        self.given: list[CallerAudio | UtteranceEnd] = []

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        says = iter(self._says)
        async for item in hearing:
            self.given.append(item)
            said_now = next(says, None)
            if said_now is not None:
                emit(said_now)
            if self._fails and len(self.given) >= len(self._says):
                raise ProviderError(self.name, "gone", retryable=True)


async def _listed(
    members: Sequence[Deaf], items: Sequence[CallerAudio | UtteranceEnd], **how: float
) -> list[Transcript]:
    return await heard(FallbackTranscriber(members, **how), *items)


async def test_final_words_are_not_heard_again(autojump_clock: Clock) -> None:
    audio = said("one two")
    final = Transcript(segment=0, text="one", is_final=True)
    partial = Transcript(segment=1, text="tw", is_final=False)
    second = Deaf(fails=False)
    items = [*audio[:3], UtteranceEnd(at_sample=1500), *audio[4:]]
    first = Deaf(None, None, None, final, partial)
    found = await _listed([first, second], items)
    assert found == [final, partial]
    assert second.given == items[4:]


async def test_segments_go_on_from_the_open_one(autojump_clock: Clock) -> None:
    first = Deaf(
        Transcript(segment=0, text="one", is_final=True),
        Transcript(segment=1, text="tw", is_final=False),
    )
    second = Deaf(
        Transcript(segment=0, text="two", is_final=True),
        Transcript(segment=1, text="three", is_final=True),
        fails=False,
    )
    found = await _listed([first, second], said("one two"))
    assert [(each.segment, each.text) for each in found] == [
        (0, "one"),
        (1, "tw"),
        (1, "two"),
        (2, "three"),
    ]


async def test_memory_is_bounded_and_what_it_forgot_stays_said(autojump_clock: Clock) -> None:
    words = tuple(
        Word(text=text, start_sample=n * 2560, end_sample=n * 2560 + 1920)
        for n, text in enumerate(["one", "two", "three", "four"])
    )
    shown = Transcript(segment=0, text="one two three four", is_final=False, words=words)
    audio = said("one two three four")
    first = Deaf(*[None] * (len(audio) - 1), shown)
    second = Deaf(fails=False)
    found = await _listed([first, second], audio, replay_max_s=0.64)
    assert found[-1].is_final
    assert found[-1].text == "one two"
    assert isinstance(second.given[0], CallerAudio)
    assert second.given[0].start_sample == 5120


async def test_a_long_quiet_session_was_a_good_one(autojump_clock: Clock) -> None:
    """Lost every minute of a silent call, it is had again every time."""
    lost = 0

    class Quiet(Deaf):
        async def transcribe(
            self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
        ) -> None:
            nonlocal lost
            with trio.move_on_after(60):
                async for item in hearing:
                    self.given.append(item)
                return
            lost += 1
            raise ProviderError(self.name, "gone", retryable=True)

    quiet = Quiet()
    await heard(FallbackTranscriber([quiet]), *said("one two"), gap_s=100)
    assert lost == 13
    assert len(quiet.given) > 8


async def test_it_ends_when_nobody_hears(autojump_clock: Clock) -> None:
    with pytest.raises(ProviderError, match="gone"):
        await _listed([Deaf(None), Deaf(None)], said("one two"))


def test_a_list_needs_a_member() -> None:
    with pytest.raises(ConfigError):
        FallbackResponder([])
