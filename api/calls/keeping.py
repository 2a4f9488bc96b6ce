"""Recordings to listen to, and the right to be forgotten: what of callers is kept, and erased."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from api.calls.erasing import Erased, caller_alias, erase_call, erase_caller, erase_recordings
from api.calls.recordings import KeptRecording, get_recordings, recording_of
from api.calls.records import get_call
from api.calls.sound import sound_response
from api.calls.sweeping import clear_files
from api.calls.telephony import telephony
from api.store.database import Tx
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import ApiError
from api.web.times import Time, shown_time
from rtcore.audio import RATE_HZ

__all__ = ["EXAMPLES", "blueprint"]

blueprint = Blueprint("kept", __name__, url_prefix="/v1")

BATCHES_MAX = 50  # of one request: 5000 calls of one caller


class RecordingQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which recording of a call."""

    stream: (
        Annotated[
            int,
            Meta(ge=1, le=1000, description="Of which stream; by default the first there is."),
        ]
        | None
    ) = None


class RecordingView(msgspec.Struct, frozen=True, kw_only=True):
    """A recording of one media stream of a call."""

    stream: int
    state: Annotated[
        Literal["running", "kept"], Meta(description="`running` until the file is whole.")
    ]
    duration_s: Annotated[float, Meta(description="0 while it runs.")]
    dropped_s: Annotated[float, Meta(description="Silent in it: the disk was too far behind.")]
    created_at: Time


class RecordingsView(msgspec.Struct, frozen=True, kw_only=True):
    """The recordings of a call, in the order of its streams."""

    items: list[RecordingView]


class ErasedView(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased."""

    calls: int
    transcripts: int
    recordings: Annotated[int, Meta(description="Files that are gone from this node.")]
    recordings_elsewhere: Annotated[
        int, Meta(description="Files with other nodes: nobody hears them, gone in two minutes.")
    ]
    campaign_targets: int
    calls_going_on: Annotated[
        int, Meta(description="Not erased: they are not over. Ask again once they are.")
    ]
    is_complete: Annotated[bool, Meta(description="False: there is more. Ask again.")]


EXAMPLES: Mapping[str, object] = {
    "RecordingsView": {
        "items": [
            {
                "stream": 1,
                "state": "kept",
                "duration_s": 62.5,
                "dropped_s": 0.0,
                "created_at": "2026-11-21T03:07:12.000Z",
            }
        ]
    },
    "ErasedView": {
        "calls": 3,
        "transcripts": 3,
        "recordings": 2,
        "recordings_elsewhere": 1,
        "campaign_targets": 0,
        "calls_going_on": 0,
        "is_complete": True,
    },
}


@operation(
    blueprint,
    "GET",
    "/calls/<id:call_id>/recording",
    Operation(
        summary="Listen to a call: left the caller, right the agent as heard; WAV, µ-law",
        scope="read",
        query=RecordingQuery,
        returns={200: bytes, 206: bytes, 304: None},
        problems=(412, 416),
    ),
)
async def get_recording(call_id: str, query: RecordingQuery) -> Answer | Response:
    line = telephony()
    found = await line.store.read(_recordings_of, call_id)
    wanted = recording_of(found, call_id, query.stream or 0)
    if line.recordings is None or wanted.folder != line.recordings.id:
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            "the recording lies with another node: ask one that serves its folder",
        )
    return await sound_response(line.recordings.path(wanted.name), wanted)


@operation(
    blueprint,
    "GET",
    "/calls/<id:call_id>/recordings",
    Operation(
        summary="Which streams of a call were recorded",
        scope="read",
        returns={200: RecordingsView},
    ),
)
async def find(call_id: str) -> Answer:
    found = await telephony().store.read(_recordings_of, call_id)
    items = [
        RecordingView(
            stream=each.number,
            state="kept" if each.state == "kept" else "running",
            duration_s=each.samples / RATE_HZ,
            dropped_s=each.dropped_samples / RATE_HZ,
            created_at=shown_time(each.created_at_ms),
        )
        for each in found
    ]
    return Answer(RecordingsView(items=items))


def _recordings_of(tx: Tx, call_id: str) -> tuple[KeptRecording, ...]:
    get_call(tx, call_id)
    return get_recordings(tx, call_id)


@operation(
    blueprint,
    "DELETE",
    "/calls/<id:call_id>/recording",
    Operation(
        summary="Erase the recordings of a call that is over; the rest of it stays",
        scope="admin",
        returns={200: ErasedView},
        problems=(409,),
    ),
)
async def delete_recording(call_id: str) -> Answer:
    line = telephony()
    return Answer(await _finish([await line.store.write(erase_recordings, actor(), call_id)]))


@operation(
    blueprint,
    "DELETE",
    "/calls/<id:call_id>",
    Operation(
        summary="Erase a call that is over: numbers, transcript, events, recordings",
        scope="admin",
        returns={200: ErasedView},
        problems=(409,),
    ),
)
async def delete_call(call_id: str) -> Answer:
    line = telephony()
    return Answer(await _finish([await line.store.write(erase_call, actor(), call_id)]))


@operation(
    blueprint,
    "DELETE",
    "/callers/<e164:number>",
    Operation(
        summary="Forget somebody: erase all calls with them that are over, as each call above",
        scope="admin",
        returns={200: ErasedView},
    ),
)
async def delete_caller(number: str) -> Answer:
    line = telephony()
    alias = caller_alias(line.secret, number)
    parts: list[Erased] = []
    for _ in range(BATCHES_MAX):
        erased, going_on = await line.store.write(erase_caller, actor(), number, alias)
        parts.append(erased)
        if not erased.calls:
            return Answer(await _finish(parts, going_on))
    return Answer(await _finish(parts, going_on, is_complete=False))


async def _finish(
    parts: list[Erased], going_on: int = 0, *, is_complete: bool = True
) -> ErasedView:
    """Remove the files, let the database let go of what it held, and say what was erased."""
    line = telephony()
    files = [each for part in parts for each in part.files]
    removed = await clear_files(line, files)
    await line.store.settle()
    return ErasedView(
        calls=sum(part.calls for part in parts),
        transcripts=sum(part.transcripts for part in parts),
        recordings=removed,
        recordings_elsewhere=len(files) - removed,
        campaign_targets=sum(part.targets for part in parts),
        calls_going_on=going_on,
        is_complete=is_complete,
    )
