"""A hang-up at any instant: nothing is left open at any service, and nobody is harmed after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from rtcore.ports import CallerAudio, Delta, Responder, Segment, SpeechAudio, UtteranceEnd
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, eventually
from tests.providers import test_responders, test_synthesizers, test_transcribers
from tests.providers._harness import (
    CONTEXT,
    answer_of,
    heard,
    request_of,
    said,
    spoken,
    text_heard,
    text_of,
)

INSTANTS = 25
STEP_S = 0.0007
Session = Callable[[], Awaitable[None]]


async def _hang_up_at_each_instant(session: Session) -> None:
    for number in range(INSTANTS):
        with trio.move_on_after(number * STEP_S):
            await session()


@pytest.mark.parametrize("name", test_responders.KINDS)
async def test_a_mind(name: str, nursery: trio.Nursery) -> None:
    kind = test_responders.KINDS[name]
    fake = kind.fake()
    mind: Responder = kind.connect(await nursery.start(fake.serve), test_responders.SECRETS)
    fake.faults.add(*[Fault(gap_s=0.002, first_delay_s=0.002)] * INSTANTS)

    async def answer() -> None:
        tx, rx = trio.open_memory_channel[Delta](100)
        with tx, rx:
            await mind.respond(request_of(), tx)

    await _hang_up_at_each_instant(answer)
    fake.faults.waiting.clear()
    assert text_of(await answer_of(mind)) == "Hello there."
    await mind.aclose()
    await eventually(lambda: fake.open_connections == 0)


@pytest.mark.parametrize("name", test_transcribers.KINDS)
async def test_ears(name: str, nursery: trio.Nursery) -> None:
    kind = test_transcribers.KINDS[name]
    fake = kind.fake()
    ear = kind.connect(await nursery.start(fake.serve), test_transcribers.SECRETS)
    items = [*said("one two"), UtteranceEnd(at_sample=5120)]

    async def listen() -> None:
        tx, rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](20)
        with tx, rx:
            for item in items:
                tx.send_nowait(item)
            await ear.transcribe(CONTEXT, rx, lambda _: None)

    await _hang_up_at_each_instant(listen)
    assert text_heard(await heard(ear, *items)) == "one two"
    await ear.aclose()
    await eventually(lambda: _open(fake) == 0)


@pytest.mark.parametrize("name", test_synthesizers.KINDS)
async def test_a_voice(name: str, nursery: trio.Nursery) -> None:
    kind = test_synthesizers.KINDS[name]
    how = {} if name == "openai" else {"piece_s": 0.001, "late_pieces": 2}
    fake = kind.fake(**how)
    voice = kind.connect(await nursery.start(fake.serve), test_synthesizers.SECRETS)

    async def speak() -> None:
        segment_tx, segment_rx = trio.open_memory_channel[Segment](3)
        audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](1000)
        with segment_tx, segment_rx, audio_tx, audio_rx:
            for index, text in enumerate(test_synthesizers.TEXTS):
                segment_tx.send_nowait(Segment(index=index, text=text))
            await voice.synthesize(CONTEXT, segment_rx, audio_tx)

    await _hang_up_at_each_instant(speak)
    audio = await spoken(voice, *test_synthesizers.TEXTS)
    assert test_synthesizers.says(audio, *test_synthesizers.TEXTS)
    await voice.aclose()
    await eventually(lambda: _open(fake) == 0)


def _open(fake: Any) -> int:
    return fake.open_connections if isinstance(fake, FakeHttpServer) else fake.open_sessions
