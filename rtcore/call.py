"""One call: its nursery, its scopes, its channels.

The way of a frame in, top to bottom of :class:`Call`: ``_listen`` → ``_hear`` → the turn
machine → ``_on_turn``. Everything that decides runs in the tick of the frame that decides it:
an interruption is a cancelled scope and one ``clearAudio``, written before the next frame is
looked at.

The way of an answer out: ``_think`` opens a reply (at the eager end of turn already) →
``_speak`` thinks, says it and waits until it is heard → ``_settle`` writes what was heard into
the conversation. At most one reply exists at a time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.caller_words import CallerWords
from rtcore.agent.context import Summariser
from rtcore.agent.conversation import Conversation
from rtcore.agent.knowledge import Lookup
from rtcore.agent.performing import Outcome, Performer
from rtcore.agent.steering import Steering
from rtcore.agent.thinking import Step, Thought
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolUse
from rtcore.audio import RATE_HZ
from rtcore.config import CallConfig
from rtcore.ears import Ears
from rtcore.errors import ProviderError, RemoteProtocolError, SocketClosed
from rtcore.journal import Journal, Noted
from rtcore.ledger import Ledger
from rtcore.media.line import Line
from rtcore.media.pacer import Pacer
from rtcore.metrics import BargeIn, CallStats, TurnClock, TurnTiming
from rtcore.ports import CallContext, MediaSocket, Message, Warmable
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
from rtcore.reply import Mouth, Reply, speak
from rtcore.turn import TurnDetector, events
from rtcore.turn.media_clock import MediaClock

__all__ = ["Call", "CallRecord", "run_call"]

LINES_MAX = 8  # lines waiting to be said (API, reminders); past it the newest is refused
FAILURES_MAX = 3  # replies in a row that a provider failed: the agent says farewell


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


async def run_call(
    socket: MediaSocket,
    agent: Agent,
    config: CallConfig | None = None,
    *,
    pacer: Pacer | None = None,
    journal: Journal | None = None,
    on_start: Callable[[Call], None] | None = None,
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
            call = Call(socket, agent, config, pacer, journal or Journal())
            await call.run(on_start)
            nursery.cancel_scope.cancel(reason="call over")
    except* RemoteProtocolError as group:
        exc = group.exceptions[0]
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        assert isinstance(exc, RemoteProtocolError)
        with trio.move_on_after(config.teardown_limit_s, shield=True):
            await socket.aclose(exc.close_code, str(exc))
        raise exc from None
    finally:
        with trio.move_on_after(config.teardown_limit_s, shield=True):
            await socket.aclose()
    return call.record()


class Call:
    """The state of one call, and all that happens in it."""

    def __init__(
        self, socket: MediaSocket, agent: Agent, config: CallConfig, pacer: Pacer, journal: Journal
    ) -> None:
        self.agent = agent
        self.config = config
        self.journal = journal
        self.stats = CallStats()
        self.conversation = Conversation(agent.definition.prompt)
        self.context = CallContext(call_id="")
        self.stream_id = ""
        self.ended_by = ""
        self._pacer = pacer
        self._socket = socket
        self._line = Line(
            socket,
            PlivoStream(),
            pacer,
            lead_ms=config.lead_ms,
            chunk_ms=config.chunk_ms,
            unsent_max_ms=config.unsent_max_ms,
        )
        self._ledger = Ledger()
        self._mouth = Mouth(self._line, self._ledger, config, self._on_audible)
        self._clock = MediaClock()
        self._detector = TurnDetector(config.turn)
        self._ears = Ears(agent.transcriber, config, self.stats)
        self._performer = Performer(self.conversation, config.tool_limit_s, self._start)
        self.steering = Steering(self._detector, config.turn, self._on_turn, self._line.send_dtmf)
        self._lookup = Lookup(agent.knowledge) if agent.knowledge is not None else None
        self._summariser: Summariser | None = None
        providers = (agent.transcriber, agent.responder, agent.synthesizer)
        self._warmable = [each for each in providers if isinstance(each, Warmable)]
        self._early: list[Event] = []
        self._overdue = trio.Event()  # set by the pacer: audio failed to arrive
        self._nursery: trio.Nursery | None = None
        self._started_s = self._ended_s = 0.0

        # the caller's open turn
        self._words = CallerWords()
        self._speech_end_s: float | None = None
        self._decided_s: float | None = None  # eager end of turn, if it stands
        self._wants_words = False  # the turn is over, its words have not come
        self._words_came = trio.Event()

        # the agent's side
        self._reply: Reply | None = None
        self._replies = 0
        self._lines: deque[tuple[str, bool, bool]] = deque()  # (text, interruptible, ends call)
        self._failures = 0
        self._suspected: tuple[float, float] | None = None  # (voice began, playout held), s
        self.timings: list[TurnTiming] = []
        self.barge_ins: list[BargeIn] = []

    # --- life ---------------------------------------------------------------------------

    async def run(self, on_start: Callable[[Call], None] | None = None) -> None:
        """Serve the call; returns when it is over. See :func:`run_call`."""
        self._started_s = trio.current_time()
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
            if self._reply is not None and self._reply.committed.is_set():
                self._write_down(self._reply)
            self._note("call_ended", ended_by=self.ended_by or "cancelled")

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
                if self._lookup is not None:
                    nursery.start_soon(self._lookup.run)
                nursery.start_soon(self._mend)
                if self.agent.definition.welcome_message:
                    interruptible = self.agent.definition.is_welcome_interruptible
                    self.say(self.agent.definition.welcome_message, is_interruptible=interruptible)
                await self._listen()
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
            self._note("warming_failed")  # the use itself will tell

    def end(self, ended_by: str) -> None:
        """End the call from inside; the first reason stands."""
        self.ended_by = self.ended_by or ended_by
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=ended_by)

    def record(self) -> CallRecord:
        """What is left of the call, once :meth:`run` has returned."""
        stats, clock, playout = self.stats, self._clock, self._line.playout
        stats.lost_frames, stats.late_frames = clock.lost_frames, clock.late_frames
        stats.inserted_frames, stats.heard_frames = clock.inserted_frames, clock.frames
        stats.underruns = playout.underruns
        stats.dropped_messages = self._socket.dropped_messages
        stats.tool_calls = self._performer.calls
        if self._lookup is not None:
            stats.lookups, stats.skipped_lookups = self._lookup.searches, self._lookup.skipped
        return CallRecord(
            call_id=self.context.call_id,
            stream_id=self.stream_id,
            ended_by=self.ended_by or "cancelled",
            duration_s=self._ended_s - self._started_s,
            turns=tuple(self.timings),
            barge_ins=tuple(self.barge_ins),
            stats=stats,
            transcript=self.conversation.log,
            notes=tuple(self.journal.notes),
        )

    # --- the way in ---------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear the carrier until it hangs up."""
        try:
            self._on_events(self._early)
            await self._line.deliver(self._on_events)
        except SocketClosed:
            self.ended_by = self.ended_by or "hung_up"

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

    def _hear(self, frame: bytes) -> None:
        """One 20 ms frame of the caller, in order: the only clock the conversation knows."""
        far = self._mouth.listen()
        decided = self._detector.push(frame, far)
        self._ears.push(frame)
        if decided:
            self._on_turn(decided)

    def tick(self, now_s: float) -> None:
        """Called by the pacer every 20 ms: wake :meth:`_mend` when audio is overdue."""
        if self._clock.is_due(now_s):
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
            self._mouth.acknowledge(event.name)
        elif isinstance(event, Dtmf):
            self._note("dtmf", keys=len(event.digits))
            self._words.keys(event.digits)
            self._on_turn(self._detector.dtmf(event.digits))
        elif isinstance(event, Cleared):
            if self._line.answer_clear():
                return
            self._note("cleared_unasked")  # the carrier cut us off: what it held is lost
            self._interrupt()
        elif isinstance(event, Start):
            self.context = CallContext(
                call_id=event.call_id,
                language=self.agent.definition.language,
                phrases=self.agent.definition.phrases,
            )
            self.stream_id = event.stream_id
            self._note("call_started", encoding=event.encoding, rate_hz=event.rate_hz)
        elif isinstance(event, Stop):
            raise SocketClosed(1000, "stream stopped")
        elif isinstance(event, Ignored):
            self.stats.ignored_messages += 1
            self._note("line_message_ignored", about=event.kind[:32])
        elif isinstance(event, LineFault):
            self._note("line_fault", about=event.reason[:64])

    # --- the caller's words -------------------------------------------------------------

    async def _recognise(self) -> None:
        await self._ears.recognise(self.context, self._on_words)
        self._note("recogniser_lost")
        self.say(self.agent.definition.farewell_line, ends_call=True)

    def _on_words(self, transcript: events.Transcript) -> None:
        """New words; called by the recogniser in the tick they came."""
        self.stats.transcripts += 1
        fresh = self._words.add(transcript)
        if fresh is None:
            self._note("late_words")  # their turn is over and answered
            return
        self._note("words", chars=len(fresh.text), is_final=fresh.is_final)
        if self._lookup is not None:
            self._lookup.hear(self._words.text)
        self._on_turn(self._detector.transcript(fresh))
        if self._wants_words:
            if self._words.text:
                self._words_came.set()
        elif self._decided_s is not None:
            self._think()

    # --- who has the floor --------------------------------------------------------------

    def _on_turn(self, decided: list[events.Event]) -> None:
        """Act on what the turn machine decided, in this very tick."""
        for event in decided:
            kind = type(event)
            self._note(_snake(kind.__name__), at_sample=event.at_sample)
            if kind is events.SpeechStarted:
                self._words.voice()
                self._ears.open()
                if self._warmable:
                    self._start(self._warm)  # what idled since the last turn
            elif kind is events.SpeechStopped:
                self._speech_end_s = self._time_of(event.at_sample)
                self._ears.close(event.at_sample)
            elif kind is events.TurnEager:
                self._decided_s = trio.current_time()
                self._think()
            elif kind is events.TurnResumed:
                self._decided_s = None
                self._discard()
            elif kind is events.TurnEnded:
                self._commit()
            elif kind is events.BargeInSuspected:
                self._suspected = (self._time_of(event.at_sample), trio.current_time())
                self._mouth.hold()
            elif kind is events.BargeInConfirmed:
                self._on_barge_in(event.at_sample)
            elif isinstance(event, events.BargeInDismissed):
                self.stats.dismissed += 1
                self._suspected = None
                if event.reason == "backchannel":
                    self._words.close()
                self._mouth.resume()
            elif isinstance(event, events.CallerIdle):
                self._on_idle(event)
            elif isinstance(event, events.FloorLost):
                self._on_floor_lost(event)

    def _time_of(self, sample: int) -> float:
        """When the caller's ``sample`` reached us, on Trio's clock."""
        return trio.current_time() - (self._detector.now_samples - sample) / RATE_HZ

    def _on_barge_in(self, at_sample: int) -> None:
        now_s, voice_s = trio.current_time(), self._time_of(at_sample)
        held_s = now_s
        if self._suspected is not None:
            voice_s, held_s = self._suspected
            self._suspected = None
        heard_ms = self._ledger.heard_of_spans * 1000 / RATE_HZ
        if self._interrupt():
            self.stats.barge_ins += 1
            self.barge_ins.append(
                BargeIn(
                    pause_ms=(held_s - voice_s) * 1000,
                    clear_ms=(now_s - voice_s) * 1000,
                    heard_ms=heard_ms,
                )
            )

    def _on_idle(self, event: events.CallerIdle) -> None:
        idle = self.agent.definition.idle
        if event.is_last or event.count > len(idle.reminders):
            self.say(idle.goodbye, ends_call=True)
        else:
            self.say(idle.reminders[event.count - 1])

    def _on_floor_lost(self, event: events.FloorLost) -> None:
        """Silence where somebody should speak, for longer than anyone waits: break it."""
        self.stats.floor_lost += 1
        lines = self.agent.definition
        if event.reason == "abandoned":
            self.end("abandoned")
        elif self._reply is None:
            self.say(lines.repeat_line)
        elif event.reason == "mute":
            self._interrupt()
            self.say(lines.apology_line)
        elif self._reply.thought is not None:
            self._start(self._reply.thought.fill)

    # --- the agent's turn ---------------------------------------------------------------

    def _think(self) -> None:
        """Begin the answer to the words so far, silently; one that already fits stays."""
        text = self._words.text
        if not text or not self.config.speculate:
            return
        reply = self._reply
        if reply is not None:
            if reply.committed.is_set() or _same_words(reply.answers, text):
                return
            self._discard()
        self.stats.speculations += 1
        self._begin_turn_reply(text)

    def _commit(self) -> None:
        """The turn is over: the answer may be heard, or is begun now."""
        if self._decided_s is None:
            self._decided_s = trio.current_time()
        text = self._words.text
        if not text:
            self._wants_words = True
            self._words_came = trio.Event()
            self._start(self._commit_when_words_come)
            return
        self.stats.turns += 1
        self.steering.caller_spoke()
        self._words.close()
        self._wants_words = False
        reply = self._reply
        if reply is not None and reply.committed.is_set():
            self._interrupt()  # the caller took a whole turn over it
            reply = None
        if reply is None or not _same_words(reply.answers, text):
            self._discard()
            reply = self._begin_turn_reply(text)
        self.conversation.user(text)
        self._note("turn_committed", chars=len(text))
        if reply.clock is not None:
            reply.clock.committed_s = trio.current_time()
        self._decided_s = None
        reply.committed.set()
        self._on_turn(self._detector.agent(events.AgentState.THINKING))

    async def _commit_when_words_come(self) -> None:
        with trio.move_on_after(self.config.stt_final_limit_s):
            await self._words_came.wait()
        if not self._wants_words:
            return
        self._wants_words = False
        if self._words.text:
            self._commit()
        else:  # a voice, and not one word of it understood
            self._decided_s = None
            self.stats.wordless_turns += 1
            self._note("turn_without_words")
            if self._reply is None:
                self.say(self.agent.definition.repeat_line)

    def _begin_turn_reply(self, text: str) -> Reply:
        now_s = trio.current_time()
        self._replies += 1
        clock = TurnClock(
            speech_end_s=self._speech_end_s if self._speech_end_s is not None else now_s,
            decided_s=self._decided_s,
            asked_s=now_s,
        )
        reply = Reply(number=self._replies, answers=text, clock=clock)

        def reached(milestone: str) -> None:
            if milestone == "first_token" and clock.first_token_s is None:
                clock.first_token_s = trio.current_time()
            elif milestone == "first_sentence" and clock.first_sentence_s is None:
                clock.first_sentence_s = trio.current_time()

        async def perform(tool: Tool, use: ToolUse, outcome: Outcome) -> None:
            async def heard() -> None:
                await self._mouth.heard_for_sure(reply)

            self._note("function_wanted", name=tool.name, effect=tool.effect)
            await self._performer.perform(tool, use, outcome, reply.committed, heard)
            if tool.name == HANG_UP.name:
                self._settle(reply, is_whole=True)
                self.end("agent_hung_up")
            elif tool.name == HAND_OVER:
                self._settle(reply, is_whole=True)
                reply.scope.cancel(reason="handed over")
                self.become(self.agent.colleagues[use.arguments["to"]].agent)
                self.say(self.agent.definition.welcome_message)

        reply.thought = Thought(
            self.agent,
            self.context,
            self.config,
            self.conversation.messages(Message(role="user", text=text)),
            perform,
            reached,
            key=f"{self.context.call_id}-{self._replies}",
            control=self.steering,
            lookup=self._lookup.find if self._lookup is not None else None,
        )
        self._reply = reply
        self._note("reply_begun", reply=reply.number)
        self._start(self._speak, reply)
        return reply

    def become(self, agent: Agent) -> None:
        """``agent`` goes on with the call from its next reply on; who listens stays."""
        self.agent = agent
        self.conversation.system = agent.definition.prompt
        self._summariser = None
        self._note("agent_changed", agent=agent.definition.name)

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        if len(self._lines) >= LINES_MAX:
            return False
        self._lines.append((text, is_interruptible, ends_call))
        self._next_line()
        return True

    def _next_line(self) -> None:
        if self._reply is not None or not self._lines:
            return
        text, is_interruptible, ends_call = self._lines.popleft()
        self._replies += 1
        reply = Reply(
            number=self._replies, text=text, is_interruptible=is_interruptible, ends_call=ends_call
        )
        reply.committed.set()
        self._reply = reply
        self._note("line_begun", reply=reply.number)
        self._start(self._speak, reply)

    async def _speak(self, reply: Reply) -> None:
        """Say ``reply`` to its end; then it is history. Interrupted: it already is."""
        self.stats.replies += 1
        failed = False
        try:
            await speak(reply, self._mouth, self.agent, self.context, self.config)
            if reply.ends_call:
                await self._mouth.heard_for_sure(reply)
        except* ProviderError as group:
            failed = True
            self.stats.provider_errors += 1
            self._note("provider_failed", providers=sorted(_providers(group)))
        if self._reply is not reply:
            return
        self._settle(reply, is_whole=not failed)
        if failed:
            self._failures += 1
            farewell = self._failures >= FAILURES_MAX
            lines = self.agent.definition
            if reply.ends_call or (farewell and not reply.answers):
                self.end("providers_failed")
                return
            self.say(lines.farewell_line if farewell else lines.apology_line, ends_call=farewell)
        elif reply.ends_call:
            self.end("agent_hung_up")
        else:
            self._failures = 0

    def _start(self, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the call; it ends with the call at the latest."""
        assert self._nursery is not None, "the call has not begun"
        self._nursery.start_soon(fn, *args)

    def _note(self, kind: str, /, **fields: object) -> None:
        self.journal.note(trio.current_time(), kind, **fields)

    def _on_audible(self, reply: Reply) -> None:
        """The first frame of ``reply`` was written."""
        if reply.clock is not None and (timing := reply.clock.timing()) is not None:
            self.timings.append(timing)
            self._note("response", response_ms=round(timing.response_ms, 1))
        state = events.AgentState.SPEAKING
        self._on_turn(self._detector.agent(state, interruptible=reply.is_interruptible))

    def _interrupt(self) -> bool:
        """Stop what is being thought or said; False if there was nothing."""
        reply, self._reply = self._reply, None
        if reply is None:
            return self._mouth.cut()
        reply.scope.cancel(reason="interrupted")
        self._lines.clear()
        if self._mouth.cut():
            self._note("cleared", reply=reply.number)
        if reply.committed.is_set():
            self._settle(reply, is_whole=False)
        else:
            self.stats.discarded += 1
            self._ledger.forget(reply.number)
        return True

    def _discard(self) -> None:
        """Drop a reply that was only speculated: nothing of it remains."""
        reply = self._reply
        if reply is None or reply.committed.is_set():
            return
        self._reply = None
        reply.scope.cancel(reason="caller went on")
        self.stats.discarded += 1
        self._note("reply_discarded", reply=reply.number)

    def _settle(self, reply: Reply, *, is_whole: bool) -> None:
        """``reply`` is over: it becomes history, and the floor is free."""
        self._reply = None
        self._write_down(reply)
        self._note("reply_settled", reply=reply.number, is_whole=is_whole)
        self._on_turn(self._detector.agent(events.AgentState.LISTENING))
        if self._summariser is None:
            limit = self.agent.definition.context_max_tokens
            self._summariser = Summariser(
                self.conversation, self.agent.responder, self.context, limit
            )
        if self._summariser.is_due:
            self._start(self._summariser.run)
        self._next_line()

    def _write_down(self, reply: Reply) -> None:
        """Write what was heard of ``reply``, and what it called, into the conversation."""
        steps = reply.thought.steps if reply.thought is not None else [Step()]
        if reply.thought is not None and reply.thought.sources:
            self._note("answered_from", sources=list(reply.thought.sources))
        for index, step in enumerate(steps):
            begun = {n: o for n, o in step.outcomes.items() if o.is_begun or o.result}
            self.conversation.assistant(
                self._ledger.heard_text((reply.number, index)),
                tool_calls=tuple(call for call in step.calls if call.id in begun),
            )
            for call_id, outcome in begun.items():
                entry = self.conversation.tool(call_id, outcome.result)
                if outcome.result is None:
                    outcome.entry = entry
        self._ledger.forget(reply.number)


def _same_words(one: str, other: str) -> bool:
    """Whether two transcripts say the same, whatever their marks and capitals."""
    return one == other or _bare(one) == _bare(other)


def _bare(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _providers(group: BaseExceptionGroup[ProviderError]) -> set[str]:
    """The names of the providers in a tree of errors."""
    names: set[str] = set()
    for exc in group.exceptions:
        names |= _providers(exc) if isinstance(exc, BaseExceptionGroup) else {exc.provider}
    return names
