"""One call: its nursery, its scopes, its channels.

The way of a frame in is :mod:`rtcore._way_in`, from the carrier's message to the turn machine;
what that decides comes to :meth:`Call._on_turn`, in the tick of the frame that decides it: an
interruption is a cancelled scope and one ``clearAudio``, written before the next frame is looked
at.

The way of an answer out is :mod:`rtcore.answering`: thought at the eager end of turn already,
spoken by :mod:`rtcore.reply`, and written into the conversation as far as it was heard. Where
one model hears, thinks and speaks, :mod:`rtcore.conversing` takes its place, and the ears'.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from functools import cache

import msgspec
import trio

from rtcore._way_in import WayIn
from rtcore.agent.agent import Agent
from rtcore.agent.conversation import Conversation
from rtcore.agent.steering import Steering
from rtcore.answering import Answering
from rtcore.audio import RATE_HZ
from rtcore.config import CallConfig
from rtcore.conversing import Conversing
from rtcore.ears import Ears
from rtcore.errors import ProviderError, RemoteProtocolError, SocketClosed, first_error
from rtcore.journal import Journal, Noted
from rtcore.media.line import Line
from rtcore.media.pacer import Pacer
from rtcore.metrics import BargeIn, CallStats, TurnTiming
from rtcore.ports import CallContext, MediaSocket, Message, Recorder, Warmable
from rtcore.protocol.events import (
    Cleared,
    Dtmf,
    Event,
    Ignored,
    LineFault,
    Media,
    Played,
    Start,
    Stop,
)
from rtcore.protocol.plivo import PlivoStream
from rtcore.speech_link import SpeechLink
from rtcore.turn import TurnDetector, events
from rtcore.turn.media_clock import MediaClock
from rtcore.turn.vad import VoiceDetector
from rtcore.usage import ProviderUsage
from rtcore.weakly import weakly

__all__ = ["Call", "CallRecord", "TrackSpan", "run_call"]


class TrackSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Where one line of a call that was listened to lies: ms since its track began."""

    track: str
    at_ms: float
    until_ms: float


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a call. ``transcript`` holds what was said and heard: never log it."""

    call_id: str
    stream_id: str
    ended_by: str
    duration_s: float
    turns: tuple[TurnTiming, ...]
    barge_ins: tuple[BargeIn, ...]
    stats: CallStats
    transcript: tuple[Message, ...]
    notes: tuple[Noted, ...]
    usage: tuple[ProviderUsage, ...] = ()  # of each provider, backups apart
    started_s: float = 0.0  # Unix time
    tracks: tuple[TrackSpan, ...] = ()  # of each line, where the agent only listened


async def run_call(
    socket: MediaSocket,
    agent: Agent,
    config: CallConfig | None = None,
    *,
    pacer: Pacer | None = None,
    journal: Journal | None = None,
    on_start: Callable[[Call], None] | None = None,
    voice: VoiceDetector | None = None,
    recorder: Recorder | None = None,
    kind: type[Call] | None = None,
) -> CallRecord:
    """Serve one call on ``socket`` until either side ends it; close the socket.

    Args:
        socket: accepted, nothing read from it yet.
        agent: shared between calls; see :class:`rtcore.Agent`.
        config: how the call is served; the defaults if None.
        pacer: shared by the calls of a process and run by its owner; None: one of its own.
        journal: where events are noted; None: a new one.
        on_start: given the call once the carrier has said which it is; may refuse it by
            raising ``RemoteProtocolError``.
        voice: what tells voice from noise; webrtcvad if None. The caller's to close.
        recorder: given every frame of both sides, and closed with the call; ``on_start`` may
            set ``call.recorder`` instead.
        kind: :class:`rtcore.listening.ListeningCall` for a one-way stream.

    Raises:
        RemoteProtocolError: the carrier broke the protocol; the socket was closed saying so.

    Cancelled: the call ends at once; when the cancellation passes through, no task, provider
    session or socket of it is left.
    """
    config = config or CallConfig()
    try:
        async with trio.open_nursery() as nursery:
            if pacer is None:
                pacer = Pacer()
                nursery.start_soon(pacer.run)
            call = (kind or Call)(
                socket, agent, config, pacer, Journal() if journal is None else journal, voice
            )
            call.recorder = recorder
            await call.run(on_start)
            nursery.cancel_scope.cancel(reason="call over")
    except* RemoteProtocolError as group:
        with trio.move_on_after(config.teardown_limit_s, shield=True):
            await socket.aclose(first_error(group).close_code, str(first_error(group)))
        raise first_error(group) from None
    finally:
        with trio.move_on_after(config.teardown_limit_s, shield=True):
            await socket.aclose()
    return call.record()


class Call(WayIn):
    """The state of one call, and all that happens in it."""

    def __init__(
        self,
        socket: MediaSocket,
        agent: Agent,
        config: CallConfig,
        pacer: Pacer,
        journal: Journal,
        voice: VoiceDetector | None = None,
    ) -> None:
        super().__init__(trio.lowlevel.current_clock().current_time)
        self.agent = agent
        self.config = config
        self.journal = journal
        self.stats = CallStats()
        self.conversation = Conversation(agent.definition.prompt)
        self.context = CallContext(call_id="")
        self.stream_id = ""
        self.ended_by = ""
        self.is_muted = False
        self.waiting_line = ""  # said to a caller who is silent, while a human is being fetched
        self.recorder: Recorder | None = None
        self.spans: list[TrackSpan] = []  # of the lines, in a call that is listened to
        self._pacer = pacer
        self._socket = socket
        self._wire = getattr(socket, "wire", None)
        self._codec = PlivoStream()
        self._line = Line(
            socket,
            self._codec,
            pacer,
            lead_ms=config.lead_ms,
            chunk_ms=config.chunk_ms,
            unsent_max_ms=config.unsent_max_ms,
        )
        self._clock = MediaClock()
        turn = agent.definition.turn_config(config.turn)
        self._detector = TurnDetector(turn, voice=voice)
        self.steering = Steering(self._detector, turn, weakly(self._on_turn), self._line.send_dtmf)
        self._answering: Answering | Conversing
        self._ears: Ears | SpeechLink
        if agent.speech_model is None:
            self._ears = Ears(agent.transcriber, config, self.stats)
            self._answering = Answering(self, self._line)
        else:
            ears = Ears(agent.transcriber, config, self.stats) if agent.has_ears else None
            self._answering = Conversing(self, self._line, agent.speech_model, ears)
            self._ears = self._answering.link
        self._gate = self._ears.gate
        self._far_end = self._answering.mouth
        providers: tuple[object, ...] = (
            agent.transcriber,
            agent.responder,
            agent.synthesizer,
            agent.speech_model,
        )
        self._warmable = [each for each in providers if isinstance(each, Warmable)]
        self._early: list[Event] = []
        self._overdue = trio.Event()  # set by the pacer: audio failed to arrive
        self._nursery: trio.Nursery | None = None
        self.is_over = False  # nothing can be begun in it any more
        self._started_s = self._ended_s = self._started_unix_s = 0.0

        self._suspected: tuple[float, float] | None = None  # (voice began, playout held), s
        self.barge_ins: list[BargeIn] = []

    # --- life ---------------------------------------------------------------------------

    async def run(self, on_start: Callable[[Call], None] | None = None) -> None:
        """Serve the call; returns when it is over. See :func:`run_call`."""
        self._started_s = trio.current_time()
        self._started_unix_s = round(time.time(), 3)
        self.journal.start(self._started_s)
        try:
            with trio.move_on_after(self.config.start_limit_s) as waiting:
                await self._await_start()
            if waiting.cancelled_caught:
                self.ended_by = self.ended_by or "no_start"
            if not self.ended_by:
                if on_start is not None:
                    on_start(self)
                await self._converse()
        finally:
            self._ended_s = trio.current_time()
            self._pacer.unwatch(self)
            self._pacer.rest(self._line)
            self._answering.leave()
            if self.recorder is not None:
                self.recorder.close()
            self.note("call_ended", ended_by=self.ended_by or "cancelled")

    async def _await_start(self) -> None:
        while not self.stream_id:
            try:
                said = await self._line.receive()
            except SocketClosed:
                self.ended_by = "hung_up"
                return
            while said and not self.stream_id:
                self._on_line(said.pop(0))
            self._early = said  # what came in the same breath

    async def _converse(self) -> None:
        """The call's nursery: when it closes, nothing of the call is running."""
        with trio.move_on_after(self.config.call_limit_s) as limit:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._pacer.watch(self)
                nursery.start_soon(self._warm)
                nursery.start_soon(self._recognise)
                if self._answering.lookup is not None:
                    nursery.start_soon(self._answering.lookup.run)
                nursery.start_soon(self._mend)
                if self.agent.definition.welcome_message:
                    interruptible = self.agent.definition.is_welcome_interruptible
                    self.say(self.agent.definition.welcome_message, is_interruptible=interruptible)
                try:
                    await self._listen()
                finally:
                    self.is_over = True
                nursery.cancel_scope.cancel(reason="hang-up")
        if limit.cancelled_caught:
            self.ended_by = "call_limit"

    async def _warm(self) -> None:
        """Have the providers' connections open before a turn has to wait for them."""
        try:
            async with trio.open_nursery() as nursery:
                for provider in self._warmable:
                    nursery.start_soon(provider.warm)
        except* ProviderError:
            self.note("warming_failed")  # the use itself will tell

    def end(self, ended_by: str) -> None:
        """End the call from inside; the first reason stands."""
        self.ended_by = self.ended_by or ended_by
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=ended_by)

    def record(self, *, with_notes: bool = True) -> CallRecord:
        """What is left of the call, once :meth:`run` has returned."""
        stats, clock, playout = self.stats, self._clock, self._line.playout
        stats.lost_frames, stats.late_frames = clock.lost_frames, clock.late_frames
        stats.inserted_frames, stats.heard_frames = clock.inserted_frames, clock.frames
        stats.underruns = playout.underruns
        stats.dropped_messages = self._socket.dropped_messages
        stats.tool_calls = self._answering.tool_calls
        if (lookup := self._answering.lookup) is not None:
            stats.lookups, stats.skipped_lookups = lookup.searches, lookup.skipped
        return CallRecord(
            call_id=self.context.call_id,
            stream_id=self.stream_id,
            ended_by=self.ended_by or "cancelled",
            duration_s=self._ended_s - self._started_s,
            turns=tuple(self._answering.timings),
            barge_ins=tuple(self.barge_ins),
            stats=stats,
            transcript=self.conversation.log,
            notes=tuple(self.journal.notes) if with_notes else (),
            usage=self.context.usage.report(),
            started_s=self._started_unix_s,
            tracks=tuple(self.spans),
        )

    # --- the way in ---------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear the carrier until it hangs up."""
        try:
            self._on_events(self._early)
            await self._line.deliver(self._on_messages)
        except SocketClosed:
            self.ended_by = self.ended_by or "hung_up"

    def _on_unusual(self, message: bytes) -> None:
        self._on_events(self._line.events([message]))

    def _on_events(self, said: list[Event]) -> None:
        """All that came in one go, in order."""
        now_s = trio.current_time()
        for event in said:
            if type(event) is Media:
                if event.track == "inbound":
                    for frame in self._clock.push(event.pcm, event.chunk, now_s):
                        self._hear(frame)
            else:
                self._on_line(event)

    def _is_overdue(self) -> None:
        self._overdue.set()

    async def _mend(self) -> None:
        """Keep time going while the line stalls; give up when it stays silent."""
        silent_frames = 0
        while True:
            await self._overdue.wait()
            self._overdue = trio.Event()
            before = self._clock.inserted_frames
            for frame in self._clock.tick(trio.current_time()):
                self._hear(frame)
            inserted = self._clock.inserted_frames - before
            silent_frames = silent_frames + inserted if inserted else 0
            if silent_frames * 0.02 >= self.config.silence_limit_s:
                self.end("no_media")

    def _on_line(self, event: Event) -> None:
        """All that the carrier says beside audio."""
        if isinstance(event, Played):
            self._answering.mouth.acknowledge(event.name)
        elif isinstance(event, Dtmf):
            self.note("dtmf", keys=len(event.digits))
            self._answering.words.keys(event.digits)
            self._on_turn(self._detector.dtmf(event.digits))
        elif isinstance(event, Cleared):
            if self._line.answer_clear():
                return
            self.note("cleared_unasked")  # the carrier cut us off: what it held is lost
            self._answering.interrupt()
        elif isinstance(event, Start):
            self.context = CallContext(
                call_id=event.call_id,
                language=self.agent.definition.language,
                phrases=self.agent.definition.phrases,
            )
            self.stream_id = event.stream_id
            self.note("call_started", encoding=event.encoding, rate_hz=event.rate_hz)
        elif isinstance(event, Stop):
            raise SocketClosed(1000, "stream stopped")
        elif isinstance(event, Ignored):
            self.stats.ignored_messages += 1
            self.note("line_message_ignored", about=event.kind[:32])
        elif isinstance(event, LineFault):
            self.note("line_fault", about=event.reason[:64])

    # --- the caller's words -------------------------------------------------------------

    async def _recognise(self) -> None:
        if isinstance(self._answering, Conversing):
            await self._answering.run(self._on_words)
            return
        assert isinstance(self._ears, Ears)
        await self._ears.recognise(self.context, self._on_words)
        self.note("recogniser_lost")
        self.say(self.agent.definition.farewell_line, ends_call=True)

    def _on_words(self, transcript: events.Transcript) -> None:
        """New words; called by the recogniser in the tick they came."""
        self.stats.transcripts += 1
        fresh = self._answering.hear(transcript)
        if fresh is None:
            self.note("late_words")  # their turn is over and answered
            return
        self.note("words", chars=len(fresh.text), is_final=fresh.is_final)
        self._on_turn(self._detector.transcript(fresh))
        self._answering.heard()

    # --- who has the floor --------------------------------------------------------------

    def _on_turn(self, decided: list[events.Event]) -> None:
        """Act on what the turn machine decided, in this very tick."""
        for event in decided:
            kind = type(event)
            if kind in self._answering.left_to_model:
                continue
            self.note(_snake(kind.__name__), at_sample=event.at_sample)
            if kind is events.SpeechStarted:
                self._answering.words.voice()
                self._ears.open()
                if self._warmable:
                    self.start(self._warm)  # what idled since the last turn
            elif kind is events.SpeechStopped:
                self._answering.speech_ended(self._time_of(event.at_sample))
                self._ears.close(event.at_sample)
            elif kind is events.TurnEager:
                self._answering.turn_may_be_over()
            elif kind is events.TurnResumed:
                self._answering.turn_goes_on()
            elif kind is events.TurnEnded:
                self._answering.commit()
            elif kind is events.BargeInSuspected:
                self._suspected = (self._time_of(event.at_sample), trio.current_time())
                self._answering.mouth.hold()
            elif kind is events.BargeInConfirmed:
                self._on_barge_in(event.at_sample)
            elif isinstance(event, events.BargeInDismissed):
                self.stats.dismissed += 1
                self._suspected = None
                self._answering.dismissed(event.reason)
            elif isinstance(event, events.CallerIdle):
                self._on_idle(event)
            elif isinstance(event, events.FloorLost):
                self._on_floor_lost(event)
        self._hurry()

    def _time_of(self, sample: int) -> float:
        """When the caller's ``sample`` reached us, on Trio's clock."""
        return trio.current_time() - (self._detector.now_samples - sample) / RATE_HZ

    def _on_barge_in(self, at_sample: int) -> None:
        now_s, voice_s = trio.current_time(), self._time_of(at_sample)
        held_s = now_s
        if self._suspected is not None:
            voice_s, held_s = self._suspected
            self._suspected = None
        heard_ms = self._answering.heard_samples * 1000 / RATE_HZ
        if self._answering.interrupt():
            self.stats.barge_ins += 1
            self.barge_ins.append(
                BargeIn(
                    pause_ms=(held_s - voice_s) * 1000,
                    clear_ms=(now_s - voice_s) * 1000,
                    heard_ms=heard_ms,
                )
            )

    def _on_idle(self, event: events.CallerIdle) -> None:
        if self.is_muted:
            return
        idle = self.agent.definition.idle
        if self.waiting_line:
            self.say(self.waiting_line)
        elif event.is_last or event.count > len(idle.reminders):
            self.say(idle.goodbye, ends_call=True)
        else:
            self.say(idle.reminders[event.count - 1])

    def _on_floor_lost(self, event: events.FloorLost) -> None:
        """Silence where somebody should speak, for longer than anyone waits: break it."""
        if self.is_muted:
            return
        self.stats.floor_lost += 1
        lines = self.agent.definition
        if event.reason == "abandoned" and self.waiting_line:
            self.say(self.waiting_line)
        elif event.reason == "abandoned":
            self.end("abandoned")
        elif self._answering.reply is None:
            self.say(lines.repeat_line)
        elif event.reason == "mute" and not self._answering.awaits_function:
            self._answering.interrupt()
            self.say(lines.apology_line)
        else:
            self._answering.fill()

    # --- what the agent's side asks of the call --------------------------------------------

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        return self._answering.say(text, is_interruptible=is_interruptible, ends_call=ends_call)

    def mute(self) -> None:
        """The agent stops at once and listens: what the caller says is written down unanswered.

        Lines are still said (:meth:`say`); what makes up for silence is not.
        """
        if not self.is_muted:
            self.is_muted = True
            self.note("muted")
            self._answering.discard()
            self._answering.interrupt()

    def unmute(self) -> None:
        """The agent answers again, from the caller's next turn on."""
        if self.is_muted:
            self.is_muted = False
            self.note("unmuted")

    def whisper(self, text: str) -> None:
        """Tell the model what the caller does not hear, from its next reply on."""
        self.conversation.hint(text)
        self._answering.hinted(text)
        self.note("whispered", chars=len(text))

    @property
    def hearing(self) -> str:
        """The caller's open turn, as far as it is recognised."""
        return self._answering.words.text

    @property
    def saying(self) -> str:
        """What the caller has heard of what the agent is saying."""
        return self._answering.saying

    def become(self, agent: Agent) -> None:
        """``agent`` goes on with the call from its next reply on; who listens stays."""
        self._answering.become(agent)

    def floor(self, state: events.AgentState, *, interruptible: bool = True) -> None:
        """Tell the turn machine what the agent does, and act on what follows from it."""
        self._on_turn(self._detector.agent(state, interruptible=interruptible))

    def start(self, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the call; it ends with the call at the latest."""
        assert self._nursery is not None, "the call has not begun"
        self._nursery.start_soon(fn, *args)

    def note(self, kind: str, /, **fields: object) -> None:
        self.journal.note(trio.current_time(), kind, **fields)


@cache  # of a dozen names of events, told many times a call
def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
