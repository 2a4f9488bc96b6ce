"""A recogniser's session over a WebSocket: what is the same for all of them.

Each service adds a dialect: its messages, without I/O.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import trio

from rtcore.audio import RATE_HZ, pcm_to_mulaw
from rtcore.errors import ProviderError
from rtcore.ports import CallerAudio, Hearing, Transcript, UtteranceEnd
from rtcore.providers._faults import timed_out
from rtcore.providers._settings import Deadlines, Secret
from rtcore.providers._tasks import run_beside
from rtcore.providers._ws import WebSocket, connect

__all__ = ["Dialect", "SampleMap", "recognize"]

STRETCHES_MAX = 256  # utterances; no service speaks of audio that old
MULAW_SILENCE = b"\xff"  # G.711: the first zero


class SampleMap:
    """From a service's clock, which counts what it was sent, to the caller's, which never stops.

    Silence that was withheld makes them differ: each stretch sent without a gap is remembered.
    """

    def __init__(self) -> None:
        self._sent_starts: list[int] = []
        self._caller_starts: list[int] = []
        self.sent_samples = 0

    def add(self, start_sample: int, samples: int) -> None:
        """``samples`` of the caller, from ``start_sample`` on, are sent now."""
        if not self._sent_starts or start_sample != self._next_of_caller():
            self._sent_starts.append(self.sent_samples)
            self._caller_starts.append(start_sample)
            del self._sent_starts[:-STRETCHES_MAX], self._caller_starts[:-STRETCHES_MAX]
        self.sent_samples += samples

    def start_of_caller(self, sent_sample: int) -> int:
        """The caller's sample that was sent as ``sent_sample``."""
        at = max(0, bisect.bisect_right(self._sent_starts, sent_sample) - 1)
        if not self._sent_starts:
            return sent_sample
        return self._caller_starts[at] + max(0, sent_sample - self._sent_starts[at])

    def end_of_caller(self, sent_sample: int) -> int:
        """Where the caller was when all before ``sent_sample`` had been sent."""
        return self.start_of_caller(sent_sample - 1) + 1 if sent_sample > 0 else 0

    def of_seconds(self, start_s: float, end_s: float) -> tuple[int, int]:
        """A span the service gives in seconds, as samples of the caller."""
        start = self.start_of_caller(round(start_s * RATE_HZ))
        return start, max(start, self.end_of_caller(round(end_s * RATE_HZ)))

    def _next_of_caller(self) -> int:
        return self._caller_starts[-1] + self.sent_samples - self._sent_starts[-1]


class Dialect(Protocol):
    """One session's protocol. Audio goes out as binary messages of µ-law."""

    min_chunk_samples: int  # shorter audio is gathered, or padded where an utterance ends
    keep_alive_s: float  # after so long without audio; inf: never
    answers_always: bool  # speaks at least once a second while it gets audio

    @property
    def url(self) -> str: ...

    @property
    def keep_alive(self) -> str: ...

    @property
    def goodbye(self) -> str: ...

    def utterance_end(self) -> str | None:
        """What asks for the final words now, if the service can be asked."""
        ...

    def take(self, message: str | bytes, clock: SampleMap) -> Iterable[Transcript]:
        """What one message of the service says. Raises ProviderError."""
        ...


async def recognize(
    provider: str,
    dialect: Dialect,
    hearing: Hearing,
    emit: Callable[[Transcript], None],
    *,
    headers: Mapping[str, str],
    deadlines: Deadlines,
    secret: Secret,
) -> None:
    """Hold one session until ``hearing`` ends and the last words are known.

    Raises:
        ProviderError: no connection, a lost one, a fault told by the service, or silence of
            the service for ``stall_s`` of audio and of time.

    Cancelled: the connection is closed.
    """
    socket = await connect(
        provider, dialect.url, headers=headers, deadlines=deadlines, secret=secret
    )
    session = _Session(provider, dialect, socket, deadlines)
    try:
        await run_beside(lambda: session.listen(emit), lambda: session.tell(hearing))
    finally:
        await socket.aclose()


class _Session:
    def __init__(
        self, provider: str, dialect: Dialect, socket: WebSocket, deadlines: Deadlines
    ) -> None:
        self._provider = provider
        self._dialect = dialect
        self._socket = socket
        self._deadlines = deadlines
        self._clock = SampleMap()
        self._gathered = bytearray()
        self._gathered_start = 0  # the caller's sample it begins at
        self._unanswered_samples = 0
        self._unanswered_since = 0.0
        self._said_goodbye = False
        self._ending = trio.CancelScope()

    async def listen(self, emit: Callable[[Transcript], None]) -> None:
        """Pass transcripts on until the service has said its last."""
        with self._ending:
            while (message := await self._socket.receive()) is not None:
                self._unanswered_samples = 0
                for transcript in self._dialect.take(message, self._clock):
                    emit(transcript)
        if self._ending.cancelled_caught:
            raise timed_out(self._provider, "the last words", self._deadlines.first_byte_s)
        if not self._said_goodbye:
            raise ProviderError(self._provider, "closed the session early", retryable=True)

    async def tell(self, hearing: Hearing) -> None:
        """Send audio, pauses and signs of life, and goodbye when ``hearing`` ends."""
        while True:
            item: CallerAudio | UtteranceEnd | None = None
            try:
                with trio.move_on_after(self._dialect.keep_alive_s):
                    item = await hearing.receive()
            except trio.EndOfChannel:
                break
            if isinstance(item, CallerAudio):
                await self._audio(item)
            elif isinstance(item, UtteranceEnd):
                await self._flush()
                if (message := self._dialect.utterance_end()) is not None:
                    await self._socket.send(message)
            else:
                await self._socket.send(self._dialect.keep_alive)
        await self._flush()
        await self._socket.send(self._dialect.goodbye)
        self._said_goodbye = True
        self._ending.deadline = trio.current_time() + self._deadlines.first_byte_s

    async def _audio(self, audio: CallerAudio) -> None:
        if self._gathered and audio.start_sample != self._gathered_start + len(self._gathered):
            await self._flush()
        if not self._gathered:
            self._gathered_start = audio.start_sample
        self._gathered += pcm_to_mulaw(audio.pcm)
        if len(self._gathered) >= self._dialect.min_chunk_samples:
            await self._send_gathered()

    async def _flush(self) -> None:
        if self._gathered:
            self._gathered += MULAW_SILENCE * (
                self._dialect.min_chunk_samples - len(self._gathered)
            )
            await self._send_gathered()

    async def _send_gathered(self) -> None:
        octets = bytes(self._gathered)  # µ-law: an octet is a sample
        self._gathered.clear()
        self._clock.add(self._gathered_start, len(octets))
        self._watch(len(octets))
        await self._socket.send(octets)

    def _watch(self, samples: int) -> None:
        """Give a service up that has said nothing for too much audio and too much time."""
        now = trio.current_time()
        if not self._unanswered_samples:
            self._unanswered_since = now
        self._unanswered_samples += samples
        limit_s = self._deadlines.stall_s if self._dialect.answers_always else math.inf
        is_silent = self._unanswered_samples / RATE_HZ > limit_s
        if is_silent and now - self._unanswered_since > limit_s:
            raise timed_out(self._provider, "any answer to the audio", limit_s)
