"""What the tests of all providers share: short deadlines, a request, the three ports driven."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio

from rtcore.ports import (
    CallContext,
    CallerAudio,
    Delta,
    Message,
    Responder,
    ResponderRequest,
    Segment,
    SpeechAudio,
    Synthesizer,
    TextDelta,
    ToolSpec,
    Transcriber,
    Transcript,
    UtteranceEnd,
)
from rtcore.providers._settings import Deadlines
from rtcore.providers._tasks import run_beside
from tests.fakes import _ears as ears

KEY = "sk-test-0123456789"
CONTEXT = CallContext(call_id="call-1", language="en", phrases=("Plivo",))
SHORT = Deadlines(connect_s=0.6, first_byte_s=0.5, stall_s=0.3, close_s=0.05)
CHUNK_SAMPLES = 640  # 80 ms
LOOKUP = ToolSpec(
    name="lookup",
    description="Look an order up.",
    parameters={"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
)


def request_of(*messages: Message, tools: Sequence[ToolSpec] = ()) -> ResponderRequest:
    given = messages or (
        Message(role="system", text="Be brief."),
        Message(role="assistant", text="Welcome."),
        Message(role="user", text="Hello?"),
    )
    return ResponderRequest(context=CONTEXT, messages=given, tools=tuple(tools))


async def answer_of(responder: Responder, request: ResponderRequest | None = None) -> list[Delta]:
    """All deltas of one answer."""
    tx, rx = trio.open_memory_channel[Delta](math.inf)
    try:
        await responder.respond(request or request_of(), tx)
        return drained(rx)
    finally:
        tx.close()
        rx.close()


def drained(rx: trio.MemoryReceiveChannel[Delta]) -> list[Delta]:
    found: list[Delta] = []
    while True:
        try:
            found.append(rx.receive_nowait())
        except trio.WouldBlock:
            return found


def text_of(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def spoken(synthesizer: Synthesizer, *texts: str) -> list[SpeechAudio]:
    """All audio of one reply."""
    segment_tx, segment_rx = trio.open_memory_channel[Segment](len(texts))
    audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](math.inf)
    for index, text in enumerate(texts):
        segment_tx.send_nowait(Segment(index=index, text=text))
    segment_tx.close()
    with segment_rx, audio_rx:
        async with audio_tx:
            await synthesizer.synthesize(CONTEXT, segment_rx, audio_tx)
        return [audio async for audio in audio_rx]


def pcm_of(audio: Sequence[SpeechAudio], segment: int) -> bytes:
    return b"".join(piece.pcm for piece in audio if piece.segment == segment)


async def heard(
    transcriber: Transcriber, *items: CallerAudio | UtteranceEnd, gap_s: float = 0.0
) -> list[Transcript]:
    """All transcripts of one session that is told ``items`` and then ends."""
    tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](0)
    found: list[Transcript] = []

    async def tell() -> None:
        with tx:
            for item in items:
                await tx.send(item)
                await trio.sleep(gap_s)

    with rx:
        await run_beside(lambda: transcriber.transcribe(CONTEXT, rx, found.append), tell)
    return found


def said(text: str, start_sample: int = 0) -> list[CallerAudio]:
    """``text`` in the language of the fakes, in chunks of 80 ms."""
    pcm = ears.pcm_of(text)
    step = CHUNK_SAMPLES * 2
    return [
        CallerAudio(pcm=pcm[at : at + step], start_sample=start_sample + at // 2)
        for at in range(0, len(pcm), step)
    ]


def pause(start_sample: int, chunks: int) -> list[CallerAudio]:
    """Silence, for those who want all audio."""
    pcm = bytes(CHUNK_SAMPLES * 2)
    starts = range(start_sample, start_sample + chunks * CHUNK_SAMPLES, CHUNK_SAMPLES)
    return [CallerAudio(pcm=pcm, start_sample=start) for start in starts]


def samples_of(text: str) -> int:
    return len(ears.mulaw_of(text))


def text_heard(transcripts: Sequence[Transcript]) -> str:
    """The words as a turn would have them: the newest of each segment, in order."""
    newest = {each.segment: each.text for each in transcripts}
    return " ".join(newest[segment] for segment in sorted(newest) if newest[segment])
