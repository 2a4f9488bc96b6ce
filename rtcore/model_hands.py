"""The functions a speech-to-speech model calls: run by their effects, their outcomes told.

The rules are those of :mod:`rtcore.agent.tools`. The model learns what became of each function,
also of one that outlives the reply that wanted it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from rtcore.agent.performing import CANCELLED, Outcome, Performer
from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.answering import Answers
from rtcore.model_reply import ModelReply
from rtcore.ports import ToolCall
from rtcore.reply import Mouth
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import CancelReply, ReplyToolCall, Say, ToolResult
from rtcore.weakly import weakly

__all__ = ["ModelHands"]


class ModelHands:
    """Runs the functions of one call."""

    def __init__(
        self,
        call: Answers,
        mouth: Mouth,
        link: SpeechLink,
        is_over: Callable[[ModelReply, ToolUse, Tool], bool],
        on_told: Callable[[ModelReply], None],
    ) -> None:
        """
        Args:
            is_over: told of each function that returned; whether that ended its reply.
            on_told: told when a result was: it is the model's move again.
        """
        self._call = call
        self._mouth = mouth
        self._link = link
        self._is_over = is_over
        self._on_told = on_told
        self._performer = Performer(call.conversation, call.config.tool_limit_s, weakly(call.start))

    @property
    def calls(self) -> int:
        """Functions that were run."""
        return self._performer.calls

    def want(self, reply: ModelReply, wanted: ReplyToolCall) -> None:
        """A step of ``reply`` ends with the function that is ``wanted``."""
        number, call = wanted.step, wanted.call
        step, _ = reply.step(number)
        reply.end_sound()
        if any(call.id == other.id for each in reply.steps for other in each.calls):
            return
        if number >= self._call.config.tool_steps_max:
            self._link.tell(CancelReply(reply=reply.id))
            self.refuse(wanted, "error: too many functions, one after another")
            reply.close("it calls functions without an end")
            return
        step.calls.append(call)
        step.outcomes[call.id] = outcome = Outcome()
        try:
            reply.calls.send_nowait((number, call))
        except (trio.WouldBlock, trio.BrokenResourceError):
            outcome.result = "error: too many functions at once"
            self._tell(reply, call, outcome.result)

    def refuse(self, wanted: ReplyToolCall, why: str) -> None:
        """A function that is not run has a result too, or its model would wait for it."""
        self._link.tell(ToolResult(reply=wanted.reply, call_id=wanted.call.id, text=why))

    async def use_all(self, reply: ModelReply) -> None:
        """Run the functions of ``reply``: those that only read together, the others in order.

        Cancelled: a ``read`` dies, a ``write`` that has begun goes on.
        """
        with reply.calls_rx:
            wanted = await self._next(reply)
            while wanted is not None:
                async with trio.open_nursery() as together:
                    while wanted is not None and self._only_reads(wanted[1]):
                        together.start_soon(self._use, reply, *wanted)
                        wanted = await self._next(reply)
                if wanted is not None:
                    await self._use(reply, *wanted)
                    wanted = await self._next(reply)

    def abandon(self, reply: ModelReply) -> None:
        """``reply`` is over before its functions: the model is told what becomes of each."""
        for step in reply.steps:
            for call in step.calls:
                outcome = step.outcomes[call.id]
                if outcome.is_begun and outcome.result is None:
                    self._call.start(self._tell_late, reply, call, outcome)
                else:
                    self._tell(reply, call, outcome.result or CANCELLED)

    def fill(self, reply: ModelReply) -> None:
        """Have the model say that it is at it, once, if ``reply`` waits for a function."""
        line = self._call.agent.definition.filler_line
        if line and reply.committed.is_set() and reply.owes_results and not reply.has_filled:
            reply.has_filled = True
            self._link.tell(Say(reply=reply.id, text=line))

    async def _next(self, reply: ModelReply) -> tuple[int, ToolCall] | None:
        try:
            return await reply.calls_rx.receive()
        except trio.EndOfChannel:
            return None

    def _only_reads(self, call: ToolCall) -> bool:
        tool = self._tool(call.name)
        return tool is None or tool.effect == "read"

    def _tool(self, name: str) -> Tool | None:
        return next((tool for tool in self._call.agent.offered if tool.name == name), None)

    async def _use(self, reply: ModelReply, number: int, call: ToolCall) -> None:
        """Run one function and tell the model what came of it."""
        step = reply.steps[number]
        outcome = step.outcomes[call.id]
        try:
            tool, arguments = self._checked(call)
        except ToolError as exc:
            outcome.result = f"error: {exc}"
            self._tell(reply, call, outcome.result)
            return
        use = ToolUse(
            arguments=arguments,
            key=f"{self._call.context.call_id}-{reply.number}-{number}-{step.calls.index(call)}",
            call_id=self._call.context.call_id,
            control=self._call.steering,
        )

        async def heard() -> None:
            await self._mouth.heard_for_sure(reply)

        self._call.note("function_wanted", name=tool.name, effect=tool.effect)
        async with trio.open_nursery() as bridging:
            if tool.effect != "terminal":
                bridging.start_soon(self._fill_after, reply)
            await self._performer.perform(tool, use, outcome, reply.committed, heard)
            bridging.cancel_scope.cancel(reason="function returned")
        if not self._is_over(reply, use, tool):
            self._tell(reply, call, outcome.result or "")

    def _checked(self, call: ToolCall) -> tuple[Tool, dict[str, Any]]:
        """The function ``call`` asks for, and its arguments.

        Raises:
            ToolError: there is none, or they are not what it takes.
        """
        tool = self._tool(call.name)
        if tool is None:
            names = ", ".join(tool.name for tool in self._call.agent.offered) or "none"
            raise ToolError(f"there is no function {call.name[:64]!r}; there are: {names}")
        return tool, tool.arguments_of(call)

    async def _fill_after(self, reply: ModelReply) -> None:
        """A long silence sounds like a dropped call."""
        await trio.sleep(self._call.config.tool_filler_after_s)
        await reply.committed.wait()
        await self._mouth.heard()
        self.fill(reply)

    def _tell(self, reply: ModelReply, call: ToolCall, text: str) -> None:
        """Tell the model what became of ``call``; once."""
        if call.id not in reply.told:
            reply.told.add(call.id)
            reply.alive_s = trio.current_time()
            self._link.tell(ToolResult(reply=reply.id, call_id=call.id, text=text))
            self._on_told(reply)

    async def _tell_late(self, reply: ModelReply, call: ToolCall, outcome: Outcome) -> None:
        """A function that has begun outlives its reply."""
        await outcome.done.wait()
        self._tell(reply, call, outcome.result or CANCELLED)
