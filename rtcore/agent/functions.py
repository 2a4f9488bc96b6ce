"""A Python coroutine function as a function of an agent: its annotations are its schema."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from rtcore.agent.tools import Effect, Tool, ToolError, ToolUse
from rtcore.errors import ConfigError
from rtcore.ports import ToolSpec

__all__ = ["function"]


def function(
    fn: Callable[..., Awaitable[object]],
    effect: Effect,
    *,
    name: str = "",
    description: str = "",
    fixed: Mapping[str, Any] | None = None,
    limit_s: float | None = None,
) -> Tool:
    """``fn`` as an agent's function: called with the arguments by name, in their types.

    Parameters are what the model fills in (``Annotated[str, msgspec.Meta(description=...)]``
    tells it more), but for those in ``fixed`` and one annotated :class:`ToolUse`, which is
    given the call's key and control. What is returned goes to the model: text as it is,
    anything else as JSON. A :class:`ToolError` tells the model what went wrong; any other
    exception is logged by its place alone and told as a failure.

    Raises:
        ConfigError: a parameter has no annotation, or one that JSON cannot carry.
    """
    name = name or getattr(fn, "__name__", "")
    fixed = dict(fixed or {})
    fields: list[tuple[str, Any, Any]] = []
    use_name = None
    hints = typing.get_type_hints(fn, include_extras=True)
    for parameter in inspect.signature(fn).parameters.values():
        where = f"functions.{name}.{parameter.name}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(where, "cannot be filled in by name: name each parameter")
        if parameter.name not in hints:
            raise ConfigError(where, "has no annotation: the model is told its type from it")
        if hints[parameter.name] is ToolUse:
            use_name = parameter.name
        else:
            has_default = parameter.default is not parameter.empty
            default = parameter.default if has_default else msgspec.NODEFAULT
            fields.append((parameter.name, hints[parameter.name], default))
    arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)

    async def run(use: ToolUse) -> str:
        try:
            typed = msgspec.convert(dict(use.arguments), arguments)
        except msgspec.ValidationError as exc:
            raise ToolError(f"the arguments of {name} are invalid: {exc}") from exc
        given = {field: getattr(typed, field) for field in typed.__struct_fields__}
        if use_name is not None:
            given[use_name] = use
        result = await fn(**given)
        return result if isinstance(result, str) else msgspec.json.encode(result).decode()

    spec = ToolSpec(
        name=name,
        description=description or inspect.getdoc(fn) or "",
        parameters=_schema(name, arguments, fixed),
    )
    return Tool(spec=spec, effect=effect, run=run, fixed=fixed, limit_s=limit_s)


def _schema(name: str, arguments: type[msgspec.Struct], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of what the model fills in: ``arguments`` without ``fixed``."""
    try:
        _, parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except (TypeError, NameError) as exc:  # a class of which JSON knows nothing
        raise ConfigError(f"functions.{name}", f"a parameter cannot be JSON: {exc}") from exc
    schema: dict[str, Any] = parts.pop(name)
    del schema["title"]
    for field in fixed:
        schema["properties"].pop(field, None)
    schema["required"] = [field for field in schema["required"] if field not in fixed]
    return {**schema, "$defs": parts} if parts else schema
