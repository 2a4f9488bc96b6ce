"""The agent's turn where one model hears, thinks and speaks: :mod:`rtcore.answering` for it.

The call says the same things at the same moments. Under our turn-taking the model is asked at
the eager end of a turn (its sound is held), may be heard at the turn's end, and is cancelled,
and told what was heard, when the caller talks over it. Under its own it begins by itself and
says when the caller interrupts; the line, the ledger and the guard over silence stay ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import trio

from rtcore.agent.absent import Absent
from rtcore.agent.agent import Agent
from rtcore.agent.caller_words import CallerWords
from rtcore.agent.context import fit
from rtcore.agent.conversation import HINT, UNKNOWN_OUTCOME
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolUse
from rtcore.answering import FAILURES_MAX, LINES_MAX, Answers
from rtcore.audio import RATE_HZ
from rtcore.ears import Ears
from rtcore.errors import ProviderError
from rtcore.ledger import Ledger
from rtcore.media.line import Line
from rtcore.metrics import BargeIn, TurnClock, TurnTiming
from rtcore.model_ears import ModelEars
from rtcore.model_hands import ModelHands
from rtcore.model_mouth import FellSilent, ModelMouth
from rtcore.model_reply import ModelReply, RecalledLine
from rtcore.ports import Message
from rtcore.reply import Mouth, Reply, speak
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    CancelReply,
    Forget,
    Instruct,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Respond,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechModel,
    SpeechSession,
    Tell,
    ToolCallDropped,
)
from rtcore.turn import events
from rtcore.turn.events import AgentState, Transcript
from rtcore.usage import Tally

__all__ = ["Conversing"]

GONE_MAX = 64  # a service is never that far behind
WAITING_MAX = 4  # replies a model may begin while one is still being heard
# what the turn machine decides, and the model in its stead where turns are its own
THEIRS: frozenset[type[events.Event]] = frozenset(
    {
        events.TurnEager,
        events.TurnResumed,
        events.BargeInSuspected,
        events.BargeInConfirmed,
        events.BargeInDismissed,
    }
)


class Conversing:
    """What the model hears, thinks and says in one call."""

    lookup = None  # the caller's words come too late for one: the model has a function instead

    def __init__(self, call: Answers, line: Line, model: SpeechModel, ears: Ears | None) -> None:
        """``ears``: a recogniser beside the model, whose words tell a turn's end sooner."""
        self._call = call
        self._model = model
        self._recogniser = ears
        self._ledger = Ledger()
        self.mouth = Mouth(line, self._ledger, call.config, self._on_audible)
        self.link = SpeechLink(model, call.config, call.stats, ears)
        self._voice = ModelMouth(self.mouth, self._ledger, call.config)
        self._ears = ModelEars(call, self.link)
        self._hands = ModelHands(call, self.mouth, self.link, self._is_over, self._on_told)
        self.reply: Reply | None = None  # being thought or said
        self._made: dict[str, ModelReply] = {}  # those of which something may come, by their ids
        self._gone: deque[str] = deque(maxlen=GONE_MAX)  # of which something may still be told
        self._waiting: deque[ModelReply] = deque()  # begun by the model before its turn to speak
        self._replies = 0
        self._lines: deque[tuple[str, bool, bool]] = deque()  # (text, interruptible, ends call)
        self._failures = 0
        self._thinks_on = False  # in the midst of a reply, after a function
        self._is_leaving = False  # the last line of the call has been begun
        self.timings: list[TurnTiming] = []
        self._discarded: set[str] = set()  # replies thrown away, whose cost is not known yet

    @property
    def left_to_model(self) -> frozenset[type[events.Event]]:
        """What of the turn machine's decisions the model makes in its stead."""
        return frozenset() if self._is_ours else THEIRS

    @property
    def words(self) -> CallerWords:
        """What is known of the caller's open turn beside its sound."""
        return self._ears.words

    @property
    def heard_samples(self) -> int:
        """What the caller has heard of the reply so far."""
        return self._ledger.heard_of_spans

    @property
    def saying(self) -> str:
        """What the caller has heard of the reply so far, in words."""
        reply = self.reply
        if reply is None or not reply.committed.is_set():
            return ""
        steps = len(reply.steps) if isinstance(reply, ModelReply) else 1
        parts = (self._ledger.heard_text((reply.number, step)) for step in range(steps))
        return " ".join(part for part in parts if part)

    @property
    def tool_calls(self) -> int:
        return self._hands.calls

    @property
    def _used(self) -> Tally:
        """What the call used of the model."""
        return self._call.context.usage.of("speech", self._model.name)

    @property
    def _is_ours(self) -> bool:
        return self._model.turns == "ours"

    # --- the model's session --------------------------------------------------------------

    async def run(self, on_words: Callable[[Transcript], None]) -> None:
        """Hold the session (and the recogniser's) until none can be had any more."""
        async with trio.open_nursery() as nursery:
            if self._recogniser is not None:
                nursery.start_soon(self._recogniser.recognise, self._call.context, on_words)
            await self.link.run(
                self._call.context, self._session, self._pending, self._on_event, self._on_lost
            )
            nursery.cancel_scope.cancel(reason="model lost")
        self._next()

    def _session(self) -> SpeechSession:
        """With what a session begins: the conversation so far, if there was one."""
        conversation, agent = self._call.conversation, self._call.agent
        self._gone.clear()  # another session may use the same names
        messages = self._ears.known(conversation.messages_until(len(conversation.log)))
        if isinstance(self.reply, ModelReply) and self.reply.has_acted:
            for text, calls, outcomes in self._voice.said(self.reply):
                messages.append(Message(role="assistant", text=text, tool_calls=calls))
                messages += [
                    Message(role="tool", text=o.result or UNKNOWN_OUTCOME, tool_call_id=id)
                    for id, o in outcomes.items()
                ]
        return SpeechSession(
            context=self._call.context,
            instructions=conversation.system,
            tools=tuple(tool.spec for tool in agent.offered),
            messages=fit(messages, agent.definition.context_max_tokens),
        )

    def _pending(self) -> Iterator[SpeechCommand]:
        """What a session is to be asked at once: what the last one left unanswered."""
        if keys := self._ears.untold_keys:
            yield Tell(text=keys)
        reply = self.reply
        if isinstance(reply, ModelReply) and not reply.is_done and not reply.has_acted:
            reply.begin_again()
            if reply.text:
                yield Say(reply=reply.id, text=reply.text)
            else:
                yield Respond(reply=reply.id)

    def _on_lost(self, provider: str) -> None:
        """A session has ended: what it was making cannot come any more."""
        self._call.note("session_lost", provider=provider, is_last=self.link.is_lost)
        self._drop_waiting()
        reply = self.reply
        if isinstance(reply, ModelReply) and not reply.is_done:
            if not reply.committed.is_set():
                self.discard()
            elif self.link.is_lost or reply.has_acted:
                reply.close("its session was lost")
            elif not reply.is_asked_for:
                self.interrupt()  # told again what was heard, the next session begins another
        self._ears.lost()

    # --- the caller's side of it ----------------------------------------------------------

    def hear(self, transcript: Transcript) -> Transcript | None:
        """Take words of our own recogniser; return what of them is new to this turn."""
        return self.words.add(transcript)

    def heard(self) -> None:
        """The turn machine has weighed the new words; the model itself needs none."""

    def speech_ended(self, at_s: float) -> None:
        """The caller's last voiced sample was at ``at_s``: responses count from here."""
        self._ears.speech_end_s = at_s

    def dismissed(self, reason: str) -> None:
        """What sounded like an interruption was none: the agent goes on."""
        if reason != "yielded":  # else they spoke as we ended: part of what comes next
            self.words.close()
            self.link.forget()
            self.link.tell(Forget())
        self.mouth.resume()

    def turn_may_be_over(self) -> None:
        """The eager end of a turn: the model may begin to answer, unheard."""
        self._ears.decided()
        if self._call.is_muted or not self._call.config.speculate:
            return
        if self.reply is None and self.link.is_open:
            self._call.stats.speculations += 1
            self._begin()

    def turn_goes_on(self) -> None:
        """The caller went on: what was begun leaves no trace."""
        self._ears.goes_on()
        self.discard()

    def commit(self) -> None:
        """The turn is over: the answer may be heard, or is begun now."""
        if self.link.is_lost:
            return
        if not self._is_ours:
            self._answer_keys()
            return
        if self._call.is_muted:
            self._ears.over()
            self._call.floor(AgentState.LISTENING)
            return
        self._ears.decided()
        reply = self.reply
        if reply is not None and reply.committed.is_set():
            self.interrupt()  # the caller took a whole turn over it
            reply = None
        if not isinstance(reply, ModelReply):
            reply = self._begin()
        if reply.clock is not None:
            reply.clock.committed_s = trio.current_time()
        self._ears.over(reply.id)
        reply.committed.set()
        self._call.floor(AgentState.THINKING)

    def hinted(self, text: str) -> None:
        """The conversation holds a note for the model: it is told, too."""
        self.link.tell(Tell(text=f"({HINT}{text})", is_note=True))

    def _answer_keys(self) -> None:
        """Keys are a turn of their own where the model finds the others."""
        if self._ears.tell_keys(is_turn=True):
            self._ears.over()

    # --- what the model says --------------------------------------------------------------

    def _on_event(self, event: SpeechEvent) -> None:
        """Take an event of the session, in the tick it is known."""
        if isinstance(event, ReplyAudio):
            self._used.speech_samples += len(event.pcm) // 2
        match event:
            case CallerBegan():
                self._on_caller_began(event)
            case CallerEnded(turn=turn):
                self._on_caller_ended(turn)
            case CallerSaid():
                self._ears.said(event)
            case ReplyBegun(reply=id) if id not in self._made:
                if not self._is_ours and id not in self._gone:
                    self._on_own_reply(id)
            case ReplyDone():
                self._count(event)
                if (reply := self._made.get(event.reply)) is not None:
                    reply.close("it failed" if event.status == "failed" else "")
            case _:
                if (reply := self._made.get(event.reply)) is not None and not reply.is_done:
                    reply.alive_s = trio.current_time()
                    self._on_reply(reply, event)

    def _on_caller_began(self, began: CallerBegan) -> None:
        """The model heard the caller: it stopped what it said, so must the line."""
        self._call.note("caller_began")
        reply = self.reply
        if reply is None or not reply.is_interruptible:
            return
        heard_ms, late_ms = self.heard_samples * 1000 / RATE_HZ, 0.0
        if began.at_sample is not None:
            late_ms = (self.link.now_samples - began.at_sample) * 1000 / RATE_HZ
        if self.interrupt():
            self._call.stats.barge_ins += 1
            barge_in = BargeIn(pause_ms=late_ms, clear_ms=late_ms, heard_ms=heard_ms)
            self._call.barge_ins.append(barge_in)

    def _on_caller_ended(self, turn: str) -> None:
        """The model takes the caller's turn to be over: an answer is due."""
        self.link.flush()
        self._ears.over_by_model(turn)
        self._call.floor(AgentState.THINKING)

    def _on_own_reply(self, id: str) -> None:
        """The model has begun to answer by itself."""
        if self._call.is_muted:
            self.link.tell(CancelReply(reply=id))
            return
        reply = self._new_reply(id, clock=self._ears.answered_unasked())
        reply.is_asked_for = False
        reply.committed.set()
        if self.reply is None:
            self._start(reply)
            self._call.floor(AgentState.THINKING)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(reply)
        else:
            self.link.tell(CancelReply(reply=id))
            self._drop(reply)

    def _on_reply(self, reply: ModelReply, event: SpeechEvent) -> None:
        """Something of a reply that is wanted."""
        try:
            self._take(reply, event)
        except trio.WouldBlock:
            self.link.tell(CancelReply(reply=reply.id))
            reply.close("too far ahead of the line")

    def _take(self, reply: ModelReply, event: SpeechEvent) -> None:
        """Raises trio.WouldBlock: the model is too far ahead of the line."""
        match event:
            case ReplyBegun():
                pass
            case ReplyText(step=number, text=text, words=words):
                step, sound = reply.step(number)
                step.text += text
                sound.words += words
                self._voice.reads(reply, number)
                self._reached(reply)
            case ReplyAudio(step=number, pcm=pcm):
                self._reached(reply, is_sound=True)
                reply.hear(number, pcm)
                if event.is_last:
                    reply.end_sound()
            case ReplyToolCall(step=number, call=call):
                self._reached(reply)
                self._hands.want(reply, number, call)
            case ToolCallDropped(call_id=call_id):
                reply.told.add(call_id)

    def _reached(self, reply: ModelReply, *, is_sound: bool = False) -> None:
        """The model's first sign is its first token and sentence; its first sound, the voice's."""
        if not reply.is_begun:
            reply.is_begun = True
            self._used.answered += 1
        clock, now_s = reply.clock, trio.current_time()
        if clock is not None and clock.first_token_s is None:
            clock.first_token_s = clock.first_sentence_s = now_s
        if clock is not None and clock.first_audio_s is None and is_sound:
            clock.first_audio_s = now_s

    def _count(self, done: ReplyDone) -> None:
        """What a reply cost counts whether or not anybody heard it."""
        usage, used = done.usage, self._used
        used.input_tokens += usage.input_tokens
        used.output_tokens += usage.output_tokens
        used.audio_tokens += usage.input_audio_tokens + usage.output_audio_tokens
        used.cached_tokens += usage.cached_tokens
        if done.reply in self._discarded:
            self._discarded.remove(done.reply)
            used.wasted_tokens += usage.input_tokens + usage.output_tokens
        if done.status in ("cut", "failed"):
            self._call.note("reply_cut_short", status=done.status, detail=done.detail[:64])

    # --- from a guess to history ------------------------------------------------------------

    def _begin(self) -> ModelReply:
        """Ask the model to answer what it has heard."""
        self._ears.tell_keys(is_turn=False)
        self.link.flush()
        reply = self._new_reply(clock=self._ears.asked())
        self.link.tell(Respond(reply=reply.id))
        self._start(reply)
        return reply

    def _new_reply(
        self,
        id: str = "",
        *,
        text: str = "",
        clock: TurnClock | None = None,
        is_interruptible: bool = True,
        ends_call: bool = False,
    ) -> ModelReply:
        self._replies += 1
        reply = ModelReply(
            number=self._replies,
            id=id or f"r{self._replies}",
            text=text,
            clock=clock,
            is_interruptible=is_interruptible,
            ends_call=ends_call,
        )
        self._made[reply.id] = reply
        self._used.requests += 1
        return reply

    def _start(self, reply: Reply) -> None:
        self.reply = reply
        self._call.note("line_begun" if reply.text else "reply_begun", reply=reply.number)
        self._call.start(self._speak, reply)

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        if len(self._lines) >= LINES_MAX:
            return False
        self._lines.append((text, is_interruptible, ends_call))
        self._next()
        return True

    def _next(self) -> None:
        """The floor is free: say what waits."""
        if self.reply is not None or self._is_leaving:
            return
        if self._waiting:
            self._start(self._waiting.popleft())
        elif self._lines:
            self._say_line(*self._lines.popleft())
        elif self.link.is_lost:
            self._say_line(self._call.agent.definition.farewell_line, True, True)

    def _say_line(self, text: str, is_interruptible: bool, ends_call: bool) -> None:
        """Have the model say ``text``; the voice beside it, if there is one, where it failed."""
        reply: Reply
        if self._call.agent.has_voice and (self.link.is_lost or self._failures):
            self._replies += 1
            reply = Reply(
                number=self._replies,
                text=text,
                is_interruptible=is_interruptible,
                ends_call=ends_call,
            )
        elif self.link.is_lost:  # nobody can say anything any more
            self._call.end("providers_failed")
            return
        elif self._call.agent.lines.get(self._model.name, text) is not None:
            self._replies += 1
            reply = RecalledLine(
                number=self._replies,
                text=text,
                is_interruptible=is_interruptible,
                ends_call=ends_call,
            )
        else:
            reply = self._new_reply(
                text=text, is_interruptible=is_interruptible, ends_call=ends_call
            )
            self.link.tell(Say(reply=reply.id, text=text))
        self._is_leaving = ends_call
        reply.committed.set()
        self._start(reply)

    async def _speak(self, reply: Reply) -> None:
        """Say ``reply`` to its end; then it is history. Interrupted: it already is."""
        call, failed = self._call, False
        call.stats.replies += 1
        try:
            if isinstance(reply, ModelReply):
                await self._perform(reply)
            else:
                agent = call.agent
                if isinstance(reply, RecalledLine):
                    agent = replace(agent, synthesizer=Absent(self._model.name))
                await speak(reply, self.mouth, agent, call.context, call.config)
            if reply.ends_call:
                await self.mouth.heard_for_sure(reply)
        except* ProviderError as group:
            failed = True
            call.stats.provider_errors += 1
            call.note("provider_failed", providers=[self._model.name])
            if group.subgroup(FellSilent) is not None:
                self.link.give_up()
        if self.reply is not reply:
            return
        if isinstance(reply, ModelReply) and (failed or reply.scope.cancelled_caught):
            self.mouth.cut()  # it failed, or takes too long
            self._stop(reply)
        elif isinstance(reply, ModelReply) and reply.text and reply.line:
            call.agent.lines.put(self._model.name, reply.text, reply.line)
        self._is_leaving = reply.ends_call and not failed
        self._settle(reply, is_whole=not failed)
        if failed:
            self._after_failure(reply)
        elif reply.ends_call:
            call.end("agent_hung_up")
        else:
            self._failures = 0

    def _after_failure(self, reply: Reply) -> None:
        """Say that something went wrong; goodbye, if it goes on going wrong."""
        self._failures += 1
        lines, is_lost = self._call.agent.definition, self.link.is_lost
        if self.reply is not None:
            return  # something else is being said already
        if reply.ends_call and not (isinstance(reply, ModelReply) and self._call.agent.has_voice):
            self._call.end("providers_failed")
        elif self._failures >= FAILURES_MAX or is_lost:
            self.say(lines.farewell_line, ends_call=True)
        else:
            self.say(lines.apology_line)

    async def _perform(self, reply: ModelReply) -> None:
        """Play what the model says, run what it calls, until that is over and heard.

        Raises:
            ProviderError: the model failed, or fell silent (in an exception group).
        """
        reply.scope.deadline = trio.current_time() + self._call.config.reply_limit_s
        with reply.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hands.use_all, reply)
                await self._voice.play(reply, self._model.name, self._on_piece)
                await self.mouth.heard()
                if reply.fault:
                    raise ProviderError(self._model.name, reply.fault, retryable=True)

    def _on_audible(self, reply: Reply) -> None:
        """The first frame of ``reply`` was written."""
        if reply.clock is not None and (timing := reply.clock.timing()) is not None:
            self.timings.append(timing)
            self._call.note("response", response_ms=round(timing.response_ms, 1))
        self._ears.answered()
        self._speaks(reply)

    def _on_piece(self, reply: ModelReply) -> None:
        """A piece of ``reply`` is on the line."""
        if self._thinks_on:
            self._speaks(reply)

    def _speaks(self, reply: Reply) -> None:
        """The caller hears ``reply`` from now on."""
        self._thinks_on = False
        # who must not interrupt is not heard by a model that would stop for them
        self.link.is_muted = not self._is_ours and not reply.is_interruptible
        is_interruptible = self._is_ours and reply.is_interruptible
        self._call.floor(AgentState.SPEAKING, interruptible=is_interruptible)

    # --- the end of a reply -----------------------------------------------------------------

    def interrupt(self) -> bool:
        """Stop what is being thought or said; False if there was nothing."""
        reply, self.reply = self.reply, None
        if reply is None:
            return self.mouth.cut()
        reply.scope.cancel(reason="interrupted")
        self._lines.clear()
        self._drop_waiting()
        if self.mouth.cut():
            self._call.note("cleared", reply=reply.number)
        if isinstance(reply, ModelReply):
            self._stop(reply)
        if reply.committed.is_set():
            self._is_leaving = False
            self._settle(reply, is_whole=False)
        else:
            self._leave_no_trace(reply)
        return True

    def discard(self) -> None:
        """Drop a reply that was only speculated: nothing of it remains."""
        reply = self.reply
        if not isinstance(reply, ModelReply) or reply.committed.is_set():
            return
        self.reply = None
        reply.scope.cancel(reason="caller went on")
        self._stop(reply)
        self._leave_no_trace(reply)
        self._call.note("reply_discarded", reply=reply.number)

    def _leave_no_trace(self, reply: Reply) -> None:
        self._call.stats.discarded += 1
        self._ledger.forget(reply.number)
        if isinstance(reply, ModelReply):
            self._ears.dropped(reply.id)
            if not reply.is_done:
                self._discarded.add(reply.id)
            used, received = self._used, sum(sound.received for sound in reply.sounds)
            used.wasted_speech_samples += received
            self._drop(reply)

    def _drop(self, reply: ModelReply) -> None:
        """What the model still says of ``reply`` is not heard any more."""
        self._made.pop(reply.id, None)
        self._gone.append(reply.id)
        reply.close()

    def _drop_waiting(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            self._stop(waiting)
            self._drop(waiting)

    def _stop(self, reply: ModelReply) -> None:
        """Have the model stop, and know what of ``reply`` was heard and what became of it."""
        if not reply.is_done:
            self.link.tell(CancelReply(reply=reply.id))
        for truncate in self._voice.unheard(reply):
            self.link.tell(truncate)
        self._hands.abandon(reply)

    def _settle(self, reply: Reply, *, is_whole: bool) -> None:
        """``reply`` is over: it becomes history, and the floor is free."""
        self.reply = None
        self._thinks_on = False
        heard = self._ledger.heard_text((reply.number, 0))
        if isinstance(reply, RecalledLine) and heard:  # the model did not say it: it must know
            note = f"(You have just said to the caller: {heard})"
            self.link.tell(Tell(text=note, is_note=True))
        self._write_down(reply)
        if isinstance(reply, ModelReply):
            self._drop(reply)
        self._call.note("reply_settled", reply=reply.number, is_whole=is_whole)
        self.link.is_muted = False
        self._call.floor(AgentState.LISTENING)
        if not self._is_ours:
            self._answer_keys()  # pressed while we spoke
        self._next()

    def leave(self) -> None:
        """The call is over: what was being said becomes history as far as it was heard."""
        if self.reply is not None and self.reply.committed.is_set():
            self._write_down(self.reply)
        self._ears.write()

    def _write_down(self, reply: Reply) -> None:
        """Write what was heard of ``reply``, and what it called, into the conversation."""
        self._ears.write()  # what it answers comes before it
        for text, calls, outcomes in self._voice.said(reply):
            self._call.conversation.assistant(text, tool_calls=calls)
            for call_id, outcome in outcomes.items():
                entry = self._call.conversation.tool(call_id, outcome.result)
                if outcome.result is None:
                    outcome.entry = entry
        self._ledger.forget(reply.number)

    # --- functions --------------------------------------------------------------------------

    @property
    def awaits_function(self) -> bool:
        """Whether what is silent is a function that runs."""
        return isinstance(self.reply, ModelReply) and self.reply.owes_results

    def fill(self) -> None:
        """Say the filler line now, if the reply waits for a function."""
        if isinstance(self.reply, ModelReply):
            self._hands.fill(self.reply)

    def _is_over(self, reply: ModelReply, use: ToolUse, tool: Tool) -> bool:
        """Whether the function that has just returned ended its reply: the call, or our part."""
        if tool.name == HANG_UP.name:
            self._settle(reply, is_whole=True)
            self._call.end("agent_hung_up")
            return True
        if tool.name == HAND_OVER:
            self._hand_over(reply, self._call.agent.colleagues[use.arguments["to"]].agent)
            return True
        return False

    def _on_told(self, reply: ModelReply) -> None:
        """The model knows a result: its time to speak begins anew, if the line is silent."""
        if self.reply is reply and reply.is_audible and self.mouth.is_silent:
            self._thinks_on = True
            self._call.floor(AgentState.THINKING)

    # --- another agent ----------------------------------------------------------------------

    def _hand_over(self, reply: ModelReply, agent: Agent) -> None:
        """What was said has been heard: ``agent`` says its welcome."""
        reply.scope.cancel(reason="handed over")
        self._stop(reply)
        self._settle(reply, is_whole=True)
        self.become(agent)
        self.say(agent.definition.welcome_message)

    def become(self, agent: Agent) -> None:
        """``agent`` goes on with the call from its next reply on; who listens stays."""
        call = self._call
        call.agent = agent
        call.conversation.system = agent.definition.prompt
        call.steering.take_turns(agent.definition.turn_config(call.config.turn))
        call.note("agent_changed", agent=agent.definition.name)
        model = agent.speech_model
        assert model is not None, "agents that hand over to one another are of one kind"
        if model is self._model and model.can_be_instructed:
            tools = tuple(tool.spec for tool in agent.offered)
            self.link.tell(Instruct(instructions=agent.definition.prompt, tools=tools))
        else:
            self._model = model
            self.link.reopen(model)
