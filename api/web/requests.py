"""Reading requests: strict JSON into structs, query strings, conditional headers.

What cannot be used is refused with the name of the field; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Generic, TypeVar, Union

import msgspec
import trio
from msgspec import Meta
from quart import Request, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from api.store.records import Page
from api.web.problems import ApiError, invalid

__all__ = [
    "NameFilter",
    "PageView",
    "Paging",
    "changes_of",
    "decode_json",
    "decode_query",
    "drain",
    "etag",
    "page_view",
    "partial_of",
    "read_body",
    "refuse_nul",
    "told_by",
    "unfit",
    "wanted_revision",
]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

OFFSET_MAX = 1_000_000
DRAIN_LIMIT_S = 1.0  # whoever sends for longer after a refusal is cut off
BODY_LIMIT_S = 60.0  # 10 MiB over a line of 1.4 Mbit/s
# a proxy that compresses calls our tags weak; what they name is a revision all the same
REVISION = re.compile(r'(?:W/)?"([0-9]{1,9})"')
# msgspec tells the place in its message alone: "… - at `$.a[0].b`", "… - at `key` in `$.a`"
PLACE = re.compile(
    r"(?P<message>.*?)(?: - at `(?P<key>key` in `)?\$\.?(?P<path>[^`]*)`)?", re.DOTALL
)
KEYS = re.compile(r"\[\.\.\.\]|\[[0-9]+\]|[^.\[\]]+")  # of a path, one after another
ANY_KEY = "[...]"
OWN = re.compile(r"(?P<field>turn): (?P<message>.*)", re.DOTALL)  # told by the agent itself
KEY_MAX_CHARS = 100  # of one that somebody made up, as it is told
KEYS_MAX = 200  # tried one by one: more than any object may have whose keys have a rule
NAMED = re.compile(r"(?:missing required|contains unknown) field `(?P<name>[^`]*)`")


class Paging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a list is wanted."""

    limit: Annotated[int, Meta(ge=1, le=100, description="At most so many items.")] = 20
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX, description="How many to pass over.")] = 0


class NameFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of what has a name."""

    name: (
        Annotated[str, Meta(max_length=200, description="Only names that contain this.")] | None
    ) = None


class PageView(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Part of a list, newest first. ``next_offset`` is null on the last page."""

    items: list[T]
    total: int
    limit: int
    offset: int
    next_offset: int | None


def page_view(page: Page[Any], items: Iterator[T], paging: Paging) -> PageView[T]:
    """``page`` as it is shown, its items as ``items``."""
    shown = list(items)
    after = paging.offset + len(shown)
    return PageView(
        items=shown,
        total=page.total,
        limit=paging.limit,
        offset=paging.offset,
        next_offset=after if shown and after < page.total else None,
    )


async def read_body(incoming: Request, limit_bytes: int) -> bytes:
    """The whole body, counted as it comes.

    Raises:
        ApiError: 413 it is longer than ``limit_bytes``, 408 it does not come.
    """
    if (incoming.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    with trio.move_on_after(BODY_LIMIT_S):
        async for piece in incoming.body:
            body += piece
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
        return bytes(body)
    detail = f"the body did not come within {BODY_LIMIT_S:g} s: send it again"
    raise ApiError(HTTPStatus.REQUEST_TIMEOUT, detail)


async def drain(incoming: Request) -> bool:
    """Throw away what is left of the body; False if it does not end soon.

    A request that is answered before its body has come leaves Hypercorn 0.18 deaf to the next
    one on that connection (seen with schemathesis: an early 404, then silence).
    """
    with trio.move_on_after(DRAIN_LIMIT_S):
        try:
            async for _ in incoming.body:
                pass
        except RequestEntityTooLarge:
            return False
        return True
    return False


def _too_large(limit_bytes: int) -> ApiError:
    detail = f"the body may have {limit_bytes} octets: send less"
    return ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


def decode_json(body: bytes, type_: type[S]) -> S:
    """
    Raises:
        ApiError: 415 not sent as JSON, 400 not JSON, 422 not what ``type_`` says.
    """
    if request.mimetype != "application/json":
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send JSON, and say so: Content-Type: application/json",
            headers={"Accept": "application/json"},
        )
    try:
        with suppress(msgspec.ValidationError):  # a number out of range: its type knows where
            refuse_nul(msgspec.json.decode(body))
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as exc:
        raise unfit(exc, told_by(exc, body, type_)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = "nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        detail = f"the body is not JSON in UTF-8: {reason}"
        raise ApiError(HTTPStatus.BAD_REQUEST, detail) from exc


def decode_query(args: MultiDict[str, str], type_: type[S]) -> S:
    """
    Raises:
        ApiError: 422 with the name of the parameter.
    """
    values: dict[str, str] = {}
    for name, given in args.lists():
        if len(given) > 1:
            raise invalid(name, "given twice: give it once")
        values[name] = given[0]
    refuse_nul(values)
    try:
        query = msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as exc:
        raise unfit(exc) from exc
    for name in values:
        if getattr(query, name) is None:  # lax conversion takes the text "null" for it
            raise invalid(name, "null is no value: leave the parameter out")
    return query


def unfit(exc: ValueError | msgspec.ValidationError, path: str | None = None) -> ApiError:
    """422: what msgspec, or a struct itself, found wrong, told by its field (at ``path``)."""
    place = PLACE.fullmatch(str(exc))
    assert place is not None  # the pattern takes any text
    message = place["message"].replace(r"\\Z'", "$'")  # as users know it, and the specification
    path = (place["path"] or "") if path is None else path
    if own := OWN.fullmatch(message):
        message, path = own["message"], f"{own['field']}.{path}" if path else own["field"]
    if named := NAMED.search(message):
        path = f"{path}.{named['name']}" if path else named["name"]
    return invalid(path, message)


def told_by(exc: msgspec.ValidationError, body: bytes, type_: type[S]) -> str | None:
    """The path that ``exc`` tells, with the keys it leaves out; None: as ``exc`` has it.

    msgspec names no key that the sender made up. Which it was is found by leaving the others out.
    """
    place = PLACE.fullmatch(str(exc))
    if place is None or (ANY_KEY not in (place["path"] or "") and not place["key"]):
        return None
    try:
        whole = at = msgspec.json.decode(body)
    except msgspec.ValidationError:  # a number out of range, which has no place without a type
        return None
    told = ""
    for part in [*KEYS.findall(place["path"]), *([ANY_KEY] if place["key"] else [])]:
        if part != ANY_KEY:
            told += part if part.startswith("[") or not told else f".{part}"
            at = at[int(part[1:-1])] if part.startswith("[") else at[part]
            continue
        key = _culprit(exc, at, whole, type_)
        if key is None:
            return None
        told += f".{key[:KEY_MAX_CHARS]}"
        at = at[key]
    return told


def _culprit(
    exc: msgspec.ValidationError, at: dict[str, Any], whole: Any, type_: type[S]
) -> str | None:
    """The key of the object ``at``, somewhere in ``whole``, without which ``exc`` is not told."""
    given = dict(at)
    for key, value in islice(given.items(), KEYS_MAX):
        at.clear()
        at[key] = value
        try:
            msgspec.convert(whole, type_)
        except msgspec.ValidationError as again:
            if str(again) == str(exc):
                return key
    at.update(given)
    return None


def refuse_nul(value: Any, path: str = "") -> None:
    """PostgreSQL keeps no NUL in a text: none may come in, in any field.

    Raises:
        ApiError: 422 with the name of the field.
    """
    if isinstance(value, str):
        if "\0" in value:
            raise invalid(path, "the character NUL is not allowed")
    elif isinstance(value, dict):
        for key, each in value.items():
            refuse_nul(key, f"{path}.{key}" if path else key)
            refuse_nul(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            refuse_nul(each, f"{path}[{number}]")


# --- changes ----------------------------------------------------------------------------


def partial_of(spec: type[msgspec.Struct], name: str) -> type[msgspec.Struct]:
    """A struct with the fields of ``spec``, none of them required: the body of a PATCH."""
    fields = [
        (field.encode_name, Union[field.type, msgspec.UnsetType], msgspec.UNSET)  # noqa: UP007
        for field in msgspec.structs.fields(spec)  # Annotated has no ``|``
    ]
    return msgspec.defstruct(
        name,
        fields,
        kw_only=True,
        frozen=True,
        forbid_unknown_fields=True,
        namespace={"__doc__": "What to change; a field that is given replaces the old one."},
    )


def changes_of(patch: msgspec.Struct) -> dict[str, Any]:
    """The fields that a PATCH gives."""
    given = {name: getattr(patch, name) for name in patch.__struct_fields__}
    return {name: value for name, value in given.items() if value is not msgspec.UNSET}


def etag(revision: int) -> str:
    """The tag of a resource at ``revision``."""
    return f'"{revision}"'


def wanted_revision(*, required: bool) -> int | None:
    """The revision that ``If-Match`` names; None: any.

    Raises:
        ApiError: 428 it is missing and ``required``; 422 it is no tag of ours.
    """
    header = request.headers.get("If-Match")
    if header is None:
        if not required:
            return None
        detail = "say which revision you change: send the ETag of your last GET in If-Match"
        raise ApiError(HTTPStatus.PRECONDITION_REQUIRED, detail)
    if header.strip() == "*":
        return None
    match = REVISION.fullmatch(header.strip())
    if match is None:
        raise invalid("If-Match", f"not an ETag of ours, like {etag(3)}: GET the resource for it")
    return int(match[1])
