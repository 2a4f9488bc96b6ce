"""Campaigns as they are asked for and shown."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api.calls.views import Phone
from api.campaigns.specs import CampaignSpec, Outcome, TargetSpec, TargetState
from api.store.campaigns import CampaignRecord, CampaignState, Report
from api.store.do_not_call import BlockedRecord, Source
from api.store.targets import AttemptRecord, TargetRecord
from api.web.requests import NameFilter, Paging
from api.web.times import Time, shown_time

__all__ = [
    "AddedView",
    "AttemptView",
    "BlockRequest",
    "BlockedFilter",
    "BlockedView",
    "BlocksView",
    "CampaignFilter",
    "CampaignView",
    "HangUp",
    "ReportView",
    "RetryRequest",
    "RetryView",
    "TargetDetail",
    "TargetFilter",
    "TargetView",
    "TargetsRequest",
    "blocked_view",
    "campaign_view",
    "report_view",
    "target_detail",
    "target_view",
]

TARGETS_MAX = 1000  # in one request; a file may hold more
TargetId = Annotated[str, Meta(pattern=r"^tgt_[0-9a-f]{24}\Z")]


# --- campaigns --------------------------------------------------------------------------


class CampaignFilter(NameFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of campaigns."""

    state: CampaignState | None = None


class HangUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the calls that go on."""

    hang_up: Annotated[bool, Meta(description="End them; by default they end by themselves.")] = (
        False
    )


class CampaignView(CampaignSpec, frozen=True, kw_only=True):
    """A campaign as stored."""

    id: str
    state: CampaignState
    reason: Annotated[str, Meta(description="Why it paused, if it did so by itself.")]
    created_at: Time
    updated_at: Time
    started_at: Time | None
    ended_at: Time | None


def campaign_view(campaign: CampaignRecord) -> CampaignView:
    """``campaign`` as it is shown."""
    record = campaign.record
    return CampaignView(
        **msgspec.structs.asdict(record.spec),
        id=record.id,
        state=campaign.state,
        reason=campaign.reason,
        created_at=shown_time(record.created_at_ms),
        updated_at=shown_time(record.updated_at_ms),
        started_at=_time(campaign.started_at_ms),
        ended_at=_time(campaign.ended_at_ms),
    )


class ReportView(msgspec.Struct, frozen=True, kw_only=True):
    """How far a campaign got: numbers by state, and those done by outcome; attempts likewise."""

    numbers: int
    waiting: int
    dialling: int
    done: int
    outcomes: dict[str, int]
    attempts: Annotated[int, Meta(description="Calls made, those that go on included.")]
    attempts_by_outcome: Annotated[
        dict[str, int],
        Meta(description="`not_made`: the carrier was asked, and is known not to have called."),
    ]
    next_due_at: Annotated[
        Time | None, Meta(description="When the next number is looked at; null: none waits.")
    ]


def report_view(report: Report) -> ReportView:
    """``report`` as it is shown."""
    states, attempts = report.states, report.attempts
    made = sum(count for outcome, count in attempts.items() if outcome != "not_made")
    return ReportView(
        numbers=sum(states.values()),
        waiting=states.get("waiting", 0),
        dialling=states.get("dialling", 0),
        done=states.get("done", 0),
        outcomes=report.outcomes,
        attempts=made + report.open_attempts,
        attempts_by_outcome=attempts,
        next_due_at=_time(report.next_due_ms),
    )


# --- numbers ----------------------------------------------------------------------------


class TargetsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers to call, in this order."""

    targets: Annotated[list[TargetSpec], Meta(min_length=1, max_length=TARGETS_MAX)]


class AddedView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of numbers that were added."""

    added: int
    do_not_call: Annotated[
        int, Meta(description="Of those added: on the do-not-call list, and done with it.")
    ]
    duplicates: Annotated[
        list[int],
        Meta(
            description="Passed over, as they are in the campaign or were named before: places in"
            " the list, from 0; rows of a file, from 1."
        ),
    ]


class TargetFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of a campaign's numbers."""

    state: TargetState | None = None
    outcome: Outcome | None = None
    number: Phone | None = None


class TargetView(msgspec.Struct, frozen=True, kw_only=True):
    """A number of a campaign."""

    id: str
    number: Annotated[
        str | None, Meta(description="Null once it was forgotten, as `calls_days` wishes.")
    ]
    time_zone: str | None
    variables: dict[str, str]
    state: TargetState
    outcome: Annotated[
        Outcome | None, Meta(description="Of the newest attempt, or why there was none.")
    ]
    attempts: Annotated[int, Meta(description="Calls made that are over.")]
    due_at: Annotated[Time | None, Meta(description="When it is looked at next, if it waits.")]
    updated_at: Time


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a number was called, or may have been."""

    call_id: str
    outcome: Annotated[str | None, Meta(description="Null while the call goes on.")]
    created_at: Time
    ended_at: Time | None


class TargetDetail(TargetView, frozen=True, kw_only=True):
    """A number with all its attempts, in order."""

    calls: list[AttemptView]


def target_view(target: TargetRecord) -> TargetView:
    """``target`` as it is shown."""
    return TargetView(
        id=target.id,
        number=target.number,
        time_zone=target.time_zone,
        variables=target.variables,
        state=target.state,
        outcome=target.outcome,
        attempts=target.attempts,
        due_at=shown_time(target.due_at_ms) if target.state == "waiting" else None,
        updated_at=shown_time(target.updated_at_ms),
    )


def target_detail(target: TargetRecord, attempts: tuple[AttemptRecord, ...]) -> TargetDetail:
    """``target`` with its attempts."""
    calls = [
        AttemptView(
            call_id=each.call_id,
            outcome=each.outcome,
            created_at=shown_time(each.created_at_ms),
            ended_at=_time(each.ended_at_ms),
        )
        for each in attempts
    ]
    return TargetDetail(**msgspec.structs.asdict(target_view(target)), calls=calls)


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the numbers that are done to call again: by outcome, or by id."""

    outcome: Outcome | None = None
    target_ids: Annotated[list[TargetId], Meta(max_length=TARGETS_MAX)] = []


class RetryView(msgspec.Struct, frozen=True, kw_only=True):
    """How many numbers wait again."""

    retried: int


# --- who is not to be called ------------------------------------------------------------


class BlockRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers that no agent may call."""

    numbers: Annotated[list[Phone], Meta(min_length=1, max_length=TARGETS_MAX)]
    note: Annotated[str, Meta(max_length=500, description="Who asked for it, and how.")] = ""


class BlocksView(msgspec.Struct, frozen=True, kw_only=True):
    """What that did."""

    added: Annotated[int, Meta(description="Numbers that were not on the list before.")]
    stopped: Annotated[int, Meta(description="Numbers of campaigns that were waiting for a call.")]


class BlockedFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The list."""

    number: Phone | None = None


class BlockedView(msgspec.Struct, frozen=True, kw_only=True):
    """A number that no agent may call."""

    number: str
    source: Annotated[Source, Meta(description="`agent`: asked for in the call `call_id`.")]
    note: str
    call_id: str | None
    created_at: Time


def blocked_view(blocked: BlockedRecord) -> BlockedView:
    """``blocked`` as it is shown."""
    return BlockedView(
        number=blocked.number,
        source=blocked.source,
        note=blocked.note,
        call_id=blocked.call_id,
        created_at=shown_time(blocked.created_at_ms),
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else shown_time(at_ms)
