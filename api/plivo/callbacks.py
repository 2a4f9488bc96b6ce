"""A route for the carrier: read whole, its signature checked, its fields decoded, counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import structlog
import trio
from quart import Blueprint, Response, request

from api.calls.telephony import Telephony, telephony
from api.web.problems import ApiError
from api.web.requests import read_body
from rtcore.protocol.plivo_signature import verify_v3

__all__ = ["Told", "callback"]

BODY_MAX_BYTES = 64 << 10  # a callback has some forty short fields
FIELD_MAX_CHARS = 500  # a SIP address with its parameters; numbers have 15
FORM = "application/x-www-form-urlencoded"
NONCE_HEADER = "X-Plivo-Signature-V3-Nonce"

log = structlog.get_logger()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier says. ``fields`` hold numbers of people: never log them."""

    fields: dict[str, str]

    @property
    def event(self) -> str:
        return self.fields.get("Event", "")

    @property
    def carrier_id(self) -> str:
        return self.fields.get("CallUUID", "")[:64]


Handler = Callable[..., Awaitable[bytes | None]]


def callback(blueprint: Blueprint, rule: str) -> Callable[[Handler], Handler]:
    """Serve GET and POST of ``rule``: the handler gets the path's values and what was ``told``.

    It returns an answer document, or None where none is wanted. Unsigned requests get 403 and
    never reach it.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def serve(**values: Any) -> Response:
            line = telephony()
            route = handler.__name__
            body = await read_body(request, BODY_MAX_BYTES)
            form = _form(body)
            if not _is_signed(line, form):
                line.callbacks.labels(route, "unsigned").inc()
                log.warning("callback_refused", route=route)
                raise ApiError(HTTPStatus.FORBIDDEN, "the signature is missing or wrong")
            is_new = line.nonces.admit(request.headers.get(NONCE_HEADER, ""), trio.current_time())
            # a retry may repeat its nonce, and every handler may be told twice: counted, served
            line.callbacks.labels(route, "served" if is_new else "repeated").inc()
            query = dict(parse_qsl(_query(), keep_blank_values=True))
            told = Told(fields=_storable(query | _json(body) | dict(form)))
            document = await handler(told=told, **values)
            if document is None:
                return Response(b"", 200)
            return Response(document, 200, content_type="application/xml")

        blueprint.add_url_rule(rule, handler.__name__, serve, methods=["GET", "POST"])
        return handler

    return decorate


def _storable(fields: dict[str, str]) -> dict[str, str]:
    """``fields`` as a database takes them: no NUL, no lone surrogate, none of them a book."""
    return {
        name: value[:FIELD_MAX_CHARS].replace("\0", "").encode(errors="replace").decode()
        for name, value in fields.items()
    }


def _query() -> str:
    return request.query_string.decode("latin-1")


def _form(body: bytes) -> list[tuple[str, str]]:
    if request.mimetype != FORM:
        return []
    return parse_qsl(body.decode("utf-8", "surrogateescape"), keep_blank_values=True)


def _json(body: bytes) -> dict[str, str]:
    """The fields of a JSON body, which some pages show for stream status; else none."""
    if request.mimetype != "application/json":
        return {}
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _is_signed(line: Telephony, form: list[tuple[str, str]]) -> bool:
    """Whether the account signed this request, at the URL the carrier was told to ask."""
    if line.tokens is None:
        return True
    raw_path = request.scope.get("raw_path") or request.path.encode()
    query = _query()
    url = line.public_url + raw_path.decode("latin-1") + (f"?{query}" if query else "")
    return verify_v3(request.method, url, dict(request.headers), line.tokens, form=form)
