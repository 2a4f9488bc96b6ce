"""``/plivo/human-...``: the call of a human who is fetched for a caller (a warm transfer)."""

from __future__ import annotations

from quart import Blueprint

from api.calls.deciding import human_outcome
from api.calls.handing import change_transfer, human_left, join, take_back
from api.calls.live import CallEvent
from api.calls.telephony import Telephony, telephony
from api.plivo import documents
from api.plivo.callbacks import Told, callback
from api.plivo.documents import Links

__all__ = ["blueprint"]

blueprint = Blueprint("humans", __name__, url_prefix="/plivo")

TAKES, DECLINES = "1", "2"


@callback(blueprint, "/human-ring/<id:call_id>")
async def human_ring(call_id: str, told: Told) -> bytes | None:
    """Their telephone rings."""
    telephony().tell(call_id, CallEvent(event="transfer_ringing"))
    return None


@callback(blueprint, "/human-answer/<id:call_id>")
async def human_answer(call_id: str, told: Told) -> bytes | None:
    """They have answered: tell them what it is about, and ask whether they take it."""
    line, attempt = telephony(), _attempt(told)
    call = await line.store.write(change_transfer, call_id, attempt, human_id=told.carrier_id)
    if call is None:
        return documents.too_late()
    line.tell(call_id, CallEvent(event="transfer_answered"))
    assert call.transfer is not None
    return documents.brief(_links(line), call, call.transfer)


@callback(blueprint, "/human-key/<id:call_id>")
async def human_key(call_id: str, told: Told) -> bytes | None:
    """They have pressed a key: the one that takes the call, or the other."""
    line, attempt = telephony(), _attempt(told)
    if told.fields.get("Digits") != TAKES:
        await take_back(line, call_id, attempt, "declined")
        return documents.goodbye()
    call = await join(line, call_id, attempt)
    if call is None:
        return documents.too_late()
    line.tell(call_id, CallEvent(event="transfer_joined"))
    return documents.join_as_human(attempt)


@callback(blueprint, "/human-over/<id:call_id>")
async def human_over(call_id: str, told: Told) -> bytes | None:
    """Their call is over: they have talked with the caller, or never took it."""
    await human_left(telephony(), call_id, _attempt(told), human_outcome(told.fields))
    return None


@callback(blueprint, "/human-talked/<id:call_id>")
async def human_talked(call_id: str, told: Told) -> bytes | None:
    """The caller comes out of the room: the human has hung up."""
    line = telephony()
    if await line.store.write(change_transfer, call_id, _attempt(told), outcome="completed"):
        line.tell(call_id, CallEvent(event="transfer_ended", data={"outcome": "completed"}))
    return documents.goodbye()


def _attempt(told: Told) -> str:
    return told.fields.get("attempt", "") or "none"


def _links(line: Telephony) -> Links:
    return Links(base=line.public_url, media_base=line.media_url)
