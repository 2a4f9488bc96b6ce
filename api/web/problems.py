"""Errors as ``application/problem+json`` (RFC 9457): what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType
from quart import Response, g
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from api.store import errors as store_errors
from rtcore.errors import ConfigError, RtcoreError

__all__ = [
    "CONTENT_TYPE",
    "STORE_ERRORS",
    "ApiError",
    "FieldError",
    "Problem",
    "as_problem",
    "configured",
    "from_store",
    "handle_problems",
    "invalid",
]

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"  # a database that did not answer: long enough to ask it again


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with one field. ``field`` is its path, ``a.b[0]``."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error: ``type`` and ``status`` are for programs, ``detail`` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] | UnsetType = UNSET
    users: list[store_errors.User] | UnsetType = UNSET


class ApiError(RtcoreError):
    """A request that is refused; becomes a :class:`Problem`."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        fields: Sequence[FieldError] = (),
        users: Sequence[store_errors.User] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.fields, self.users = tuple(fields), tuple(users)
        self.headers = dict(headers or {})


def invalid(field: str, message: str) -> ApiError:
    """422: ``field`` cannot be what it is."""
    fields = [FieldError(field=field, message=message)]
    detail = f"{field}: {message}" if field else message
    return ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, fields=fields)


@contextmanager
def configured() -> Iterator[None]:
    """What the block finds wrong with a field becomes the answer to the request.

    Raises:
        ApiError: 422, the block raised :class:`ConfigError`.
    """
    try:
        yield
    except ConfigError as exc:
        raise invalid(exc.field, str(exc).removeprefix(f"{exc.field}: ")) from exc


def as_problem(error: ApiError, request_id: str) -> Problem:
    """``error`` as it is told."""
    return Problem(
        type=f"urn:rtcore:problem:{error.status.phrase.lower().replace(' ', '-')}",
        title=error.status.phrase,
        status=error.status,
        detail=error.detail,
        request_id=request_id,
        errors=list(error.fields) or UNSET,
        users=list(error.users) or UNSET,
    )


def _response(error: ApiError) -> Response:
    body = msgspec.json.encode(as_problem(error, g.get("request_id", "")))
    return Response(body, error.status, error.headers, content_type=CONTENT_TYPE)


def from_store(exc: RtcoreError) -> ApiError:
    """The answer to what the store refuses."""
    detail = str(exc)
    match exc:
        case store_errors.NotFound():
            return ApiError(HTTPStatus.NOT_FOUND, detail)
        case store_errors.RevisionChanged():
            return ApiError(
                HTTPStatus.PRECONDITION_FAILED,
                f"{detail}: GET it again and send its ETag in If-Match",
                headers={"ETag": f'"{exc.revision}"'},
            )
        case store_errors.InUse():
            return ApiError(HTTPStatus.CONFLICT, detail, users=exc.users)
        case store_errors.Conflict():
            return ApiError(HTTPStatus.CONFLICT, detail)
        case store_errors.InvalidReference():
            return invalid(exc.field, exc.message)
        case _:  # StoreUnavailable, VaultLocked
            headers = {"Retry-After": RETRY_AFTER_S}
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers)


STORE_ERRORS = (
    store_errors.NotFound,
    store_errors.RevisionChanged,
    store_errors.InUse,
    store_errors.Conflict,
    store_errors.InvalidReference,
    store_errors.StoreUnavailable,
    store_errors.VaultLocked,
)
HINTS = {
    HTTPStatus.NOT_FOUND: (
        "there is nothing at this address, or an id, a name or a number in it is not written as"
        " one: /openapi.json lists what there is, and how each is written"
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take this method: see Allow",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is too large: send less",
    HTTPStatus.REQUEST_TIMEOUT: "the body did not come in time: send it again",
    HTTPStatus.INTERNAL_SERVER_ERROR: "a fault of ours: tell the operator the request id",
}


def handle_problems(app: QuartTrio) -> None:
    """Let every error of ``app``, expected or not, end as a problem."""

    async def on_api_error(exc: ApiError) -> Response:
        return _response(exc)

    async def on_store_error(exc: RtcoreError) -> Response:
        return _response(from_store(exc))

    async def on_http_error(exc: HTTPException) -> Response:
        status = HTTPStatus(exc.code or 500)
        headers = {k: v for k, v in exc.get_headers() if k.lower() in ("allow", "retry-after")}
        return _response(ApiError(status, HINTS.get(status, status.description), headers=headers))

    app.register_error_handler(ApiError, on_api_error)
    app.register_error_handler(HTTPException, on_http_error)
    for error in STORE_ERRORS:
        app.register_error_handler(error, on_store_error)
