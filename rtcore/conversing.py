"""The agent's turn where one model hears, thinks and speaks: :mod:`rtcore.answering` for it.

The call says the same things at the same moments. Under our turn-taking the model is asked at
the eager end of a turn (its sound is held), may be heard at the turn's end, and is cancelled,
and told what was heard, when the caller talks over it. Under its own it begins by itself and
says when the caller interrupts; the line, the ledger and the guard over silence stay ours.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.caller_words import CallerWords
from rtcore.agent.conversation import HINT
from rtcore.answering import Answers
from rtcore.ears import Ears
from rtcore.media.line import Line
from rtcore.model_floor import ModelFloor
from rtcore.model_reply import ModelReply
from rtcore.model_session import ModelSessions
from rtcore.model_turns import THEIRS
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    Forget,
    Instruct,
    ReplyBegun,
    SpeechEvent,
    SpeechModel,
    SpeechModels,
    Tell,
)
from rtcore.turn import events
from rtcore.turn.events import AgentState, Transcript
from rtcore.weakly import weakly

__all__ = ["Conversing"]


class Conversing(ModelFloor):
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
        link = SpeechLink(model, call.config, call.stats, ears)
        super().__init__(call, line, link, weakly(self.become))
        self._model = model
        self._recogniser = ears

    @property
    def left_to_model(self) -> frozenset[type[events.Event]]:
        """What of the turn machine's decisions the model makes in its stead."""
        return frozenset() if self._is_ours else THEIRS

    @property
    def words(self) -> CallerWords:
        """What is known of the caller's open turn beside its sound."""
        return self._ears.words

    @property
    def tool_calls(self) -> int:
        return self._hands.calls

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

    # --- another agent ----------------------------------------------------------------------

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
