"""Ends what nobody told us the end of, and erases what is kept for longer than wished.

A callback was lost, a node died with its calls, a disk was away: any node mends what it can,
now and then, some of it at a time. Any number of nodes may, of the same store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import structlog
import trio

from api.calls.erasing import (
    DAY_MS,
    Subject,
    Swept,
    done_before_ms,
    erase_due,
    forget_chat_messages,
    forget_idle,
    forget_targets,
    read_policy,
)
from api.calls.recordings import (
    KeptRecording,
    find_recordings,
    finish_recordings,
    forget_recordings,
    mend,
    remove_file,
)
from api.calls.records import Ended, StoredCall, find_unended, mark_ended
from api.calls.telephony import Telephony
from api.plivo.client import PlivoError
from api.store import Actor
from api.store.errors import NotFound, StoreUnavailable
from api.store.keys import forget_audit

__all__ = ["clear_files", "erase_expired", "mend_recordings", "sweep", "sweep_for_ever"]

log = structlog.get_logger()

EVERY_S = 30.0
CALLS_MAX = 20  # asked after in one sweep, by chance: long calls must not hide lost ones
SETTLED_MS = 60_000  # a younger call is still being set up, or its callback on the way
UNANSWERED_MS = 900_000  # no ring timeout is as long: ten minutes, and what the carrier queues
LOST = Ended(state="completed", cause="the carrier no longer knows this call")
NEVER = Ended(state="failed", cause="the carrier never told what became of this call")
ERASE_EVERY_S = 600.0  # policies count in days
ERASE_MAX = 20  # batches of one kind in one sweep: 2000 calls, and the store is others' between
FILES_MAX = 200  # in one sweep
SWEEPER = Actor("retention")  # in the audit log: the policy wanted it


async def sweep_for_ever(line: Telephony, *, asks_carrier: bool = True) -> None:
    """Sweep now and then, until cancelled; without ``asks_carrier`` only what is kept here."""
    async with trio.open_nursery() as nursery:
        if asks_carrier:
            nursery.start_soon(_repeat, EVERY_S, partial(sweep, line))
        nursery.start_soon(_repeat, EVERY_S, partial(mend_recordings, line))
        nursery.start_soon(_repeat, ERASE_EVERY_S, partial(erase_expired, line))


async def _repeat(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await trio.sleep(every_s)
        try:
            await work()
        except (PlivoError, NotFound, StoreUnavailable) as exc:  # NotFound: erased meanwhile
            log.warning("sweep_failed", reason=str(exc))


# --- calls ------------------------------------------------------------------------------


async def sweep(line: Telephony) -> None:
    """Ask the carrier after some of the calls that are held nowhere we know of.

    Raises:
        PlivoError, StoreUnavailable: the rest is left to the next sweep.
    """
    now_ms = int(line.now_s() * 1000)
    before_ms = now_ms - SETTLED_MS
    for call in await line.store.read(find_unended, line.node_id, before_ms, CALLS_MAX):
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


# --- recordings -------------------------------------------------------------------------


async def mend_recordings(line: Telephony) -> None:
    """Close the files that a node left open when it died, and remove those to be erased.

    Raises:
        StoreUnavailable: the rest is left to the next sweep.
    """
    if line.recordings is None:
        return
    store, folder = line.store, line.recordings
    before_ms = int(line.now_s() * 1000) - SETTLED_MS
    whole: dict[tuple[str, int], tuple[int, int]] = {}
    for each in await store.read(find_recordings, folder.id, "running", before_ms, FILES_MAX):
        samples = await trio.to_thread.run_sync(_mended, folder.path(each.name))
        if samples is not None:  # else somebody writes it
            whole[each.key] = samples, each.dropped_samples
    if whole:
        log.info("recordings_mended", recordings=len(whole))
        await store.write(finish_recordings, whole)
    doomed = await store.read(find_recordings, folder.id, "erasing", before_ms, FILES_MAX)
    await clear_files(line, doomed)


def _mended(path: Path) -> int | None:
    try:
        return mend(path)
    except OSError as exc:
        log.warning("recording_not_mended", error=type(exc).__name__)
        return None


async def clear_files(line: Telephony, files: Sequence[KeptRecording]) -> int:
    """Remove those of ``files`` that lie in this node's folder, and their rows; how many.

    The others are removed by the nodes that have them, within a minute and a half.
    """
    folder = line.recordings
    if folder is None:
        return 0
    ours = [each for each in files if each.folder == folder.id]
    if ours:
        await folder.flush()  # a file that is yet to be begun would come after

    def remove() -> list[tuple[str, int]]:
        return [each.key for each in ours if remove_file(folder.path(each.name))]

    gone = await trio.to_thread.run_sync(remove)
    if gone:
        await line.store.write(forget_recordings, gone)
    return len(gone)


# --- what is kept for longer than wished ------------------------------------------------


async def erase_expired(line: Telephony) -> None:
    """Erase what the policies of the node and its agents say, in small steps.

    Raises:
        StoreUnavailable: the rest is left to the next sweep.
    """
    store, settings = line.store, line.settings
    subjects: tuple[Subject, ...] = get_args(Subject)
    policy = await store.read(read_policy, settings.retention)
    if policy != line.swept.policy:
        line.swept = Swept(policy)
    has_erased = False
    for subject in subjects:
        after_ms = line.swept.before_ms.get(subject, 0)
        for _ in range(ERASE_MAX):
            now_ms = int(store.now_s() * 1000)
            erased = await store.write(erase_due, SWEEPER, subject, policy, after_ms)
            await clear_files(line, erased.files)
            if not (erased.calls or erased.transcripts or erased.files):
                line.swept.before_ms[subject] = done_before_ms(subject, policy, now_ms)
                break
            has_erased = True
            log.info(
                "erased",
                subject=subject,
                calls=erased.calls,
                transcripts=erased.transcripts,
                recordings=len(erased.files),
            )
    for _ in range(ERASE_MAX):
        if not await store.write(forget_targets, policy):
            break
        has_erased = True
    for _ in range(ERASE_MAX):
        if not await store.write(forget_audit, settings.audit_keep_days * DAY_MS):
            break
    forgotten = await store.write(forget_chat_messages, policy)
    forgotten += await store.write(
        forget_idle, int(settings.chat_idle_limit_s * 1000), int(settings.idempotency_keep_s * 1000)
    )
    if has_erased or forgotten or not store.is_settled:
        await store.settle()
