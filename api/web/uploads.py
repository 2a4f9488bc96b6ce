"""Reading a file from a multipart body, without trusting its name, its type or its size."""

from __future__ import annotations

import io
from http import HTTPStatus

import trio
from quart import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from api.web.problems import ApiError, invalid
from api.web.requests import read_body, refuse_nul

__all__ = ["Upload", "read_upload"]

Upload = tuple[str, bytes]  # the name of the file, its content
NAME_MAX_CHARS = 200
FRAMING_BYTES = 4096  # the boundaries and heads around the file
PARTS_MAX = 4


async def read_upload(field: str, limit_bytes: int) -> Upload:
    """The file sent as ``field``.

    Raises:
        ApiError: 415 not multipart, 400 malformed, 413 too large, 422 no such file.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data":
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send the file as multipart/form-data: curl -F {field}=@menu.md",
            headers={"Accept": "multipart/form-data"},
        )
    body = await read_body(request, limit_bytes + FRAMING_BYTES)
    try:
        found = await trio.to_thread.run_sync(_parse, field, body, boundary)
    except ValueError as exc:
        detail = f"the multipart body is malformed: {exc}"
        raise ApiError(HTTPStatus.BAD_REQUEST, detail) from exc
    except RequestEntityTooLarge as exc:
        detail = f"the multipart body has more than {PARTS_MAX} parts: send the file alone"
        raise ApiError(HTTPStatus.BAD_REQUEST, detail) from exc
    if found is None:
        raise invalid(field, "missing: send exactly one file in this field")
    name, content = found
    name = name.replace("\\", "/").rpartition("/")[2].strip()  # some browsers send a path
    refuse_nul(name, field)
    if not name.isprintable() or not 0 < len(name) <= NAME_MAX_CHARS:
        raise invalid(field, f"the file needs a name of 1 to {NAME_MAX_CHARS} printable characters")
    if len(content) > limit_bytes:
        detail = f"the file may have {limit_bytes} octets: split it"
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
    return name, content


def _parse(field: str, body: bytes, boundary: str) -> Upload | None:
    """The one file of ``field``; None if it is missing, no file, or sent twice.

    Raises:
        ValueError: not multipart.
        RequestEntityTooLarge: too many parts.
    """
    if not boundary or not boundary.isascii():
        raise ValueError("it has no boundary")
    # in memory, where the body is already, and bounded with it
    parser = MultiPartParser(stream_factory=_memory, max_form_parts=PARTS_MAX)
    form, files = parser.parse(io.BytesIO(body), boundary.encode(), len(body))
    given = files.getlist(field)
    if len(given) != 1 or field in form:
        return None
    return given[0].filename or "", given[0].read()


def _memory(
    total_content_length: int | None,
    content_type: str | None,
    filename: str | None,
    content_length: int | None = None,
) -> io.BytesIO:
    return io.BytesIO()
