"""A thought driven without a call: a model that follows a script, and all that it led to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.conversation import Conversation
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.performing import Outcome, Performer
from rtcore.agent.thinking import Thought
from rtcore.agent.tools import Effect, Tool, ToolUse
from rtcore.config import CallConfig
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
from rtcore.testing import ScriptedSynthesizer, ScriptedTranscriber
from rtcore.turn.completeness import Expectation

DEFINITION = AgentDefinition(name="desk")
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Model:
    """Answers the n-th request with the n-th step, the last for ever."""

    name = "model"

    def __init__(self, *steps: str | Sequence[ToolCall]) -> None:
        self.steps = steps
        self.requests: list[ResponderRequest] = []

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        step = self.steps[min(len(self.requests), len(self.steps) - 1)]
        self.requests.append(request)
        if isinstance(step, str):
            await out.send(TextDelta(text=step))
        else:
            for call in step:
                await out.send(call)
        await out.send(Finished())

    def told(self, request: int) -> list[str]:
        """The results of functions that request number ``request`` held."""
        return [m.text for m in self.requests[request].messages if m.role == "tool"]


@dataclass
class Control:
    """A call that writes down what its functions do to it."""

    done: list[object] = field(default_factory=list)

    async def transfer(self, to: str, summary: str = "") -> None:
        self.done.append(("transfer", to))

    def send_dtmf(self, digits: str) -> None:
        self.done.append(("keys", digits))

    def wait_for_caller(self, seconds: float) -> None:
        self.done.append(("wait", seconds))

    def expect(self, expectation: Expectation) -> None:
        self.done.append(expectation)


def call(name: str, arguments: str = "{}", id: str = "c1") -> ToolCall:
    return ToolCall(id=id, name=name, arguments=arguments)


def tool(
    name: str,
    effect: Effect = "read",
    *,
    takes_s: float = 0.0,
    result: str = "done",
    parameters: dict[str, object] | None = None,
    log: list[object] | None = None,
    **more: object,
) -> Tool:
    async def run(use: ToolUse) -> str:
        if log is not None:
            log.append((name, trio.current_time(), dict(use.arguments), use.key))
        await trio.sleep(takes_s)
        return result

    spec = ToolSpec(name=name, description=name, parameters=parameters or {})
    return Tool(spec=spec, effect=effect, run=run, **more)  # type: ignore[arg-type]


async def think(
    model: Model,
    *tools: Tool,
    config: CallConfig | None = None,
    control: CallControl | None = None,
    definition: AgentDefinition = DEFINITION,
    messages: tuple[Message, ...] = (Message(role="user", text="Hello?"),),
    lookup: Callable[[str], Awaitable[tuple[Hit, ...]]] | None = None,
) -> tuple[list[str], Thought]:
    """Think one committed reply; return what is to be said, and the thought."""
    config = config or CallConfig()
    agent = Agent(definition, ScriptedTranscriber([""]), model, ScriptedSynthesizer(), tools)
    said: list[str] = []
    committed = trio.Event()
    committed.set()
    async with trio.open_nursery() as nursery:
        performer = Performer(Conversation(), config.tool_limit_s, nursery.start_soon)

        async def perform(tool: Tool, use: ToolUse, outcome: Outcome) -> None:
            await performer.perform(tool, use, outcome, committed, trio.lowlevel.checkpoint)

        context = CallContext(call_id="call-1")
        thought = Thought(
            agent, context, config, messages, perform, lambda _: None, "call-1-1", control, lookup
        )
        tx, rx = trio.open_memory_channel[Segment](0)
        nursery.start_soon(thought.run, tx)
        async with rx:
            async for segment in rx:
                said.append(segment.text)
    return said, thought
