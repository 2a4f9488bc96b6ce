"""Runs campaigns: one task of each node, beside its calls.

All it decides on lies in the store, so that any node may go on where another stopped, and two
never do the same. It looks once a second while a campaign runs, and at once when told to.
"""

from __future__ import annotations

import math

import structlog
import trio
from prometheus_client import CollectorRegistry, Counter

from api.calls.control import hang_up_call, order_of
from api.calls.records import Ended, StoredCall, mark_ended, mark_requested
from api.calls.telephony import Telephony
from api.campaigns.resolving import resolve
from api.plivo.client import PlivoError, PlivoRefused, PlivoUnreachable
from api.store.attempts import (
    Claimed,
    Outlook,
    claim_call,
    look,
    refuse_attempt,
    settle,
    take_lease,
    undo_attempt,
)
from api.store.campaigns import spec_of_call
from api.store.database import Actor, Tx
from api.store.errors import NotFound, StoreUnavailable
from api.web.problems import ApiError

__all__ = ["Runner"]

LOOK_S = 1.0  # while a campaign runs
IDLE_S = 5.0  # while none does: one that another node has started is found so soon
SPELL_S = 1.0  # of claims, then the rest is looked after
TURN_LIMIT_S = 1.0  # for a moment of the account's pace; single calls may be many
DIAL_LIMIT_S = 15.0  # one request and what is written of it: less than a lease
AGAIN_S = 30.0  # for a number that could not be asked for
REST_S = 0.5  # after a carrier that cannot be reached, doubled each time
REST_MAX_S = 30.0
NUMBER_STATUSES = (400, 422)  # of a refusal: it is about this call; any other, about them all
ACTOR = Actor("campaign")  # in the audit log
NOT_TAKEN = Ended(state="failed", cause="the carrier did not take the call")

log = structlog.get_logger()


class Runner:
    """:meth:`run` is its one task, owned by the app's nursery; :meth:`wake` tells it of work."""

    def __init__(self, line: Telephony, registry: CollectorRegistry) -> None:
        self._line = line
        self._over = Counter(
            "rtcore_campaign_attempts",
            "Attempts of campaigns that this node found to be over",
            ["outcome"],
            registry=registry,
        )
        self._woken = trio.Event()
        self._unreached = 0  # requests in a row that found no carrier
        self._rests_until_s = -math.inf

    def wake(self) -> None:
        """Something has changed: a campaign, or a call."""
        self._woken.set()

    async def run(self) -> None:
        """Call, for ever; once the node drains, only look after the calls that go on.

        Cancelled: a request that is out gets its answer, which is written, within its limit.
        """
        async with trio.open_nursery() as dials:
            while True:
                self._woken = trio.Event()
                wait_s = IDLE_S
                try:
                    wait_s = await self._step(dials)
                except (NotFound, StoreUnavailable) as exc:  # NotFound: erased in this moment
                    log.warning("campaigns_paused", reason=str(exc))
                with trio.move_on_after(wait_s):
                    await self._woken.wait()

    async def _step(self, dials: trio.Nursery) -> float:
        """Do what there is to do; return how long nothing more is expected."""
        outlook = await self._line.store.read(look, self._line.node_id)
        for call_id in outlook.ended:
            outcome = await self._line.store.write(settle, call_id)
            if outcome is not None:  # else another node was first
                self._over.labels(outcome).inc()
                log.info("campaign_call_ended", call_id=call_id, outcome=outcome)
        await self._ask_after(outlook)
        if outlook.ended:  # a place is free, or a number waits again
            outlook = await self._line.store.read(look, self._line.node_id)
        is_busy = outlook.is_running or outlook.silent or outlook.to_hang_up
        wait_s = LOOK_S if is_busy else IDLE_S
        until_s = trio.current_time() + SPELL_S
        ringing = outlook.ringing
        while self._is_due(outlook) and self._has_room(ringing):
            if trio.current_time() >= until_s:
                return 0.0
            if await self._line.pace.turn(TURN_LIMIT_S):
                return wait_s
            claimed = await self._line.store.write(
                claim_call, self._line.node_id, self._line.carrier.account.calls_per_s
            )
            if claimed is not None:
                ringing += 1
                dials.start_soon(self._dial, claimed)
            outlook = await self._line.store.read(look, self._line.node_id)
        is_resting = trio.current_time() < self._rests_until_s
        if outlook.due_ms is not None and self._has_room(ringing) and not is_resting:
            wait_s = min(wait_s, max(0.0, outlook.due_ms / 1000 - self._line.now_s()))
        return wait_s

    def _is_due(self, outlook: Outlook) -> bool:
        if trio.current_time() < self._rests_until_s:
            return False
        return outlook.due_ms is not None and outlook.due_ms <= self._line.now_s() * 1000

    def _has_room(self, ringing: int) -> bool:
        """Whether this node could serve one more call, should all answer that ring."""
        node = self._line.node
        return node.has_room and len(node.calls) + ringing < node.config.calls_max

    # --- one call -----------------------------------------------------------------------

    async def _dial(self, claimed: Claimed) -> None:
        """Ask the carrier, once, and write down what it says."""
        call = claimed.call
        # shielded: the answer is what tells a call that was made from one that was not
        with trio.move_on_after(DIAL_LIMIT_S, shield=True):
            try:
                await self._ask(claimed)
            except (NotFound, StoreUnavailable) as exc:  # the lease ends, and somebody finds out
                log.warning("campaign_call_unwritten", call_id=call.id, reason=str(exc))

    async def _ask(self, claimed: Claimed) -> None:
        line, call, spec = self._line, claimed.call, claimed.spec
        order = order_of(line, call, spec)
        line.expect_answer(call, spec.ring_timeout_s)
        try:
            # once: whoever was paused or put on the list meanwhile would be called seconds later
            request_id = await line.carrier.make_call(order, repeats=False)
        except PlivoRefused as exc:
            log.warning("campaign_call_refused", call_id=call.id, status=exc.status)
            is_this = exc.status in NUMBER_STATUSES
            self._over.labels("bad_number" if is_this else "not_made").inc()
            line.tell_state(await line.store.write(_refused, call.id, "" if is_this else str(exc)))
        except PlivoUnreachable as exc:
            log.warning("campaign_call_failed", call_id=call.id, is_known=not exc.may_have_happened)
            if not exc.may_have_happened:
                self._rest()
                self._over.labels("not_made").inc()
                line.tell_state(await line.store.write(_not_made, call.id))
        else:
            self._unreached = 0
            await line.store.write(mark_requested, call.id, request_id)
            log.info("campaign_call_made", call_id=call.id, campaign_id=claimed.campaign_id)

    def _rest(self) -> None:
        """Leave a carrier alone that does not want, or cannot have, more requests now."""
        rest_s = min(REST_MAX_S, REST_S * 2.0 ** min(self._unreached, 10))
        self._rests_until_s = trio.current_time() + rest_s
        self._unreached += 1

    # --- what goes on -------------------------------------------------------------------

    async def _ask_after(self, outlook: Outlook) -> None:
        """See to calls that are to end, and to those of which nobody has heard."""
        async with trio.open_nursery() as nursery:
            for call_id in outlook.to_hang_up:
                nursery.start_soon(self._hang_up, call_id)
            for call_id in outlook.silent:
                nursery.start_soon(self._resolve, call_id)

    async def _hang_up(self, call_id: str) -> None:
        try:
            if await self._line.store.write(take_lease, call_id, for_hang_up=True) is not None:
                await hang_up_call(self._line, ACTOR, call_id)
        except (ApiError, NotFound, StoreUnavailable) as exc:
            log.warning("campaign_hang_up_failed", call_id=call_id, reason=str(exc))

    async def _resolve(self, call_id: str) -> None:
        try:
            call = await self._line.store.write(take_lease, call_id)
            if call is None:
                return
            spec = await self._line.store.read(spec_of_call, call_id)
            outcome = await resolve(self._line, call, spec.ring_timeout_s)
        except (PlivoError, NotFound, StoreUnavailable) as exc:
            log.warning("campaign_call_unresolved", call_id=call_id, reason=str(exc))
            return
        if outcome is not None:
            self._over.labels(outcome).inc()
            log.info("campaign_call_resolved", call_id=call_id, outcome=outcome)


def _refused(tx: Tx, call_id: str, stop_reason: str) -> StoredCall:
    """No call was made: its number cannot be called, or none can (``stop_reason``)."""
    if stop_reason:
        undo_attempt(tx, call_id, 0.0, stop_reason)
    else:
        refuse_attempt(tx, call_id)
    return mark_ended(tx, call_id, NOT_TAKEN)


def _not_made(tx: Tx, call_id: str) -> StoredCall:
    undo_attempt(tx, call_id, AGAIN_S)
    return mark_ended(tx, call_id, NOT_TAKEN)
