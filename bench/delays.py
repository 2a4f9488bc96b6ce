"""Scripted providers that take as long as real ones: a delay drawn anew for each answer.

Each distribution is log-normal through two published percentiles; see docs/benchmarks.md for
where they come from. Draws follow a seed and the call's id: the same call waits the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import msgspec
import trio

from rtcore.ports import (
    CallContext,
    CallerAudio,
    Delta,
    Hearing,
    Responder,
    ResponderRequest,
    Segment,
    SpeechAudio,
    Synthesizer,
    Transcriber,
    UtteranceEnd,
)
from rtcore.turn.events import Transcript

__all__ = ["PUBLISHED", "Delay", "DrawnResponder", "DrawnSynthesizer", "DrawnTranscriber"]

P95_SIGMAS = 1.6449  # a normal variable exceeds its mean by so many sigma once in twenty
CALLS_MAX = 100_000  # dice kept; a bench has fewer calls


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """How long a service takes, by its median and 95th percentile."""

    p50_ms: float
    p95_ms: float

    def draw_s(self, dice: random.Random) -> float:
        sigma = math.log(self.p95_ms / self.p50_ms) / P95_SIGMAS
        return self.p50_ms / 1000 * math.exp(dice.gauss(0, sigma))


# final after the true end of speech: Deepgram nova-3, 1,000 samples (pipecat-ai/stt-benchmark);
# first token: gpt-4.1 (kwindla/aiewf-eval); first audio: median and upper bound of Twilio's
# latency guide of November 2025
PUBLISHED = {
    "stt": Delay(p50_ms=247, p95_ms=298),
    "llm": Delay(p50_ms=536, p95_ms=1771),
    "tts": Delay(p50_ms=100, p95_ms=250),
}


class Dice:
    """One sequence of draws for each call."""

    def __init__(self, seed: int, what: str, delay: Delay) -> None:
        self._seed, self._what, self._delay = seed, what, delay
        self._dice: dict[str, random.Random] = {}

    def draw_s(self, context: CallContext) -> float:
        dice = self._dice.get(context.call_id)
        if dice is None:
            assert len(self._dice) < CALLS_MAX
            dice = random.Random(f"{self._seed}/{context.call_id}/{self._what}")
            self._dice[context.call_id] = dice
        return self._delay.draw_s(dice)


class DrawnTranscriber:
    """``inner`` with its finals held back, counted from the utterance's end."""

    def __init__(self, inner: Transcriber, delay: Delay, seed: int) -> None:
        self.name = inner.name
        self.wants_all_audio = inner.wants_all_audio
        self._inner = inner
        self._dice = Dice(seed, "stt", delay)

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        heard_tx, heard_rx = trio.open_memory_channel[CallerAudio | UtteranceEnd](0)
        heard_s = 0.0  # when the audio of `heard_sample` came
        heard_sample = 0

        async def hold_back() -> None:
            nonlocal heard_s, heard_sample
            async with heard_tx:
                async for heard in hearing:
                    if isinstance(heard, CallerAudio):
                        heard_s = trio.current_time()
                        heard_sample = heard.start_sample + len(heard.pcm) // 2
                    else:
                        ended_s = heard_s - (heard_sample - heard.at_sample) / 8000
                        await trio.sleep_until(
                            max(ended_s + self._dice.draw_s(context), trio.current_time())
                        )
                    await heard_tx.send(heard)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_back)
            await self._inner.transcribe(context, heard_rx, emit)
            nursery.cancel_scope.cancel(reason="session over")


class DrawnResponder:
    """``inner`` whose first token takes its time."""

    def __init__(self, inner: Responder, delay: Delay, seed: int) -> None:
        self.name = inner.name
        self._inner = inner
        self._dice = Dice(seed, "llm", delay)

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        await trio.sleep(self._dice.draw_s(request.context))
        await self._inner.respond(request, out)


class DrawnSynthesizer:
    """``inner`` whose first sound takes its time, counted from the first segment."""

    def __init__(self, inner: Synthesizer, delay: Delay, seed: int) -> None:
        self.name = inner.name
        self._inner = inner
        self._dice = Dice(seed, "tts", delay)

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        held_tx, held_rx = trio.open_memory_channel[Segment](0)

        async def hold_back() -> None:
            async with held_tx:
                first = True
                async for segment in segments:
                    if first:
                        await trio.sleep(self._dice.draw_s(context))
                    first = False
                    await held_tx.send(segment)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold_back)
            await self._inner.synthesize(context, held_rx, out)
            nursery.cancel_scope.cancel(reason="session over")
