"""Forgetting callers: what was said, what was recorded, whom we talked with.

By policy (:func:`erase_due`), by call and by caller. What is erased goes in one transaction for
some calls at a time; files go after it, and their rows last of all. The audit log says that
something was erased and by whom, never of whom.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import sqlalchemy as sa

from api.calls.recordings import KeptRecording, doom_recordings
from api.specs import Retention
from api.store.chats import erase_chats_with
from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound
from api.store.records import note
from api.store.stored import read_stored
from api.store.tables import (
    agent_versions,
    agents,
    analyses,
    call_notes,
    call_streams,
    calls,
    campaign_attempts,
    campaign_targets,
    campaigns,
    chats,
    deliveries,
    do_not_call,
    idempotency,
    messages,
    recordings,
)
from rtcore.call import CallRecord

__all__ = [
    "BATCH_MAX",
    "Erased",
    "Policy",
    "Subject",
    "Swept",
    "caller_alias",
    "done_before_ms",
    "due_before_ms",
    "erase_call",
    "erase_caller",
    "erase_due",
    "erase_recordings",
    "forget_chat_messages",
    "forget_idle",
    "forget_targets",
    "read_policy",
]

CALLS = calls.c
STREAMS = call_streams.c
TARGETS_MAX = 500  # numbers of a campaign in one transaction
BATCH_MAX = 100  # calls in one transaction: some ten milliseconds of the store's writer
DAY_MS = 86_400_000
LATE_MS = 600_000  # a record of a node that died is settled a minute later, its sound two
SETTLED_MS = 60_000  # a final record follows its call within a second
ASKED_MS = 60_000  # a call is made at most so long after it was asked for
Subject = Literal["recordings", "transcripts", "calls"]


@dataclass(frozen=True, slots=True)
class Erased:
    """What one transaction erased; the ``files`` are still to be removed."""

    calls: int = 0
    transcripts: int = 0
    targets: int = 0  # of campaigns
    files: tuple[KeptRecording, ...] = ()


# --- one call, one caller ---------------------------------------------------------------


def erase_call(tx: Tx, actor: Actor, id: str) -> Erased:
    """Erase a call that is over, with all that is known of it.

    Raises:
        NotFound: there is no such call.
        Conflict: it goes on.
    """
    _check_over(tx, id)
    return _erase(tx, actor, [id])


def erase_recordings(tx: Tx, actor: Actor, id: str) -> Erased:
    """Erase the recordings of a call that is over; the rest stays.

    Raises:
        NotFound: there is no such call, or it was not recorded.
        Conflict: it goes on.
    """
    _check_over(tx, id)
    files = doom_recordings(tx, [id])
    if not files:
        raise NotFound("recording of", id)
    note(tx, actor, "call.recording_erased", id)
    return Erased(files=files)


def erase_caller(tx: Tx, actor: Actor, number: str, alias: str) -> tuple[Erased, int]:
    """Erase some calls with ``number`` at the far end; how many such calls go on.

    Ask again until nothing is erased. ``alias`` stands for the number in the audit log. That
    somebody is not to be called stays: it could not be kept to otherwise.
    """
    numbers = (number, f"+{number}")
    is_theirs = sa.or_(
        sa.and_(CALLS.direction == "inbound", CALLS.from_number.in_(numbers)),
        sa.and_(CALLS.direction == "outbound", CALLS.to_number.in_(numbers)),
    )
    over = sa.select(CALLS.id).where(is_theirs, CALLS.ended_at_ms.is_not(None))
    ids = list(tx.conn.scalars(over.limit(BATCH_MAX)))
    erased = replace(_erase(tx, actor, ids), targets=_forget_target(tx, number))
    erase_chats_with(tx, actor, number)
    if ids or erased.targets:
        note(tx, actor, "caller.erased", alias)
    going = sa.select(sa.func.count()).where(is_theirs, CALLS.ended_at_ms.is_(None))
    return erased, tx.conn.scalar(going) or 0


def _forget_target(tx: Tx, number: str) -> int:
    """Take a number out of all campaigns that are not calling it at this moment."""
    attempts, targets = campaign_attempts.c, campaign_targets.c
    theirs = sa.select(targets.id).where(targets.number == number)
    tx.conn.execute(
        sa.delete(campaign_attempts).where(attempts.target_id.in_(theirs), attempts.is_open == 0)
    )
    tx.conn.execute(sa.update(do_not_call).where(do_not_call.c.number == number).values(note=""))
    gone = sa.delete(campaign_targets).where(targets.number == number, targets.state != "dialling")
    return tx.conn.execute(gone).rowcount


def caller_alias(secret: bytes, number: str) -> str:
    """What stands for a number in the audit log: nobody without ``secret`` finds it by trying."""
    digest = hmac.new(secret, f"caller:{number}".encode(), hashlib.sha256).hexdigest()
    return f"caller_{digest[:24]}"


def _check_over(tx: Tx, id: str) -> None:
    row = tx.conn.execute(sa.select(CALLS.ended_at_ms).where(CALLS.id == id)).one_or_none()
    if row is None:
        raise NotFound("call", id)
    if row.ended_at_ms is None:
        raise Conflict("the call goes on: hang up first")


def _erase(tx: Tx, actor: Actor, ids: Sequence[str]) -> Erased:
    """All that is known of these calls; what refers to their rows goes with them."""
    if not ids:
        return Erased()
    # whoever adds to a call holds it meanwhile: what follows finds all that was added
    held = sa.select(CALLS.id).where(CALLS.id.in_(ids)).order_by(CALLS.id)
    tx.conn.execute(held.with_for_update()).all()
    files = doom_recordings(tx, ids)
    _forget_told(tx, ids)
    tx.conn.execute(sa.update(do_not_call).where(do_not_call.c.call_id.in_(ids)).values(note=""))
    tx.conn.execute(
        sa.delete(campaign_attempts).where(
            campaign_attempts.c.call_id.in_(ids), campaign_attempts.c.is_open == 0
        )
    )
    counted = sa.select(sa.func.count()).where(STREAMS.call_id.in_(ids), STREAMS.has_words == 1)
    transcripts = tx.conn.scalar(counted) or 0
    tx.conn.execute(sa.delete(calls).where(CALLS.id.in_(ids)))
    for id in ids:
        note(tx, actor, "call.erased", id)
    return Erased(calls=len(ids), transcripts=transcripts, files=files)


def _forget_told(tx: Tx, ids: Sequence[str]) -> None:
    """What callers asked to pass on, what others were to be told, answers for who asks again."""
    tx.conn.execute(sa.delete(messages).where(messages.c.call_id.in_(ids)))
    tx.conn.execute(sa.delete(deliveries).where(deliveries.c.subject_id.in_(ids)))
    made = sa.select(CALLS.id, CALLS.created_at_ms).where(CALLS.id.in_(ids))
    for id, at_ms in tx.conn.execute(made).all():
        needle = sa.literal(id.encode(), sa.LargeBinary)
        if tx.is_postgres:
            place = sa.func.position(needle.op("IN")(idempotency.c.answer))
        else:
            place = sa.func.instr(idempotency.c.answer, needle)
        asked = idempotency.c.created_at_ms.between(at_ms - ASKED_MS, at_ms)
        tx.conn.execute(sa.delete(idempotency).where(asked, place > 0))


# --- by policy --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """How long what is kept: what the node says, and what its agents say otherwise, by id."""

    node: Retention
    agents: Mapping[str, Retention]


@dataclass(slots=True)
class Swept:
    """How far a node has erased by a policy: what ended before needs no second look."""

    policy: Policy | None = None
    before_ms: dict[Subject, int] = field(default_factory=dict)


def read_policy(tx: Tx, node: Retention) -> Policy:
    """The policy as it is now; of an agent its published version counts."""
    query = sa.select(agents.c.id, agent_versions.c.spec).join(
        agent_versions,
        sa.and_(
            agent_versions.c.agent_id == agents.c.id,
            agent_versions.c.number == sa.func.coalesce(agents.c.published, agents.c.latest),
        ),
    )
    found = {
        row.id: read_stored(row.spec, _Kept, row.id).retention for row in tx.conn.execute(query)
    }
    return Policy(node, {id: each for id, each in found.items() if each != Retention()})


class _Kept(msgspec.Struct):
    """The one field of :class:`api.specs.AgentSpec` that is read here."""

    retention: Retention = Retention()


def due_before_ms(
    subject: Subject, policy: Policy, now_ms: int
) -> tuple[int | None, dict[str, int]]:
    """What ended before is due: for all agents (None: nothing is), and for those who differ."""
    name = f"{subject}_days"
    usual: int | None = getattr(policy.node, name)
    wanted: dict[str, int | None] = {id: getattr(each, name) for id, each in policy.agents.items()}
    return (
        None if usual is None else now_ms - usual * DAY_MS,
        {id: now_ms - days * DAY_MS for id, days in wanted.items() if days is not None},
    )


def done_before_ms(subject: Subject, policy: Policy, now_ms: int) -> int:
    """With nothing more due now, nothing that ended before will ever be, while the policy stands.

    A sweep need not look there again. What ends late in our books is given ten minutes.
    """
    usual, by_agent = due_before_ms(subject, policy, now_ms)
    limits = [*by_agent.values(), *([] if usual is None else [usual])]
    return min(limits) - LATE_MS if limits else 0


def erase_due(tx: Tx, actor: Actor, subject: Subject, policy: Policy, after_ms: int = 0) -> Erased:
    """Erase some of what is kept for longer than wished, of calls that ended after ``after_ms``.

    Ask again until nothing is erased.
    """
    is_due = _is_due(subject, policy, tx.now_ms, CALLS.agent_id, CALLS.ended_at_ms)
    if is_due is None:
        return Erased()
    return ERASERS[subject](tx, actor, sa.and_(CALLS.ended_at_ms >= after_ms, is_due))


def _is_due(
    subject: Subject,
    policy: Policy,
    now_ms: int,
    agent_id: sa.ColumnElement[str],
    at_ms: sa.ColumnElement[int],
) -> sa.ColumnElement[bool] | None:
    """Whether what was over ``at_ms`` is kept for longer than wished; None: nobody wishes that."""
    usual, by_agent = due_before_ms(subject, policy, now_ms)
    limits = [*by_agent.values(), *([] if usual is None else [usual])]
    if not limits:
        return None
    never = sa.literal(0 if usual is None else usual, sa.BigInteger)
    limit: sa.ColumnElement[int] = never
    if by_agent:
        cases = [(agent_id == id, sa.literal(before)) for id, before in by_agent.items()]
        limit = sa.case(*cases, else_=never)
    return sa.and_(at_ms <= max(limits), at_ms <= limit)


def _recordings_due(tx: Tx, actor: Actor, is_due: sa.ColumnElement[bool]) -> Erased:
    query = sa.select(recordings.c.call_id).join(calls, CALLS.id == recordings.c.call_id)
    ids = set(tx.conn.scalars(query.where(is_due, recordings.c.state == "kept").limit(BATCH_MAX)))
    for id in sorted(ids):
        note(tx, actor, "call.recording_erased", id)
    return Erased(files=doom_recordings(tx, sorted(ids)) if ids else ())


def _transcripts_due(tx: Tx, actor: Actor, is_due: sa.ColumnElement[bool]) -> Erased:
    query = (
        sa.select(call_streams)
        .join(calls, CALLS.id == STREAMS.call_id)
        .where(
            is_due,
            STREAMS.has_words == 1,
            # nobody writes it any more: whoever did has ended or died
            sa.or_(STREAMS.is_final == 1, STREAMS.updated_at_ms < tx.now_ms - SETTLED_MS),
        )
        .limit(BATCH_MAX)
    )
    rows = list(tx.conn.execute(query))
    for row in rows:
        record = msgspec.json.decode(row.record, type=CallRecord)
        wordless = msgspec.structs.replace(record, transcript=())
        tx.conn.execute(
            sa.update(call_streams)
            .where(STREAMS.call_id == row.call_id, STREAMS.number == row.number)
            .values(record=msgspec.json.encode(wordless).decode(), has_words=0)
        )
    left = (
        sa.select(messages.c.call_id)  # it may have been left after the words were erased
        .join(calls, CALLS.id == messages.c.call_id)
        .where(is_due)
        .limit(BATCH_MAX)
    )
    ids = sorted({row.call_id for row in rows} | set(tx.conn.scalars(left)))
    if ids:
        tx.conn.execute(sa.delete(analyses).where(analyses.c.call_id.in_(ids)))
        tx.conn.execute(sa.delete(call_notes).where(call_notes.c.call_id.in_(ids)))
        _forget_told(tx, ids)
    for id in ids:
        note(tx, actor, "call.transcript_erased", id)
    return Erased(transcripts=len(ids))


def _calls_due(tx: Tx, actor: Actor, is_due: sa.ColumnElement[bool]) -> Erased:
    return _erase(
        tx, actor, list(tx.conn.scalars(sa.select(CALLS.id).where(is_due).limit(BATCH_MAX)))
    )


ERASERS: dict[Subject, Callable[[Tx, Actor, sa.ColumnElement[bool]], Erased]] = {
    "recordings": _recordings_due,
    "transcripts": _transcripts_due,
    "calls": _calls_due,
}


def forget_chat_messages(tx: Tx, policy: Policy) -> int:
    """Forget what was left in text conversations, as if these had been calls; how much."""
    forgotten = 0
    subjects: tuple[Subject, ...] = ("transcripts", "calls")
    for subject in subjects:
        is_due = _is_due(subject, policy, tx.now_ms, messages.c.agent_id, messages.c.created_at_ms)
        if is_due is None:
            continue
        is_of_call = sa.exists().where(CALLS.id == messages.c.call_id)
        gone = sa.delete(messages).where(is_due, ~is_of_call).returning(messages.c.call_id)
        ids = tx.conn.scalars(gone).all()
        tx.conn.execute(sa.delete(deliveries).where(deliveries.c.subject_id.in_(ids)))
        forgotten += len(ids)
    return forgotten


def forget_targets(tx: Tx, policy: Policy) -> int:
    """Forget the numbers of campaigns that were done with before calls of then are due.

    What became of them stays, so that reports do; how many were forgotten. Ask again until none is.
    """
    usual, by_agent = due_before_ms("calls", policy, tx.now_ms)
    if usual is None and not by_agent:
        return 0
    forgotten = 0
    for row in tx.conn.execute(
        sa.select(campaigns.c.id, campaigns.c.spec).order_by(campaigns.c.id)
    ).all():
        agent_id = msgspec.json.decode(row.spec, type=_Called).agent_id
        before_ms = by_agent.get(agent_id, usual)
        if before_ms is not None:
            forgotten += _forget_targets_of(tx, row.id, before_ms)
    return forgotten


def _forget_targets_of(tx: Tx, campaign_id: str, before_ms: int) -> int:
    attempts, targets = campaign_attempts.c, campaign_targets.c
    is_due = sa.and_(
        targets.campaign_id == campaign_id,
        targets.state == "done",
        targets.number != targets.id,
        targets.updated_at_ms <= before_ms,
        # of the unknown more may be heard for a day, and they be called again
        sa.or_(targets.outcome != "unknown", targets.updated_at_ms <= tx.now_ms - DAY_MS),
    )
    query = sa.select(targets.id).where(is_due).limit(TARGETS_MAX)
    if tx.conn.scalar(query) is None:
        return 0
    tx.conn.execute(
        sa.select(campaigns.c.id).where(campaigns.c.id == campaign_id).with_for_update()
    )
    ids = tx.conn.scalars(query).all()
    theirs = sa.update(campaign_attempts).where(attempts.target_id.in_(ids), attempts.is_open == 0)
    tx.conn.execute(theirs.values(number=attempts.target_id))
    # the place of a number holds the target's own id from now on: there is one in each campaign
    gone = sa.update(campaign_targets).where(targets.id.in_(ids))
    tx.conn.execute(gone.values(number=targets.id, time_zone=None, variables="{}"))
    return len(ids)


class _Called(msgspec.Struct):
    """The one field of :class:`api.campaigns.specs.CampaignSpec` that is read here."""

    agent_id: str


def forget_idle(tx: Tx, chats_keep_ms: int, answers_keep_ms: int) -> int:
    """Forget conversations nobody goes on with, and answers nobody asks for again."""
    idle = sa.delete(chats).where(chats.c.updated_at_ms < tx.now_ms - chats_keep_ms)
    old = sa.delete(idempotency).where(idempotency.c.created_at_ms < tx.now_ms - answers_keep_ms)
    return tx.conn.execute(idle).rowcount + tx.conn.execute(old).rowcount
