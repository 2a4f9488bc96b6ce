"""A call that is listened to: the words of each track, when they were said, and what they mean.

The stream is one-way: nothing can be said into it, nobody takes turns with anybody. Each track
has its own clock, its own voice detector (so that silence is not transcribed) and its own
session with the recogniser; all of them lie in the call's one nursery, as everything else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.listening import Listening, Track, heard_keywords, mood_of
from rtcore.audio import FRAME_BYTES, RATE_HZ
from rtcore.call import Call, CallRecord, TrackSpan
from rtcore.config import CallConfig
from rtcore.ears import Ears
from rtcore.errors import ProviderError, first_error
from rtcore.journal import Journal
from rtcore.media.pacer import Pacer
from rtcore.metrics import CallStats
from rtcore.ports import Delta, MediaSocket, Message, ResponderRequest, TextDelta
from rtcore.protocol.events import Dtmf, Event, Media
from rtcore.turn import TurnDetector, events
from rtcore.turn.media_clock import MediaClock
from rtcore.turn.vad import VoiceDetector

__all__ = ["ListeningCall"]

FRAME_S = 0.02
PAIRED_MAX_FRAMES = 10  # a track may be so far ahead of the other in a recording
MOOD_LIMIT_S = 10.0
MOOD_LINES_MAX = 50  # of what was said since it was last asked
DELTAS_MAX = 8
ASKED = (
    "You judge the mood of the caller in a telephone call. Answer with one word: positive,"
    " neutral or negative."
)
SPEAKERS = {"user": "Caller", "assistant": "Other"}


class ListeningCall(Call):
    """A call whose agent only listens; see :class:`rtcore.agent.listening.Listening`.

    ``on_words`` is told of each line as it is final, in the tick in which it is, and may not
    wait: for a program that judges by itself.
    """

    def __init__(
        self,
        socket: MediaSocket,
        agent: Agent,
        config: CallConfig,
        pacer: Pacer,
        journal: Journal,
        voice: VoiceDetector | None = None,
    ) -> None:
        super().__init__(socket, agent, config, pacer, journal, voice)
        self._listening = agent.definition.listening or Listening()
        self.on_words: Callable[[TrackSpan, str], None] | None = None
        turn = agent.definition.turn_config(config.turn)
        self._tracks = {
            name: _Track(
                name,
                MediaClock(),
                TurnDetector(turn, voice=None if number else voice),
                partial(Ears, agent.transcriber, config),
            )
            for number, name in enumerate(self._listening.tracks)
        }
        self._mood_errors = 0
        self._first = next(iter(self._tracks.values()))
        self._clock = self._first.clock  # which the record's counts are of
        self._wire = None  # nobody waits for an answer: no frame of it is urgent

    # --- life ---------------------------------------------------------------------------

    async def _converse(self) -> None:
        """The call's nursery: when it closes, nothing of the call is running."""
        with trio.move_on_after(self.config.call_limit_s) as limit:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._pacer.watch(self)
                nursery.start_soon(self._warm)
                nursery.start_soon(self._mend)
                nursery.start_soon(self._transcribe)
                if self._listening.sentiment_every_s is not None:
                    nursery.start_soon(self._feel, self._listening.sentiment_every_s)
                try:
                    await self._listen()
                finally:
                    self.is_over = True
                nursery.cancel_scope.cancel(reason="hang-up")
        if limit.cancelled_caught:
            self.ended_by = "call_limit"

    def record(self, *, with_notes: bool = True) -> CallRecord:
        """What is left of the call; what the line lost is counted on the first track."""
        stats = self.stats
        each = [track.stats for track in self._tracks.values()]
        stats.transcripts = sum(one.transcripts for one in each)
        stats.dropped_heard_chunks = sum(one.dropped_heard_chunks for one in each)
        stats.provider_errors = self._mood_errors + sum(one.provider_errors for one in each)
        return super().record(with_notes=with_notes)

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Nothing can be said in a call that is listened to; only ended."""
        if ends_call:
            self.end("listened")
        return False

    # --- sound --------------------------------------------------------------------------

    def _on_messages(self, messages: list[bytes]) -> None:
        self._on_events(self._line.events(messages))

    def _on_events(self, said: list[Event]) -> None:
        now_s = trio.current_time()
        for event in said:
            if type(event) is not Media:
                self._on_line(event)
            elif (track := self._tracks.get(event.track)) is not None:  # type: ignore[call-overload]
                self._take(track, track.clock.push(event.pcm, event.chunk, now_s))

    def _on_line(self, event: Event) -> None:
        """All that the carrier says beside audio; keys are nobody's answer here."""
        if isinstance(event, Dtmf):
            self.note("dtmf", keys=len(event.digits))
        else:
            super()._on_line(event)

    def _take(self, track: _Track, frames: Sequence[bytes]) -> None:
        for frame in frames:
            for event in track.detector.push(frame, None):
                self._on_voice(track, event)
            track.ears.push(frame)
            if self.recorder is not None:
                self._record(track, frame)

    def _record(self, track: _Track, frame: bytes) -> None:
        """Both tracks side by side, at the pace of the first; the other may have begun late."""
        assert self.recorder is not None
        if track is not self._first:
            track.unrecorded.append(frame)
            return
        other = self._tracks.get("outbound") if track.name == "inbound" else None
        heard = other.unrecorded.popleft() if other is not None and other.unrecorded else None
        if track.name == "inbound":
            self.recorder.push(frame, heard)
        else:
            self.recorder.push(bytes(FRAME_BYTES), frame)

    def _on_voice(self, track: _Track, event: events.Event) -> None:
        """Somebody began or ceased to speak on ``track``; whose turn it is does not matter."""
        if type(event) is events.SpeechStarted:
            track.voice_at = event.at_sample if track.voice_at is None else track.voice_at
            track.ears.open()
            self.note("speech_started", track=track.name, at_sample=event.at_sample)
        elif type(event) is events.SpeechStopped:
            track.voice_end = event.at_sample
            track.ears.close(event.at_sample)
            self.note("speech_stopped", track=track.name, at_sample=event.at_sample)

    def tick(self, now_s: float) -> None:
        """Called by the pacer in each beat: wake :meth:`_mend` when audio is overdue."""
        for track in self._tracks.values():
            if track.clock.is_due(now_s):
                self._overdue.set()

    async def _mend(self) -> None:
        """Keep time going while a track stalls; give up when all of them stay silent."""
        while True:
            await self._overdue.wait()
            self._overdue = trio.Event()
            now_s = trio.current_time()
            for track in self._tracks.values():
                before = track.clock.inserted_frames
                self._take(track, track.clock.tick(now_s))
                inserted = track.clock.inserted_frames - before
                track.silent_frames = track.silent_frames + inserted if inserted else 0
            begun = [track for track in self._tracks.values() if track.clock.frames]
            limit_s = self.config.silence_limit_s
            if begun and all(track.silent_frames * FRAME_S >= limit_s for track in begun):
                self.end("no_media")

    # --- words --------------------------------------------------------------------------

    async def _transcribe(self) -> None:
        """Keep a session for each track; with the last of them lost there is nothing to do."""
        async with trio.open_nursery() as nursery:
            for track in self._tracks.values():
                nursery.start_soon(self._transcribe_track, track)
        self.end("recogniser_lost")

    async def _transcribe_track(self, track: _Track) -> None:
        await track.ears.recognise(self.context, partial(self._on_track_words, track))
        self.note("recogniser_lost", track=track.name)

    def _on_track_words(self, track: _Track, transcript: events.Transcript) -> None:
        track.stats.transcripts += 1
        text = transcript.text.strip()
        self.note("words", track=track.name, chars=len(text), is_final=transcript.is_final)
        if not transcript.is_final:
            track.saying = text
            return
        track.saying = ""
        if not text or transcript.segment in track.finals:
            return
        track.finals.append(transcript.segment)
        now = track.detector.now_samples
        start = now if track.voice_at is None else track.voice_at
        end = max(start, min(now, track.voice_end or now))
        track.voice_at = None
        span = TrackSpan(track=track.name, at_ms=_ms(start), until_ms=_ms(end))
        self.spans.append(span)
        if track.name == "inbound":
            self.conversation.user(text)
        else:
            self.conversation.assistant(text)
        self.note("line_heard", track=track.name, chars=len(text), from_ms=span.at_ms)
        for name in heard_keywords(self._listening.keywords, track.name, text):
            self.note("keyword", name=name, track=track.name, from_ms=span.at_ms)
        if self.on_words is not None:
            self.on_words(span, text)

    @property
    def hearing(self) -> str:
        """What the caller is saying, as far as it is recognised."""
        return self._tracks["inbound"].saying if "inbound" in self._tracks else ""

    @property
    def saying(self) -> str:
        """What the caller is hearing, as far as it is recognised."""
        return self._tracks["outbound"].saying if "outbound" in self._tracks else ""

    # --- mood ---------------------------------------------------------------------------

    async def _feel(self, every_s: float) -> None:
        """Ask the agent's mind now and then how the caller feels, if anything new was said."""
        asked = 0
        while True:
            await trio.sleep(every_s)
            said = self.conversation.log
            if len(said) == asked:
                continue
            fresh, asked = said[asked:][-MOOD_LINES_MAX:], len(said)
            mood = ""
            with trio.move_on_after(MOOD_LIMIT_S):
                try:
                    mood = mood_of(await self._ask_mood(fresh))
                except* ProviderError as group:
                    self._mood_errors += 1
                    self.note("sentiment_failed", provider=_provider(group))
            if mood:
                self.note("sentiment", mood=mood, lines=len(fresh))

    async def _ask_mood(self, said: Sequence[Message]) -> str:
        """The answer of the agent's responder to what was said.

        Raises:
            ProviderError: it failed (in an exception group).
        """
        lines = "\n".join(f"{SPEAKERS[each.role]}: {each.text}" for each in said)
        request = ResponderRequest(
            context=self.context,
            messages=(Message(role="system", text=ASKED), Message(role="user", text=lines)),
        )
        parts: list[str] = []
        tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)

        async def answer() -> None:
            with tx:
                await self.agent.responder.respond(request, tx)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            with rx:
                async for delta in rx:
                    if isinstance(delta, TextDelta):
                        parts.append(delta.text)
        return "".join(parts)


class _Track:
    """One side of the call."""

    def __init__(
        self,
        name: Track,
        clock: MediaClock,
        detector: TurnDetector,
        ears: Callable[[CallStats], Ears],
    ) -> None:
        self.name: Track = name
        self.clock, self.detector = clock, detector
        self.stats = CallStats()  # of its recogniser alone: it tells by them whether it got on
        self.ears = ears(self.stats)
        self.voice_at: int | None = None  # where what is not transcribed yet began
        self.voice_end: int | None = None
        self.saying = ""
        self.finals: deque[int] = deque(maxlen=8)  # segments: a final one may be told twice
        self.silent_frames = 0
        self.unrecorded: deque[bytes] = deque(maxlen=PAIRED_MAX_FRAMES)


def _ms(samples: int) -> float:
    return round(samples * 1000 / RATE_HZ, 1)


def _provider(group: BaseExceptionGroup[ProviderError]) -> str:
    error = first_error(group)
    assert isinstance(error, ProviderError)
    return error.provider
