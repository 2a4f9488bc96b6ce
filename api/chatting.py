"""A conversation in text, through the same agent code as a call.

What differs from a call: a message is certain when it comes, so functions may run at once; and
what is written is read, so all of an answer enters the conversation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.conversation import Conversation
from rtcore.agent.performing import Outcome, Performer
from rtcore.agent.thinking import Step, Thought
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolUse
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    Delta,
    Hit,
    KnowledgeIndex,
    Message,
    Responder,
    ResponderRequest,
    Segment,
    TextDelta,
)

__all__ = [
    "ChatEvent",
    "Emit",
    "FunctionCalled",
    "FunctionReturned",
    "Reply",
    "Token",
    "reply_to",
    "resumed",
]

SEGMENTS_MAX = 4  # nobody listens to them: only what keeps the thought from waiting
DELTAS_MAX = 32  # as in a call
HITS_MAX = 4  # as in a call
LOOKUP_LIMIT_S = 1.0


class Token(msgspec.Struct, frozen=True, kw_only=True, tag="token"):
    """The next piece of the answer."""

    text: str


class FunctionCalled(msgspec.Struct, frozen=True, kw_only=True, tag="function_called"):
    """The agent calls a function; ``arguments`` is what the model filled in."""

    id: str
    name: str
    arguments: Any


class FunctionReturned(msgspec.Struct, frozen=True, kw_only=True, tag="function_returned"):
    """A function has returned; ``result`` is what the model is told."""

    id: str
    name: str
    result: str


ChatEvent = Token | FunctionCalled | FunctionReturned
Emit = Callable[[ChatEvent], Awaitable[None]]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, and what it took."""

    text: str
    functions: list[FunctionReturned]
    has_ended: bool  # the agent said goodbye
    handed_to: str = ""  # the name of the colleague who goes on
    input_tokens: int
    output_tokens: int


async def reply_to(
    agent: Agent,
    config: CallConfig,
    conversation: Conversation,
    text: str,
    chat_id: str,
    emit: Emit,
) -> Reply:
    """Answer ``text``; the conversation gets both. ``emit`` may wait: the answer waits too.

    Raises:
        ProviderError: the mind failed (in an exception group); the conversation is unchanged.
        trio.TooSlowError: the whole took longer than ``config.reply_limit_s``; likewise.

    Cancelled: the model's request and all functions are ended; the conversation is unchanged.
    """
    context = CallContext(call_id=chat_id, language=agent.definition.language)
    committed = trio.Event()
    committed.set()
    returned: list[FunctionReturned] = []
    has_ended = False
    handed_to = ""

    with trio.fail_after(config.reply_limit_s):
        async with trio.open_nursery() as nursery:
            performer = Performer(conversation, config.tool_limit_s, nursery.start_soon)

            async def perform(tool: Tool, use: ToolUse, outcome: Outcome) -> None:
                nonlocal has_ended, handed_to
                outcomes = thought.steps[-1].outcomes
                id = next(id for id, each in outcomes.items() if each is outcome)
                await emit(FunctionCalled(id=id, name=tool.name, arguments=dict(use.arguments)))
                await performer.perform(tool, use, outcome, committed, _at_once)
                done = FunctionReturned(id=id, name=tool.name, result=outcome.result or "")
                returned.append(done)
                await emit(done)
                has_ended = has_ended or tool.name == HANG_UP.name
                if tool.name == HAND_OVER:
                    handed_to = use.arguments["to"]
                    nursery.cancel_scope.cancel(reason="handed over")
                    await trio.lowlevel.checkpoint()  # who hands over says nothing more

            thought = Thought(
                dataclasses.replace(agent, responder=_Tapped(agent.responder, emit)),
                context,
                config,
                conversation.messages(Message(role="user", text=text)),
                perform,
                _ignore,
                key=f"{chat_id}-{len(conversation.log)}",
                lookup=partial(_look_up, agent.knowledge) if agent.knowledge is not None else None,
            )
            segments_tx, segments_rx = trio.open_memory_channel[Segment](SEGMENTS_MAX)
            nursery.start_soon(thought.run, segments_tx)
            async with segments_rx:
                async for _ in segments_rx:  # a text is read as it was written, token by token
                    pass
    conversation.user(text)
    for step in thought.steps:
        _write_down(conversation, step)
    return Reply(
        text=" ".join(step.text.strip() for step in thought.steps if step.text.strip()),
        functions=returned,
        has_ended=has_ended,
        handed_to=handed_to,
        input_tokens=thought.input_tokens,
        output_tokens=thought.output_tokens,
    )


def resumed(system: str, log: tuple[Message, ...]) -> Conversation:
    """A conversation that goes on after ``log``."""
    conversation = Conversation(system)
    for message in log:
        match message.role:
            case "user":
                conversation.user(message.text)
            case "assistant":
                conversation.assistant(message.text, message.tool_calls)
            case "tool":
                conversation.tool(message.tool_call_id or "", message.text)
    return conversation


async def _look_up(knowledge: KnowledgeIndex, text: str) -> tuple[Hit, ...]:
    """What there is about ``text``; a reader waits longer than a caller does."""
    with trio.move_on_after(LOOKUP_LIMIT_S):
        try:
            return await knowledge.search(text, HITS_MAX)
        except ProviderError:
            return ()
    return ()


def _write_down(conversation: Conversation, step: Step) -> None:
    conversation.assistant(step.text, tuple(step.calls))
    for call in step.calls:
        conversation.tool(call.id, step.outcomes[call.id].result)


async def _at_once() -> None:
    """What is written has been read: a terminal function need not wait."""


def _ignore(milestone: str) -> None:
    """The times of a chat are nobody's measure."""


class _Tapped:
    """A responder whose tokens are told as they come."""

    def __init__(self, responder: Responder, emit: Emit) -> None:
        self._responder = responder
        self._emit = emit

    @property
    def name(self) -> str:
        return self._responder.name

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)
        async with trio.open_nursery() as nursery, rx:
            nursery.start_soon(self._ask, request, tx)
            async for delta in rx:
                if isinstance(delta, TextDelta):
                    await self._emit(Token(text=delta.text))
                await out.send(delta)

    async def _ask(self, request: ResponderRequest, tx: trio.MemorySendChannel[Delta]) -> None:
        async with tx:
            await self._responder.respond(request, tx)
