"""``/plivo/...``: what the carrier asks and tells. Each may come twice, late, or not at all."""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec
import structlog
from quart import Blueprint

from api.calls.deciding import call_ended, is_machine, what_next
from api.calls.handing import forsake
from api.calls.live import CallEvent
from api.calls.records import (
    StoredCall,
    begin_inbound,
    get_call,
    mark_answered,
    mark_ended,
    mark_machine,
    mark_resumed,
    mark_ringing,
    set_transfer,
    stored_call,
)
from api.calls.telephony import Telephony, telephony
from api.nodes.records import node_with_room
from api.plivo import documents
from api.plivo.callbacks import Told, callback
from api.plivo.documents import Links
from api.store.agents import get_published
from api.store.attempts import stop_campaign_of
from api.store.database import Tx
from api.store.errors import AgentUnusable, NotFound, VaultLocked
from api.web.problems import ApiError

__all__ = ["blueprint"]

blueprint = Blueprint("plivo", __name__, url_prefix="/plivo")

CALL_ID = re.compile("call_[0-9a-f]{24}")

log = structlog.get_logger()


# --- how a call begins ------------------------------------------------------------------


@callback(blueprint, "/answer/<id:agent_id>")
async def answer(agent_id: str, told: Told) -> bytes | None:
    """A call has come in, or one of ours was answered: what to do with it."""
    line = telephony()
    if told.event == "Hangup":  # where no hangup URL is set, this one is told of the end
        await _end(line, told)
        return documents.goodbye()
    if not told.carrier_id:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "CallUUID: missing")
    media_url = await _media_url(line, _call_id(told))
    if media_url is None:
        return await _no_room(line, agent_id, told)
    line.expect_stream(told.carrier_id, media_url)
    try:
        call = await line.store.write(_answered, agent_id, told)
    except NotFound:
        log.warning("call_refused", reason="no such agent", agent_id=agent_id)
        return documents.rejected()
    line.tell_state(call)
    return await _stream(line, call, media_url)


async def _media_url(line: Telephony, call_id: str | None = None) -> str | None:
    """Where there is room for one more call: here, or at another node that can be reached.

    Whoever answers a call of ours, ``call_id``, is taken even by a node that drains.
    """
    if line.node.has_room:
        return line.media_url
    if line.presence.nodes > 1:
        silent_ms = line.presence.config.silent_ms
        other = await line.store.read(node_with_room, line.node_id, silent_ms)
        if other is not None:
            line.no_room.labels("other_node").inc()
            return other.state.url
    if call_id is not None and line.node.may_expect:
        return line.media_url
    return None


async def _no_room(line: Telephony, agent_id: str, told: Told) -> bytes:
    """The caller is put through to who takes what the agent cannot, or hears a busy tone."""
    overflow_to = None
    if _call_id(told) is None:  # nobody is put through who was called by us
        try:
            overflow_to = (await line.store.read(get_published, agent_id)).spec.overflow_to
        except NotFound:
            return documents.rejected()
    answer = "busy" if overflow_to is None else "overflow"
    line.no_room.labels(answer).inc()
    log.warning("call_refused", reason="no room", answer=answer)
    return documents.busy() if overflow_to is None else documents.overflow(overflow_to)


def _answered(tx: Tx, agent_id: str, told: Told) -> StoredCall:
    call_id = _call_id(told)
    if call_id is None:
        fields = told.fields
        call = begin_inbound(
            tx, agent_id, told.carrier_id, fields.get("From", ""), fields.get("To", "")
        )
        call_id = call.id
    return mark_answered(tx, call_id, told.carrier_id)


async def _stream(line: Telephony, call: StoredCall, media_url: str) -> bytes:
    """Let the agent talk at ``media_url``, if the call is not over.

    Where the agent cannot be used the caller is told at once, rather than left in silence until
    the stream is refused; a campaign calls nobody else.
    """
    if call.ended_at_ms is not None or call.carrier_id is None:
        return documents.goodbye()
    try:
        await line.check_agent(call.agent_id, call.agent_version)
    except (AgentUnusable, VaultLocked) as exc:
        line.agent_failed(call, "answer", exc)
        if call.direction == "outbound":
            await line.store.write(stop_campaign_of, call.id, str(exc))
        return documents.sorry()
    links = Links(base=line.public_url, media_base=media_url)
    return documents.stream(links, line.secret, call, line.now_s())


async def _stream_again(line: Telephony, call_id: str, told: Told) -> bytes:
    """Let the agent go on, wherever there is room; a call that was let in is not sent away."""
    media_url = await _media_url(line)
    if media_url is None and line.node.is_stopping:
        return documents.goodbye()  # nobody is left to go on with it
    media_url = media_url or line.media_url
    line.expect_stream(told.carrier_id, media_url)
    call = await line.store.write(mark_resumed, call_id, told.carrier_id)
    return await _stream(line, call, media_url)


@callback(blueprint, "/fallback/<id:agent_id>")
async def fallback(agent_id: str, told: Told) -> bytes | None:
    """The answer URL failed: this one needs no database."""
    log.error("answer_failed_before", agent_id=agent_id)
    return documents.sorry()


@callback(blueprint, "/ring/<id:call_id>")
async def ring(call_id: str, told: Told) -> bytes | None:
    """One of our calls rings at the far end."""
    line = telephony()
    line.tell_state(await line.store.write(mark_ringing, call_id))
    return None


@callback(blueprint, "/machine/<id:call_id>")
async def machine(call_id: str, told: Told) -> bytes | None:
    """A machine has answered one of our calls."""
    line = telephony()
    if not is_machine(told.fields):
        return None
    line.on_machine(await line.store.write(mark_machine, call_id))
    return None


# --- what comes next --------------------------------------------------------------------


@callback(blueprint, "/after/<id:call_id>")
async def after(call_id: str, told: Told) -> bytes | None:
    """The stream is over and the call is not; also where a transfer sends the call."""
    line = telephony()
    call = await line.store.read(get_call, call_id)
    following = what_next(call, await line.ending_of(call))
    log.info("after_stream", following=following)
    if following == "dial":
        assert call.transfer is not None
        return documents.dial(_links(line), call, call.transfer)
    if following == "join":
        assert call.transfer is not None
        return documents.join_as_caller(_links(line), call, call.transfer)
    if following == "hang_up":
        return documents.goodbye()
    return await _stream_again(line, call_id, told)


@callback(blueprint, "/dial-result/<id:call_id>")
async def dial_result(call_id: str, told: Told) -> bytes | None:
    """The human has talked with the caller, or could not be reached: then we have them back."""
    line = telephony()
    outcome = told.fields.get("DialStatus", "failed") or "failed"
    call = await line.store.write(_dialled, call_id, outcome[:20])
    transfer = {"outcome": outcome}
    line.tell(call_id, CallEvent(event="transfer_ended", data=transfer))
    if outcome == "completed" or call.plan.listening is not None:
        return documents.goodbye()
    return await _stream_again(line, call.id, told)


def _dialled(tx: Tx, call_id: str, outcome: str) -> StoredCall:
    call = get_call(tx, call_id, lock=True)
    if call.transfer is None:
        return call
    decided = msgspec.structs.replace(call.transfer, outcome=outcome)
    return set_transfer(tx, call_id, decided, None)


# --- how it ends ------------------------------------------------------------------------


@callback(blueprint, "/hangup/<id:agent_id>")
async def hangup(agent_id: str, told: Told) -> bytes | None:
    """The call is over."""
    await _end(telephony(), told)
    return None


async def _end(line: Telephony, told: Told) -> None:
    call = await line.store.write(_ended, told)
    if call is None:
        return
    held = line.live.get(call.id)
    if held is not None:
        held.call.end("hung_up")
    await forsake(line, call)
    line.tell_state(call)


def _ended(tx: Tx, told: Told) -> StoredCall | None:
    """Mark the call as over, if it is one of ours; a call we refused never was."""
    call_id = _call_id(told)
    call = stored_call(tx, id=call_id or "", carrier_id=told.carrier_id)
    if call is None:
        return None
    if is_machine(told.fields):
        mark_machine(tx, call.id)
    return mark_ended(tx, call.id, call_ended(told.fields))


# --- what is only told ------------------------------------------------------------------


@callback(blueprint, "/stream-status")
async def stream_status(told: Told) -> bytes | None:
    """Whether the audio flows, as the carrier sees it. Its words differ from page to page."""
    line = telephony()
    event = told.event.lower()
    if event in ("droppedstream", "failed", "degradedstream"):
        log.warning("stream_trouble", about=event[:32])
    held = next((h for h in line.live.values() if h.call.context.call_id == told.carrier_id), None)
    if held is not None:
        data = {"event": told.event[:32]}
        line.listeners.tell(held.call_id, CallEvent(event="stream_status", data=data))
    return None


@callback(blueprint, "/recording/<id:call_id>")
async def recording(call_id: str, told: Told) -> bytes | None:
    """The carrier has finished a recording that its console or an operator asked for."""
    seconds = told.fields.get("RecordingDuration", told.fields.get("recording_duration", ""))
    data = {"recording_id": told.fields.get("RecordingID", "")[:64], "duration_s": seconds[:16]}
    telephony().tell(call_id, CallEvent(event="recording_ready", data=data))
    return None


def _links(line: Telephony) -> Links:
    return Links(base=line.public_url, media_base=line.media_url)


def _call_id(told: Told) -> str | None:
    """Our own id, which we wrote into the URL of an outbound call."""
    given = told.fields.get("call", "")
    return given if CALL_ID.fullmatch(given) else None
