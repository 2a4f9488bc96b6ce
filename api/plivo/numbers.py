"""``/v1/numbers``: which agent answers which number. One application of the carrier per agent."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta
from quart import Blueprint
from sqlalchemy.dialects import postgresql, sqlite
from werkzeug.routing import BaseConverter

from api.calls.control import as_api_error
from api.calls.telephony import Telephony, telephony
from api.calls.views import AgentId
from api.plivo.client import PlivoClient, PlivoError, PlivoRefused
from api.plivo.documents import Links
from api.store.agents import get_agent
from api.store.database import Actor, Tx
from api.store.errors import InvalidReference, NotFound, User
from api.store.records import Page, note, page_of, set_uses
from api.store.tables import numbers
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import ApiError
from api.web.requests import PageView, Paging, page_view
from api.web.times import Time, shown_time

__all__ = ["E164Converter", "NumberRecord", "blueprint"]

blueprint = Blueprint("numbers", __name__, url_prefix="/v1/numbers")

COLUMNS = numbers.c


class E164Converter(BaseConverter):
    """A telephone number, with or without a plus sign; the same number either way."""

    regex = r"\+?[1-9][0-9]{3,14}"

    def to_python(self, value: str) -> str:
        return value.removeprefix("+")


# --- what is kept -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NumberRecord:
    """A number and who answers it."""

    number: str
    agent_id: str
    app_id: str
    created_at_ms: int
    updated_at_ms: int


def get_number(tx: Tx, number: str) -> NumberRecord:
    """
    Raises:
        NotFound: it leads to no agent.
    """
    row = tx.conn.execute(sa.select(numbers).where(COLUMNS.number == number)).one_or_none()
    if row is None:
        raise NotFound("number", number)
    return _record(row)


def find_numbers(tx: Tx, limit: int, offset: int, agent_id: str | None) -> Page[NumberRecord]:
    """A page of numbers, in their order."""
    query = sa.select(numbers).order_by(COLUMNS.number)
    if agent_id is not None:
        query = query.where(COLUMNS.agent_id == agent_id)
    return page_of(tx, query, limit, offset, _record)


def put_number(tx: Tx, actor: Actor, number: str, agent_id: str, app_id: str) -> NumberRecord:
    """Keep who answers ``number``; the agent cannot be deleted meanwhile.

    Raises:
        InvalidReference: the agent has been deleted.
    """
    known_agent(tx, agent_id, lock=True)
    row = {"agent_id": agent_id, "app_id": app_id, "updated_at_ms": tx.now_ms}
    insert = (postgresql if tx.is_postgres else sqlite).insert(numbers)
    new = insert.values(number=number, created_at_ms=tx.now_ms, **row)
    tx.conn.execute(new.on_conflict_do_update(index_elements=[COLUMNS.number], set_=row))
    set_uses(tx, User(kind="number", id=number, name=number), [("agent", agent_id)])
    note(tx, actor, "number.bound", number, ["agent_id"])
    return get_number(tx, number)


def delete_number(tx: Tx, actor: Actor, number: str) -> bool:
    """Forget who answers ``number``; say whether another number needs its application.

    Raises:
        NotFound: it leads to no agent.
    """
    app_id = get_number(tx, number).app_id
    tx.conn.execute(sa.delete(numbers).where(COLUMNS.number == number))
    set_uses(tx, User(kind="number", id=number, name=number), ())
    note(tx, actor, "number.released", number)
    query = sa.select(sa.func.count()).select_from(numbers).where(COLUMNS.app_id == app_id)
    return bool(tx.conn.scalar(query))


def known_agent(tx: Tx, agent_id: str, *, lock: bool = False) -> None:
    """
    Raises:
        InvalidReference: there is no such agent.
    """
    try:
        get_agent(tx, agent_id, lock=lock)
    except NotFound as exc:
        raise InvalidReference("agent_id", f"{exc}: create it first") from exc


def _record(row: sa.Row[Any]) -> NumberRecord:
    return NumberRecord(row.number, row.agent_id, row.app_id, row.created_at_ms, row.updated_at_ms)


# --- what the carrier is told -----------------------------------------------------------


async def _bind(line: Telephony, carrier: PlivoClient, number: str, agent_id: str) -> str:
    """Let the agent's application answer ``number``; return the application's id.

    Done again, it finds what it made before: a request that failed half-way may be repeated.
    """
    await carrier.application_of(number)  # 404 before anything is made: it is not ours
    links = Links(base=line.public_url)
    urls = {
        "answer_url": links.answer(agent_id),
        "answer_method": "POST",
        "hangup_url": links.hangup(agent_id),
        "hangup_method": "POST",
        "fallback_answer_url": links.fallback(agent_id),
        "fallback_method": "POST",
    }
    name = f"rtcore {agent_id}"
    found = await carrier.find_application(name)
    if found is None:
        app_id = await carrier.create_application(name, urls)
    else:
        app_id = found.app_id
        await carrier.update_application(app_id, urls)
    await carrier.assign_number(number, app_id)
    return app_id


# --- routes -----------------------------------------------------------------------------


class NumberRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who shall answer."""

    agent_id: AgentId


class NumberView(msgspec.Struct, frozen=True, kw_only=True):
    """A number and who answers it."""

    number: Annotated[str, Meta(description="E.164, digits alone.")]
    agent_id: str
    app_id: Annotated[str, Meta(description="Plivo's application, which we keep up to date.")]
    created_at: Time
    updated_at: Time


class NumberFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of numbers."""

    agent_id: AgentId | None = None


def _view(record: NumberRecord) -> NumberView:
    return NumberView(
        number=record.number,
        agent_id=record.agent_id,
        app_id=record.app_id,
        created_at=shown_time(record.created_at_ms),
        updated_at=shown_time(record.updated_at_ms),
    )


def _refused(number: str, exc: PlivoError) -> ApiError:
    if isinstance(exc, PlivoRefused) and exc.status == HTTPStatus.NOT_FOUND:
        return ApiError(HTTPStatus.NOT_FOUND, f"{number} is no number of this Plivo account")
    return as_api_error(exc)


@operation(
    blueprint,
    "PUT",
    "/<e164:number>",
    Operation(
        summary="Let an agent answer a number of your Plivo account",
        scope="write",
        body=NumberRequest,
        returns={200: NumberView},
        problems=(502, 504),
    ),
)
async def put(number: str, body: NumberRequest) -> Answer:
    line = telephony()
    await line.store.read(known_agent, body.agent_id)
    try:
        app_id = await _bind(line, line.carrier, number, body.agent_id)
    except PlivoError as exc:
        raise _refused(number, exc) from exc
    record = await line.store.write(put_number, actor(), number, body.agent_id, app_id)
    return Answer(_view(record))


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List numbers",
        scope="read",
        query=NumberFilter,
        returns={200: PageView[NumberView]},
    ),
)
async def find(query: NumberFilter) -> Answer:
    store = telephony().store
    page = await store.read(find_numbers, query.limit, query.offset, query.agent_id)
    return Answer(page_view(page, map(_view, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<e164:number>",
    Operation(summary="Read who answers a number", scope="read", returns={200: NumberView}),
)
async def get(number: str) -> Answer:
    return Answer(_view(await telephony().store.read(get_number, number)))


@operation(
    blueprint,
    "DELETE",
    "/<e164:number>",
    Operation(
        summary="Let nobody answer a number; it stays yours",
        scope="write",
        returns={204: None},
        problems=(502, 504),
    ),
)
async def delete(number: str) -> Answer:
    line = telephony()
    record = await line.store.read(get_number, number)
    try:
        # only what we bound: somebody may have given the number another application since
        if await line.carrier.application_of(number) == record.app_id:
            await line.carrier.assign_number(number, "")
    except PlivoRefused as exc:
        if exc.status != HTTPStatus.NOT_FOUND:  # a number that is no longer the account's
            raise _refused(number, exc) from exc
    except PlivoError as exc:
        raise as_api_error(exc) from exc
    is_needed = await line.store.write(delete_number, actor(), number)
    if not is_needed:
        try:
            await line.carrier.delete_application(record.app_id)
        except PlivoError as exc:
            raise as_api_error(exc) from exc
    return Answer(status=204)
