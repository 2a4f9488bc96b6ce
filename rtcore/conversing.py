"""The agent's turn where one model hears, thinks and speaks: :mod:`rtcore.answering` for it.

The call says the same things at the same moments. Under our turn-taking the model is asked at
the eager end of a turn (its sound is held), may be heard at the turn's end, and is cancelled,
and told what was heard, when the caller talks over it. Under its own it begins by itself and
says when the caller interrupts; the line, the ledger and the guard over silence stay ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from rtcore.agent.absent import Absent
from rtcore.agent.agent import Agent
from rtcore.agent.caller_words import CallerWords
from rtcore.agent.conversation import HINT
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolUse
from rtcore.answering import Answers
from rtcore.ears import Ears
from rtcore.errors import ProviderError
from rtcore.ledger import Ledger
from rtcore.media.line import Line
from rtcore.metrics import TurnTiming
from rtcore.model_ears import ModelEars
from rtcore.model_hands import ModelHands
from rtcore.model_lines import ModelLines
from rtcore.model_mouth import FellSilent, ModelMouth
from rtcore.model_replies import ModelReplies
from rtcore.model_reply import ModelReply, RecalledLine
from rtcore.model_session import ModelSessions
from rtcore.model_turns import THEIRS, OwnTurns
from rtcore.reply import Mouth, Reply, speak
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    CancelReply,
    Forget,
    Instruct,
    ReplyBegun,
    Respond,
    SpeechEvent,
    SpeechModel,
    SpeechModels,
    Tell,
)
from rtcore.turn import events
from rtcore.turn.events import AgentState, Transcript
from rtcore.usage import Tally

__all__ = ["Conversing"]


class Conversing:
    """What the model hears, thinks and says in one call."""

    lookup = None  # the caller's words come too late for one: the model has a function instead

    def __init__(
        self,
        call: Answers,
        line: Line,
        model: SpeechModel | SpeechModels,
        ears: Ears | None,
    ) -> None:
        """``ears``: a recogniser beside the model, whose words tell a turn's end sooner."""
        self._call = call
        self._model = model
        self._recogniser = ears
        self._ledger = Ledger()
        self.mouth = Mouth(
            line,
            self._ledger,
            call.config,
            self._on_audible,
            lambda: self._is_ours and call.steering.is_caller_audible,
        )
        self.link = SpeechLink(model, call.config, call.stats, ears)
        self._voice = ModelMouth(call, self.mouth, self._ledger)
        self._ears = ModelEars(call, self.link)
        self._hands = ModelHands(call, self.mouth, self.link, self._is_over, self._on_told)
        self._replies = ModelReplies(
            call, self.link, self._voice, self._hands, lambda: self._used, self._goes_elsewhere
        )
        self._own = OwnTurns(call, self.link, self._ears, self._replies, self)
        self._lines = ModelLines(call, self.link, self._replies, self)
        self.reply: Reply | None = None  # being thought or said
        self._thinks_on = False  # in the midst of a reply, after a function
        self.timings: list[TurnTiming] = []

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
        return self._heard_of(reply)

    @property
    def tool_calls(self) -> int:
        return self._hands.calls

    @property
    def _used(self) -> Tally:
        """What the call used of the model."""
        return self._call.context.usage.of("speech", self.link.model.name, self.link.place)

    @property
    def _is_ours(self) -> bool:
        return self._model.turns == "ours"

    # --- the model's session --------------------------------------------------------------

    async def run(self, on_words: Callable[[Transcript], None]) -> None:
        """Hold the session (and the recogniser's) until none can be had any more."""
        async with trio.open_nursery() as nursery:
            if self._recogniser is not None:
                nursery.start_soon(self._recogniser.recognise, self._call.context, on_words)
            sessions = ModelSessions(
                self._call,
                self.link,
                self._ears,
                self._voice,
                self._replies,
                self._own,
                self._lines,
                self,
            )
            await self.link.run(
                self._call.context, sessions.begin, sessions.pending, self._on_event, sessions.lost
            )
            nursery.cancel_scope.cancel(reason="model lost")
        self.next()

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
            self._own.answer_keys()
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

    # --- what the model says --------------------------------------------------------------

    def _on_event(self, event: SpeechEvent) -> None:
        """Take an event of the session, in the tick it is known."""
        match event:
            case CallerBegan():
                self._own.caller_began(event)
            case CallerEnded(turn=turn):
                self._own.caller_ended(turn)
            case CallerSaid():
                self._ears.said(event)
            case ReplyBegun(reply=id) if not self._replies.is_known(id):
                if not self._is_ours:
                    self._own.reply_begun(id)
            case _:
                self._replies.hear(event)

    # --- from a guess to history ------------------------------------------------------------

    def _begin(self) -> ModelReply:
        """Ask the model to answer what it has heard."""
        self._ears.tell_keys(is_turn=False)
        self.link.flush()
        reply = self._replies.new(clock=self._ears.asked())
        self._replies.ask(reply, Respond(reply=reply.id))
        self.start(reply)
        return reply

    def start(self, reply: Reply, noted_as: str = "reply_begun") -> None:
        self.reply = reply
        self._call.note(noted_as, reply=reply.number)
        self._call.start(self._speak, reply)

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        taken = self._lines.add(text, is_interruptible=is_interruptible, ends_call=ends_call)
        if taken:
            self.next()
        return taken

    def next(self) -> None:
        """The floor is free: say what waits."""
        if self.reply is not None or self._lines.is_leaving:
            return
        if (waiting := self._own.next()) is not None:
            self.start(waiting)
        elif not self._own.goes_first:
            self._lines.next()

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
                    agent = replace(agent, synthesizer=Absent(reply.voice))
                await speak(reply, self.mouth, agent, call.context, call.config)
            if reply.ends_call and not reply.scope.cancelled_caught:
                await self.mouth.heard_for_sure(reply)
        except* ProviderError as group:
            failed = True
            call.stats.provider_errors += 1
            call.note("provider_failed", providers=[self.link.model.name])
            if group.subgroup(FellSilent) is not None:
                self.link.give_up()
        if self.reply is not reply:
            return
        if isinstance(reply, ModelReply) and (failed or reply.scope.cancelled_caught):
            self.mouth.cut()  # it failed, or takes too long
            self.stop(reply)
        elif isinstance(reply, ModelReply) and reply.text and reply.line:
            call.agent.lines.put(reply.voice, reply.text, reply.line)
        self._lines.is_leaving = reply.ends_call and not failed
        self._settle(reply, is_whole=not failed)
        if failed:
            if (line := self._lines.failed(reply)) is not None:
                text, is_last = line
                self.say(text, ends_call=is_last)
        elif reply.ends_call:
            call.end("agent_hung_up")
        else:
            self._lines.succeeded()

    async def _perform(self, reply: ModelReply) -> None:
        """Play what the model says, run what it calls, until that is over and heard.

        Raises:
            ProviderError: the model failed, or fell silent (in an exception group).
        """
        reply.scope.deadline = trio.current_time() + self._call.config.reply_limit_s
        with reply.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hands.use_all, reply)
                await self._voice.play(reply, self._is_made_anew, self._on_piece)
                await self.mouth.heard()
                if reply.fault:
                    raise ProviderError(self.link.model.name, reply.fault, retryable=True)

    def _goes_elsewhere(self, reply: ModelReply) -> bool:
        """Have another model of the list make ``reply``, if nobody has noticed anything of it."""
        if reply is not self.reply or reply.has_acted or not self.link.has_another:
            return False
        reply.alive_s = trio.current_time()
        self.link.give_up()
        return True

    def _is_made_anew(self, reply: ModelReply) -> bool:
        """Have ``reply``, about which the model is silent, made by somebody else if possible.

        A line has nothing to be apologised for: it is said by whoever can.
        """
        if self._goes_elsewhere(reply):
            return True
        if reply is not self.reply or reply.has_acted or not reply.text:
            return False
        reply.alive_s = trio.current_time()
        self.link.give_up()
        if self._call.agent.has_voice:
            self._lines.was_silent()
            self.put_off()
        return True

    def _on_audible(self, reply: Reply) -> None:
        """The first frame of ``reply`` was written."""
        if reply.clock is not None and (timing := reply.clock.timing()) is not None:
            self.timings.append(timing)
            self._call.note("response", response_ms=round(timing.response_ms, 1))
        if isinstance(reply, ModelReply):
            self.link.progressed()
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
        if self.reply is None:
            return self.mouth.cut()
        self._lines.clear()
        self.break_off()
        return True

    def break_off(self) -> None:
        """Stop what is being thought or said; lines that wait for it are said after all."""
        reply, self.reply = self.reply, None
        if reply is None:
            return
        reply.scope.cancel(reason="interrupted")
        self._own.drop_waiting()
        if self.mouth.cut():
            self._call.note("cleared", reply=reply.number)
        if isinstance(reply, ModelReply):
            self.stop(reply)
        if reply.committed.is_set():
            self._lines.is_leaving = False
            self._settle(reply, is_whole=False)
        else:
            self._leave_no_trace(reply)

    def put_off(self) -> None:
        """Nothing of the line on the floor was heard: it is said once more, as soon as may be."""
        reply, self.reply = self.reply, None
        assert isinstance(reply, ModelReply)
        assert reply.text
        reply.scope.cancel(reason="said anew")
        self._call.stats.discarded += 1
        self._ledger.forget(reply.number)
        self._replies.discard(reply)
        self._lines.put_back(reply)
        self.next()

    def discard(self) -> None:
        """Drop a reply that was only speculated: nothing of it remains."""
        reply = self.reply
        if not isinstance(reply, ModelReply) or reply.committed.is_set():
            return
        self.reply = None
        reply.scope.cancel(reason="caller went on")
        self.stop(reply)
        self._leave_no_trace(reply)
        self._call.note("reply_discarded", reply=reply.number)

    def _leave_no_trace(self, reply: Reply) -> None:
        self._call.stats.discarded += 1
        self._ledger.forget(reply.number)
        if isinstance(reply, ModelReply):
            self._ears.dropped(reply.id)
            self._replies.discard(reply)

    def stop(self, reply: ModelReply) -> None:
        """Have the model stop, and know what of ``reply`` was heard and what became of it."""
        if self._replies.is_of_session(reply):  # another one may mean its own by that name
            if not reply.is_done:
                self.link.tell(CancelReply(reply=reply.id))
            for truncate in self._voice.unheard(reply):
                self.link.tell(truncate)
        self._hands.abandon(reply)

    def _settle(self, reply: Reply, *, is_whole: bool) -> None:
        """``reply`` is over: it becomes history, and the floor is free."""
        self.reply = None
        self._thinks_on = False
        if not self._replies.is_of_session(reply) and (heard := self._heard_of(reply)):
            # a line it did not say, or the rest of what a lost session gave: it must know
            note = f"(You have just said to the caller: {heard})"
            self.link.tell(Tell(text=note, is_note=True))
        self._write_down(reply)
        if isinstance(reply, ModelReply):
            self._replies.drop(reply)
        self._call.note("reply_settled", reply=reply.number, is_whole=is_whole)
        self.link.is_muted = False
        self._call.floor(AgentState.LISTENING)
        if not self._is_ours:
            self._own.answer_keys()  # pressed while we spoke
        self.next()

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

    def _heard_of(self, reply: Reply) -> str:
        steps = len(reply.steps) if isinstance(reply, ModelReply) else 1
        parts = (self._ledger.heard_text((reply.number, step)) for step in range(steps))
        return " ".join(part for part in parts if part)

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
        self.stop(reply)
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
        if model is self._model and self.link.model.can_be_instructed:
            tools = tuple(tool.spec for tool in agent.offered)
            self.link.tell(Instruct(instructions=agent.definition.prompt, tools=tools))
        else:
            self._model = model
            self.link.reopen(model)
