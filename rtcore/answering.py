"""The agent's turn: the one reply there is, from the first guess at an answer to history.

The call says when: :meth:`Answering.think` at the eager end of a turn, :meth:`Answering.commit`
at its end, :meth:`Answering.discard` when the caller went on, :meth:`Answering.interrupt` when
they talked over it. At most one reply exists at a time; lines to be said wait for it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol
from weakref import proxy

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
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ledger import Ledger
from rtcore.media.line import Line
from rtcore.metrics import BargeIn, CallStats, TurnClock, TurnTiming
from rtcore.ports import CallContext, Message
from rtcore.reply import Mouth, Reply, speak
from rtcore.turn.events import AgentState, Event, Transcript
from rtcore.weakly import weakly

__all__ = ["Answering", "Answers"]

LINES_MAX = 8  # lines waiting to be said (API, reminders); past it the newest is refused
FAILURES_MAX = 3  # replies in a row that a provider failed: the agent says farewell


class Answers(Protocol):
    """The call that is answered."""

    agent: Agent
    config: CallConfig
    context: CallContext
    conversation: Conversation
    stats: CallStats
    steering: Steering
    barge_ins: list[BargeIn]
    is_muted: bool  # the agent listens, and answers nothing

    def floor(self, state: AgentState, *, interruptible: bool = True) -> None:
        """Tell the turn machine what the agent does, and act on what follows from it."""
        ...

    def start(self, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the call; it ends with the call at the latest."""
        ...

    def note(self, kind: str, /, **fields: object) -> None:
        """Write an event into the call's journal."""
        ...

    def end(self, ended_by: str) -> None:
        """End the call."""
        ...


class Answering:
    """What the agent thinks and says in one call."""

    left_to_model = frozenset[type[Event]]()  # the turn machine decides all

    def __init__(self, call: Answers, line: Line) -> None:
        steering = call.steering
        self._call: Answers = proxy(call)
        self._ledger = Ledger()
        self.mouth = Mouth(
            line,
            self._ledger,
            call.config,
            weakly(self._on_audible),
            lambda: steering.is_caller_audible,
        )
        self._performer = Performer(call.conversation, call.config.tool_limit_s, weakly(call.start))
        knowledge = call.agent.knowledge
        self.lookup = Lookup(knowledge) if knowledge is not None else None
        self._summariser: Summariser | None = None
        self.reply: Reply | None = None  # being thought or said
        self._replies = 0
        self._lines: deque[tuple[str, bool, bool]] = deque()  # (text, interruptible, ends call)
        self._failures = 0
        self.timings: list[TurnTiming] = []

        # the caller's open turn, as far as it is answered
        self.words = CallerWords()
        self._speech_end_s: float | None = None
        self._decided_s: float | None = None  # eager end of turn, if it stands
        self._wants_words = False  # the turn is over, its words have not come
        self._words_came = trio.Event()

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
        steps = len(reply.thought.steps) if reply.thought is not None else 1
        parts = (self._ledger.heard_text((reply.number, step)) for step in range(steps))
        return " ".join(part for part in parts if part)

    @property
    def tool_calls(self) -> int:
        return self._performer.calls

    # --- the caller's side of it ----------------------------------------------------------

    def hear(self, transcript: Transcript) -> Transcript | None:
        """Take words; return what of them is new to this turn, None if nothing is."""
        fresh = self.words.add(transcript)
        if fresh is not None and self.lookup is not None:
            self.lookup.hear(self.words.text)
        return fresh

    def heard(self) -> None:
        """The turn machine has weighed the new words: they may be what an answer waits for."""
        if self._wants_words:
            if self.words.text:
                self._words_came.set()
        elif self._decided_s is not None:
            self.think()

    def speech_ended(self, at_s: float) -> None:
        """The caller's last voiced sample was at ``at_s``: responses count from here."""
        self._speech_end_s = at_s

    def dismissed(self, reason: str) -> None:
        """What sounded like an interruption was none: the agent goes on where it was held."""
        if reason == "backchannel":
            self.words.close()
        self.mouth.resume()

    # --- from a guess to history ------------------------------------------------------------

    def turn_may_be_over(self) -> None:
        """The eager end of a turn: an answer may be begun."""
        self._decided_s = trio.current_time()
        self.think()

    def turn_goes_on(self) -> None:
        """The caller went on: what was begun leaves no trace."""
        self._decided_s = None
        self.discard()

    def think(self) -> None:
        """Begin the answer to the words so far, silently; one that already fits stays."""
        text = self.words.text
        if not text or not self._call.config.speculate or self._call.is_muted:
            return
        reply = self.reply
        if reply is not None:
            if reply.committed.is_set() or _same_words(reply.answers, text):
                return
            self.discard()
        self._call.stats.speculations += 1
        self._begin(text)

    def commit(self) -> None:
        """The turn is over: the answer may be heard, or is begun now."""
        if self._decided_s is None:
            self._decided_s = trio.current_time()
        text = self.words.text
        if not text:
            self._wants_words = True
            self._words_came = trio.Event()
            self._call.start(self._commit_when_words_come)
            return
        if self._call.is_muted:
            self._leave_unanswered(text)
            return
        self._call.stats.turns += 1
        self._call.steering.caller_spoke()
        self.words.close()
        self._wants_words = False
        reply = self.reply
        if reply is not None and reply.committed.is_set():
            self.interrupt()  # the caller took a whole turn over it
            reply = None
        if reply is None or not _same_words(reply.answers, text):
            self.discard()
            reply = self._begin(text)
        self._call.conversation.user(text)
        self._call.note("turn_committed", chars=len(text))
        if reply.clock is not None:
            reply.clock.committed_s = trio.current_time()
        self._decided_s = None
        reply.committed.set()
        self._call.floor(AgentState.THINKING)

    def _leave_unanswered(self, text: str) -> None:
        """The turn is over and the agent is muted: it is written down."""
        self._call.stats.turns += 1
        self._call.steering.caller_spoke()
        self.words.close()
        self._wants_words = False
        self._decided_s = None
        self._call.conversation.user(text)
        self._call.note("turn_unanswered", chars=len(text))
        self._call.floor(AgentState.LISTENING)

    def hinted(self, text: str) -> None:
        """The conversation holds a note for the model: an answer begun without it begins anew."""
        if self.reply is not None and not self.reply.committed.is_set():
            self.discard()
            self.think()

    async def _commit_when_words_come(self) -> None:
        with trio.move_on_after(self._call.config.stt_final_limit_s):
            await self._words_came.wait()
        if not self._wants_words:
            return
        self._wants_words = False
        if self.words.text:
            self.commit()
        elif self._call.is_muted:
            self._decided_s = None
            self._call.floor(AgentState.LISTENING)
        else:  # a voice, and not one word of it understood
            self._decided_s = None
            self._call.stats.wordless_turns += 1
            self._call.note("turn_without_words")
            if self.reply is None:
                self.say(self._call.agent.definition.repeat_line)

    def _begin(self, text: str) -> Reply:
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

        reply.thought = Thought(
            self._call.agent,
            self._context_of(reply),
            self._call.config,
            self._call.conversation.messages(Message(role="user", text=text)),
            partial(weakly(self._perform), proxy(reply)),
            reached,
            key=f"{self._call.context.call_id}-{self._replies}",
            control=self._call.steering,
            lookup=self.lookup.find if self.lookup is not None else None,
        )
        self.reply = reply
        self._call.note("reply_begun", reply=reply.number)
        self._call.start(self._speak, reply)
        return reply

    async def _perform(self, reply: Reply, tool: Tool, use: ToolUse, outcome: Outcome) -> None:
        async def heard() -> None:
            await self.mouth.heard_for_sure(reply)

        self._call.note("function_wanted", name=tool.name, effect=tool.effect)
        await self._performer.perform(tool, use, outcome, reply.committed, heard)
        if tool.name == HANG_UP.name:
            self._settle(reply, is_whole=True)
            self._call.end("agent_hung_up")
        elif tool.name == HAND_OVER:
            self._settle(reply, is_whole=True)
            reply.scope.cancel(reason="handed over")
            self.become(self._call.agent.colleagues[use.arguments["to"]].agent)
            self.say(self._call.agent.definition.welcome_message)

    def _context_of(self, reply: Reply) -> CallContext:
        """The call, with the counts of ``reply`` in place of its own."""
        return msgspec.structs.replace(self._call.context, usage=reply.usage)

    def become(self, agent: Agent) -> None:
        """``agent`` goes on with the call from its next reply on; who listens stays."""
        self._call.agent = agent
        self._call.conversation.system = agent.definition.prompt
        self._call.steering.take_turns(agent.definition.turn_config(self._call.config.turn))
        self._summariser = None
        if self.lookup is not None:
            self.lookup.look_in(agent.knowledge)
        elif agent.knowledge is not None:
            self.lookup = Lookup(agent.knowledge)
            self._call.start(self.lookup.run)
        self._call.note("agent_changed", agent=agent.definition.name)

    def say(self, text: str, *, is_interruptible: bool = True, ends_call: bool = False) -> bool:
        """Say a fixed line as soon as the agent has the floor; False if too many wait."""
        if len(self._lines) >= LINES_MAX:
            return False
        self._lines.append((text, is_interruptible, ends_call))
        self._next_line()
        return True

    @property
    def awaits_function(self) -> bool:
        """Whether what is silent is a function that runs."""
        thought = self.reply.thought if self.reply is not None else None
        steps = thought.steps if thought is not None else []
        return any(o.is_begun and o.result is None for s in steps for o in s.outcomes.values())

    def fill(self) -> None:
        """Say the filler line now, if a thought goes on and on."""
        if self.reply is not None and self.reply.thought is not None:
            self._call.start(self.reply.thought.fill)

    def _next_line(self) -> None:
        if self.reply is not None or not self._lines:
            return
        text, is_interruptible, ends_call = self._lines.popleft()
        self._replies += 1
        reply = Reply(
            number=self._replies, text=text, is_interruptible=is_interruptible, ends_call=ends_call
        )
        reply.committed.set()
        self.reply = reply
        self._call.note("line_begun", reply=reply.number)
        self._call.start(self._speak, reply)

    async def _speak(self, reply: Reply) -> None:
        """Say ``reply`` to its end; then it is history. Interrupted: it already is."""
        self._call.stats.replies += 1
        failed = False
        try:
            context = self._context_of(reply)
            await speak(reply, self.mouth, self._call.agent, context, self._call.config)
            if reply.ends_call and not reply.scope.cancelled_caught:
                await self.mouth.heard_for_sure(reply)
        except* ProviderError as group:
            failed = True
            self._call.stats.provider_errors += 1
            self._call.note("provider_failed", providers=sorted(_providers(group)))
        finally:
            is_wasted = not reply.committed.is_set()
            self._call.context.usage.add(reply.usage, is_wasted=is_wasted)
        if self.reply is not reply:
            return
        if failed and not reply.committed.is_set():
            self.discard()  # nobody waits for it yet: the end of the turn asks again
            return
        self._settle(reply, is_whole=not failed)
        if failed:
            self._failures += 1
            farewell = self._failures >= FAILURES_MAX
            lines = self._call.agent.definition
            if reply.ends_call or (farewell and not reply.answers):
                self._call.end("providers_failed")
                return
            self.say(lines.farewell_line if farewell else lines.apology_line, ends_call=farewell)
        elif reply.ends_call:
            self._call.end("agent_hung_up")
        else:
            self._failures = 0

    def _on_audible(self, reply: Reply) -> None:
        """The first frame of ``reply`` was written."""
        if reply.clock is not None and (timing := reply.clock.timing()) is not None:
            self.timings.append(timing)
            self._call.note("response", response_ms=round(timing.response_ms, 1))
        self._call.floor(AgentState.SPEAKING, interruptible=reply.is_interruptible)

    def interrupt(self) -> bool:
        """Stop what is being thought or said; False if there was nothing."""
        reply, self.reply = self.reply, None
        if reply is None:
            return self.mouth.cut()
        reply.scope.cancel(reason="interrupted")
        self._lines.clear()
        if self.mouth.cut():
            self._call.note("cleared", reply=reply.number)
        if reply.committed.is_set():
            self._settle(reply, is_whole=False)
        else:
            self._call.stats.discarded += 1
            self._ledger.forget(reply.number)
        return True

    def discard(self) -> None:
        """Drop a reply that was only speculated: nothing of it remains."""
        reply = self.reply
        if reply is None or reply.committed.is_set():
            return
        self.reply = None
        reply.scope.cancel(reason="caller went on")
        self._call.stats.discarded += 1
        self._call.note("reply_discarded", reply=reply.number)

    def _settle(self, reply: Reply, *, is_whole: bool) -> None:
        """``reply`` is over: it becomes history, and the floor is free."""
        self.reply = None
        self._write_down(reply)
        self._call.note("reply_settled", reply=reply.number, is_whole=is_whole)
        self._call.floor(AgentState.LISTENING)
        if self._summariser is None:
            limit = self._call.agent.definition.context_max_tokens
            self._summariser = Summariser(
                self._call.conversation, self._call.agent.responder, self._call.context, limit
            )
        if self._summariser.is_due:
            self._call.start(self._summariser.run)
        self._next_line()

    def leave(self) -> None:
        """The call is over: what was being said becomes history as far as it was heard."""
        if self.reply is not None and self.reply.committed.is_set():
            self._write_down(self.reply)

    def _write_down(self, reply: Reply) -> None:
        """Write what was heard of ``reply``, and what it called, into the conversation."""
        steps = reply.thought.steps if reply.thought is not None else [Step()]
        if reply.thought is not None and reply.thought.sources:
            self._call.note("answered_from", sources=list(reply.thought.sources))
        for index, step in enumerate(steps):
            begun = {n: o for n, o in step.outcomes.items() if o.is_begun or o.result}
            self._call.conversation.assistant(
                self._ledger.heard_text((reply.number, index)),
                tool_calls=tuple(call for call in step.calls if call.id in begun),
            )
            for call_id, outcome in begun.items():
                entry = self._call.conversation.tool(call_id, outcome.result)
                if outcome.result is None:
                    outcome.entry = entry
        self._ledger.forget(reply.number)


def _same_words(one: str, other: str) -> bool:
    """Whether two transcripts say the same, whatever their marks and capitals."""
    return one == other or _bare(one) == _bare(other)


def _bare(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _providers(group: BaseExceptionGroup[ProviderError]) -> set[str]:
    """The names of the providers in a tree of errors."""
    names: set[str] = set()
    for exc in group.exceptions:
        names |= _providers(exc) if isinstance(exc, BaseExceptionGroup) else {exc.provider}
    return names
