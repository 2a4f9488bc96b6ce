"""Examples of campaigns, for the specification; a test checks each of them."""

from __future__ import annotations

from typing import Any

__all__ = ["EXAMPLES"]

CAMPAIGN_ID = "cmp_0123456789abcdef01234567"
TARGET_ID = "tgt_0123456789abcdef01234567"
CALL_ID = "call_0123456789abcdef01234567"
AGENT_ID = "agt_0123456789abcdef01234567"
AT = "2026-11-21T03:07:12.000Z"

SPEC = {
    "name": "Spring reminders",
    "agent_id": AGENT_ID,
    "from": "+14155550199",
    "time_zone": "America/New_York",
    "windows": [
        {"days": ["mon", "tue", "wed", "thu", "fri"], "opens": "09:00", "closes": "19:00"},
        {"days": ["sat"], "opens": "10:00", "closes": "13:00"},
    ],
    "except_dates": ["2026-12-25"],
    "concurrency": 10,
    "calls_per_s": 1.0,
    "max_attempts": 3,
    "retries": {
        "busy": {"times": 2, "after_s": 900},
        "no_answer": {"times": 2, "after_s": 7200},
        "machine": {"times": 0, "after_s": 14_400},
        "failed": {"times": 1, "after_s": 900},
    },
    "variables": {"shop": "Trattoria Roma"},
    "machine_detection": "leave_message",
    "machine_message": "This is Trattoria Roma. Your table waits for you on Friday at eight.",
}
CAMPAIGN = SPEC | {
    "id": CAMPAIGN_ID,
    "state": "running",
    "reason": "",
    "created_at": AT,
    "updated_at": AT,
    "started_at": AT,
    "ended_at": None,
}
TARGET = {
    "id": TARGET_ID,
    "number": "14155550100",
    "time_zone": "America/Los_Angeles",
    "variables": {"name": "Ann"},
    "state": "waiting",
    "outcome": "busy",
    "attempts": 1,
    "due_at": AT,
    "updated_at": AT,
}
ATTEMPT = {"call_id": CALL_ID, "outcome": "busy", "created_at": AT, "ended_at": AT}
BLOCKED = {
    "number": "14155550100",
    "source": "agent",
    "note": "",
    "call_id": CALL_ID,
    "created_at": AT,
}


def _page(item: Any) -> dict[str, Any]:
    return {"items": [item], "total": 1, "limit": 20, "offset": 0, "next_offset": None}


EXAMPLES: dict[str, Any] = {
    "CampaignSpec": SPEC,
    "CampaignPatch": {"concurrency": 20, "windows": [{"opens": "10:00", "closes": "18:00"}]},
    "CampaignView": CAMPAIGN,
    "PageView_CampaignView_": _page(CAMPAIGN),
    "TargetsRequest": {
        "targets": [
            {"number": "+14155550100", "variables": {"name": "Ann"}},
            {"number": "+14155550101", "time_zone": "America/Los_Angeles"},
        ]
    },
    "AddedView": {"added": 2, "do_not_call": 0, "duplicates": []},
    "TargetView": TARGET,
    "TargetDetail": TARGET | {"calls": [ATTEMPT]},
    "PageView_TargetView_": _page(TARGET),
    "RetryRequest": {"outcome": "unknown"},
    "RetryView": {"retried": 1},
    "ReportView": {
        "numbers": 100,
        "waiting": 40,
        "dialling": 3,
        "done": 57,
        "outcomes": {"answered": 50, "no_answer": 6, "do_not_call": 1},
        "attempts": 81,
        "attempts_by_outcome": {"answered": 50, "no_answer": 20, "busy": 8},
        "next_due_at": AT,
    },
    "BlockRequest": {"numbers": ["+14155550100"], "note": "asked by letter"},
    "BlocksView": {"added": 1, "stopped": 1},
    "BlockedView": BLOCKED,
    "PageView_BlockedView_": _page(BLOCKED),
}
