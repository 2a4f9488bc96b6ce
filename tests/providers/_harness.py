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

KEY = "sk-test-0123456789"
CONTEXT = CallContext(call_id="call-1", language="en", phrases=("Plivo",))
SHORT = Deadlines(connect_s=1.0, first_byte_s=0.15, stall_s=0.1, close_s=0.05)
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
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await transcriber.transcribe(CONTEXT, rx, found.append)
            nursery.cancel_scope.cancel()
    return found


def speech(start_sample: int, chunks: int) -> list[CallerAudio]:
    """``chunks`` of 80 ms that a fake takes for speech (any non-zero audio)."""
    pcm = b"\x10\x20" * CHUNK_SAMPLES
    return [
        CallerAudio(pcm=pcm, start_sample=start_sample + n * CHUNK_SAMPLES) for n in range(chunks)
    ]


def text_heard(transcripts: Sequence[Transcript]) -> str:
    """The words as a turn would have them: the newest of each segment, in order."""
    newest = {each.segment: each.text for each in transcripts}
    return " ".join(newest[segment] for segment in sorted(newest) if newest[segment])
