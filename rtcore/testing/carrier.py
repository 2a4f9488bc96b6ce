"""A carrier that is not there: it does what Plivo does over a media socket, and keeps count.

The carrier's sample clock is the only time: a frame is sent when its 20 ms have been spoken,
and what arrives is heard from the sample at which it arrives.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from rtcore.audio import FRAME_MS, RATE_HZ
from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.ports import MediaSocket
from rtcore.testing import wire
from rtcore.testing.caller import Action, Caller
from rtcore.testing.clock import LineClock
from rtcore.testing.ear import Ear
from rtcore.testing.faults import FaultyLine, LineFaults
from rtcore.testing.line import MULAW_8K, LineFormat
from rtcore.testing.report import CarrierEvent, CarrierReport, Counts, EndedBy, report_on
from rtcore.testing.tape import Tape

__all__ = ["CALL_LIMIT_S", "Dial", "FakeCarrier"]

CALL_LIMIT_S = 3600.0  # no fake call outlives its test by more than that
CLOSE_LIMIT_S = 2.0
REDIAL_LIMIT_S = 5.0
EVENTS_MAX = 10_000  # kept
VIOLATIONS_MAX = 100  # kept
TAPE_FRAMES = 50  # a second: a tape that writes to a file writes so much at a time
STALE_MS = 100  # no new reply begins so soon after a clear: its endpointing alone takes longer

Dial = Callable[[], Awaitable[MediaSocket]]


class FakeCarrier:
    """One call as the carrier sees it: :meth:`call` makes it and says what happened.

    Args:
        script: what the caller does; at its end they hang up.
        line: the stream's format.
        faults: what goes wrong on the way.
        clock: shared by many carriers and run by their owner; None: the call runs its own.
        tape: where both directions are recorded; None: only facts are kept.
        redial: opens another socket to the same node, for ``faults.second_socket_at_ms``.
        extra_headers: repeated in the messages, as Plivo does.
        tracks: what the stream carries: ``inbound``, ``outbound``, or both.
        outbound: what the caller hears, where that is carried; silence after it.
        is_one_way: whatever the node says into the stream breaks the protocol.
        says_stop: whether a hang-up is announced by ``stop`` before the close.
        on_event: called as each event happens.
        limit_s: the call is ended after so long, whatever the script says.
    """

    def __init__(
        self,
        script: Sequence[Action],
        *,
        call_id: str = "call-1",
        stream_id: str = "stream-1",
        line: LineFormat = MULAW_8K,
        faults: LineFaults | None = None,
        clock: LineClock | None = None,
        tape: Tape | None = None,
        redial: Dial | None = None,
        extra_headers: str = "",
        tracks: Sequence[str] = ("inbound",),
        outbound: Sequence[Action] = (),
        is_one_way: bool = False,
        says_stop: bool = False,
        on_event: Callable[[CarrierEvent], None] | None = None,
        limit_s: float = CALL_LIMIT_S,
    ) -> None:
        self.ear = Ear(line, None if tape is None else tape.hear_agent)
        self.caller = Caller(script, line, self.ear, self._press)
        self.events: list[CarrierEvent] = []
        self.counts = Counts()
        self._line = line
        self._call_id = call_id
        self._extra_headers = extra_headers
        self._tracks = tuple(tracks)
        self._is_one_way = is_one_way
        self._other = Caller(outbound, line, self.ear, lambda digits: None)
        self._silence = b64encode(line.silence(line.frame_samples))
        self._writer = self._new_writer(stream_id)
        self._faults = faults or LineFaults()
        self._clock = clock
        self._tape = tape
        self._redial = redial
        self._says_stop = says_stop
        self._on_event = on_event
        self._limit_s = limit_s

        self._sockets: list[FaultyLine] = []  # the last one is spoken to; at most two
        self._began_s: float | None = None  # sample 0, known at the first tick
        self._tick_count = 0
        self._spoken: bytes | None = None  # the frame being spoken now, sent at the next tick
        self._over = trio.Event()
        self._redial_now = trio.Event()
        self._ended_by: EndedBy = "limit"
        self._close_code = 1000
        self._clears: list[int] = []
        self._violations: list[str] = []
        self._dtmf = ""

    async def call(self, socket: MediaSocket) -> CarrierReport:
        """Make the call over ``socket``, which is closed at the end whatever happens.

        Cancelled: the line is closed as by a caller who hangs up.
        """
        clock = self._clock or LineClock()
        self._sockets.append(FaultyLine(socket, self._faults))
        try:
            with trio.move_on_after(self._limit_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._sockets[0].run)
                    nursery.start_soon(self._listen, self._sockets[0], self._writer.stream_id)
                    nursery.start_soon(self._dial_again, nursery)
                    if self._clock is None:
                        nursery.start_soon(clock.run)
                    clock.join(self._tick)
                    await self._over.wait()
                    nursery.cancel_scope.cancel(reason="call over")
        finally:
            clock.leave(self._tick)
            with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
                for line in self._sockets:
                    await line.aclose()
            if self._tape is not None:
                self._tape.flush(self._line)
        return self.report()

    def report(self) -> CarrierReport:
        """What is known by now."""
        self.counts.lost_messages = sum(line.lost_messages for line in self._sockets)
        return report_on(
            call_id=self._call_id,
            ended_by=self._ended_by,
            close_code=self._close_code,
            line=self._line,
            duration_samples=self._tick_count * self._line.frame_samples,
            ear=self.ear,
            caller=self.caller,
            clears=self._clears,
            counts=self.counts,
            dtmf=self._dtmf,
            violations=self._violations,
            events=self.events,
        )

    # --- the beat of the line

    def _now(self) -> int:
        """The sample at which the clock stands."""
        if self._began_s is None:
            return 0
        return round((trio.current_time() - self._began_s) * self._line.rate_hz)

    def _tick(self, due_s: float) -> None:
        """One frame: hear it, send what was spoken in it, begin to speak the next."""
        if self._over.is_set():
            return
        if self._began_s is None:
            self._began_s = due_s
            self._note("start", self._writer.stream_id)
            self._send(self._writer.start())
        position = self._tick_count * self._line.frame_samples
        self._tick_count += 1
        self.ear.advance(position)
        for name in self.ear.played():
            self.counts.played_checkpoints += 1
            self._note("playedStream", name)
            self._send(self._writer.played_stream(name))
        if self._spoken is not None:
            if "inbound" in self._tracks:
                self._send_media(self._spoken)
            if "outbound" in self._tracks:
                self._send(
                    self._writer.media(self._other.next_frame() or self._silence, "outbound")
                )
        self._spoken = self.caller.next_frame()
        if self._tape is not None and self._tick_count % TAPE_FRAMES == 0:
            self._tape.flush(self._line)
        self._misbehave(position * 1000 / self._line.rate_hz)
        if self._spoken is None:
            self._note("hang_up")
            if self._says_stop:
                self._send(self._writer.stop())
            self._end("caller", 1000)

    def _send_media(self, payload: bytes) -> None:
        self.counts.sent_frames += 1
        if self._tape is not None:
            self._tape.hear_caller(b64decode(payload))
        self._send(self._writer.media(payload))

    def _press(self, digits: str) -> None:
        for digit in digits:
            self._note("dtmf", digit)
            self._send(self._writer.dtmf(digit))

    def _send(self, message: bytes) -> None:
        if not self._sockets[-1].send(message):
            self.counts.refused_messages += 1

    def _misbehave(self, now_ms: float) -> None:
        faults = self._faults
        if faults.second_socket_at_ms is not None and now_ms >= faults.second_socket_at_ms:
            self._redial_now.set()
        cut_ms = faults.spurious_clear_at_ms
        if cut_ms is not None and cut_ms <= now_ms < cut_ms + FRAME_MS:
            self.ear.clear(self._now())
            self._note("clearedAudio", "unasked")
            self._send(self._writer.cleared_audio())

    # --- what the node says

    async def _listen(self, socket: MediaSocket, stream_id: str) -> None:
        """Do what the node asks until it closes, or breaks the WebSocket protocol."""
        while True:
            try:
                messages = await socket.receive()
            except SocketClosed as closed:
                break_off = closed.code
                break
            except RemoteProtocolError as error:
                self._violate(str(error))
                break_off = error.close_code
                break
            now = self._now()
            for message in messages:
                self._obey(message, now, stream_id)
        if stream_id == self._writer.stream_id:  # a socket given up for another may close
            self._note("closed", str(break_off))
            self._end("node", break_off)

    def _obey(self, message: bytes, now: int, stream_id: str) -> None:
        try:
            command = wire.read(message)
        except msgspec.DecodeError as error:
            self._violate(f"{error}: {message[:60]!r}")
            return
        if self._is_one_way:
            self._violate(f"{type(command).__name__} into a one-way stream")
        elif isinstance(command, wire.PlayAudio):
            self._play(command.media, now)
        elif isinstance(command, wire.SendDtmf):
            self._dtmf += command.dtmf
            self._note("sendDTMF", command.dtmf)
        elif command.streamId != stream_id:
            self._violate(f"{type(command).__name__} for stream {command.streamId!r}")
        elif isinstance(command, wire.Checkpoint):
            self.counts.checkpoints += 1
            self._note("checkpoint", command.name)
            self.ear.checkpoint(command.name, now)
        else:
            self.counts.clears += 1
            self._clears.append(now)
            self._note("clearAudio")
            self.ear.clear(now)
            self._send(self._writer.cleared_audio())

    def _play(self, media: wire.PlayedMedia, now: int) -> None:
        line = self._line
        samples, rest = divmod(len(media.payload), line.sample_bytes)
        if media.contentType != line.content_type or media.sampleRate != line.rate_hz or rest:
            self._violate(f"playAudio of {media.contentType} at {media.sampleRate} Hz")
            return
        self.counts.audio_messages += 1
        self.counts.audio_samples += samples
        if self._is_stale(now):
            self.counts.stale_messages += 1
        if not self.ear.push(media.payload, now):
            self.counts.overflow_messages += 1
            self._note("overflow")
            self._send(self._writer.error("buffer_overflow"))

    def _is_stale(self, now: int) -> bool:
        """Whether audio that comes now can only be of the reply that was cleared."""
        if not self._clears:
            return False
        cleared, rate_hz = self._clears[-1], self._line.rate_hz
        if now - cleared < STALE_MS * rate_hz // 1000:
            return True
        phrase = self.caller.phrase_at(cleared * RATE_HZ // rate_hz)
        return phrase is not None and now * RATE_HZ // rate_hz < phrase.end  # not yet finished

    # --- how it ends, and what is remembered

    async def _dial_again(self, nursery: trio.Nursery) -> None:
        """Open a second socket for the same call and go on there; the first is left open."""
        await self._redial_now.wait()
        if self._redial is None:
            return
        with trio.fail_after(REDIAL_LIMIT_S):
            second = FaultyLine(await self._redial(), LineFaults())
        self._writer = self._new_writer(f"{self._writer.stream_id}-again")
        self._sockets.append(second)
        self._note("start", self._writer.stream_id)
        self._send(self._writer.start())
        nursery.start_soon(self._listen, second, self._writer.stream_id)

    def _new_writer(self, stream_id: str) -> wire.Writer:
        return wire.Writer(
            call_id=self._call_id,
            stream_id=stream_id,
            line=self._line,
            extra_headers=self._extra_headers,
            tracks=self._tracks,
        )

    def _end(self, ended_by: EndedBy, close_code: int) -> None:
        if not self._over.is_set():
            self._ended_by, self._close_code = ended_by, close_code
            self._over.set()

    def _violate(self, what: str) -> None:
        if len(self._violations) < VIOLATIONS_MAX:
            self._violations.append(what)

    def _note(self, kind: str, detail: str = "") -> None:
        at_sample = self._now() * RATE_HZ // self._line.rate_hz
        event = CarrierEvent(at_sample=at_sample, kind=kind, detail=detail)
        if len(self.events) < EVENTS_MAX:
            self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)
