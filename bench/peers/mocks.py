"""Mock STT, LLM and TTS for Pipecat: in process, of fixed delay, no network.

``STT_MS`` after the caller fell silent, and not before the pipeline says so, as a service answers
a request to finalise; ``LLM_MS`` to the first token; ``TTS_MS`` to the first byte of ``REPLY_MS``
of a tone, handed over at once in pieces of 100 ms: what the scripted providers of our own bench
node do.
"""

import asyncio
import math
import os
import struct
import time

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.time import time_now_iso8601

RATE_HZ = 8000
PIECE_BYTES = RATE_HZ // 10 * 2
STT_S, LLM_S, TTS_S, REPLY_S = (
    float(os.environ[name]) / 1000 for name in ("STT_MS", "LLM_MS", "TTS_MS", "REPLY_MS")
)
TONE = b"".join(
    struct.pack("<h", int(8000 * math.sin(math.tau * 440 * n / RATE_HZ)))
    for n in range(int(REPLY_S * RATE_HZ))
)
TEXT = "I have looked that up for you and it is all in order now ."


class MockSTT(STTService):
    def __init__(self):
        super().__init__(
            sample_rate=RATE_HZ,
            ttfs_p99_latency=max(0.35, STT_S + 0.2),
            settings=STTSettings(model="mock", language="en"),
        )

    async def run_stt(self, audio):
        yield None

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            # what it waited for, to be sure of the silence, is over by now
            silent_s = time.time() - frame.timestamp + frame.stop_secs
            self.create_task(self._final(max(0.0, STT_S - silent_s)))

    async def _final(self, after_s):
        await asyncio.sleep(after_s)
        self.request_finalize()
        self.confirm_finalize()
        await self.push_frame(
            TranscriptionFrame("What time do you open tomorrow?", "", time_now_iso8601())
        )


class MockLLM(LLMService):
    def __init__(self):
        unset = dict.fromkeys(
            (
                "system_instruction",
                "temperature",
                "max_tokens",
                "top_p",
                "top_k",
                "frequency_penalty",
                "presence_penalty",
                "seed",
                "user_turn_completion_config",
            )
        )
        super().__init__(
            settings=LLMSettings(model="mock", filter_incomplete_user_turns=False, **unset)
        )

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await asyncio.sleep(LLM_S)
        for word in TEXT.split():
            await self.push_frame(LLMTextFrame(word + " "))
        await self.push_frame(LLMFullResponseEndFrame())


class MockTTS(TTSService):
    def __init__(self):
        super().__init__(
            sample_rate=RATE_HZ,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="mock", voice="mock", language="en"),
        )

    async def run_tts(self, text, context_id):
        await asyncio.sleep(TTS_S)
        for at in range(0, len(TONE), PIECE_BYTES):
            yield TTSAudioRawFrame(TONE[at : at + PIECE_BYTES], RATE_HZ, 1, context_id=context_id)


def pipeline(transport):
    """Pipecat's defaults: Silero VAD and its own choice of turn strategies."""
    user, assistant = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    steps = [MockSTT(), user, MockLLM(), MockTTS()]
    return Pipeline([transport.input(), *steps, transport.output(), assistant])
