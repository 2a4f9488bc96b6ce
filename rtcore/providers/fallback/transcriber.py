"""A list of recognisers as one: the backup hears again what has not become final words."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import trio

from rtcore.audio import RATE_HZ
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    CallerAudio,
    Hearing,
    Transcriber,
    Transcript,
    UtteranceEnd,
)
from rtcore.providers._tasks import run_beside
from rtcore.providers.fallback.breaker import Breakers
from rtcore.providers.fallback.service import FallbackService
from rtcore.rotation import Rotation
from rtcore.usage import Tally

__all__ = ["FallbackTranscriber"]

Heard = CallerAudio | UtteranceEnd
HEALTHY_SESSION_S = 30.0  # one that lived so long was well, though the caller said nothing


class FallbackTranscriber(FallbackService[Transcriber]):
    """Recognisers in order; fills :class:`rtcore.ports.Transcriber`.

    When one fails, the next is sent all audio after the last final word (of the last
    ``replay_max_s``), and its segments take over from the first that was not final: nothing is
    said twice, nothing is lost. A list of one reconnects.
    """

    def __init__(
        self,
        members: Sequence[Transcriber],
        *,
        breakers: Breakers | None = None,
        keys: Sequence[str] | None = None,
        replay_max_s: float = 20.0,
        name: str = "fallback_transcriber",
    ) -> None:
        super().__init__(name, members, breakers, keys)
        self._replay_max_samples = int(replay_max_s * RATE_HZ)

    @property
    def wants_all_audio(self) -> bool:
        """Whether any of them does: the others can do with more."""
        return any(member.wants_all_audio for member in self.members)

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        """Hold sessions until ``hearing`` ends; see :class:`rtcore.ports.Transcriber`.

        Raises:
            ProviderError: of the last one, when all have failed.
        """
        rotation = Rotation(self.members, self.breakers, context.usage, "stt")
        memory = _Memory(self._replay_max_samples)
        script = _Script(memory, rotation, emit)
        while True:
            member = await rotation.next()
            rotation.used.requests += 1
            script.next_session()
            began_at = trio.current_time()
            try:
                await self._session(member, context, hearing, memory, script, rotation.used)
                return
            except ProviderError as exc:
                if trio.current_time() - began_at >= HEALTHY_SESSION_S:
                    rotation.progressed()
                rotation.failed(exc)

    async def _session(
        self,
        member: Transcriber,
        context: CallContext,
        hearing: Hearing,
        memory: _Memory,
        script: _Script,
        used: Tally,
    ) -> None:
        tx, rx = trio.open_memory_channel[Heard](0)
        has_ended = False

        async def feed() -> None:
            nonlocal has_ended
            with tx:
                for item in memory.items():
                    await tx.send(item)
                    used.audio_samples += _samples(item)
                async for item in hearing:
                    memory.add(item)  # before it can be lost with the session
                    await tx.send(item)
                    used.audio_samples += _samples(item)
                has_ended = True

        with rx:
            await run_beside(lambda: member.transcribe(context, rx, script.write), feed)
        if not has_ended:
            raise ProviderError(member.name, "the session ended early", retryable=True)


class _Memory:
    """What was heard and has not become final words, of the last ``max_samples``."""

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._items: deque[Heard] = deque()
        self._samples = 0

    def add(self, item: Heard) -> None:
        self._items.append(item)
        self._samples += _samples(item)
        while self._samples > self._max_samples:
            self._samples -= _samples(self._items.popleft())

    def items(self) -> list[Heard]:
        return list(self._items)

    @property
    def first_sample(self) -> int | None:
        """Where the oldest audio begins."""
        starts = (item.start_sample for item in self._items if isinstance(item, CallerAudio))
        return next(starts, None)

    def forget_utterance(self) -> None:
        """The oldest utterance has become final words; where in time is not known."""
        while self._items:
            item = self._items.popleft()
            self._samples -= _samples(item)
            if isinstance(item, UtteranceEnd):
                return

    def forget(self, before_sample: int) -> None:
        """All before ``before_sample`` has become final words."""
        while self._items and _end(self._items[0]) <= before_sample:
            self._samples -= _samples(self._items.popleft())
        head = self._items[0] if self._items else None
        if isinstance(head, CallerAudio) and head.start_sample < before_sample:
            cut = before_sample - head.start_sample
            self._items[0] = CallerAudio(pcm=head.pcm[cut * 2 :], start_sample=before_sample)
            self._samples -= cut


class _Script:
    """The segments of many sessions as those of one."""

    def __init__(
        self, memory: _Memory, rotation: Rotation[Transcriber], emit: Callable[[Transcript], None]
    ) -> None:
        self._memory = memory
        self._rotation = rotation
        self._emit = emit
        self._base = 0  # our number of the session's segment 0
        self._open: dict[int, Transcript] = {}  # shown and not final, by our number
        self._next = 0  # the first number not used

    def next_session(self) -> None:
        """A new session counts from 0 again, and hears again what is open."""
        self._keep_forgotten()
        numbers = sorted(self._open)
        if numbers == [self._next - 1]:  # the usual case: said anew under its number
            self._base = numbers[0]
        else:
            for number in numbers:
                self._emit(Transcript(segment=number, text="", is_final=True))
            self._base = self._next
        self._open.clear()

    def _keep_forgotten(self) -> None:
        """Words whose audio is too old to be heard again stay as they are."""
        first = self._memory.first_sample
        for number, shown in sorted(self._open.items()):
            kept = tuple(word for word in shown.words if word.end_sample <= (first or 0))
            if kept:
                text = " ".join(word.text for word in kept)
                self._emit(msgspec.structs.replace(shown, text=text, words=kept, is_final=True))
                del self._open[number]

    def write(self, transcript: Transcript) -> None:
        """Pass one on under our number; remember how far the words are final."""
        number = self._base + transcript.segment
        self._next = max(self._next, number + 1)
        self._rotation.answered()
        numbered = msgspec.structs.replace(transcript, segment=number)
        if transcript.is_final:
            self._open.pop(number, None)
            self._settle(transcript)
            self._rotation.progressed()
        else:
            self._open[number] = numbered
        self._emit(numbered)

    def _settle(self, transcript: Transcript) -> None:
        if transcript.words:
            self._memory.forget(max(word.end_sample for word in transcript.words))
        elif transcript.text:
            self._memory.forget_utterance()  # no times: it is the oldest


def _samples(item: Heard) -> int:
    return len(item.pcm) // 2 if isinstance(item, CallerAudio) else 0


def _end(item: Heard) -> int:
    if isinstance(item, CallerAudio):
        return item.start_sample + len(item.pcm) // 2
    return item.at_sample
