"""One call's line: its socket, its carrier's codec and its playout, joined.

The way of a frame out: :meth:`Line.append` takes it, :meth:`Line.pump` writes it when it is
due; what is usual of it is :mod:`rtcore.media._way_out`, on which this is built. The way in:
:meth:`Line.receive` returns the carrier's events, audio as 20 ms frames of int16 at 8000 Hz
whatever the stream carries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import trio

from rtcore.audio import FRAME_BYTES, RATE_HZ, Reframer, Resampler
from rtcore.media._way_out import WayOut
from rtcore.media.pacer import Pacer
from rtcore.media.playout import Playout
from rtcore.ports import MediaSocket
from rtcore.protocol.events import (
    Checkpoint,
    ClearAudio,
    Event,
    Media,
    PlayAudio,
    SendDtmf,
    Start,
)
from rtcore.protocol.plivo import PlivoStream

__all__ = ["Line"]


class Line(WayOut):
    """What a call hears and says. Not shared: one call, one task that receives."""

    _codec: PlivoStream

    def __init__(
        self,
        socket: MediaSocket,
        codec: PlivoStream,
        pacer: Pacer,
        *,
        lead_ms: int,
        chunk_ms: int,
        unsent_max_ms: int,
    ) -> None:
        self._socket = socket
        self._wire = getattr(socket, "wire", None)
        self._codec = codec
        self._pacer = pacer
        self._unsent_max = unsent_max_ms * RATE_HZ // 1000
        self._rate_hz = RATE_HZ
        self._up: Resampler | None = None
        self._cuts: dict[bool, tuple[Reframer, Resampler]] = {}  # of the outbound track, of others
        self.playout = Playout(lead_ms=lead_ms, chunk_ms=chunk_ms)
        self._clears_unanswered = 0

    async def receive(self) -> list[Event]:
        """Wait for the carrier; return all it has said since (at least one message's worth).

        Raises:
            SocketClosed: the stream is over.
            RemoteProtocolError: the carrier broke the protocol.

        Cancelled: nothing is lost.
        """
        return self.events(await self._socket.receive())

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """Give ``handle`` what the carrier sends, as it comes, until the stream is over.

        It reads them by :meth:`events`. Raises as :meth:`receive`, and what ``handle`` raises.
        """
        await self._socket.deliver(handle)

    def events(self, messages: list[bytes]) -> list[Event]:
        """What ``messages`` say, in order; audio in whole frames."""
        events: list[Event] = []
        for message in messages:
            event = self._codec.receive(message)
            if type(event) is Media:
                if len(event.pcm) == FRAME_BYTES and self._rate_hz == RATE_HZ:
                    events.append(event)
                else:
                    self._reframe(event, events)
                continue
            if type(event) is Start and event.rate_hz != RATE_HZ:
                self._rate_hz = event.rate_hz
                self._up = Resampler(RATE_HZ, event.rate_hz)
            events.append(event)
        return events

    def _reframe(self, event: Media, events: list[Event]) -> None:
        """Any other size or rate: 20 ms frames; the number goes with a piece of exactly one."""
        cut = self._cuts.get(event.track == "outbound")
        if cut is None:
            cut = Reframer(), Resampler(self._rate_hz, RATE_HZ)
            self._cuts[event.track == "outbound"] = cut
        reframer, down = cut
        pcm = event.pcm if self._rate_hz == RATE_HZ else down.push(event.pcm)
        frames = reframer.push(pcm)
        chunk = event.chunk if len(frames) == 1 and len(pcm) == FRAME_BYTES else None
        events.extend(Media(pcm=frame, track=event.track, chunk=chunk) for frame in frames)

    def catch_up(self) -> None:
        """Have what has come by now delivered, before something is done without it."""
        if self._wire is not None:
            self._wire.read()

    # --- speaking -----------------------------------------------------------------------

    def append(self, pcm: bytes) -> None:
        """Append audio to what is being said; :meth:`write_due` has it written."""
        self.playout.append(pcm)

    def checkpoint(self, name: str) -> int:
        """Mark the end of what was appended; return the samples of silence that filled it up."""
        added = self.playout.align()
        self.playout.mark(name)
        return added

    def write_due(self, now_s: float) -> None:
        """Write what is due by now of what was appended, and the rest as it becomes due."""
        self._pacer.wake(self)
        self.pump(now_s)

    async def room(self) -> None:
        """Wait while the limit is unsent, then until half of it has gone: back-pressure.

        Half, so that a voice that is ahead wakes us once a second, not for each piece.
        """
        while self.playout.unsent_samples >= self._unsent_max:
            self._room = trio.Event()
            await self._room.wait()

    def pause(self) -> None:
        """Stop writing. With the bounded lead, the caller hears silence within its length."""
        self.playout.pause()
        self._pacer.rest(self)

    def resume(self, now_s: float, rewind_limit: int) -> int:
        """Go on where it was paused; return the samples that are repeated."""
        repeated = self.playout.resume(now_s, rewind_limit)
        self._pacer.wake(self)
        self.pump(now_s)
        return repeated

    def clear(self, heard: int) -> None:
        """Drop all that was not heard, here and at the carrier. Written in this very call."""
        self.playout.clear(heard)
        self._pacer.rest(self)
        if self._room is not None:
            self._room.set()
        self._clears_unanswered += 1
        self._socket.send(self._codec.send(ClearAudio()), flush=True)

    def answer_clear(self) -> bool:
        """The carrier says it cleared; False if we had not asked it to."""
        if self._clears_unanswered == 0:
            return False
        self._clears_unanswered -= 1
        return True

    def send_dtmf(self, digits: str) -> bool:
        """Send keys as tones; False if the line would not take them."""
        return self._socket.send(self._codec.send(SendDtmf(digits=digits)))

    def _write(self, piece: bytes | Checkpoint) -> None:
        """What the way out leaves: a checkpoint, a stream or a socket that is not as usual."""
        if isinstance(piece, bytes):
            command = PlayAudio(pcm=piece if self._up is None else self._up.push(piece))
            self._socket.send(self._codec.send(command))
        else:
            self._socket.send(self._codec.send(piece))
