"""Functions an agent may call, and the rules that keep them safe under interruption.

Each declares what it does to the world:

``read``      changes nothing: may run on speculation, dies with the reply that wanted it.
``write``     changes something: runs only once the turn is committed, is shielded from the
              interruption of its reply, at most once, with an idempotency key.
``terminal``  ends or moves the call: runs once what was said before it has been heard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import msgspec

from rtcore.agent.schema import Parameters
from rtcore.errors import ConfigError, ToolError
from rtcore.ports import ToolCall, ToolSpec, ToolUse

__all__ = [
    "HAND_OVER",
    "HANG_UP",
    "RESULT_MAX_CHARS",
    "Effect",
    "Tool",
    "ToolError",
    "ToolUse",
]

Effect = Literal["read", "write", "terminal"]
RESULT_MAX_CHARS = 8000  # more only fills the model's context


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function with its effect; ``run`` returns the text the model is told.

    ``fixed`` is added to what the model fills in, which never sees it and cannot change it.

    Raises:
        ConfigError: ``spec.parameters`` is not the JSON Schema of an object, or ``effect`` is none.
    """

    spec: ToolSpec
    effect: Effect
    run: Callable[[ToolUse], Awaitable[str]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    limit_s: float | None = None  # how long it may take; None: as the call's settings say
    parameters: Parameters = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = f"functions.{self.spec.name}"
        if self.effect not in get_args(Effect):  # misspelt, a write would lose its protection
            known = ", ".join(get_args(Effect))
            raise ConfigError(f"{where}.effect", f"{self.effect!r} is none of {known}")
        parameters = Parameters(self.spec.parameters, f"{where}.parameters")
        object.__setattr__(self, "parameters", parameters)

    @property
    def name(self) -> str:
        return self.spec.name

    def arguments_of(self, call: ToolCall) -> dict[str, Any]:
        """What ``call`` asks for, checked against the schema, with the fixed ones merged.

        Raises:
            ToolError: it is not what the schema asks for; the text tells the model what to mend.
        """
        try:
            arguments = msgspec.json.decode(call.arguments or "{}")
        except msgspec.DecodeError as exc:
            raise ToolError(f"the arguments of {self.name} are not valid JSON: {exc}") from exc
        if not isinstance(arguments, dict):
            raise ToolError(f"the arguments of {self.name} must be a JSON object")
        if faults := self.parameters.faults(arguments):
            raise ToolError(f"the arguments of {self.name} are invalid: {faults}")
        return {**arguments, **self.fixed}


HANG_UP = ToolSpec(
    name="hang_up",
    description="End the call, after the goodbye has been heard. Say the goodbye in your answer.",
    parameters={"type": "object", "properties": {}},
)
HAND_OVER = "hand_over"  # the name of the function that has another agent go on with the call
