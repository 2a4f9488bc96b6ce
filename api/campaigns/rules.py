"""When a number may be called, and whether again: plain functions of a campaign and a time.

Times are milliseconds since 1970, UTC. Hours are read off the wall clock of the number's own
zone, so that a change to or from summer time moves the calls and never the hours: an hour that
is left out is never open, one that comes twice is open twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from api.calls.records import StoredCall
from api.campaigns.specs import DAYS, CampaignSpec, Outcome, Retry

__all__ = [
    "breaks_off",
    "is_finished",
    "is_open",
    "is_zone",
    "load_zones",
    "next_open_ms",
    "outcome_of",
    "retry_after_s",
]

HOUR_MS = 3_600_000
DAYS_AHEAD = 8  # a window comes back within a week, less the days that are left out
FAILURES_MAX = 10  # of one campaign in a row: then it is not the numbers that are wrong
FAILURES: tuple[Outcome, ...] = ("failed", "bad_number")
# of Plivo's hangup codes
BAD_NUMBER_CODES = (2000, 2010, 2020, 2030, 2040, 2050, 3050)
REJECTED_CODES = (3020, 3110, 3130, 3140)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def load_zones() -> None:
    """Read the names of all time zones, once: blocks for the reading of some 600 files."""
    _zones()


def is_zone(name: str) -> bool:
    """Whether there is a time zone of that name."""
    return name in _zones()


# --- hours ------------------------------------------------------------------------------


def is_open(spec: CampaignSpec, zone: str, at_ms: int) -> bool:
    """Whether a call to a number in ``zone`` may begin at ``at_ms``."""
    local = _local(ZoneInfo(zone), at_ms)
    if local.date().isoformat() in spec.except_dates:
        return False
    if not spec.windows:
        return True
    day, clock = DAYS[local.weekday()], f"{local:%H:%M}"
    return any(day in each.days and each.opens <= clock < each.closes for each in spec.windows)


def next_open_ms(spec: CampaignSpec, zone: str, at_ms: int) -> int | None:
    """The first moment from ``at_ms`` on at which a call may begin; None: there is none."""
    if is_open(spec, zone, at_ms):
        return at_ms
    info = ZoneInfo(zone)
    today = _local(info, at_ms).date()
    for first in range(0, DAYS_AHEAD + len(spec.except_dates), DAYS_AHEAD):
        # a clock set back at midnight brings a day twice: many days are looked at together
        days = [today + timedelta(days=first + ahead) for ahead in range(DAYS_AHEAD)]
        moments = sorted({ms for day in days for ms in _openings(spec, info, day)})
        for moment_ms in moments:
            if moment_ms > at_ms and is_open(spec, zone, moment_ms):
                return moment_ms
    return None


def _openings(spec: CampaignSpec, info: ZoneInfo, day: date) -> list[int]:
    """Whenever calls may begin to be allowed on ``day``: as hours open, or as the clock jumps."""
    starts = {time.fromisoformat(each.opens) for each in spec.windows} | {time()}
    moments = [
        _ms(datetime.combine(day, start, info).replace(fold=fold))
        for start in starts
        for fold in (0, 1)
    ]
    first_ms = _ms(datetime.combine(day, time(), info)) - HOUR_MS
    for from_ms in range(first_ms, first_ms + 27 * HOUR_MS, HOUR_MS):
        moments += _jump(info, from_ms, from_ms + HOUR_MS)
    return [ms for ms in moments if _local(info, ms).date() == day]


def _jump(info: ZoneInfo, low_ms: int, high_ms: int) -> list[int]:
    """When between the two the clock changes, if it does."""
    offset = _local(info, low_ms).utcoffset()
    if _local(info, high_ms).utcoffset() == offset:
        return []
    while high_ms - low_ms > 1:
        middle_ms = (low_ms + high_ms) // 2
        if _local(info, middle_ms).utcoffset() == offset:
            low_ms = middle_ms
        else:
            high_ms = middle_ms
    return [high_ms]


def _local(info: ZoneInfo, at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(info)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


# --- outcomes ---------------------------------------------------------------------------


def outcome_of(call: StoredCall, *, has_opted_out: bool) -> Outcome:
    """What became of an attempt whose ``call`` is over."""
    code = call.ended.code if call.ended is not None else None
    if has_opted_out:
        return "opted_out"
    if call.is_machine:
        left = call.plan.on_machine == "leave_message" and call.answered_at_ms is not None
        return "message_left" if left else "machine"
    if call.state in ("busy", "no_answer", "cancelled"):
        return call.state
    if code in BAD_NUMBER_CODES:
        return "bad_number"
    if code in REJECTED_CODES:
        return "rejected"
    if call.state == "completed" and call.answered_at_ms is not None:
        return "answered"
    return "failed"


def retry_after_s(spec: CampaignSpec, outcomes: Sequence[Outcome], made: int) -> int | None:
    """How long after the last of a number's ``outcomes`` it is called again; None: never.

    ``made``: attempts so far, those included whose outcomes were erased.
    """
    last = outcomes[-1]
    rule: Retry | None = getattr(spec.retries, last, None)
    if rule is None or made >= spec.max_attempts or outcomes.count(last) > rule.times:
        return None
    return rule.after_s


def breaks_off(newest: Sequence[Outcome]) -> bool:
    """Whether a campaign must stop: its ``newest`` attempts, of all its numbers, failed."""
    recent = newest[:FAILURES_MAX]
    return len(recent) == FAILURES_MAX and all(each in FAILURES for each in recent)


def is_finished(*, has_waiting: bool, has_dialling: bool) -> bool:
    """Whether nothing is left to do for a campaign, by the states its numbers are in."""
    return not has_waiting and not has_dialling
