"""Functions an agent may call, and the rules that keep them safe under interruption.

Each declares what it does to the world:

``read``      changes nothing: may run on speculation, dies with the reply that wanted it.
``write``     changes something: runs only once the turn is committed, is shielded from the
              interruption of its reply, at most once, with an idempotency key.
``terminal``  ends or moves the call: runs once what was said before it has been heard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from rtcore.ports import ToolCall, ToolSpec

__all__ = [
    "HANG_UP",
    "RESULT_MAX_CHARS",
    "Effect",
    "Tool",
    "ToolError",
    "ToolUse",
    "parse_arguments",
]

Effect = Literal["read", "write", "terminal"]
RESULT_MAX_CHARS = 8000  # more only fills the model's context


class ToolError(Exception):
    """A function could not do what was asked; the text goes back to the model."""


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler is given: ``key`` is the same for every attempt at the same call."""

    arguments: Mapping[str, Any]
    key: str
    call_id: str


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function with its effect; ``run`` returns the text the model is told."""

    spec: ToolSpec
    effect: Effect
    run: Callable[[ToolUse], Awaitable[str]]

    @property
    def name(self) -> str:
        return self.spec.name


HANG_UP = ToolSpec(
    name="hang_up",
    description="End the call, after the goodbye has been heard. Say the goodbye in your answer.",
    parameters={"type": "object", "properties": {}},
)


def parse_arguments(call: ToolCall) -> Mapping[str, Any]:
    """The arguments of ``call`` as an object.

    Raises:
        ToolError: they are not a JSON object; the text tells the model what to do.
    """
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError as exc:
        raise ToolError(f"the arguments of {call.name} are not valid JSON: {exc}") from exc
    if not isinstance(arguments, dict):
        raise ToolError(f"the arguments of {call.name} must be a JSON object")
    return arguments
