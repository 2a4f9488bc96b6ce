"""What became of an attempt of which nobody has heard: the carrier is asked, nothing is guessed.

A node may die between its claim and the carrier's answer. The call was then made or it was not,
and only the carrier knows. Its callbacks carry our id and settle it by themselves; where they
were lost, its record of the call does. Where there is none either, the attempt counts as made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from api.calls.records import CallState, Ended, StoredCall, get_call, mark_ended
from api.calls.telephony import Telephony
from api.plivo.client import PastCall
from api.store.attempts import close_unknown, settle
from api.store.database import Tx
from api.store.tables import calls

__all__ = ["UNKNOWN_AFTER_MS", "ended_of", "is_given_up", "resolve"]

UNKNOWN_AFTER_MS = 180_000  # callbacks are tried again for a minute, records lag by seconds
CLOCKS_MS = 5_000  # the carrier's clock and ours may differ
BUSY_CODES = (3010,)
NO_ANSWER_CODES = (3000, 3070, 6010)
CANCELLED_CODES = (1000,)


def ended_of(past: PastCall) -> Ended:
    """What a record says of the end, in the words of the hangup callback it stands for."""
    code = past.hangup_cause_code
    state: CallState = "failed"
    if past.answer_time:
        state = "completed"
    elif code in BUSY_CODES:
        state = "busy"
    elif code in NO_ANSWER_CODES:
        state = "no_answer"
    elif code in CANCELLED_CODES:
        state = "cancelled"
    return Ended(
        state=state,
        cause=past.hangup_cause_name or "",
        code=code,
        source=past.hangup_source or "Unknown",
    )


def is_given_up(call: StoredCall, ring_timeout_s: int, now_ms: int) -> bool:
    """Whether no more can be waited for: a call that the carrier took may ring for its time."""
    was_taken = call.request_id is not None or call.state != "queued"
    rings_ms = ring_timeout_s * 1000 if was_taken else 0
    return now_ms >= call.created_at_ms + rings_ms + UNKNOWN_AFTER_MS


async def resolve(line: Telephony, call: StoredCall, ring_timeout_s: int) -> str | None:
    """Find out what became of ``call``, whose lease is ours; None: not known yet.

    Raises:
        PlivoError, StoreUnavailable: it is asked again when the lease is over.
    """
    past = await _record(line, call)
    if past is not None:
        line.tell_state(await line.store.write(mark_ended, call.id, ended_of(past)))
        return await line.store.write(settle, call.id)
    now = await line.store.read(get_call, call.id)
    now_ms = int(line.now_s() * 1000)
    if now.answered_at_ms is None and is_given_up(now, ring_timeout_s, now_ms):
        await line.store.write(close_unknown, call.id)
        return "unknown"
    return None


async def _record(line: Telephony, call: StoredCall) -> PastCall | None:
    """The carrier's record of a call that is over."""
    if call.request_id is not None:
        past = await line.carrier.past_call(call.request_id)
        return past if past is not None and past.end_time else None
    since = datetime.fromtimestamp((call.created_at_ms - CLOCKS_MS) / 1000, UTC)
    found = await line.carrier.past_calls(
        from_=call.from_number, to=call.to_number, since=f"{since:%Y-%m-%d %H:%M:%S}"
    )
    known = await line.store.read(_known, [past.call_uuid for past in found])
    strangers = [past for past in found if past.end_time and past.call_uuid not in known]
    return strangers[-1] if strangers else None  # the first after the claim


def _known(tx: Tx, uuids: Sequence[str]) -> set[str]:
    """Those of ``uuids`` that are calls of ours already."""
    named = sa.or_(calls.c.carrier_id.in_(uuids), calls.c.request_id.in_(uuids))
    rows = tx.conn.execute(sa.select(calls.c.carrier_id, calls.c.request_id).where(named))
    return {uuid for row in rows for uuid in row if uuid is not None}
