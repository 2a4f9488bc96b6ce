"""Examples of calls and numbers, for the specification; a test checks each of them."""

from __future__ import annotations

from typing import Any

import msgspec

from rtcore.metrics import CallStats
from rtcore.usage import ProviderUsage

__all__ = ["EXAMPLES"]

CALL_ID = "call_0123456789abcdef01234567"
AGENT_ID = "agt_0123456789abcdef01234567"
AT = "2026-11-21T03:07:12.000Z"

CALL = {
    "id": CALL_ID,
    "direction": "outbound",
    "state": "completed",
    "agent_id": AGENT_ID,
    "agent_version": 2,
    "from": "14155550199",
    "to": "14155550100",
    "carrier_id": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "variables": {"name": "Ann"},
    "is_machine": False,
    "transfer": {"to": "14155550111", "mode": "cold", "outcome": "no-answer"},
    "hangup": {
        "cause": "Normal Hangup",
        "code": 4000,
        "source": "Callee",
        "billed_s": 60,
        "cost": "0.00550",
    },
    "created_at": AT,
    "answered_at": AT,
    "ended_at": AT,
}
NUMBER = {
    "number": "14155550199",
    "agent_id": AGENT_ID,
    "app_id": "17348596210382745",
    "created_at": AT,
    "updated_at": AT,
}
STREAM = {
    "ended_by": "hung_up",
    "started_at": AT,
    "duration_s": 42.12,
    "turns": [
        {
            "response_ms": 640.0,
            "endpointing_ms": 300.0,
            "stt_final_ms": 0.0,
            "llm_first_token_ms": 220.0,
            "first_sentence_ms": 20.0,
            "tts_first_audio_ms": 98.0,
            "playout_ms": 2.0,
            "is_speculative": True,
        }
    ],
    "barge_ins": [{"pause_ms": 140.0, "clear_ms": 360.0, "heard_ms": 1820.0}],
    "stats": msgspec.to_builtins(CallStats()),
    "usage": [
        msgspec.to_builtins(
            ProviderUsage(
                kind="llm",
                provider="openai",
                requests=3,
                answered=2,
                input_tokens=1240,
                cached_tokens=1024,
                output_tokens=96,
                estimated_tokens=420,
                wasted_tokens=420,
            )
        )
    ],
}


def _page(item: Any) -> dict[str, Any]:
    return {"items": [item], "total": 1, "limit": 20, "offset": 0, "next_offset": None}


NODE = {
    "id": "node_0123456789abcdef01234567",
    "url": "https://edge-1.example.com",
    "calls": 42,
    "capacity": 400,
    "has_room": True,
    "is_draining": False,
    "is_this": True,
    "started_at": AT,
    "heartbeat_at": AT,
    "silent_s": 1.2,
}
ANALYSIS = {
    "state": "done",
    "agent_version": 2,
    "attempts": 1,
    "summary": {"state": "done", "reason": "", "text": "Ann booked a table for four on Friday."},
    "extraction": {"state": "done", "reason": "", "data": {"persons": 4}},
    "evaluation": {
        "state": "done",
        "reason": "",
        "scores": [
            {
                "criterion": "politeness",
                "score": 5,
                "reason": "The agent greeted her by name and thanked her.",
                "quote": "Hello Ann.",
                "turn": 0,
            }
        ],
    },
    "error": "",
    "requests": 3,
    "input_tokens": 1210,
    "output_tokens": 164,
    "left_out_turns": 0,
    "requested_at": AT,
    "updated_at": AT,
}


EXAMPLES: dict[str, Any] = {
    "AnalysisRequest": {"agent_version": 2},
    "AnalysisView": ANALYSIS,
    "CallDetail": CALL | {"analysis": ANALYSIS},
    "CallRequest": {
        "to": "+14155550100",
        "from": "+14155550199",
        "agent_id": AGENT_ID,
        "variables": {"name": "Ann"},
        "machine_detection": "hang_up",
    },
    "CallView": CALL,
    "PageView_CallView_": _page(CALL),
    "TransferRequest": {
        "to": "+14155550111",
        "mode": "warm",
        "summary": "Ann has a question about her bill of May.",
        "ring_timeout_s": 20,
    },
    "DtmfRequest": {"digits": "12#"},
    "SayRequest": {"text": "One more thing before we end."},
    "WhisperRequest": {"text": "They are a customer of ten years: offer the discount."},
    "AgentChange": {"agent_id": AGENT_ID, "says_welcome": True},
    "CallTranscript": {
        "items": [
            {"stream": 1, "role": "assistant", "text": "Hello Ann."},
            {"stream": 1, "role": "user", "text": "do you open on sunday"},
        ]
    },
    "CallMetrics": {"streams": [STREAM]},
    "CallEvents": {
        "items": [{"event": "turn_committed", "data": {"at_ms": 4120.0, "stream": 1, "chars": 21}}]
    },
    "NumberRequest": {"agent_id": AGENT_ID},
    "NumberView": NUMBER,
    "PageView_NumberView_": _page(NUMBER),
    "PageView_NodeView_": _page(NODE),
}
