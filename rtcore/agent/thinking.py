"""One reply's thought: the model is asked, its functions are run, its text leaves as segments.

It runs as one async function inside the reply's scope. Cancelled, it leaves nothing: what it
was told and what it called is kept in :attr:`Thought.steps`, and only the call that owns the
reply decides what of that becomes history.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.performing import Outcome
from rtcore.agent.sentences import SentenceSplitter
from rtcore.agent.tools import HANG_UP, Tool, ToolError, ToolUse, parse_arguments
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    Delta,
    Message,
    ResponderRequest,
    Segment,
    TextDelta,
    ToolCall,
    ToolSpec,
)

__all__ = ["Step", "Thought"]

DELTAS_MAX = 8  # a model is slower than we are; more would only hide a stall


@dataclass(slots=True)
class Step:
    """One request to the model: what it said, what it called, what came of it."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by the id of the call


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
    ) -> None:
        """
        Args:
            messages: all the model is given, the caller's words last.
            perform: runs a function under the rules of its effect and fills its outcome.
            note: told ``first_token`` and ``first_sentence`` in the tick they happen.
            key: what is unique to this reply; idempotency keys begin with it.
        """
        self._agent = agent
        self._context = context
        self._config = config
        self._messages = messages
        self._perform = perform
        self._note = note
        self._key = key
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in agent.tools}
        self.steps: list[Step] = []
        self.segments: list[tuple[int, str]] = []  # (step, text) by segment index
        self._out: trio.MemorySendChannel[Segment] | None = None
        self.input_tokens = 0
        self.output_tokens = 0

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        own = (HANG_UP,) if self._agent.may_hang_up and HANG_UP.name not in self._tools else ()
        return tuple(tool.spec for tool in self._tools.values()) + own

    async def run(self, out: trio.MemorySendChannel[Segment]) -> None:
        """Think to the end, sending each segment as soon as it is whole; closes ``out``.

        Raises:
            ProviderError: the model failed (in an exception group).
        """
        self._out = out
        with out:
            then: list[Message] = []
            for _ in range(self._config.tool_steps_max):
                step = Step()
                self.steps.append(step)
                await self._ask(step, tuple(then), out)
                if not step.calls:
                    return
                then.append(Message(role="assistant", text=step.text, tool_calls=tuple(step.calls)))
                for call in step.calls:
                    outcome = step.outcomes[call.id] = Outcome()
                    await self._call(call, outcome, out)
                    result = outcome.result or ""
                    then.append(Message(role="tool", text=result, tool_call_id=call.id))

    async def _ask(
        self, step: Step, then: tuple[Message, ...], out: trio.MemorySendChannel[Segment]
    ) -> None:
        request = ResponderRequest(
            context=self._context, messages=self._messages + then, tools=self.specs
        )
        splitter = SentenceSplitter()
        tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._respond, request, tx)
            limit_s = self._config.first_token_limit_s
            while True:
                try:
                    with trio.fail_after(limit_s):
                        delta = await rx.receive()
                except trio.EndOfChannel:
                    break
                except trio.TooSlowError as exc:
                    name = self._agent.responder.name
                    message = f"nothing for {limit_s:g} s"
                    raise ProviderError(name, message, retryable=True) from exc
                limit_s = self._config.stall_limit_s
                self._note("first_token")
                if isinstance(delta, TextDelta):
                    step.text += delta.text
                    for text in splitter.push(delta.text):
                        await self._say(text, out)
                elif isinstance(delta, ToolCall):
                    step.calls.append(delta)
                else:
                    self.input_tokens += delta.input_tokens
                    self.output_tokens += delta.output_tokens
                    break
            nursery.cancel_scope.cancel(reason="answer complete")
        for text in splitter.flush():
            await self._say(text, out)

    async def _respond(self, request: ResponderRequest, tx: trio.MemorySendChannel[Delta]) -> None:
        with tx:  # not `async with`: its checkpoint could turn an error into a cancellation
            await self._agent.responder.respond(request, tx)

    async def _say(self, text: str, out: trio.MemorySendChannel[Segment]) -> None:
        self._note("first_sentence")
        self.segments.append((len(self.steps) - 1, text))
        await out.send(Segment(index=len(self.segments) - 1, text=text))

    async def _call(
        self, call: ToolCall, outcome: Outcome, out: trio.MemorySendChannel[Segment]
    ) -> None:
        """Run one function; whatever happens, the model gets exactly one answer to it."""
        tool = self._tools.get(call.name)
        if tool is None and call.name == HANG_UP.name:
            tool = Tool(spec=HANG_UP, effect="terminal", run=_nothing)
        if tool is None:
            names = ", ".join(spec.name for spec in self.specs) or "none"
            outcome.result = f"error: there is no function {call.name}; there are: {names}"
            return
        try:
            arguments = parse_arguments(call)
        except ToolError as exc:
            outcome.result = f"error: {exc}"
            return
        key = f"{self._key}-{len(self.steps)}-{call.id}"
        use = ToolUse(arguments=arguments, key=key, call_id=self._context.call_id)
        async with trio.open_nursery() as nursery:
            if tool.effect != "terminal":
                nursery.start_soon(self._fill_after, self._config.tool_filler_after_s, out)
            await self._perform(tool, use, outcome)
            nursery.cancel_scope.cancel(reason="function returned")

    async def fill(self) -> None:
        """Say the filler line now, if the thought is still going on."""
        if self._out is not None:
            await self._fill_after(0, self._out)

    async def _fill_after(self, delay_s: float, out: trio.MemorySendChannel[Segment]) -> None:
        """A long silence sounds like a dropped call: say that we are at it, once."""
        await trio.sleep(delay_s)
        if self._agent.definition.filler_line:
            try:
                await self._say(self._agent.definition.filler_line, out)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return  # the thought ended in this very moment: there is nothing to bridge


async def _nothing(use: ToolUse) -> str:
    """The hang-up itself is the call's: it ends when this has returned."""
    return "the call is ending"
