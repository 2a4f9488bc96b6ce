"""Reads what is stored, be it a newer node's: a field this one does not know is left out.

While a system is upgraded node by node, or brought back, nodes of two ages share a store. What
comes over the API stays strict: there a field that nobody knows is a mistake, here another node
knows it. A value that cannot be used is refused in both places.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import inspect

__all__ = ["read_stored"]

S = TypeVar("S", bound=msgspec.Struct)

LOGGED_MAX = 1000  # names; there are fewer fields in all, unless somebody writes the rows by hand

log = structlog.get_logger()
_logged: set[str] = set()


def read_stored(text: str | bytes, type_: type[S]) -> S:
    """What ``text`` says of a ``type_``; each field left out is logged once by a process.

    Raises:
        msgspec.ValidationError: a value is none that this node can use.
    """
    try:
        return msgspec.json.decode(text, type=type_)
    except msgspec.ValidationError:
        known = _known(msgspec.json.decode(text), _shape(type_))
        return msgspec.json.decode(msgspec.json.encode(known), type=type_)


@functools.cache
def _shape(type_: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(type_)


def _known(value: Any, shape: inspect.Type) -> Any:
    """``value`` without the fields that ``shape`` has no place for, however deep they lie."""
    match shape:
        case inspect.Metadata():
            names = (shape.extra or {}).get("names_of")
            if names is not None and isinstance(value, dict):
                return _only(value, names.__struct_fields__, names.__name__)
            return _known(value, shape.type)
        case inspect.UnionType():
            kinds = _KINDS.get(type(value), ())
            fitting = (each for each in shape.types if isinstance(_bare(each), kinds))
            fits = next(fitting, None)
            return value if fits is None else _known(value, fits)
        case inspect.StructType() if isinstance(value, dict):
            shapes = {field.encode_name: field.type for field in shape.fields}
            if shape.forbid_unknown_fields:
                value = _only(value, (*shapes, shape.tag_field), shape.cls.__name__)
            return {
                name: _known(each, shapes[name]) if name in shapes else each
                for name, each in value.items()
            }
        case inspect.DictType() if isinstance(value, dict):
            return {key: _known(each, shape.value_type) for key, each in value.items()}
        case inspect.CollectionType() if isinstance(value, list):
            return [_known(each, shape.item_type) for each in value]
    return value


_KINDS: dict[type, tuple[type[inspect.Type], ...]] = {
    dict: (inspect.StructType, inspect.DictType),
    list: (inspect.CollectionType,),
}


def _bare(shape: inspect.Type) -> inspect.Type:
    return _bare(shape.type) if isinstance(shape, inspect.Metadata) else shape


def _only(value: dict[str, Any], names: tuple[str | None, ...], owner: str) -> dict[str, Any]:
    for name in value:
        if name not in names:
            _log_once(f"{owner}.{name}")
    return {name: each for name, each in value.items() if name in names}


def _log_once(field: str) -> None:
    if field not in _logged and len(_logged) < LOGGED_MAX:
        _logged.add(field)
        log.warning("stored_field_unknown", field=field[:200])
