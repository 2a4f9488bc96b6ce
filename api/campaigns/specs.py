"""What a campaign is: whom to call is a list beside it, this is how and when."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.calls.views import AgentId, Dialling, Phone, Variables

__all__ = [
    "DAYS",
    "CampaignSpec",
    "Day",
    "Outcome",
    "Retries",
    "Retry",
    "TargetSpec",
    "TargetState",
    "TimeZone",
    "Window",
]

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TargetState = Literal["waiting", "dialling", "done"]
Outcome = Literal[
    "answered",
    "machine",  # a voicemail answered
    "message_left",
    "opted_out",  # asked in the call never to be called again
    "busy",
    "no_answer",
    "rejected",  # whoever is called, or their carrier, said no
    "bad_number",  # no such number, or none that this account may call
    "failed",
    "cancelled",
    "do_not_call",  # on the list: not called
    "unknown",  # asked of the carrier, which never told what became of it
]
TimeZone = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}\Z",
        description="A name of the IANA time zone database.",
        examples=["Europe/Rome"],
    ),
]


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hours at which calls may begin, by the clock on the wall of whoever is called."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS
    opens: Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = "09:00"
    closes: Annotated[
        str,
        Meta(
            pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)\Z",
            description="No call begins at or after it.",
        ),
    ] = "20:00"


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a number is called again after one outcome, and how long after."""

    times: Annotated[int, Meta(ge=0, le=10)]
    after_s: Annotated[int, Meta(ge=60, le=1_209_600)]


class Retries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After which outcomes a number is called again; after any other, never."""

    busy: Retry = Retry(times=2, after_s=900)
    no_answer: Retry = Retry(times=2, after_s=7200)
    machine: Retry = Retry(times=0, after_s=14_400)
    failed: Retry = Retry(times=1, after_s=900)


class CampaignSpec(Dialling, frozen=True, kw_only=True):
    """How a list of numbers is called."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    agent_id: AgentId
    from_: Annotated[Phone, Meta(description="One of your numbers.")] = msgspec.field(name="from")
    time_zone: Annotated[TimeZone, Meta(description="Of the numbers that have none of their own.")]
    windows: Annotated[
        tuple[Window, ...], Meta(max_length=20, description="An empty list: at any hour.")
    ] = (Window(),)
    except_dates: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")], ...],
        Meta(max_length=366, description="No calls on these days.", examples=[["2026-12-25"]]),
    ] = ()
    concurrency: Annotated[
        int, Meta(ge=1, le=1000, description="Calls at once, ringing or answered.")
    ] = 5
    calls_per_s: Annotated[
        float, Meta(ge=0.001, le=100, description="At most the account's own pace.")
    ] = 1.0
    max_attempts: Annotated[
        int, Meta(ge=1, le=20, description="Of one number, whatever the outcomes.")
    ] = 3
    retries: Retries = Retries()
    variables: Annotated[
        Variables, Meta(description="Of every number that does not set its own.")
    ] = msgspec.field(default_factory=dict)


class TargetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number to call."""

    number: Phone
    time_zone: Annotated[TimeZone | None, Meta(description="By default the campaign's.")] = None
    variables: Annotated[
        Variables, Meta(description="For the agent's prompt and greeting: `{name}`.")
    ] = {}
