"""Runs functions under the rules of their effect; each call of one has exactly one outcome.

The rules are those of :mod:`rtcore.agent.tools`. A ``write`` is started in the nursery of the
call, not of the reply that wanted it: an interruption finds it running and lets it, the end of
the call ends it.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from rtcore.agent.conversation import Conversation
from rtcore.agent.tools import RESULT_MAX_CHARS, Tool, ToolError, ToolUse
from rtcore.errors import first_error

__all__ = ["CUT_OFF", "Outcome", "Performer"]

log = structlog.get_logger()

CUT_OFF = "error: the call ended while this ran; whether it took effect is not known"
CANCELLED = "cancelled: the caller interrupted before this was done"
BROKEN = "error: the function failed; say so and do not try it again"


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
        # woken and cancelled in one tick, the reply is settled already: begin nothing for it
        await trio.lowlevel.checkpoint_if_cancelled()
        self.calls += 1
        outcome.is_begun = True
        if tool.effect == "write":
            self._start(self._run, tool, use, outcome)
            await outcome.done.wait()
        else:
            await self._run(tool, use, outcome)

    async def _run(self, tool: Tool, use: ToolUse, outcome: Outcome) -> None:
        """Run ``tool`` to its one result. The boundary to code that is not ours: whatever it
        raises is a result for the model and, its words left out, a line in the log."""
        limit_s = tool.limit_s or self._limit_s
        result = CUT_OFF if tool.effect == "write" else CANCELLED
        try:
            with trio.fail_after(limit_s):
                result = _capped(await tool.run(use))
        except* ToolError as group:
            result = _capped(f"error: {first_error(group)}")
        except* trio.TooSlowError:
            result = f"error: {tool.name} gave no answer within {limit_s:g} s"
        except* Exception as group:
            result = BROKEN
            _report(tool, use, first_error(group))
        finally:
            outcome.result = result
            outcome.done.set()
            if outcome.entry is not None:
                self._conversation.resolve(outcome.entry, result)


def _capped(text: str) -> str:
    """``text`` short enough for a model's context, saying so where it was cut."""
    if len(text) <= RESULT_MAX_CHARS:
        return text
    return f"{text[:RESULT_MAX_CHARS]}\n[cut: {len(text)} characters in all]"


def _report(tool: Tool, use: ToolUse, error: Exception) -> None:
    """Where it broke, not on what: an error's text may hold a caller's words."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    log.error(
        "function_failed",
        function=tool.name,
        call_id=use.call_id,
        error=type(error).__name__,
        at=at,
    )
