"""What the carrier is told to do next: plain functions of what is known of the call."""

from __future__ import annotations

from typing import Literal

from api.calls.records import CallState, Ended, StoredCall

__all__ = ["STREAMS_MAX", "Next", "call_ended", "human_outcome", "is_machine", "what_next"]

Next = Literal["stream", "dial", "join", "hang_up"]

STREAMS_MAX = 10  # of one call; past it something is wrong that another stream does not mend
# how a stream ends when nobody wished it: the call itself goes on
UNWISHED = ("", "hung_up", "cancelled", "no_start", "replaced", "transferred")
MACHINE_CODE = 9100  # of Plivo's hangup codes: detection ended the call
STATES: dict[str, CallState] = {
    "completed": "completed",
    "busy": "busy",
    "failed": "failed",
    "timeout": "no_answer",
    "no-answer": "no_answer",
    "cancel": "cancelled",
}


def what_next(call: StoredCall, stream_ended_by: str) -> Next:
    """The stream is over and the call is not.

    ``stream_ended_by`` is why, in the words of the call's record; empty if nobody knows.
    """
    if call.ended_at_ms is not None:
        return "hang_up"
    if call.transfer is not None and not call.transfer.outcome:
        if call.transfer.mode == "cold":
            return "dial"
        if call.transfer.is_joined:
            return "join"
    if stream_ended_by in UNWISHED and call.streams < STREAMS_MAX:
        return "stream"
    return "hang_up"


def call_ended(fields: dict[str, str]) -> Ended:
    """What a hangup callback says."""
    code = _number(fields.get("HangupCauseCode", ""))
    return Ended(
        state=STATES.get(fields.get("CallStatus", ""), "completed"),
        cause=fields.get("HangupCauseName") or fields.get("HangupCause", ""),
        code=code,
        source=fields.get("HangupSource", ""),
        billed_s=_number(fields.get("BillDuration", "")),
        cost=fields.get("TotalCost", ""),
    )


def human_outcome(fields: dict[str, str]) -> str:
    """What became of the call to a human who did not take the caller's: a hangup callback says."""
    status = fields.get("CallStatus", "")
    return {"completed": "declined", "timeout": "no-answer"}.get(status, status[:20]) or "failed"


def is_machine(fields: dict[str, str]) -> bool:
    """Whether a callback says that no human answered."""
    said = fields.get("Machine", fields.get("machine", ""))
    return said.lower() == "true" or _number(fields.get("HangupCauseCode", "")) == MACHINE_CODE


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
