"""A recogniser's session over a WebSocket: what is the same for all of them.

Each service adds a dialect: its messages, without I/O.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import trio

from rtcore.audio import RATE_HZ, pcm_to_mulaw
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, CallerAudio, Hearing, Transcript, UtteranceEnd
from rtcore.providers._faults import timed_out
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines, Secret
from rtcore.providers._tasks import run_beside
from rtcore.providers._ws import WebSocket, connect

__all__ = ["Dialect", "SampleMap", "SocketTranscriber"]

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


class Dialect(ABC):
    """One session's protocol, without I/O. Audio is µ-law at 8000 Hz."""

    min_chunk_samples = 1  # shorter audio is gathered, or padded where an utterance ends
    keep_alive_s = math.inf  # after so long without audio; inf: never
    keep_alive = ""
    answers_always = False  # speaks at least once a second while it gets audio
    url: str

    @property
    def is_ready(self) -> bool:
        """Whether audio may be sent: what :meth:`opening` asks for has been answered."""
        return True

    @property
    def owes_words(self) -> bool:
        """Whether words were asked for that have not come, and must."""
        return False

    @property
    def is_done(self) -> bool:
        """Whether, after the goodbye, the last was said and the closing is left to us."""
        return False

    def opening(self) -> Sequence[str]:
        """The messages that set the session up."""
        return ()

    def audio(self, mulaw: bytes) -> str | bytes:
        """The message that carries ``mulaw``."""
        return mulaw

    def utterance_end(self) -> Sequence[str]:
        """The messages that ask for the final words now, if the service can be asked."""
        return ()

    @abstractmethod
    def goodbye(self) -> Sequence[str]:
        """The messages that ask for the last words."""

    @abstractmethod
    def take(self, message: str | bytes, clock: SampleMap) -> Iterable[Transcript]:
        """What one message of the service says. Raises ProviderError."""


class SocketTranscriber(Service):
    """Base of each recogniser behind a WebSocket; fills :class:`rtcore.ports.Transcriber`.

    Args:
        secret: None: the service asks for none.
        scheme: in front of the secret, in the header that carries it; empty: nothing is.
    """

    def __init__(self, name: str, secret: Secret | None, scheme: str, deadlines: Deadlines) -> None:
        super().__init__(name)
        self._secret = secret
        self._scheme = scheme
        self._deadlines = deadlines

    @abstractmethod
    def dialect(self, context: CallContext) -> Dialect:
        """That of a new session for a call."""

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        """Hold one session until ``hearing`` ends and the last words are known.

        Raises:
            ProviderError: no connection, a lost one, a fault told by the service, or silence of
                the service for ``stall_s`` of audio and of time.

        Cancelled: the connection is closed.
        """
        dialect = self.dialect(context)
        headers = {}
        if self._secret is not None:
            headers["authorization"] = f"{self._scheme} {self._secret.reveal()}".lstrip()
        socket = await connect(
            self.name,
            dialect.url,
            headers=headers,
            deadlines=self._deadlines,
            secret=self._secret,
        )
        session = _Session(self.name, dialect, socket, self._deadlines)
        try:
            await session.open()
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
        self._patience = trio.CancelScope()  # its deadline is that of words asked for

    async def open(self) -> None:
        """Set the session up, so that no audio is misunderstood."""
        for message in self._dialect.opening():
            await self._socket.send(message)
        with trio.move_on_after(self._deadlines.first_byte_s):
            while not self._dialect.is_ready:
                answer = await self._socket.receive()
                if answer is None:
                    raise self._closed_early()
                for _ in self._dialect.take(answer, self._clock):
                    pass  # nothing was said yet
            return
        raise timed_out(self._provider, "setting the session up", self._deadlines.first_byte_s)

    async def listen(self, emit: Callable[[Transcript], None]) -> None:
        """Pass transcripts on until the service has said its last."""
        with self._patience:
            while (message := await self._socket.receive()) is not None:
                self._unanswered_samples = 0
                for transcript in self._dialect.take(message, self._clock):
                    emit(transcript)
                if self._said_goodbye and self._dialect.is_done:
                    return
                self._await_words()
            if not self._said_goodbye:
                raise self._closed_early()
        if self._patience.cancelled_caught and not (self._said_goodbye and self._dialect.is_done):
            raise timed_out(self._provider, "the last words", self._deadlines.first_byte_s)

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
                for message in self._dialect.utterance_end():
                    await self._socket.send(message)
                self._await_words()
            else:
                await self._socket.send(self._dialect.keep_alive)
        await self._flush()
        for message in self._dialect.goodbye():
            await self._socket.send(message)
        self._said_goodbye = True
        self._patience.deadline = trio.current_time() + self._deadlines.first_byte_s
        if self._dialect.is_done:
            self._patience.cancel(reason="nothing is owed")

    def _await_words(self) -> None:
        """Words that were asked for must come: each message may be followed by one as late."""
        if not self._said_goodbye:
            owed = self._dialect.owes_words
            limit_s = self._deadlines.first_byte_s if owed else math.inf
            self._patience.deadline = trio.current_time() + limit_s

    def _closed_early(self) -> ProviderError:
        return ProviderError(self._provider, "closed the session early", retryable=True)

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
        await self._socket.send(self._dialect.audio(octets))

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
