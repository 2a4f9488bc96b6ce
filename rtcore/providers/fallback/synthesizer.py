"""A list of voices as one: the backup goes on at the first segment not wholly delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, Segment, SpeechAudio, Synthesizer
from rtcore.providers._tasks import run_beside
from rtcore.providers.fallback.breaker import Breakers
from rtcore.providers.fallback.service import FallbackService
from rtcore.rotation import Rotation

__all__ = ["FallbackSynthesizer"]


class FallbackSynthesizer(FallbackService[Synthesizer]):
    """Voices in order; fills :class:`rtcore.ports.Synthesizer`.

    When one fails within a segment, the next speaks that segment again from its beginning, under
    the same index: two voices' sentences cannot be joined in the middle.
    """

    def __init__(
        self,
        members: Sequence[Synthesizer],
        *,
        breakers: Breakers | None = None,
        keys: Sequence[str] | None = None,
        name: str = "fallback_synthesizer",
    ) -> None:
        super().__init__(name, members, breakers, keys)

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak one reply; see :class:`rtcore.ports.Synthesizer`.

        Raises:
            ProviderError: of the last one, when all have failed.
        """
        rotation = Rotation(self.members, self.breakers, context.usage, "tts")
        undelivered: deque[Segment] = deque()  # those the members ask for ahead, and no more
        while True:
            member = await rotation.next()
            rotation.used.requests += 1
            reply = _Reply(member, rotation, undelivered, out)
            try:
                await reply.speak(context, segments)
                return
            except ProviderError as exc:
                rotation.failed(exc)


class _Reply:
    """One member's share of a reply."""

    def __init__(
        self,
        member: Synthesizer,
        rotation: Rotation[Synthesizer],
        undelivered: deque[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        self._member = member
        self._rotation = rotation
        self._used = rotation.used
        self._undelivered = undelivered
        self._out = out
        self._all_asked = False

    async def speak(
        self, context: CallContext, segments: trio.MemoryReceiveChannel[Segment]
    ) -> None:
        segment_tx, segment_rx = trio.open_memory_channel[Segment](0)
        audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](0)

        async def synthesize() -> None:
            with audio_tx:
                await self._member.synthesize(context, segment_rx, audio_tx)

        with segment_rx, audio_rx:
            await run_beside(
                lambda: self._pass_on(audio_rx),
                synthesize,
                lambda: self._feed(segments, segment_tx),
            )
        if self._undelivered or not self._all_asked:
            raise ProviderError(self._member.name, "the reply ended early", retryable=True)

    async def _feed(
        self,
        segments: trio.MemoryReceiveChannel[Segment],
        tx: trio.MemorySendChannel[Segment],
    ) -> None:
        with tx:
            for segment in tuple(self._undelivered):
                await tx.send(segment)
                self._used.characters += len(segment.text)
            async for segment in segments:
                self._undelivered.append(segment)  # before it can be lost with the member
                await tx.send(segment)
                self._used.characters += len(segment.text)
            self._all_asked = True

    async def _pass_on(self, audio_rx: trio.MemoryReceiveChannel[SpeechAudio]) -> None:
        async for audio in audio_rx:
            if audio.pcm:
                self._rotation.answered()
                self._used.speech_samples += len(audio.pcm) // 2
            await put(self._out, audio)
            if audio.is_last and self._undelivered:
                self._undelivered.popleft()
                self._rotation.progressed()
