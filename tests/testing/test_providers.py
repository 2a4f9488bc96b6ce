"""Scripted providers take exactly the time they are told, and fail the way they are told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    CallerAudio,
    Delta,
    Finished,
    Message,
    ResponderRequest,
    Segment,
    SpeechAudio,
    TextDelta,
    ToolCall,
    UtteranceEnd,
)
from rtcore.testing import (
    ProviderFault,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    speak,
)
from rtcore.turn.events import Transcript

CONTEXT = CallContext(call_id="call-1")
Clock = trio.testing.MockClock


def asked(*texts: str) -> ResponderRequest:
    return ResponderRequest(
        context=CONTEXT, messages=tuple(Message(role="user", text=text) for text in texts)
    )


async def transcribed(
    transcriber: ScriptedTranscriber, silences: list[tuple[float, int]]
) -> list[tuple[float, Transcript]]:
    """Feed 2 s of audio in 80 ms pieces, and the utterance ends at the times given."""
    got: list[tuple[float, Transcript]] = []
    tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](1)

    async def speak_on() -> None:
        for number in range(25):
            await trio.sleep_until((number + 1) * 0.08)
            await tx.send(CallerAudio(pcm=bytes(1280), start_sample=number * 640))

    async def fall_silent() -> None:
        for at_s, at_sample in silences:
            await trio.sleep_until(at_s)
            await tx.send(UtteranceEnd(at_sample=at_sample))
        await trio.sleep_until(10)
        await tx.aclose()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak_on)
            nursery.start_soon(fall_silent)
            await transcriber.transcribe(
                CONTEXT, rx, lambda transcript: got.append((trio.current_time(), transcript))
            )
            nursery.cancel_scope.cancel()
    return got


async def test_a_final_comes_stt_ms_after_the_voice_ended(autojump_clock: Clock) -> None:
    transcriber = ScriptedTranscriber(["where is my parcel", "good bye"], stt_ms=400)
    got = await transcribed(transcriber, [(1.2, 8000), (3.0, 16000)])
    assert [(transcript.segment, transcript.text) for _, transcript in got] == [
        (0, "where is my parcel"),
        (1, "good bye"),
    ]
    assert all(transcript.is_final for _, transcript in got)
    assert got[0][0] == pytest.approx(1.4)  # 1 s of voice, then 400 ms
    assert got[1][0] == pytest.approx(3.0)  # due at 2.4 s, before it was asked for
    assert (transcriber.sessions.open, transcriber.sessions.opened) == (0, 1)


async def test_partials_grow_word_by_word(autojump_clock: Clock) -> None:
    transcriber = ScriptedTranscriber(["one two three"], partial_ms=300)
    got = await transcribed(transcriber, [])
    assert [transcript.text for _, transcript in got] == ["one", "one two", "one two three"]
    assert not any(transcript.is_final for _, transcript in got)
    assert [at for at, _ in got] == pytest.approx([0.32, 0.64, 0.96])


async def answered(
    responder: ScriptedResponder, request: ResponderRequest
) -> list[tuple[float, Delta]]:
    tx, rx = trio.open_memory_channel[Delta](0)
    got: list[tuple[float, Delta]] = []

    async def respond() -> None:
        async with tx:
            await responder.respond(request, tx)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond)
        async for delta in rx:
            got.append((trio.current_time(), delta))
    return got


async def test_tokens_come_at_their_times(autojump_clock: Clock) -> None:
    responder = ScriptedResponder(["it is there", "bye"], first_token_ms=350, per_token_ms=20)
    got = await answered(responder, asked("where?"))
    assert [delta.text for _, delta in got if isinstance(delta, TextDelta)] == [
        "it",
        " is",
        " there",
    ]
    assert [at for at, _ in got] == pytest.approx([0.35, 0.37, 0.39, 0.39])
    assert got[-1][1] == Finished(input_tokens=1, output_tokens=3)


async def test_the_same_question_has_the_same_answer_however_often_it_is_asked(
    autojump_clock: Clock,
) -> None:
    responder = ScriptedResponder(["first", ToolCall(id="1", name="f", arguments="{}"), "third"])
    for _ in range(2):
        assert (await answered(responder, asked("a")))[0][1] == TextDelta(text="first")
    deltas = [delta for _, delta in await answered(responder, asked("a", "b"))]
    assert deltas[0] == ToolCall(id="1", name="f", arguments="{}")
    assert deltas[1] == Finished(stop_reason="tool_calls", input_tokens=2, output_tokens=1)


async def synthesized(
    voice: ScriptedSynthesizer, texts: list[str], every_s: float = 0.0
) -> list[tuple[float, SpeechAudio]]:
    segments_tx, segments_rx = trio.open_memory_channel[Segment](10)
    tx, rx = trio.open_memory_channel[SpeechAudio](0)
    got: list[tuple[float, SpeechAudio]] = []

    async def feed() -> None:
        async with segments_tx:
            for index, text in enumerate(texts):
                await segments_tx.send(Segment(index=index, text=text))
                await trio.sleep(every_s)

    async def synthesize() -> None:
        async with tx:
            await voice.synthesize(CONTEXT, segments_rx, tx)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        nursery.start_soon(synthesize)
        async for audio in rx:
            got.append((trio.current_time(), audio))
    return got


async def test_a_voice_begins_after_its_first_byte_and_says_all(autojump_clock: Clock) -> None:
    got = await synthesized(ScriptedSynthesizer(120, 250), ["one two", "three"])
    assert [at for at, _ in got] == pytest.approx([0.12] * len(got))
    for index, text in enumerate(["one two", "three"]):
        parts = [audio for _, audio in got if audio.segment == index]
        assert b"".join(part.pcm for part in parts) == speak(text, 250).pcm
        assert [word.text for part in parts for word in part.words] == text.split()
        assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]


async def test_a_voice_waits_first_byte_ms_for_each_segment_it_had_to_wait_for(
    autojump_clock: Clock,
) -> None:
    got = await synthesized(ScriptedSynthesizer(120, 250, speed=10), ["one", "two"], every_s=1.0)
    firsts = [next(at for at, audio in got if audio.segment == index) for index in (0, 1)]
    assert firsts == pytest.approx([0.12, 1.12])
    assert [at for at, audio in got if audio.segment == 0] == pytest.approx([0.12, 0.13, 0.14])


@pytest.mark.parametrize("after_items", [0, 2])
async def test_a_failure_is_raised_after_what_was_given(
    autojump_clock: Clock, after_items: int
) -> None:
    fault = ProviderFault(kind="raise", after_items=after_items, retryable=False)
    responder = ScriptedResponder(["one two three"], faults={0: fault})
    tx, rx = trio.open_memory_channel[Delta](10)
    with pytest.raises(ProviderError) as caught:
        await responder.respond(asked("?"), tx)
    assert not caught.value.retryable
    assert rx.statistics().current_buffer_used == after_items
    assert responder.sessions.open == 0
    await responder.respond(asked("?"), tx)  # the next session is good


async def test_a_stall_waits_for_ever_and_a_cancel_closes_the_session(
    autojump_clock: Clock,
) -> None:
    responder = ScriptedResponder(["one"], faults={0: ProviderFault(kind="stall")})
    tx, _ = trio.open_memory_channel[Delta](10)
    with trio.move_on_after(1000) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(responder.respond, asked("?"), tx)
            await trio.testing.wait_all_tasks_blocked()
            assert responder.sessions.open == 1
    assert scope.cancelled_caught
    assert responder.sessions.open == 0


async def test_slow_ended_and_malformed_sessions(autojump_clock: Clock) -> None:
    faults = {
        0: ProviderFault(kind="slow", factor=3),
        1: ProviderFault(kind="end", after_items=1),
        2: ProviderFault(kind="malformed"),
    }
    responder = ScriptedResponder(["one two"], first_token_ms=100, faults=faults)
    assert (await answered(responder, asked("?")))[0][0] == pytest.approx(0.3)
    assert len(await answered(responder, asked("?"))) == 1
    assert (await answered(responder, asked("?")))[0][1] == ToolCall(id="", name="", arguments="{")
    voice = ScriptedSynthesizer(faults={0: ProviderFault(kind="malformed")})
    assert len((await synthesized(voice, ["one"]))[0][1].pcm) % 2 == 1
