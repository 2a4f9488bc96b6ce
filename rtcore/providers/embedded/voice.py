"""The embedded voice: espeak-ng in a worker process, no key, no network."""

from __future__ import annotations

import textwrap

import msgspec
import trio

from rtcore.channels import put
from rtcore.ports import CallContext, Segment, SpeechAudio, WordTime
from rtcore.providers.embedded._wire import Kind, Speak
from rtcore.providers.embedded._worker import Job, WorkerPool
from rtcore.providers.embedded.settings import VoiceSettings, require_extra

__all__ = ["CALLER_VOICE", "EmbeddedVoice", "say"]

TEXT_MAX_CHARS = 400  # spoken at once: half a minute, some 600 frames of sound and words
INBOX_MAX_FRAMES = 1024
REPLIES_MAX = 256  # speaking at once per worker; a text takes it 3 ms
BLOCK_LIMIT_S = 2.0  # from the order, or the block before, to the next block

# Not the agent's voice, and one the recogniser hears well.
CALLER_VOICE = VoiceSettings(name="en-us+m3", words_per_minute=150)


class EmbeddedVoice:
    """A :class:`~rtcore.ports.Synthesizer`; :meth:`run` keeps its workers.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, settings: VoiceSettings = VoiceSettings()) -> None:  # noqa: B008 - frozen
        require_extra("espeakng_loader")
        self._settings = settings
        self.pool = WorkerPool(
            self.name,
            "rtcore.providers.embedded._espeak",
            workers=settings.workers,
            jobs_max=REPLIES_MAX,
            inbox_max_frames=INBOX_MAX_FRAMES,
        )

    @property
    def name(self) -> str:
        return "embedded.voice"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; started when they can speak."""
        await self.pool.run(task_status=task_status)

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak each segment in order; first sound some milliseconds after its text.

        Cancelled: the worker stops in mid-word, and what it had said is dropped.
        """
        with await self.pool.open() as job:
            await job.send(Kind.OPEN)
            async for segment in segments:
                await self._speak(job, segment, out)

    async def _speak(
        self, job: Job, segment: Segment, out: trio.MemorySendChannel[SpeechAudio]
    ) -> None:
        words: list[WordTime] = []
        spoken_samples = 0
        for text in textwrap.wrap(segment.text, TEXT_MAX_CHARS):
            start_sample = spoken_samples
            order = Speak(
                text=text,
                name=self._settings.name,
                words_per_minute=self._settings.words_per_minute,
                pitch=self._settings.pitch,
            )
            await job.send(Kind.SPEAK, msgspec.json.encode(order))
            while (frame := await job.receive(BLOCK_LIMIT_S)).kind is not Kind.SPOKEN:
                if frame.kind is Kind.WORDS:
                    times = msgspec.json.decode(frame.payload, type=list[WordTime])
                    words += [_shifted(time, start_sample) for time in times]
                    continue
                spoken_samples += len(frame.payload) // 2
                audio = SpeechAudio(segment=segment.index, pcm=frame.payload, words=tuple(words))
                words.clear()
                await put(out, audio)
        await put(
            out, SpeechAudio(segment=segment.index, pcm=b"", is_last=True, words=tuple(words))
        )


def _shifted(word: WordTime, samples: int) -> WordTime:
    return WordTime(
        text=word.text,
        start_sample=word.start_sample + samples,
        end_sample=word.end_sample + samples,
    )


async def say(text: str, *, voice: VoiceSettings = CALLER_VOICE) -> bytes:
    """Return ``text`` as pcm at 8000 Hz, spoken by a worker of its own (some 0.3 s to start).

    Raises:
        ConfigError: the extra is not installed.
        ProviderError: the worker failed.
    """
    embedded = EmbeddedVoice(voice)
    to_voice, segments = trio.open_memory_channel[Segment](1)
    out, audio = trio.open_memory_channel[SpeechAudio](16)
    pcm = bytearray()

    async def speak() -> None:
        async with out:
            await embedded.synthesize(CallContext(call_id="say"), segments, out)

    async def collect() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(embedded.run)
            nursery.start_soon(speak)
            async for piece in audio:
                pcm.extend(piece.pcm)
            nursery.cancel_scope.cancel(reason="all is said")

    to_voice.send_nowait(Segment(index=0, text=text))
    to_voice.close()
    await collect()
    return bytes(pcm)
