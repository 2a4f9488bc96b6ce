"""What the fake service holds: telephones, applications, numbers, and why calls end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from rtcore.testing.caller import Action

__all__ = [
    "HANGUPS",
    "Account",
    "Application",
    "Callback",
    "Hangup",
    "HangupName",
    "OwnedNumber",
    "Phone",
    "normal_number",
]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns the applications, numbers and calls; its token signs every callback."""

    auth_id: str = "MAFAKE00000000000000"
    auth_token: str = "ZmFrZS10b2tlbi1vZi1hLWZha2UtYWNjb3VudA"


class Phone(msgspec.Struct, frozen=True, kw_only=True):
    """A telephone at the far end: what happens when it rings.

    ``scripts`` holds what its owner does on each media stream of the call, in turn; a stream
    past the last script is one of a caller who hangs up at once.
    """

    scripts: Sequence[Sequence[Action]] = ()
    when_rung: Literal["answer", "busy", "reject", "ignore"] = "answer"
    ring_s: float = 0.02
    talk_s: float = 0.05  # how long a person reached by <Dial>, or in company in a room, talks
    keys: Sequence[str] = ()  # pressed at each <GetDigits>, in turn; empty, or none left: nothing
    is_machine: bool = False
    hears: Sequence[Sequence[Action]] = ()  # the same of what its owner hears, for that track


class Application(msgspec.Struct, kw_only=True):
    """A Plivo application, in the words of its API."""

    app_id: str
    app_name: str
    answer_url: str = ""
    answer_method: str = "POST"
    hangup_url: str = ""
    hangup_method: str = "POST"
    fallback_answer_url: str = ""
    fallback_method: str = "POST"


class OwnedNumber(msgspec.Struct, kw_only=True):
    """A rented number and the application that answers it."""

    number: str
    app_id: str = ""


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One request the service made of us, and how it ended; status 0: no answer."""

    kind: str
    method: str
    url: str
    fields: dict[str, str]
    status: int


HangupName = Literal[
    "normal", "end_of_xml", "cancelled", "busy", "rejected", "no_answer", "machine",
    "answer_failed", "transfer_failed", "invalid_xml", "time_limit",
]  # fmt: skip


class Hangup(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call is over, as its record says it."""

    code: int
    name: str
    cause: str
    status: str  # of the call, in the hangup callback


HANGUPS: dict[HangupName, Hangup] = {
    "normal": Hangup(code=4000, name="Normal Hangup", cause="NORMAL_CLEARING", status="completed"),
    "end_of_xml": Hangup(
        code=4010, name="End Of XML Instructions", cause="NORMAL_CLEARING", status="completed"
    ),
    "cancelled": Hangup(code=1000, name="Cancelled", cause="ORIGINATOR_CANCEL", status="cancel"),
    "busy": Hangup(code=3010, name="Busy Line", cause="USER_BUSY", status="busy"),
    "rejected": Hangup(code=3020, name="Rejected", cause="CALL_REJECTED", status="failed"),
    "no_answer": Hangup(code=3000, name="No Answer", cause="NO_ANSWER", status="no-answer"),
    "machine": Hangup(
        code=9100, name="Machine Detected", cause="NORMAL_CLEARING", status="completed"
    ),
    "answer_failed": Hangup(
        code=7011, name="Error Reaching Answer URL", cause="NORMAL_CLEARING", status="failed"
    ),
    "transfer_failed": Hangup(
        code=7013, name="Error Reaching Transfer URL", cause="NORMAL_CLEARING", status="completed"
    ),
    "invalid_xml": Hangup(
        code=8011, name="Invalid Answer XML", cause="NORMAL_CLEARING", status="failed"
    ),
    "time_limit": Hangup(
        code=6000, name="Scheduled Hangup", cause="NORMAL_CLEARING", status="completed"
    ),
}


def normal_number(number: str) -> str:
    """Digits alone, as callbacks write them."""
    return number.removeprefix("+")
