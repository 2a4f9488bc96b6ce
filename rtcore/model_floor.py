"""Who speaks where one model hears, thinks and speaks: one reply, from its start to history.

At most one is on the floor. It is asked for, or begun by the model, or a fixed line; it is heard
to its end, broken off, put off or thrown away, and what was heard of it is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from weakref import proxy

import trio

from rtcore.agent.absent import Absent
from rtcore.agent.agent import Agent
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolUse
from rtcore.answering import Answers
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
from rtcore.model_turns import OwnTurns
from rtcore.reply import Mouth, Reply, speak
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import CancelReply, Respond, Tell
from rtcore.turn.events import AgentState
from rtcore.usage import Tally
from rtcore.weakly import weakly

__all__ = ["ModelFloor"]


class ModelFloor:
    """What the agent says in one call."""

    def __init__(
        self,
        call: Answers,
        line: Line,
        link: SpeechLink,
        become: Callable[[Agent], None],
    ) -> None:
        """``become`` is told who goes on with the call, once the words before that were heard."""
        self._call: Answers = proxy(call)
        call, steering, floor = self._call, call.steering, proxy(self)
        self.link = link
        self._become = become
        self._ledger = Ledger()
        self.mouth = Mouth(
            line,
            self._ledger,
            call.config,
            weakly(self._on_audible),
            lambda: floor._is_ours and steering.is_caller_audible,
        )
        self._voice = ModelMouth(call, self.mouth, self._ledger)
        self._ears = ModelEars(call, link)
        self._hands = ModelHands(
            call, self.mouth, link, weakly(self._is_over), weakly(self._on_told)
        )
        self._replies = ModelReplies(
            call, link, self._voice, self._hands, lambda: floor._used, weakly(self._goes_elsewhere)
        )
        self._own = OwnTurns(call, link, self._ears, self._replies, floor)
        self._lines = ModelLines(call, link, self._replies, floor)
        self.reply: Reply | None = None  # being thought or said
        self._thinks_on = False  # in the midst of a reply, after a function
        self.timings: list[TurnTiming] = []

    @property
    def _is_ours(self) -> bool:
        """Whether the caller's turns are ours to find."""
        return self.link.model.turns == "ours"

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
    def _used(self) -> Tally:
        """What the call used of the model."""
        return self._call.context.usage.of("speech", self.link.model.name, self.link.place)

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
        """Begin to say ``reply``: the floor is free."""
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

    def _hand_over(self, reply: ModelReply, agent: Agent) -> None:
        """What was said has been heard: ``agent`` says its welcome."""
        reply.scope.cancel(reason="handed over")
        self.stop(reply)
        self._settle(reply, is_whole=True)
        self._become(agent)
        self.say(agent.definition.welcome_message)
