"""Ends what nobody told us the end of: a callback was lost, or a node died with its calls."""

from __future__ import annotations

import structlog
import trio

from api.calls.records import Ended, StoredCall, find_unended, mark_ended
from api.calls.telephony import Telephony
from api.plivo.client import PlivoError
from api.store.errors import StoreUnavailable

__all__ = ["sweep", "sweep_for_ever"]

log = structlog.get_logger()

EVERY_S = 30.0
CALLS_MAX = 20  # asked after in one sweep, by chance: long calls must not hide lost ones
SETTLED_MS = 60_000  # a younger call is still being set up, or its callback on the way
UNANSWERED_MS = 900_000  # no ring timeout is as long: ten minutes, and what the carrier queues
LOST = Ended(state="completed", cause="the carrier no longer knows this call")
NEVER = Ended(state="failed", cause="the carrier never told what became of this call")


async def sweep_for_ever(line: Telephony) -> None:
    """Sweep now and then, until cancelled. Any number of nodes may, of the same store."""
    while True:
        await trio.sleep(EVERY_S)
        try:
            await sweep(line)
        except (PlivoError, StoreUnavailable) as exc:
            log.warning("sweep_failed", reason=str(exc))


async def sweep(line: Telephony) -> None:
    """Ask the carrier after some of the calls that are held nowhere we know of.

    Raises:
        PlivoError, StoreUnavailable: the rest is left to the next sweep.
    """
    now_ms = int(line.now_s() * 1000)
    for call in await line.store.read(find_unended, now_ms - SETTLED_MS, CALLS_MAX):
        if call.id in line.live:
            continue
        ended = await _ending(line, call, now_ms)
        if ended is not None:
            log.info("call_swept", state=ended.state)
            line.tell_state(await line.store.write(mark_ended, call.id, ended))


async def _ending(line: Telephony, call: StoredCall, now_ms: int) -> Ended | None:
    if call.carrier_id is not None:
        return None if await line.carrier.is_live(call.carrier_id) else LOST
    return NEVER if call.created_at_ms < now_ms - UNANSWERED_MS else None
