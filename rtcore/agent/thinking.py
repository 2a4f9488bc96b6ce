"""One reply's thought: the model is asked, its functions are run, its text leaves as segments.

It runs as one async function inside the reply's scope. Cancelled, it leaves nothing: what it
was told and what it called is kept in :attr:`Thought.steps`, and only the call that owns the
reply decides what of that becomes history.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.context import fit
from rtcore.agent.knowledge import told
from rtcore.agent.performing import Outcome
from rtcore.agent.sentences import SentenceSplitter
from rtcore.agent.speech_text import speakable
from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.channels import put
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    CallControl,
    Delta,
    Finished,
    Hit,
    Message,
    ResponderRequest,
    Segment,
    TextDelta,
    ToolCall,
    ToolSpec,
)
from rtcore.usage import Request

__all__ = ["Step", "Thought"]

DELTAS_MAX = 32  # a sentence that comes in one go is taken in one go
MISTAKES_MAX = 2  # steps with a call that cannot be made: the first goes back to the model
CALLS_MAX = 16  # functions of one step; what a model wants beyond, it asks for again


@dataclass(slots=True)
class Step:
    """One request to the model: what it said, what it called, what came of it."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by the id of the call

    def messages(self) -> list[Message]:
        """What the model is told of this step in the next one."""
        said = Message(role="assistant", text=self.text, tool_calls=tuple(self.calls))
        results = [
            Message(role="tool", text=self.outcomes[call.id].result or "", tool_call_id=call.id)
            for call in self.calls
        ]
        return [said, *results]


class Thought:
    """Asks the agent's responder until it has nothing more to call."""

    def __init__(
        self,
        agent: Agent,
        context: CallContext,
        config: CallConfig,
        messages: tuple[Message, ...],
        perform: Callable[[Tool, ToolUse, Outcome], Awaitable[None]],
        note: Callable[[str], None],
        key: str,
        control: CallControl | None = None,
        lookup: Callable[[str], Awaitable[tuple[Hit, ...]]] | None = None,
    ) -> None:
        """
        Args:
            messages: all the model is given, the caller's words last.
            perform: runs a function under the rules of its effect and fills its outcome.
            note: told ``first_token`` and ``first_sentence`` in the tick they happen.
            key: what is unique to this reply; idempotency keys begin with it.
            control: the call, for functions that steer it; None where there is none.
            lookup: what the agent knows about the caller's words, within its own time budget.
        """
        self._agent = agent
        self._context = context
        self._config = config
        self._messages = messages
        self._perform = perform
        self._note = note
        self._key = key
        self._control = control
        self._lookup = lookup
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in agent.offered}
        self.steps: list[Step] = []
        self.segments: list[tuple[int, str]] = []  # (step, text) by segment index
        self.sources: tuple[str, ...] = ()  # the documents the answer had before it
        self._out: trio.MemorySendChannel[Segment] | None = None
        self._has_filled = False
        self.said_chars: list[int] = []  # of each segment that was handed on
        self.input_tokens = 0
        self.output_tokens = 0

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    async def run(self, out: trio.MemorySendChannel[Segment]) -> None:
        """Think to the end, sending each segment as soon as it is whole; closes ``out``.

        Raises:
            ProviderError: the model failed (in an exception group).
        """
        self._out = out
        with out:
            await self._look_up()
            then: list[Message] = []
            mistakes = 0
            for _ in range(self._config.tool_steps_max):
                step = Step()
                self.steps.append(step)
                await self._ask(step, tuple(then), out)
                if not step.calls:
                    return
                if not await self._act(step, out):
                    mistakes += 1
                    if mistakes == MISTAKES_MAX:
                        break
                then += step.messages()
            self.steps.append(Step())  # it loops, or cannot be helped: the caller must hear so
            await self._say(self._agent.definition.apology_line, out)

    async def _look_up(self) -> None:
        """Put what was found about the caller's words before them."""
        if self._lookup is None or not self._messages:
            return
        *before, last = self._messages
        if hits := await self._lookup(last.text):
            self.sources = tuple(dict.fromkeys(hit.source for hit in hits if hit.source))
            self._messages = (*before, told(hits), last)

    async def _ask(
        self, step: Step, then: tuple[Message, ...], out: trio.MemorySendChannel[Segment]
    ) -> None:
        messages = fit(self._messages + then, self._agent.definition.context_max_tokens)
        request = ResponderRequest(context=self._context, messages=messages, tools=self.specs)
        with Request(
            self._context.usage.alone("llm", self._agent.responder), request.chars
        ) as asked:
            await self._listen(request, step, out, asked)

    async def _listen(
        self,
        request: ResponderRequest,
        step: Step,
        out: trio.MemorySendChannel[Segment],
        asked: Request,
    ) -> None:
        splitter = SentenceSplitter()
        tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)
        limit_s, has_ended = self._config.first_token_limit_s, False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._respond, request, tx)
            while (delta := await self._next(rx, nursery.cancel_scope, limit_s)) is not None:
                limit_s = self._config.stall_limit_s
                self._note("first_token")
                if isinstance(delta, Finished):
                    self.input_tokens += delta.input_tokens
                    self.output_tokens += delta.output_tokens
                    asked.told(delta.input_tokens, delta.output_tokens, delta.cached_tokens)
                    break
                asked.got(delta.chars)
                if isinstance(delta, TextDelta):
                    step.text += delta.text
                    for text in splitter.push(delta.text):
                        await self._say(text, out)
                elif len(step.calls) < CALLS_MAX:
                    step.calls.append(self._with_own_id(delta, step))
            has_ended = True
            nursery.cancel_scope.cancel(reason="answer complete")
        if not has_ended:
            name, message = self._agent.responder.name, f"nothing for {limit_s:g} s"
            raise ProviderError(name, message, retryable=True)
        for text in splitter.flush():
            await self._say(text, out)

    async def _next(
        self, rx: trio.MemoryReceiveChannel[Delta], asking: trio.CancelScope, limit_s: float
    ) -> Delta | None:
        """The next piece of the answer, None where it ends; ``asking`` is over at the limit."""
        try:
            return rx.receive_nowait()  # a model that streams fast is ahead of us
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            return None
        asking.deadline = trio.current_time() + limit_s  # dearer: a scope for each wait
        try:
            return await rx.receive()
        except trio.EndOfChannel:
            return None
        finally:
            asking.deadline = math.inf  # what the voice makes us wait for is not the model's

    async def _respond(self, request: ResponderRequest, tx: trio.MemorySendChannel[Delta]) -> None:
        with tx:  # not `async with`: its checkpoint could turn an error into a cancellation
            await self._agent.responder.respond(request, tx)

    async def _say(self, text: str, out: trio.MemorySendChannel[Segment]) -> None:
        spoken = speakable(text, self._context.language)
        if not spoken:
            return
        self._note("first_sentence")
        self.segments.append((len(self.steps) - 1, text))  # history keeps it as it was written
        await put(out, Segment(index=len(self.segments) - 1, text=spoken))
        self.said_chars.append(len(spoken))

    def _with_own_id(self, call: ToolCall, step: Step) -> ToolCall:
        """``call``, its id made unique where a model repeats one or gives none."""
        taken = {other.id for each in self.steps for other in each.calls}
        if call.id and call.id not in taken:
            return call
        return msgspec.structs.replace(call, id=f"call_{len(self.steps)}_{len(step.calls)}")

    async def _act(self, step: Step, out: trio.MemorySendChannel[Segment]) -> bool:
        """Run the functions of one step: at once if all only read, else one after the other.

        Whatever happens, the model gets exactly one answer to each. False: some could not be
        made as the model wanted them.
        """
        wanted: list[tuple[Tool, ToolUse, Outcome]] = []
        for number, call in enumerate(step.calls):
            outcome = step.outcomes[call.id] = Outcome()
            try:
                tool = self._tool(call)
                arguments = tool.arguments_of(call)
            except ToolError as exc:
                outcome.result = f"error: {exc}"
                continue
            use = ToolUse(
                arguments=arguments,
                key=f"{self._key}-{len(self.steps)}-{number}",
                call_id=self._context.call_id,
                control=self._control,
            )
            wanted.append((tool, use, outcome))
        if all(tool.effect == "read" for tool, _, _ in wanted):
            await self._together(wanted, out)
        else:
            for each in wanted:
                await self._together([each], out)
        return len(wanted) == len(step.calls)

    def _tool(self, call: ToolCall) -> Tool:
        tool = self._tools.get(call.name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            raise ToolError(f"there is no function {call.name[:64]!r}; there are: {names}")
        return tool

    async def _together(
        self, wanted: list[tuple[Tool, ToolUse, Outcome]], out: trio.MemorySendChannel[Segment]
    ) -> None:
        async with trio.open_nursery() as bridging:
            if not self._has_filled and all(tool.effect != "terminal" for tool, _, _ in wanted):
                bridging.start_soon(self._fill_after, self._config.tool_filler_after_s, out)
            async with trio.open_nursery() as nursery:
                for each in wanted:
                    nursery.start_soon(self._perform, *each)
            bridging.cancel_scope.cancel(reason="functions returned")

    async def fill(self) -> None:
        """Say the filler line now, if the thought is still going on."""
        if self._out is not None:
            await self._fill_after(0, self._out)

    async def _fill_after(self, delay_s: float, out: trio.MemorySendChannel[Segment]) -> None:
        """A long silence sounds like a dropped call: say that we are at it, once."""
        await trio.sleep(delay_s)
        self._has_filled = True
        if self._agent.definition.filler_line:
            try:
                await self._say(self._agent.definition.filler_line, out)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return  # the thought ended in this very moment: there is nothing to bridge
