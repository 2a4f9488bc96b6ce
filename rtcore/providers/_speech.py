"""A voice over a WebSocket: what is the same for all of them.

Each service adds a dialect: its messages, without I/O.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, Segment, SpeechAudio
from rtcore.providers._faults import timed_out
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._tasks import run_beside
from rtcore.providers._ws import SocketPool, WebSocket

__all__ = ["VoiceDialect", "VoiceService", "VoiceSettings"]

AHEAD_MAX = 2  # segments asked for at once: the next is ready when one ends, little is wasted


class VoiceDialect(Protocol):
    """The protocol of one reply. Audio of a segment ends with a piece that ``is_last``."""

    stale_clears: int  # cancelled replies whose late audio may still come on the connection

    def segment(self, segment: Segment) -> Sequence[str]:
        """The messages that have ``segment`` spoken."""
        ...

    def cancel(self) -> Sequence[str]:
        """The messages that stop what is being spoken."""
        ...

    def take(self, message: str | bytes) -> Iterable[SpeechAudio]:
        """What one message of the service brings. Raises ProviderError."""
        ...


class VoiceSettings(Settings, frozen=True, kw_only=True):
    """What all of them are told."""

    idle_max: int = 8  # connections kept for the next reply
    idle_limit_s: float = 60.0  # less than the limit of the service
    deadlines: Deadlines = Deadlines(first_byte_s=1.5)


class VoiceService(Service):
    """Base of each voice over a WebSocket; fills :class:`rtcore.ports.Synthesizer`."""

    def __init__(self, name: str, settings: VoiceSettings) -> None:
        super().__init__(name)
        self._deadlines = settings.deadlines
        self._pool = SocketPool(
            self._open, idle_max=settings.idle_max, idle_limit_s=settings.idle_limit_s
        )

    @abstractmethod
    async def _open(self) -> WebSocket:
        """Connect to the service. Raises ProviderError."""

    @abstractmethod
    def _dialect(self, context: CallContext) -> VoiceDialect:
        """The protocol of the next reply."""

    async def warm(self) -> None:
        await self._pool.warm()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak one reply on a connection of the pool, which gets it back fit for the next one.

        Raises:
            ProviderError: no connection, a lost one, a fault told by the service, or no audio
                in time.

        Cancelled: the service is told to stop; late audio meets the next reply, which drops it.
        """
        dialect = self._dialect(context)
        socket = await self._pool.take()
        dialect.stale_clears = socket.stale_clears
        reply = _Reply(self.name, dialect, socket, out, self._deadlines)
        try:
            await run_beside(reply.pass_on, lambda: reply.ask_for(segments))
        except ProviderError:
            await socket.aclose()
            raise
        finally:
            with trio.move_on_after(self._deadlines.close_s, shield=True):
                if not reply.has_ended and socket.is_open:
                    with contextlib.suppress(ProviderError):
                        for message in dialect.cancel():
                            await socket.send(message)
                socket.stale_clears = dialect.stale_clears
                await self._pool.give(socket)


class _Reply:
    def __init__(
        self,
        provider: str,
        dialect: VoiceDialect,
        socket: WebSocket,
        out: trio.MemorySendChannel[SpeechAudio],
        deadlines: Deadlines,
    ) -> None:
        self._provider = provider
        self._dialect = dialect
        self._socket = socket
        self._out = out
        self._deadlines = deadlines
        self._order: deque[int] = deque()  # segments asked for and not wholly spoken
        self._early: list[SpeechAudio] = []  # of segments whose turn has not come; AHEAD_MAX - 1
        self._room = trio.Semaphore(AHEAD_MAX)
        self._asked = trio.Event()  # set when there is something new to wait for
        self._all_asked = False
        self._due_at = 0.0  # when the next audio must be here
        self._limit_s = 0.0
        self.has_ended = False

    async def ask_for(self, segments: trio.MemoryReceiveChannel[Segment]) -> None:
        """Have each segment spoken, the next one before the last has ended."""
        while True:
            await self._room.acquire()  # first: what is taken is asked for at once
            try:
                segment = await segments.receive()
            except trio.EndOfChannel:
                break
            if not self._order:
                self._expect_audio(self._deadlines.first_byte_s)
            self._order.append(segment.index)
            for message in self._dialect.segment(segment):
                await self._socket.send(message)
            self._asked.set()
        self._all_asked = True
        self._asked.set()

    async def pass_on(self) -> None:
        """Pass audio on until all segments are spoken."""
        while await self._is_more_due():
            left_s = max(0.0, self._due_at - trio.current_time())
            try:
                message = await self._socket.receive(left_s)
            except ProviderError as exc:
                if trio.current_time() < self._due_at:
                    raise
                raise timed_out(self._provider, "the next audio", self._limit_s) from exc
            if message is None:
                raise ProviderError(self._provider, "closed while speaking", retryable=True)
            for audio in self._dialect.take(message):
                await self._in_order(audio)
        self.has_ended = True

    async def _is_more_due(self) -> bool:
        while not self._order and not self._all_asked:
            self._asked = trio.Event()
            await self._asked.wait()
        return bool(self._order)

    async def _in_order(self, audio: SpeechAudio) -> None:
        if not self._order or audio.segment != self._order[0]:
            self._early.append(audio)
            return
        await self._deliver(audio)
        while self._order and (now_due := self._take_early(self._order[0])):
            for each in now_due:
                await self._deliver(each)

    def _take_early(self, segment: int) -> list[SpeechAudio]:
        due = [each for each in self._early if each.segment == segment]
        self._early = [each for each in self._early if each.segment != segment]
        return due

    async def _deliver(self, audio: SpeechAudio) -> None:
        await put(self._out, audio)
        self._expect_audio(self._deadlines.stall_s)
        if audio.is_last:
            self._order.popleft()
            self._room.release()

    def _expect_audio(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._due_at = trio.current_time() + limit_s
