"""Does the embedded loop understand its caller? Questions spoken, heard and answered, timed.

``python -m rtcore.providers.embedded`` reports it for the demo agent.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import trio

from rtcore.audio import RATE_HZ, mulaw_to_pcm, pcm_to_mulaw
from rtcore.ports import (
    CallContext,
    CallerAudio,
    Message,
    Segment,
    SpeechAudio,
    Transcript,
    UtteranceEnd,
)
from rtcore.providers.embedded.brain import EmbeddedBrain
from rtcore.providers.embedded.knowledge import AgentData, ScriptLine
from rtcore.providers.embedded.recogniser import EmbeddedRecogniser
from rtcore.providers.embedded.settings import VoiceSettings
from rtcore.providers.embedded.voice import EmbeddedVoice

__all__ = ["Outcome", "Report", "check", "over_the_telephone", "speak_all"]

BAND_HZ = (300.0, 3400.0)  # of a telephone line, 3 dB down
SKIRTS = (8, 20)  # of a Butterworth filter's |H|^2: 14 dB down at 4 kHz, as ITU-T G.712 asks
LINE_NOISE = 30.0  # rms of 32768: -61 dBFS
PAUSE_SAMPLES = RATE_HZ * 3 // 10  # before and after: the pre-roll and tail of a call
CHUNK_BYTES = RATE_HZ * 80 // 1000 * 2
PACE_S = 0.01  # for 80 ms of audio: 8 times life, and less than a worker can take
QUIET_SAMPLES = 10 * RATE_HZ  # between two questions, withheld


class Outcome(NamedTuple):
    """One question: what was heard, what it was taken for, and how long the text took."""

    line: ScriptLine
    text: str
    intent: str
    final_s: float  # from the utterance's end

    @property
    def is_right(self) -> bool:
        return self.intent == self.line.expect


class Report(NamedTuple):
    """All outcomes, and the recogniser's CPU time for one second of audio."""

    outcomes: list[Outcome]
    cpu_per_audio_s: float

    @property
    def share_right(self) -> float:
        return sum(outcome.is_right for outcome in self.outcomes) / len(self.outcomes)


def over_the_telephone(pcm: bytes, *, seed: int) -> bytes:
    """Return ``pcm`` (8000 Hz) as a telephone brings it: band, line noise, µ-law, pauses."""
    pause = np.zeros(PAUSE_SAMPLES)
    sound = np.concatenate([pause, np.frombuffer(pcm, np.int16), pause])
    spectrum = np.fft.rfft(sound)
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    hz[0] = hz[1]  # no division by zero; there is nothing at 0 Hz worth keeping
    spectrum /= np.sqrt(1 + (BAND_HZ[0] / hz) ** SKIRTS[0])
    spectrum /= np.sqrt(1 + (hz / BAND_HZ[1]) ** SKIRTS[1])
    noise = np.random.default_rng(seed).normal(0.0, LINE_NOISE, len(sound))
    line = np.clip(np.fft.irfft(spectrum, len(sound)) + noise, -32768, 32767)
    return mulaw_to_pcm(pcm_to_mulaw(line.astype(np.int16).tobytes()))


async def check(agent: AgentData, lines: Sequence[ScriptLine], voice: VoiceSettings) -> Report:
    """Let ``voice`` say each of ``lines`` to ``agent`` over a telephone.

    Raises:
        ConfigError: the extra is not installed.
        ProviderError: a worker failed.
    """
    spoken = await speak_all([line.say for line in lines], voice)
    sounds = [over_the_telephone(pcm, seed=seed) for seed, pcm in enumerate(spoken)]
    used_s = _children_cpu_s()
    heard = await _hear(agent, sounds)
    cpu_s = _children_cpu_s() - used_s
    brain = EmbeddedBrain(agent)
    outcomes = []
    for line, (text, final_s) in zip(lines, heard, strict=True):
        intent = brain.plan([Message(role="user", text=text)]).intent if text else ""
        outcomes.append(Outcome(line, text, intent, final_s))
    return Report(outcomes, cpu_s / (sum(map(len, sounds)) / 2 / RATE_HZ))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def speak_all(texts: Sequence[str], settings: VoiceSettings) -> list[bytes]:
    """Return each of ``texts`` as pcm, all spoken by one worker."""
    voice = EmbeddedVoice(settings)
    spoken = [bytearray() for _ in texts]
    to_voice, segments = trio.open_memory_channel[Segment](len(texts))
    for index, text in enumerate(texts):
        to_voice.send_nowait(Segment(index=index, text=text))
    to_voice.close()
    out, audio = trio.open_memory_channel[SpeechAudio](16)

    async def collect() -> None:
        async for piece in audio:
            spoken[piece.segment].extend(piece.pcm)

    async with trio.open_nursery() as nursery:
        await nursery.start(voice.run)
        nursery.start_soon(collect)
        async with out:
            await voice.synthesize(CallContext(call_id="check"), segments, out)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel(reason="all is said")
    return [bytes(pcm) for pcm in spoken]


async def _hear(agent: AgentData, sounds: Sequence[bytes]) -> list[tuple[str, float]]:
    """Return the final text of each sound, and how long it took after the sound's end."""
    recogniser = EmbeddedRecogniser()
    to_ear, hearing = trio.open_memory_channel[CallerAudio | UtteranceEnd](8)
    finals, answers = trio.open_memory_channel[Transcript](8)

    def emit(transcript: Transcript) -> None:
        if transcript.is_final:
            finals.send_nowait(transcript)

    heard: list[tuple[str, float]] = []
    context = CallContext(call_id="check", phrases=agent.phrases)
    async with trio.open_nursery() as nursery:
        await nursery.start(recogniser.run)
        nursery.start_soon(recogniser.transcribe, context, hearing, emit)
        at_sample = 0
        for sound in sounds:
            for start in range(0, len(sound), CHUNK_BYTES):
                pcm = sound[start : start + CHUNK_BYTES]
                await to_ear.send(CallerAudio(pcm=pcm, start_sample=at_sample))
                at_sample += len(pcm) // 2
                await trio.sleep(PACE_S)
            ended_s = trio.current_time()
            await to_ear.send(UtteranceEnd(at_sample=at_sample))
            text = (await answers.receive()).text
            heard.append((text, trio.current_time() - ended_s))
            at_sample += QUIET_SAMPLES
        nursery.cancel_scope.cancel(reason="all is heard")
    return heard
