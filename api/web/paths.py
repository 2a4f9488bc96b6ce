"""What a path may hold: anything else is not found, before it reaches a handler."""

from __future__ import annotations

from typing import Any

from quart import Quart
from werkzeug.routing import BaseConverter

__all__ = ["add_converters", "schema_of"]


class IdConverter(BaseConverter):
    """The id of a resource, as the store makes them."""

    regex = "[a-z]{2,4}_[0-9a-f]{24}"


class NameConverter(BaseConverter):
    """A name that users give to a secret."""

    regex = "[a-z0-9][a-z0-9_-]{0,62}"


class NumberConverter(BaseConverter):
    """A version: from 1, at most what a 32-bit column holds."""

    regex = "[1-9][0-9]{0,8}"

    def to_python(self, value: str) -> int:
        return int(value)


def add_converters(app: Quart) -> None:
    """Let the rules of ``app`` say ``<id:…>``, ``<name:…>`` and ``<number:…>``."""
    converters = {"id": IdConverter, "name": NameConverter, "number": NumberConverter}
    app.url_map.converters.update(converters)


def schema_of(converter: BaseConverter) -> dict[str, Any]:
    """The JSON Schema of what ``converter`` takes."""
    if isinstance(converter, NumberConverter):
        return {"type": "integer", "minimum": 1, "maximum": 999_999_999}
    return {"type": "string", "pattern": f"^{converter.regex}$"}
