"""What is kept of calls: plain functions of a transaction.

The carrier may tell anything twice, late, or not at all: each function finds the call by what
it was told and changes it at most once.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from api.analysis.queueing import enqueue_if_wished
from api.outgoing.outbox import tell
from api.store.agents import get_published
from api.store.database import Actor, Tx
from api.store.errors import InvalidReference, NotFound
from api.store.records import Page, new_id, note, page_of
from api.store.stored import read_stored
from api.store.tables import call_notes, call_streams, calls
from api.web.times import shown_time
from rtcore.agent.listening import Listening
from rtcore.call import CallRecord
from rtcore.journal import Noted

__all__ = [
    "CRASHED",
    "CallPlan",
    "CallState",
    "Direction",
    "Ended",
    "StoredCall",
    "Stream",
    "Transfer",
    "begin_inbound",
    "begin_outbound",
    "facts",
    "find_calls",
    "find_unended",
    "get_call",
    "get_streams",
    "mark_answered",
    "mark_ended",
    "mark_machine",
    "mark_requested",
    "mark_resumed",
    "mark_ringing",
    "open_stream",
    "set_agent",
    "set_transfer",
    "stored_call",
    "touch_streams",
    "write_notes",
    "write_streams",
]

Direction = Literal["inbound", "outbound"]
CallState = Literal[
    "queued", "ringing", "in_progress", "completed", "busy", "no_answer", "failed", "cancelled"
]
Stream = tuple[str, int]  # a call, and which of its media streams
CALLS = calls.c
STREAMS = call_streams.c
WRITTEN = ("record", "is_final", "updated_at_ms", "has_words")
NOTES = call_notes.c
CRASHED = "crashed"  # how a stream ended whose node died with it
PULSE_LIMIT_MS = 10_000  # a node says every two seconds that a stream goes on


class CallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What was wished of a call when it was made."""

    variables: dict[str, str] = {}
    on_machine: Literal["", "hang_up", "continue", "leave_message"] = ""
    machine_message: str = ""
    prompt: str | None = None  # in place of the agent's own, since somebody changed it
    listening: Listening | None = None  # the agent's, where that is all it does


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """The caller is handed to ``to``; ``outcome`` is empty until that is decided."""

    to: str
    ring_timeout_s: int
    caller_id: str
    take_back_line: str  # said when nobody took the call, and the agent has it back
    outcome: str = ""
    mode: Literal["cold", "warm"] = "cold"
    # of a warm one
    attempt: str = ""  # names its callbacks: what is told of an older one is passed over
    summary: str = ""  # what the human is told
    request_id: str = ""  # of the human's call, until they answer
    human_id: str = ""  # of the same, once they have: the carrier's id
    is_joined: bool = False  # they took it


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What the carrier says of the end."""

    state: CallState
    cause: str = ""
    code: int | None = None
    source: str = ""
    billed_s: int | None = None
    cost: str = ""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call as it is kept."""

    id: str
    direction: Direction
    agent_id: str
    agent_version: int
    from_number: str
    to_number: str
    state: CallState
    carrier_id: str | None
    request_id: str | None
    plan: CallPlan
    is_machine: bool
    transfer: Transfer | None
    media_nonce: str | None
    streams: int
    ended: Ended | None
    created_at_ms: int
    answered_at_ms: int | None
    ended_at_ms: int | None
    node_id: str | None = None  # that holds a stream of it


# --- reading ----------------------------------------------------------------------------


def get_call(tx: Tx, id: str, *, lock: bool = False) -> StoredCall:
    """
    Raises:
        NotFound: there is none.
    """
    found = stored_call(tx, id=id, lock=lock)
    if found is None:
        raise NotFound("call", id)
    return found


def stored_call(
    tx: Tx, *, id: str = "", carrier_id: str = "", lock: bool = False
) -> StoredCall | None:
    """The call of that id of ours, or else of the carrier's."""
    query = sa.select(calls).where(CALLS.id == id if id else CALLS.carrier_id == carrier_id)
    row = tx.conn.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _call(row)


def find_calls(
    tx: Tx, limit: int, offset: int, filters: Mapping[str, str | None]
) -> Page[StoredCall]:
    """A page of calls, the newest first; ``filters`` by column."""
    query = sa.select(calls).order_by(CALLS.created_at_ms.desc(), CALLS.id)
    for name, value in filters.items():
        if value is not None:
            query = query.where(CALLS[name] == value)
    return page_of(tx, query, limit, offset, _call)


def find_unended(tx: Tx, node_id: str, before_ms: int, limit: int) -> tuple[StoredCall, ...]:
    """Some of the calls that began before ``before_ms`` and are not over, by chance.

    Those another node holds are not among them: it knows, and is looked after.
    """
    nobody_elses = CALLS.node_id.is_(None) | (CALLS.node_id == node_id)
    query = sa.select(calls).where(
        CALLS.ended_at_ms.is_(None), CALLS.created_at_ms < before_ms, nobody_elses
    )
    rows = tx.conn.execute(query.order_by(sa.func.random()).limit(limit))
    return tuple(_call(row) for row in rows)


def get_streams(tx: Tx, id: str) -> tuple[CallRecord, ...]:
    """The records of a call's streams, in order; of one that goes on, as of a second ago.

    A stream that has no end and no pulse has crashed: that is read from it, not written, so
    that a node which was only out of reach is believed again.

    Raises:
        NotFound: there is no such call.
    """
    get_call(tx, id)
    query = sa.select(call_streams).where(STREAMS.call_id == id).order_by(STREAMS.number)
    rows = list(tx.conn.execute(query))
    notes: dict[int, list[Noted]] = {}
    if not all(row.is_final for row in rows):
        pieces = sa.select(call_notes).where(NOTES.call_id == id).order_by(NOTES.first)
        for piece in tx.conn.execute(pieces):
            found = msgspec.json.decode(piece.notes, type=list[Noted])
            notes.setdefault(piece.number, []).extend(found)
    return tuple(_record(tx, row, notes.get(row.number, ())) for row in rows)


def _record(tx: Tx, row: sa.Row[Any], notes: Sequence[Noted]) -> CallRecord:
    record = msgspec.json.decode(row.record, type=CallRecord)
    if row.is_final:
        return record
    goes_on = row.updated_at_ms >= tx.now_ms - PULSE_LIMIT_MS
    return msgspec.structs.replace(record, ended_by="" if goes_on else CRASHED, notes=tuple(notes))


# --- how a call begins ------------------------------------------------------------------


def begin_outbound(
    tx: Tx, actor: Actor, agent_id: str, from_number: str, to_number: str, plan: CallPlan
) -> StoredCall:
    """
    Raises:
        InvalidReference: there is no such agent.
    """
    try:
        agent = get_published(tx, agent_id)
    except NotFound as exc:
        raise InvalidReference("agent_id", f"{exc}: create it first") from exc
    version, plan = agent.version, msgspec.structs.replace(plan, listening=agent.spec.listening)
    call = _insert(tx, "outbound", "queued", agent_id, version, from_number, to_number, plan)
    note(tx, actor, "call.created", call.id)
    tell(tx, "call.started", call.id, facts(call))
    return call


def mark_requested(tx: Tx, id: str, request_id: str) -> StoredCall:
    """The carrier has taken the call."""
    return _change(tx, id, request_id=request_id)


def begin_inbound(
    tx: Tx, agent_id: str, carrier_id: str, from_number: str, to_number: str
) -> StoredCall:
    """The call that the carrier announces; the same one however often it does.

    Raises:
        NotFound: there is no such agent.
    """
    found = stored_call(tx, carrier_id=carrier_id, lock=True)
    if found is not None:
        return found
    agent = get_published(tx, agent_id)
    version, plan = agent.version, CallPlan(listening=agent.spec.listening)
    numbers = from_number, to_number
    try:
        with tx.conn.begin_nested():
            call = _insert(tx, "inbound", "ringing", agent_id, version, *numbers, plan, carrier_id)
    except IntegrityError:  # told twice in the same moment: the other one was first
        found = stored_call(tx, carrier_id=carrier_id, lock=True)
        assert found is not None
        return found
    tell(tx, "call.started", call.id, facts(call))
    return call


def _insert(
    tx: Tx,
    direction: Direction,
    state: CallState,
    agent_id: str,
    version: int,
    from_number: str,
    to_number: str,
    plan: CallPlan,
    carrier_id: str | None = None,
) -> StoredCall:
    id = new_id("call")
    tx.conn.execute(
        sa.insert(calls).values(
            id=id,
            direction=direction,
            agent_id=agent_id,
            agent_version=version,
            from_number=from_number,
            to_number=to_number,
            state=state,
            carrier_id=carrier_id,
            plan=_json(plan),
            is_machine=0,
            streams=0,
            created_at_ms=tx.now_ms,
        )
    )
    return get_call(tx, id)


# --- what happens to it -----------------------------------------------------------------


def mark_ringing(tx: Tx, id: str) -> StoredCall:
    """It rings at the far end."""
    call = get_call(tx, id, lock=True)
    return _change(tx, id, state="ringing") if call.state == "queued" else call


def mark_answered(tx: Tx, id: str, carrier_id: str) -> StoredCall:
    """The carrier asks what to do: give it a nonce for one stream, the old one if unspent."""
    call = get_call(tx, id, lock=True)
    if call.ended_at_ms is not None:
        return call
    answered = _change(
        tx,
        id,
        state="in_progress",
        carrier_id=carrier_id or call.carrier_id,
        answered_at_ms=call.answered_at_ms or tx.now_ms,
        media_nonce=call.media_nonce or secrets.token_hex(12),
    )
    if call.answered_at_ms is None:
        tell(tx, "call.answered", id, facts(answered))
    return answered


def open_stream(tx: Tx, carrier_id: str, nonce: str, node_id: str) -> StoredCall | None:
    """Spend the nonce: ``node_id`` holds stream number ``streams``. None: it was spent, or wrong.

    The store decides, so that a token opens one stream however many nodes are asked.
    """
    call = stored_call(tx, carrier_id=carrier_id, lock=True)
    if call is None or call.media_nonce != nonce or call.ended_at_ms is not None:
        return None
    return _change(tx, call.id, media_nonce=None, streams=call.streams + 1, node_id=node_id)


def mark_machine(tx: Tx, id: str) -> StoredCall:
    """No human has answered."""
    return _change(tx, id, is_machine=1)


def set_agent(
    tx: Tx, actor: Actor, id: str, agent_id: str, version: int, prompt: str | None
) -> StoredCall:
    """Another agent (or the same with other words) goes on with the call."""
    call = get_call(tx, id, lock=True)
    note(tx, actor, "call.agent_changed", id)
    plan = msgspec.structs.replace(call.plan, prompt=prompt)
    return _change(tx, id, agent_id=agent_id, agent_version=version, plan=_json(plan))


def mark_resumed(tx: Tx, id: str, carrier_id: str) -> StoredCall:
    """As :func:`mark_answered`, of a call whose stream is over: no node holds it meanwhile."""
    call = mark_answered(tx, id, carrier_id)
    return call if call.ended_at_ms is not None else _change(tx, id, node_id=None)


def set_transfer(tx: Tx, id: str, transfer: Transfer | None, actor: Actor | None) -> StoredCall:
    """Keep what was asked, or what became of it."""
    if actor is not None:
        note(tx, actor, "call.transferred", id)
    return _change(tx, id, transfer=None if transfer is None else _json(transfer))


def mark_ended(tx: Tx, id: str, ended: Ended) -> StoredCall:
    """The call is over; the first word of it stands."""
    call = get_call(tx, id, lock=True)
    if call.ended_at_ms is not None:
        return call
    over = _change(
        tx, id, state=ended.state, hangup=_json(ended), ended_at_ms=tx.now_ms, media_nonce=None
    )
    tell(tx, "call.ended", id, facts(over))
    if over.streams:  # somebody talked with the agent
        enqueue_if_wished(tx, id, over.agent_id, over.agent_version)
    return over


def write_streams(tx: Tx, records: Mapping[Stream, tuple[CallRecord, bool]]) -> None:
    """Keep the newest record of each stream, by call and number; a final one is not replaced.

    That of a call which has been erased meanwhile is not kept.
    """
    known = _known(tx, records)
    rows = [
        {
            "call_id": id,
            "number": number,
            "record": _json(record),
            "is_final": int(is_final),
            "updated_at_ms": tx.now_ms,
            "has_words": 1,  # even where they were erased: a late writer brings them again
        }
        for (id, number), (record, is_final) in records.items()
        if id in known
    ]
    if not rows:
        return
    insert = (postgresql if tx.is_postgres else sqlite).insert(call_streams)
    fresh = {name: insert.excluded[name] for name in WRITTEN}
    tx.conn.execute(
        insert.on_conflict_do_update(
            index_elements=[STREAMS.call_id, STREAMS.number],
            set_=fresh,
            where=STREAMS.is_final == 0,
        ),
        rows,
    )
    for (id, number), (_, is_final) in records.items():
        if is_final:  # which has them all
            where = (NOTES.call_id == id, NOTES.number == number)
            tx.conn.execute(sa.delete(call_notes).where(*where))


def write_notes(tx: Tx, notes: Mapping[Stream, Sequence[tuple[int, Sequence[Noted]]]]) -> None:
    """Keep more of the journals of streams that go on: each piece once, by its first entry."""
    known = _known(tx, notes)
    rows = [
        {
            "call_id": id,
            "number": number,
            "first": first,
            "notes": msgspec.json.encode(piece).decode(),
        }
        for (id, number), pieces in notes.items()
        if id in known
        for first, piece in pieces
    ]
    if rows:
        insert = (postgresql if tx.is_postgres else sqlite).insert(call_notes)
        tx.conn.execute(insert.on_conflict_do_nothing(), rows)


def touch_streams(tx: Tx, streams: Collection[Stream]) -> None:
    """These streams go on."""
    if streams:
        pulse = (
            sa.update(call_streams)
            .where(
                STREAMS.call_id == sa.bindparam("id"),
                STREAMS.number == sa.bindparam("stream"),
                STREAMS.is_final == 0,
            )
            .values(updated_at_ms=tx.now_ms)
        )
        tx.conn.execute(pulse, [{"id": id, "stream": number} for id, number in streams])


def _known(tx: Tx, streams: Collection[Stream]) -> set[str]:
    """Which of these calls there are; they stay until this transaction ends."""
    ids = {id for id, _ in streams}
    query = sa.select(CALLS.id).where(CALLS.id.in_(ids)).with_for_update(read=True, key_share=True)
    return set(tx.conn.scalars(query))


def facts(call: StoredCall) -> dict[str, Any]:
    """What webhooks are told of ``call``: as it is shown, but for what only the agent needs."""
    ended = call.ended
    return {
        "call_id": call.id,
        "direction": call.direction,
        "state": call.state,
        "agent_id": call.agent_id,
        "agent_version": call.agent_version,
        "from": call.from_number,
        "to": call.to_number,
        "variables": call.plan.variables,
        "is_machine": call.is_machine,
        "hangup": None if ended is None else {"cause": ended.cause, "source": ended.source},
        "created_at": shown_time(call.created_at_ms),
        "answered_at": None if call.answered_at_ms is None else shown_time(call.answered_at_ms),
        "ended_at": None if call.ended_at_ms is None else shown_time(call.ended_at_ms),
    }


def _change(tx: Tx, id: str, **values: Any) -> StoredCall:
    tx.conn.execute(sa.update(calls).where(CALLS.id == id).values(**values))
    return get_call(tx, id)


def _json(struct: msgspec.Struct) -> str:
    return msgspec.json.encode(struct).decode()


def _call(row: sa.Row[Any]) -> StoredCall:
    return StoredCall(
        id=row.id,
        direction=row.direction,
        agent_id=row.agent_id,
        agent_version=row.agent_version,
        from_number=row.from_number,
        to_number=row.to_number,
        state=row.state,
        carrier_id=row.carrier_id,
        request_id=row.request_id,
        plan=read_stored(row.plan, CallPlan, row.id),
        is_machine=bool(row.is_machine),
        transfer=msgspec.json.decode(row.transfer, type=Transfer) if row.transfer else None,
        media_nonce=row.media_nonce,
        streams=row.streams,
        ended=msgspec.json.decode(row.hangup, type=Ended) if row.hangup else None,
        created_at_ms=row.created_at_ms,
        answered_at_ms=row.answered_at_ms,
        ended_at_ms=row.ended_at_ms,
        node_id=row.node_id,
    )
