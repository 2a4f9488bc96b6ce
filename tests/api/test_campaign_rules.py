"""When a number may be called, and whether again: no clock, no database."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.calls.records import CallPlan, Ended, StoredCall
from api.campaigns import rules
from api.campaigns.rules import (
    breaks_off,
    is_finished,
    is_open,
    is_zone,
    next_open_ms,
    outcome_of,
    retry_after_s,
)
from api.campaigns.specs import DAYS, CampaignSpec, Outcome, Retries, Retry, Window

MINUTE_MS = 60_000
DAY_MS = 86_400_000
# with and without summer time, on both halves of the earth, by half an hour, at midnight
ZONES = [
    "Europe/Rome",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "America/Asuncion",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "UTC",
]


def spec(**changes: Any) -> CampaignSpec:
    given: dict[str, Any] = {
        "name": "spring",
        "agent_id": "agt_" + "0" * 24,
        "from_": "14155550199",
        "time_zone": "UTC",
    }
    return CampaignSpec(**{**given, **changes})


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """The moment at which a wall clock in ``zone`` shows ``text``."""
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(local.timestamp() * 1000)


# --- hours ------------------------------------------------------------------------------


def test_hours_are_those_of_the_numbers_own_zone() -> None:
    nine_to_five = spec(windows=(Window(opens="09:00", closes="17:00"),))
    moment = at("2026-11-20 15:00")
    assert is_open(nine_to_five, "UTC", moment)
    assert is_open(nine_to_five, "America/New_York", moment)  # 10:00
    assert not is_open(nine_to_five, "Asia/Tokyo", moment)  # midnight
    assert next_open_ms(nine_to_five, "Asia/Tokyo", moment) == at("2026-11-21 09:00", "Asia/Tokyo")


def test_a_window_opens_and_closes_to_the_minute() -> None:
    window = spec(windows=(Window(opens="09:00", closes="17:00"),))
    for text, wanted in (
        ("08:59:59", False),
        ("09:00", True),
        ("16:59:59", True),
        ("17:00", False),
    ):
        assert is_open(window, "UTC", at(f"2026-11-20 {text}")) is wanted
    late = spec(windows=(Window(opens="22:00", closes="24:00"),))
    assert is_open(late, "UTC", at("2026-11-20 23:59:59"))
    assert not is_open(late, "UTC", at("2026-11-21 00:00"))


def test_days_and_dates_are_left_out() -> None:
    weekdays = spec(windows=(Window(days=DAYS[:5]),), except_dates=("2026-11-23",))
    friday_night = at("2026-11-20 21:00")
    assert next_open_ms(weekdays, "UTC", friday_night) == at("2026-11-24 09:00")
    anytime = spec(windows=(), except_dates=("2026-11-21", "2026-11-22"))
    assert next_open_ms(anytime, "UTC", at("2026-11-21 08:00")) == at("2026-11-23 00:00")


def test_a_year_that_is_left_out_ends() -> None:
    days = [datetime.fromtimestamp(at("2026-11-20") / 1000 + 86_400 * n, UTC) for n in range(366)]
    closed = spec(except_dates=tuple(f"{day:%Y-%m-%d}" for day in days))
    assert next_open_ms(closed, "UTC", at("2026-11-20 10:00")) == at("2027-11-21 09:00")


def test_an_hour_that_is_left_out_is_never_open() -> None:
    """On 29 March 2026 clocks in Rome went from 02:00 to 03:00."""
    night = spec(windows=(Window(opens="02:10", closes="02:50"),))
    assert next_open_ms(night, "Europe/Rome", at("2026-03-29 01:00", "Europe/Rome")) == at(
        "2026-03-30 02:10", "Europe/Rome"
    )
    across = spec(windows=(Window(opens="02:30", closes="03:10"),))
    assert next_open_ms(across, "Europe/Rome", at("2026-03-29 01:00", "Europe/Rome")) == at(
        "2026-03-29 03:00", "Europe/Rome"
    )


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    """On 25 October 2026 clocks in Rome went from 03:00 back to 02:00."""
    night = spec(windows=(Window(opens="01:30", closes="02:30"),))
    between = at("2026-10-25 02:45", "Europe/Rome")
    assert not is_open(night, "Europe/Rome", between)
    again = at("2026-10-25 02:00", "Europe/Rome", fold=1)
    assert next_open_ms(night, "Europe/Rome", between) == again


def by_looking(campaign: CampaignSpec, zone: str, from_ms: int, until_ms: int) -> int | None:
    """The first open moment, found by looking at every minute."""
    if is_open(campaign, zone, from_ms):
        return from_ms
    first = from_ms - from_ms % MINUTE_MS + MINUTE_MS
    for moment in range(first, until_ms, MINUTE_MS):
        if is_open(campaign, zone, moment):
            return moment
    return None


CLOCK = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
WINDOWS = st.builds(
    lambda days, times: Window(days=tuple(days), opens=min(times), closes=max(times)),
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True),
    st.lists(CLOCK, min_size=2, max_size=2, unique=True),
)
JUMPS = ["2026-03-08", "2026-03-29", "2026-10-04", "2026-10-25", "2026-11-01", "2026-04-24"]
MOMENTS = st.one_of(
    st.builds(
        lambda day, offset: at(day) + offset,
        st.sampled_from(JUMPS),
        st.integers(-DAY_MS, 2 * DAY_MS),
    ),
    st.integers(at("2024-01-01"), at("2030-01-01")),
)


@settings(max_examples=60, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=1, max_size=3), zone=st.sampled_from(ZONES), now=MOMENTS)
def test_the_next_opening_is_the_first(windows: list[Window], zone: str, now: int) -> None:
    campaign = spec(windows=tuple(windows))
    found = next_open_ms(campaign, zone, now)
    assert found == by_looking(campaign, zone, now, now + 9 * DAY_MS)


@settings(max_examples=200, deadline=None)
@given(windows=st.lists(WINDOWS, max_size=3), zone=st.sampled_from(ZONES), now=MOMENTS)
def test_what_is_found_is_open_and_stays_found(windows: list[Window], zone: str, now: int) -> None:
    campaign = spec(windows=tuple(windows))
    found = next_open_ms(campaign, zone, now)
    if found is None:  # hours that the clock left out on the one day they had
        return
    assert found >= now
    assert is_open(campaign, zone, found)
    assert next_open_ms(campaign, zone, found) == found
    if found > now:
        assert not is_open(campaign, zone, found - 1)
        assert next_open_ms(campaign, zone, (now + found) // 2) == found


def test_zones_are_known_by_name() -> None:
    assert is_zone("Europe/Rome")
    for name in ("Europe", "Rome", "../etc/passwd", "", "europe/rome"):
        assert not is_zone(name)


# --- outcomes ---------------------------------------------------------------------------

CALL = StoredCall(
    id="call_" + "0" * 24,
    direction="outbound",
    agent_id="agt_" + "0" * 24,
    agent_version=1,
    from_number="14155550199",
    to_number="14155550100",
    state="completed",
    carrier_id="uuid",
    request_id="uuid",
    plan=CallPlan(),
    is_machine=False,
    transfer=None,
    media_nonce=None,
    streams=1,
    ended=None,
    created_at_ms=0,
    answered_at_ms=1000,
    ended_at_ms=2000,
)


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "answered"),
        ({"answered_at_ms": None}, "failed"),
        ({"state": "busy"}, "busy"),
        ({"state": "no_answer"}, "no_answer"),
        ({"state": "cancelled"}, "cancelled"),
        ({"state": "failed"}, "failed"),
        ({"state": "failed", "ended": Ended(state="failed", code=3050)}, "bad_number"),
        ({"state": "failed", "ended": Ended(state="failed", code=3020)}, "rejected"),
        ({"is_machine": True}, "machine"),
        ({"is_machine": True, "plan": CallPlan(on_machine="continue")}, "machine"),
        ({"is_machine": True, "plan": CallPlan(on_machine="leave_message")}, "message_left"),
    ],
)
def test_what_became_of_an_attempt(changes: dict[str, Any], outcome: Outcome) -> None:
    call = dataclasses.replace(CALL, **changes)
    assert outcome_of(call, has_opted_out=False) == outcome
    assert outcome_of(call, has_opted_out=True) == "opted_out"


@pytest.mark.parametrize(
    ("outcomes", "after_s"),
    [
        (["busy"], 60),
        (["busy", "busy"], 60),
        (["busy", "busy", "busy"], None),  # two times more, and no third
        (["busy", "no_answer"], 600),
        (["no_answer", "no_answer"], None),
        (["busy", "no_answer", "busy", "busy"], None),  # four attempts are the most
        (["machine"], None),
        (["answered"], None),
        (["opted_out"], None),
        (["unknown"], None),
        (["bad_number"], None),
        (["cancelled"], None),
    ],
)
def test_when_a_number_is_called_again(outcomes: list[Outcome], after_s: int | None) -> None:
    retries = Retries(busy=Retry(times=2, after_s=60), no_answer=Retry(times=1, after_s=600))
    campaign = spec(retries=retries, max_attempts=4)
    assert retry_after_s(campaign, outcomes, len(outcomes)) == after_s
    assert retry_after_s(campaign, outcomes, 4) is None


@given(
    outcomes=st.lists(
        st.sampled_from(["busy", "no_answer", "machine", "failed", "answered", "unknown"]),
        min_size=1,
        max_size=12,
    ),
    limit=st.integers(1, 20),
)
def test_no_number_is_called_more_often_than_allowed(outcomes: list[Outcome], limit: int) -> None:
    generous = Retry(times=10, after_s=60)
    retries = Retries(busy=generous, no_answer=generous, machine=generous, failed=generous)
    campaign = spec(retries=retries, max_attempts=limit)
    again = retry_after_s(campaign, outcomes, len(outcomes))
    if len(outcomes) >= limit or outcomes[-1] in ("answered", "unknown"):
        assert again is None


def test_a_campaign_whose_calls_all_fail_breaks_off() -> None:
    failed: list[Outcome] = ["failed", "bad_number"] * (rules.FAILURES_MAX // 2)
    assert breaks_off(failed)
    assert breaks_off([*failed, "answered"])
    assert not breaks_off(failed[1:])
    assert not breaks_off(["busy", *failed])


def test_a_campaign_is_finished_when_nothing_waits_or_rings() -> None:
    assert is_finished(has_waiting=False, has_dialling=False)
    assert not is_finished(has_waiting=True, has_dialling=False)
    assert not is_finished(has_waiting=False, has_dialling=True)
