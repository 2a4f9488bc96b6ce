"""Reads and changes what is stored, be it a newer node's, with fields this one does not know.

While a system is upgraded node by node, or brought back, nodes of two ages share a store. Such a
field is left out where it is read, and stays where the rest of its document is changed. What
comes over the API stays strict: there a field that nobody knows is a mistake, here another node
knows it. A value that cannot be used is refused in both places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import inspect

from api.store.errors import Unreadable

__all__ = ["changed_fields", "read_stored", "rewritten"]

S = TypeVar("S", bound=msgspec.Struct)

PLACE = re.compile(r" - at `(?:key` in `)?\$\.?([^`]*)`$")
LOGGED_MAX = 1000  # names; there are fewer fields in all, unless somebody writes the rows by hand

log = structlog.get_logger()
_logged: set[str] = set()


def read_stored(text: str | bytes, type_: type[S], id: str) -> S:
    """What ``text``, stored for ``id``, says of a ``type_``.

    Each field left out is logged once by a process.

    Raises:
        Unreadable: a value is none that this node can use.
    """
    try:
        return msgspec.json.decode(text, type=type_)
    except msgspec.ValidationError:
        known = _known(msgspec.json.decode(text), _shape(type_))
    try:
        return msgspec.json.decode(msgspec.json.encode(known), type=type_)
    except msgspec.ValidationError as exc:  # where it lies, not what it is: that may reach a log
        place = PLACE.search(str(exc))
        raise Unreadable(id, place[1] if place else "") from exc


def changed_fields(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    """The fields in which two structs of one type differ, by the names they are stored under.

    They differ if they are written differently: Python takes 1 for true, and an object for the
    same in any order, while a service may not.
    """

    def written(struct: msgspec.Struct) -> dict[str, bytes]:
        fields = msgspec.structs.fields(struct)
        return {
            each.encode_name: msgspec.json.encode(getattr(struct, each.name)) for each in fields
        }

    before = written(old)
    return [name for name, text in written(new).items() if text != before[name]]


def rewritten(text: str | bytes, new: msgspec.Struct, changed: Collection[str]) -> str:
    """The document ``text`` with the fields ``changed`` as ``new`` has them, all else as it was.

    A field that is changed is replaced as a whole, with what else lay within it.
    """
    document = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    written = msgspec.json.decode(msgspec.json.encode(new), type=dict[str, msgspec.Raw])
    return msgspec.json.encode(document | {name: written[name] for name in changed}).decode()


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
            keys, values = shape.key_type, shape.value_type
            return {_known(key, keys): _known(each, values) for key, each in value.items()}
        case inspect.CollectionType() if isinstance(value, list):
            return [_known(each, shape.item_type) for each in value]
        case inspect.StrType(pattern=str()) if isinstance(value, str):
            return value.removesuffix("\n")  # an older node let a line end after what it takes
    return value


_KINDS: dict[type, tuple[type[inspect.Type], ...]] = {
    dict: (inspect.StructType, inspect.DictType),
    list: (inspect.CollectionType,),
    str: (inspect.StrType,),
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
