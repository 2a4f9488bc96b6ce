"""What is kept of recordings: plain functions of a transaction, and what finds their files.

A row is written before the file is, and deleted after it: whatever dies in between, no file is
ever without one. A folder is known by an id that lies in it, so that any node that mounts it
serves and erases what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from api.outgoing.outbox import tell
from api.store.database import Tx
from api.store.errors import NotFound
from api.store.tables import recordings
from rtcore.audio import RATE_HZ
from rtcore.recording import file_name, repair

__all__ = [
    "KeptRecording",
    "RecordingState",
    "begin_recording",
    "doom_recordings",
    "find_recordings",
    "finish_recordings",
    "forget_recordings",
    "get_recordings",
    "mend",
    "name_of",
    "recording_of",
    "remove_file",
]

COLUMNS = recordings.c
RecordingState = Literal["running", "kept", "erasing"]


@dataclass(frozen=True, slots=True)
class KeptRecording:
    """The recording of one stream of a call."""

    call_id: str
    number: int  # of the stream
    folder: str
    name: str
    state: RecordingState
    samples: int
    dropped_samples: int
    created_at_ms: int
    updated_at_ms: int

    @property
    def key(self) -> tuple[str, int]:
        return self.call_id, self.number


def name_of(call_id: str, now_s: float) -> str:
    """A new file's name: a folder for each day, so that none holds too many."""
    return f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d}/{file_name(call_id)}"


def begin_recording(tx: Tx, call_id: str, number: int, folder: str, name: str) -> None:
    """A file is about to be written."""
    tx.conn.execute(
        sa.insert(recordings).values(
            call_id=call_id,
            number=number,
            folder=folder,
            name=name,
            state="running",
            samples=0,
            dropped_samples=0,
            created_at_ms=tx.now_ms,
            updated_at_ms=tx.now_ms,
        )
    )


def finish_recordings(tx: Tx, found: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    """Files are whole: their samples, and how many of them were dropped. Empty ones never were.

    One that is to be erased meanwhile stays so.
    """
    for key, (samples, dropped) in found.items():
        if not samples:
            forget_recordings(tx, [key])
            continue
        changed = tx.conn.execute(
            sa.update(recordings)
            .where(_is(key), COLUMNS.state == "running")
            .values(state="kept", samples=samples, dropped_samples=dropped, updated_at_ms=tx.now_ms)
        )
        if changed.rowcount:
            call_id, number = key
            told = {"call_id": call_id, "stream": number, "duration_s": samples / RATE_HZ}
            tell(tx, "call.recording", call_id, {**told, "url": f"/v1/calls/{call_id}/recording"})


def get_recordings(tx: Tx, call_id: str) -> tuple[KeptRecording, ...]:
    """Those of a call that are not being erased, in the order of its streams."""
    query = sa.select(recordings).where(COLUMNS.call_id == call_id, COLUMNS.state != "erasing")
    return tuple(map(_recording, tx.conn.execute(query.order_by(COLUMNS.number))))


def find_recordings(
    tx: Tx, folder: str, state: RecordingState, before_ms: int, limit: int
) -> tuple[KeptRecording, ...]:
    """Some of a folder in one state, that nobody has touched since ``before_ms``."""
    query = sa.select(recordings).where(
        COLUMNS.folder == folder, COLUMNS.state == state, COLUMNS.updated_at_ms < before_ms
    )
    return tuple(
        map(_recording, tx.conn.execute(query.order_by(COLUMNS.updated_at_ms).limit(limit)))
    )


def doom_recordings(tx: Tx, call_ids: Sequence[str]) -> tuple[KeptRecording, ...]:
    """Nobody shall hear the recordings of these calls again; return those whose files must go."""
    tx.conn.execute(
        sa.update(recordings)
        .where(COLUMNS.call_id.in_(call_ids))
        .values(state="erasing", updated_at_ms=tx.now_ms)
    )
    query = sa.select(recordings).where(COLUMNS.call_id.in_(call_ids))
    return tuple(map(_recording, tx.conn.execute(query)))


def forget_recordings(tx: Tx, keys: Iterable[tuple[str, int]]) -> None:
    """The files of these are gone."""
    for key in keys:
        tx.conn.execute(sa.delete(recordings).where(_is(key)))


def recording_of(found: Sequence[KeptRecording], call_id: str, number: int) -> KeptRecording:
    """The one of stream ``number``; 0 is the first there is.

    Raises:
        NotFound: there is none.
    """
    for each in found:
        if number in (0, each.number):
            return each
    raise NotFound("recording of", f"{call_id}, stream {number}" if number else call_id)


def _is(key: tuple[str, int]) -> sa.ColumnElement[bool]:
    return sa.and_(COLUMNS.call_id == key[0], COLUMNS.number == key[1])


def _recording(row: sa.Row[tuple[object, ...]]) -> KeptRecording:
    return KeptRecording(**row._mapping)


# --- files: what blocks, for a thread ---------------------------------------------------


def mend(path: Path) -> int | None:
    """The samples of a file whose writer was killed, its header put right; None: it still runs.

    A file that was never begun has none.
    """
    try:
        return repair(path)
    except FileNotFoundError:
        return 0


def remove_file(path: Path) -> bool:
    """Remove a recording, and the day's folder with the last one; False: it could not be.

    What is still being written loses its name, and is gone when its writer closes it.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    with suppress(OSError):  # there are others of that day
        os.rmdir(path.parent)
    return True
