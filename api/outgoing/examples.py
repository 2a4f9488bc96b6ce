"""Examples of webhooks, for the specification; a test checks each of them."""

from __future__ import annotations

from typing import Any

__all__ = ["EXAMPLES"]

AT = "2026-11-21T03:07:12.000Z"
SPEC = {
    "name": "Back office",
    "url": "https://office.example.com/rtcore",
    "events": ["call.ended", "call.analysed"],
    "is_enabled": True,
}
WEBHOOK = SPEC | {"id": "whk_0123456789abcdef01234567", "created_at": AT, "updated_at": AT}
DELIVERY = {
    "id": "dlv_0123456789abcdef01234567",
    "event_id": "evt_0123456789abcdef01234567",
    "event": "call.ended",
    "subject_id": "call_0123456789abcdef01234567",
    "state": "dead",
    "attempts": 10,
    "error": "503",
    "due_at": None,
    "created_at": AT,
    "updated_at": AT,
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": [item], "total": 1, "limit": 20, "offset": 0, "next_offset": None}


EXAMPLES: dict[str, Any] = {
    "WebhookSpec": SPEC,
    "WebhookPatch": {"is_enabled": False},
    "WebhookView": WEBHOOK,
    "NewWebhookView": WEBHOOK | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "DeliveryView": DELIVERY,
    "PageView_WebhookView_": _page(WEBHOOK),
    "PageView_DeliveryView_": _page(DELIVERY),
}
