"""JSON Schema (2020-12) of a function's parameters: checked once, then arguments against it.

Nothing is fetched (a remote ``$ref`` is an error) and patterns run in linear time, so neither
a schema nor an argument can hold up the calls of a node.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec

from rtcore.errors import ConfigError

__all__ = ["Parameters"]

SCHEMA_MAX_BYTES = 32_768  # the model reads it with every request: more is a mistake
ERRORS_TOLD_MAX = 5  # enough for a model to mend its call


class Parameters:
    """The compiled schema of one function's parameters."""

    def __init__(self, schema: dict[str, Any], field: str) -> None:
        """``field`` is what an error calls the schema.

        Raises:
            ConfigError: it is no schema, does not describe an object, or is too large.
        """
        if schema and schema.get("type") != "object":
            raise ConfigError(field, 'must describe an object: add "type": "object"')
        try:
            size = len(msgspec.json.encode(schema))
        except (TypeError, ValueError) as exc:
            raise ConfigError(field, f"must hold nothing but JSON values: {exc}") from exc
        if size > SCHEMA_MAX_BYTES:
            raise ConfigError(field, f"is {size} octets long; at most {SCHEMA_MAX_BYTES}")
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except ValueError as exc:
            raise ConfigError(field, f"is no JSON Schema: {_first_line(exc)}") from exc

    def faults(self, arguments: dict[str, Any]) -> str:
        """What is wrong with ``arguments``, in words a model can act on; "" if nothing is."""
        told = []
        for error in self._validator.iter_errors(arguments):
            where = "/".join(str(part) for part in error.instance_path)
            told.append(f"{where}: {error.message}" if where else error.message)
            if len(told) == ERRORS_TOLD_MAX:
                break
        return "; ".join(told)


def _first_line(exc: Exception) -> str:
    return str(exc).split("\n", 1)[0]
