"""Handing a caller to a human who is told first what it is about: a warm transfer.

The caller stays with the agent while the human's telephone rings, as a call of its own. Who
answers hears a summary and presses a key; only then do both meet in a room. Whatever else
happens (nobody answers, a machine does, no key, another key), the agent never lost the caller and
says so. All of it is kept with the call, so that the carrier may ask any node; each attempt has a
name, so that what is told late of an older one changes nothing.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import structlog

from api.calls.commands import Brief, Hold, Release, ask
from api.calls.live import CallEvent
from api.calls.records import StoredCall, Transfer, get_call, set_transfer
from api.calls.telephony import Telephony
from api.calls.views import TransferRequest
from api.plivo.client import OutboundCall, PlivoError, PlivoRefused, PlivoUnreachable
from api.plivo.documents import Links
from api.store.database import Actor, Tx
from api.store.errors import Conflict, StoreUnavailable
from api.web.problems import ApiError, invalid

__all__ = [
    "begin_warm",
    "change_transfer",
    "forsake",
    "human_left",
    "is_pending",
    "join",
    "take_back",
]

log = structlog.get_logger()

BRIEFING_S = 60  # to hear a summary twice and find the key, beside what the ringing takes
HUMAN_LIMIT_S = 14_400  # Plivo's own: the call of the human must not outlast the caller's by much
NO_SUMMARY = "A caller would like to talk with you."


def is_pending(call: StoredCall, attempt: str = "") -> bool:
    """Whether a human is being fetched for ``call`` (in that very attempt)."""
    transfer = call.transfer
    return (
        transfer is not None
        and transfer.mode == "warm"
        and not transfer.outcome
        and (not attempt or transfer.attempt == attempt)
    )


def change_transfer(tx: Tx, id: str, attempt: str, /, **changes: Any) -> StoredCall | None:
    """Change what is kept of an attempt that goes on; None: it does not, or never was."""
    call = get_call(tx, id, lock=True)
    if not is_pending(call, attempt) or (call.ended_at_ms is not None and "outcome" not in changes):
        return None
    assert call.transfer is not None
    return set_transfer(tx, id, msgspec.structs.replace(call.transfer, **changes), None)


async def begin_warm(
    line: Telephony, actor: Actor, call: StoredCall, body: TransferRequest, *, says_line: bool
) -> StoredCall:
    """Have a human's telephone ring, and the caller wait with the agent.

    Raises:
        Conflict: nobody talks in the call.
        ApiError: 422 the number cannot be rung, 502 or 504 the carrier did not do it.
    """
    ours = call.to_number if call.direction == "inbound" else call.from_number
    to, from_number = body.to.removeprefix("+"), (body.caller_id or ours).removeprefix("+")
    if to == from_number:
        raise invalid("to", "is the number it is called from")
    attempt = secrets.token_hex(6)
    hold = Hold(
        call_id=call.id,
        attempt=attempt,
        line=body.hold_line,
        says_line=says_line,
        limit_s=float(body.ring_timeout_s + BRIEFING_S),
    )
    await ask(line, call, hold)
    summary = body.summary
    if summary is None:
        summary = str((await ask(line, call, Brief(call_id=call.id)))["summary"])
    transfer = Transfer(
        to=to,
        ring_timeout_s=body.ring_timeout_s,
        caller_id=from_number,
        take_back_line=body.take_back_line,
        mode="warm",
        attempt=attempt,
        summary=f"{summary.strip() or NO_SUMMARY} {body.confirm_line}",
    )
    call = await line.store.write(set_transfer, call.id, transfer, actor)
    try:
        request_id = await line.carrier.make_call(_order(line, call, transfer))
    except PlivoError as exc:
        may_ring = isinstance(exc, PlivoUnreachable) and exc.may_have_happened
        await take_back(line, call.id, attempt, "failed")
        if may_ring:
            log.warning("human_may_ring", call_id=call.id)
        if isinstance(exc, PlivoRefused) and exc.status == 400:
            raise invalid("to", f"the carrier says: {exc.message}") from exc
        raise
    changed = await line.store.write(change_transfer, call.id, attempt, request_id=request_id)
    if changed is not None:
        return changed
    # it was over before we knew what it is called
    await _hang_up_human(line, msgspec.structs.replace(transfer, request_id=request_id))
    return await line.store.read(get_call, call.id)


def _order(line: Telephony, call: StoredCall, transfer: Transfer) -> OutboundCall:
    links, attempt = Links(base=line.public_url), transfer.attempt
    return OutboundCall(
        to=transfer.to,
        from_=transfer.caller_id,
        answer_url=links.of_human("answer", call.id, attempt),
        hangup_url=links.of_human("over", call.id, attempt),
        fallback_url=links.fallback(call.agent_id),
        ring_url=links.of_human("ring", call.id, attempt),
        ring_timeout=transfer.ring_timeout_s,
        time_limit=HUMAN_LIMIT_S,
    )


async def join(line: Telephony, call_id: str, attempt: str) -> StoredCall | None:
    """The human takes the call: send the caller where they wait. None: there is no caller now.

    Raises:
        StoreUnavailable: the database did not answer.
    """
    call = await line.store.write(change_transfer, call_id, attempt, is_joined=True)
    if call is None or call.carrier_id is None:
        return None
    try:
        after = Links(base=line.public_url).of_call("after", call_id)
        await line.carrier.transfer(call.carrier_id, after)
    except (PlivoError, ApiError) as exc:
        log.warning("caller_not_joined", reason=type(exc).__name__)
        await take_back(line, call_id, attempt, "failed")
        return None
    await line.end_stream(call, "transferred")
    return call


async def take_back(
    line: Telephony, call_id: str, attempt: str, outcome: str, *, hangs_up: bool = False
) -> None:
    """Nobody took the call: the agent goes on with the caller, and tells them.

    ``hangs_up``: the human's telephone may ring still.
    """
    call = await line.store.write(change_transfer, call_id, attempt, outcome=outcome)
    if call is None:
        return
    assert call.transfer is not None
    await _release(line, call, call.transfer)
    if hangs_up:
        await _hang_up_human(line, call.transfer)


async def _release(line: Telephony, call: StoredCall, transfer: Transfer) -> None:
    _tell_outcome(line, call, transfer)
    release = Release(call_id=call.id, attempt=transfer.attempt, line=transfer.take_back_line)
    try:
        await ask(line, call, release)
    except (ApiError, Conflict, StoreUnavailable) as exc:
        log.warning("caller_not_told", reason=type(exc).__name__)


def _tell_outcome(line: Telephony, call: StoredCall, transfer: Transfer) -> None:
    line.tell(call.id, CallEvent(event="transfer_ended", data={"outcome": transfer.outcome}))


async def human_left(line: Telephony, call_id: str, attempt: str, outcome: str) -> None:
    """The human's call is over: they have talked with the caller, or (``outcome``) took no call."""
    call = await line.store.write(_human_left, call_id, attempt, outcome)
    if call is None:
        return
    assert call.transfer is not None
    if not call.transfer.is_joined:
        await _release(line, call, call.transfer)
        return
    _tell_outcome(line, call, call.transfer)
    if call.carrier_id is not None:
        try:  # the room ended with them; a caller who was still on the way to it would wait alone
            await line.carrier.hang_up(call.carrier_id)
        except (PlivoError, ApiError) as exc:
            log.warning("caller_not_hung_up", reason=type(exc).__name__)


def _human_left(tx: Tx, call_id: str, attempt: str, outcome: str) -> StoredCall | None:
    call = get_call(tx, call_id, lock=True)
    has_talked = call.transfer is not None and call.transfer.is_joined
    return change_transfer(tx, call_id, attempt, outcome="completed" if has_talked else outcome)


async def forsake(line: Telephony, call: StoredCall) -> None:
    """The caller has hung up while a human was fetched, or talked with: let the human go, too."""
    if not is_pending(call):
        return
    assert call.transfer is not None
    transfer = call.transfer
    outcome = "completed" if transfer.is_joined else "caller_left"
    if await line.store.write(change_transfer, call.id, transfer.attempt, outcome=outcome):
        line.tell(call.id, CallEvent(event="transfer_ended", data={"outcome": outcome}))
    if not transfer.is_joined:
        await _hang_up_human(line, transfer)


async def _hang_up_human(line: Telephony, transfer: Transfer) -> None:
    try:
        if transfer.human_id:
            await line.carrier.hang_up(transfer.human_id)
        elif transfer.request_id and not await line.carrier.cancel(transfer.request_id):
            await line.carrier.hang_up(transfer.request_id)
    except (PlivoError, ApiError) as exc:
        log.warning("human_not_hung_up", reason=type(exc).__name__)
