"""Runs functions under the rules of their effect; each call of one has exactly one outcome.

The rules are those of :mod:`rtcore.agent.tools`. A ``write`` is started in the nursery of the
call, not of the reply that wanted it: an interruption finds it running and lets it, the end of
the call ends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from rtcore.agent.conversation import Conversation
from rtcore.agent.tools import RESULT_MAX_CHARS, Tool, ToolError, ToolUse

__all__ = ["Outcome", "Performer"]


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one call of a function. ``result`` is None until it is known."""

    is_begun: bool = False  # it may have touched the world
    result: str | None = None
    done: trio.Event = field(default_factory=trio.Event)
    entry: int | None = None  # where the conversation waits for a late result


class Performer:
    """Runs the functions of one call (or chat)."""

    def __init__(
        self,
        conversation: Conversation,
        limit_s: float,
        start: Callable[..., None],
    ) -> None:
        """``start(async_fn, *args)`` starts a task that lives as long as the call does."""
        self._conversation = conversation
        self._limit_s = limit_s
        self._start = start
        self.calls = 0

    async def perform(
        self,
        tool: Tool,
        use: ToolUse,
        outcome: Outcome,
        committed: trio.Event,
        heard: Callable[[], Awaitable[None]],
    ) -> None:
        """Run ``tool`` as soon as its effect allows; fill ``outcome``.

        ``committed`` is set once the turn is certain; ``heard`` waits until what was said
        before has been heard. Cancelled: a ``read`` dies, a ``write`` that has begun goes on.
        """
        if tool.effect != "read":
            await committed.wait()
        if tool.effect == "terminal":
            await heard()
        self.calls += 1
        outcome.is_begun = True
        if tool.effect == "write":
            self._start(self._run, tool, use, outcome)
            await outcome.done.wait()
        else:
            await self._run(tool, use, outcome)

    async def _run(self, tool: Tool, use: ToolUse, outcome: Outcome) -> None:
        try:
            with trio.fail_after(self._limit_s):
                outcome.result = _capped(await tool.run(use))
        except ToolError as exc:
            outcome.result = f"error: {exc}"
        except trio.TooSlowError:
            outcome.result = f"error: {tool.name} gave no answer within {self._limit_s:g} s"
        outcome.done.set()
        if outcome.entry is not None:
            self._conversation.resolve(outcome.entry, outcome.result)


def _capped(result: Any) -> str:
    """``result`` short enough for a model's context, saying so where it was cut."""
    text = str(result)
    if len(text) <= RESULT_MAX_CHARS:
        return text
    return f"{text[:RESULT_MAX_CHARS]}\n[cut: {len(text)} characters in all]"
