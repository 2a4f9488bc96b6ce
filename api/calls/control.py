"""What is done to calls through the carrier: begin, transfer, end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import structlog
import trio

from api.calls.commands import Become, Command, ask
from api.calls.handing import begin_warm, is_pending
from api.calls.records import (
    CallPlan,
    Ended,
    StoredCall,
    Transfer,
    begin_outbound,
    get_call,
    mark_ended,
    mark_requested,
    set_agent,
    set_transfer,
)
from api.calls.telephony import Telephony
from api.calls.views import AgentChange, CallRequest, Dialling, TransferRequest, plan_of
from api.plivo.client import OutboundCall, PlivoError, PlivoRefused, PlivoUnreachable
from api.plivo.documents import Links
from api.store.agents import get_published
from api.store.database import Actor, Tx
from api.store.do_not_call import is_blocked
from api.store.errors import AgentUnusable, Conflict, InvalidReference, NotFound
from api.store.records import note
from api.web.problems import ApiError, invalid

__all__ = [
    "as_api_error",
    "carrying",
    "change_agent",
    "hang_up_call",
    "make_call",
    "order_of",
    "steer_call",
    "transfer_call",
]

log = structlog.get_logger()

TURN_LIMIT_S = 10.0  # a burst of calls waits so long for its turn; then the caller waits itself


def as_api_error(exc: PlivoError) -> ApiError:
    """The answer to what the carrier did not do."""
    if isinstance(exc, PlivoUnreachable):
        return ApiError(HTTPStatus.GATEWAY_TIMEOUT, f"{exc}: try again")
    return ApiError(HTTPStatus.BAD_GATEWAY, str(exc))


async def make_call(line: Telephony, actor: Actor, body: CallRequest) -> StoredCall:
    """Begin a call, when it is its turn.

    Raises:
        ApiError: 422 a field cannot be used, 429 too many wait, 502 or 504 the carrier failed,
            503 there is none.
    """
    carrier = line.carrier
    from_number, to_number = body.from_.removeprefix("+"), body.to.removeprefix("+")
    if from_number == to_number:
        raise invalid("to", "is the number it is called from")
    if body.machine_detection == "leave_message" and not body.machine_message:
        raise invalid("machine_message", "say what leave_message should say")
    try:
        await line.check_agent(body.agent_id)
    except NotFound as exc:
        raise invalid("agent_id", f"{exc}: create it first") from exc
    except AgentUnusable as exc:
        raise invalid("agent_id", str(exc)) from exc
    wait_s = await line.pace.turn(TURN_LIMIT_S)
    if wait_s > 0:
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"calls begin at {carrier.account.calls_per_s:g} a second: ask again in {wait_s:.0f} s",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )
    plan = plan_of(body, body.variables)
    call = await line.store.write(_begun, actor, body.agent_id, from_number, to_number, plan)
    wanted = order_of(line, call, body)
    # shielded: what was asked of the carrier is written down even if this client has gone
    with trio.CancelScope(shield=True):
        call = await _asked(line, call, wanted, body.ring_timeout_s)
    return call


async def _asked(
    line: Telephony, call: StoredCall, wanted: OutboundCall, ring_timeout_s: int
) -> StoredCall:
    """Ask the carrier for a call that has begun here; each wait has its own limit."""
    line.expect_answer(call, ring_timeout_s)
    try:
        request_id = await line.carrier.make_call(wanted)
    except PlivoError as exc:
        if not (isinstance(exc, PlivoUnreachable) and exc.may_have_happened):
            failed = Ended(state="failed", cause="the carrier did not take the call")
            line.tell_state(await line.store.write(mark_ended, call.id, failed))
        if isinstance(exc, PlivoRefused) and exc.status == HTTPStatus.BAD_REQUEST:
            raise invalid("to", f"the carrier says: {exc.message}") from exc
        raise as_api_error(exc) from exc
    return await line.store.write(mark_requested, call.id, request_id)


def _begun(
    tx: Tx, actor: Actor, agent_id: str, from_number: str, to_number: str, plan: CallPlan
) -> StoredCall:
    if is_blocked(tx, to_number):
        raise InvalidReference("to", "is on the do-not-call list: DELETE it there to call it")
    return begin_outbound(tx, actor, agent_id, from_number, to_number, plan)


def order_of(line: Telephony, call: StoredCall, how: Dialling) -> OutboundCall:
    """What the carrier is asked for: ``call``, with its id in every address it is told."""
    links = Links(base=line.public_url)
    policy = call.plan.on_machine
    asks_later = policy in ("continue", "leave_message")
    return OutboundCall(
        to=call.to_number,
        from_=call.from_number,
        answer_url=links.answer(call.agent_id, call.id),
        hangup_url=links.hangup(call.agent_id, call.id),
        fallback_url=links.fallback(call.agent_id),
        ring_url=links.of_call("ring", call.id),
        caller_name=how.caller_name or None,
        ring_timeout=how.ring_timeout_s,
        time_limit=how.time_limit_s,
        machine_detection="hangup" if policy == "hang_up" else "true" if asks_later else None,
        machine_detection_url=links.of_call("machine", call.id) if asks_later else None,
    )


@asynccontextmanager
async def carrying(line: Telephony, call_id: str) -> AsyncIterator[str]:
    """The carrier's id of a call that goes on; its refusals inside become ours.

    Raises:
        NotFound, Conflict: there is no such call, or it does not go on.
        ApiError: 502 or 504, the carrier failed.
    """
    call = await line.store.read(get_call, call_id)
    if call.ended_at_ms is not None or call.carrier_id is None or call.answered_at_ms is None:
        raise Conflict("the call is over, or has not been answered yet")
    try:
        yield call.carrier_id
    except PlivoError as exc:
        if isinstance(exc, PlivoRefused) and exc.status == HTTPStatus.NOT_FOUND:
            raise Conflict("the call is over") from exc
        raise as_api_error(exc) from exc


async def transfer_call(
    line: Telephony, actor: Actor, call_id: str, body: TransferRequest, *, says_line: bool = True
) -> StoredCall:
    """Send the caller to a human: at once (the carrier is asked first, then our stream yields),
    or once the human has heard what it is about, and takes the call.

    ``says_line``: the agent tells the caller to wait; it may have done so already.

    Raises:
        NotFound, Conflict, ApiError: as :func:`carrying`; the call goes on with the agent.
    """
    links = Links(base=line.public_url)
    async with carrying(line, call_id) as carrier_id:
        call = await line.store.read(get_call, call_id)
        if is_pending(call):
            raise Conflict("a human is being fetched for this call already")
        if body.mode == "warm":
            return await begin_warm(line, actor, call, body, says_line=says_line)
        ours = call.to_number if call.direction == "inbound" else call.from_number
        transfer = Transfer(
            to=body.to.removeprefix("+"),
            ring_timeout_s=body.ring_timeout_s,
            caller_id=(body.caller_id or ours).removeprefix("+"),
            take_back_line=body.take_back_line,
        )
        call = await line.store.write(set_transfer, call_id, transfer, actor)
        try:
            await line.carrier.transfer(carrier_id, links.of_call("after", call_id))
        except PlivoRefused:  # what may have happened is not taken back
            await line.store.write(set_transfer, call_id, None, None)
            raise
    await line.end_stream(call, "transferred")
    return call


async def hang_up_call(line: Telephony, actor: Actor, call_id: str) -> StoredCall:
    """End a call, whatever its state.

    Raises:
        NotFound: there is no such call.
        ApiError: 502 or 504, the carrier failed.
    """
    call = await line.store.write(_noted, actor, call_id)
    if call.ended_at_ms is not None:
        return call
    try:
        if call.carrier_id is not None:
            await line.carrier.hang_up(call.carrier_id)
        elif call.request_id is not None and not await line.carrier.cancel(call.request_id):
            await line.carrier.hang_up(call.request_id)  # answered in this very moment
    except PlivoError as exc:
        raise as_api_error(exc) from exc
    await line.end_stream(call, "api")
    return call


async def steer_call(line: Telephony, command: Command) -> None:
    """Have ``command`` done in a call, whichever node it is on.

    Raises:
        NotFound, Conflict: there is no such call, or nobody talks in it.
        ApiError: 504, the node that holds the call gave no answer.
    """
    await ask(line, await line.store.read(get_call, command.call_id), command)


async def change_agent(
    line: Telephony, actor: Actor, call_id: str, body: AgentChange
) -> StoredCall:
    """Let another agent go on with the call, or the same with another prompt.

    A call that no agent talks in yet is begun by it.

    Raises:
        NotFound, Conflict, InvalidReference: there is no such call or agent, or it is over.
        ApiError: 504, the node that holds the call gave no answer.
    """
    call = await line.store.read(get_call, call_id)
    if call.ended_at_ms is not None:
        raise Conflict("the call is over")
    agent_id, version = call.agent_id, call.agent_version
    if body.agent_id is not None:
        agent_id = body.agent_id
        version = await line.store.read(_published_version, agent_id)
    if call.id in line.live or call.node_id is not None:
        become = Become(
            call_id=call_id,
            agent_id=agent_id,
            version=version,
            prompt=body.prompt,
            says_welcome=body.says_welcome,
        )
        await ask(line, call, become)
    return await line.store.write(set_agent, actor, call_id, agent_id, version, body.prompt)


def _published_version(tx: Tx, agent_id: str) -> int:
    try:
        return get_published(tx, agent_id).version
    except NotFound as exc:
        raise InvalidReference("agent_id", f"{exc}: create it first") from exc


def _noted(tx: Tx, actor: Actor, call_id: str) -> StoredCall:
    call = get_call(tx, call_id)
    note(tx, actor, "call.hung_up", call_id)
    return call
