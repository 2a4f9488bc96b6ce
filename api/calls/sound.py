"""A recording as a response: whole, in part, and while it is still being written."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

import trio
from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from api.calls.recordings import KeptRecording
from api.store.errors import NotFound
from api.web.problems import ApiError
from rtcore.recording import HEADER_BYTES, SAMPLE_BYTES, wav_header

__all__ = ["sound_response"]

PIECE_BYTES = 64 << 10
SEND_LIMIT_S = 3600.0  # an hour's recording is 58 MB: 128 kbit/s do


async def sound_response(path: Path, recording: KeptRecording) -> Response:
    """The answer to a GET: 200, 206 for a range, 304 for what the client has.

    Of a recording that is still being written: what there is by now.

    Raises:
        NotFound: the file is not there.
        ApiError: 412 another one was wanted, 416 there is no such range.
    """
    try:
        size = (await trio.Path(path).stat()).st_size
    except FileNotFoundError:
        raise NotFound("recording of", recording.call_id) from None
    body = _Sound(path, max(0, size - HEADER_BYTES) // SAMPLE_BYTES)
    response = Response(body, content_type="audio/wav")
    response.headers["Content-Length"] = str(body.size)
    response.headers["Cache-Control"] = "no-store"
    response.timeout = SEND_LIMIT_S
    if recording.state == "kept":
        response.headers["Cache-Control"] = "private, no-cache"
        response.set_etag(f"{recording.updated_at_ms:x}-{recording.samples:x}")
    try:
        await response.make_conditional(request, accept_ranges=True, complete_length=body.size)
    except RequestedRangeNotSatisfiable:
        raise ApiError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"the recording has {body.size} octets: ask for some of them",
        ) from None
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        raise ApiError(
            HTTPStatus.PRECONDITION_FAILED, "the recording has changed: ask without If-Match"
        )
    return response


class _Sound(ResponseBody):
    """The octets ``begin`` to ``end`` of a file as long as it was when it was asked for."""

    def __init__(self, path: Path, samples: int) -> None:
        self._path = path
        self._header = wav_header(samples)
        self.size = self.end = HEADER_BYTES + samples * SAMPLE_BYTES
        self.begin = 0
        self._at = 0
        self._fd = -1

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._at = self.begin
        self._fd = await trio.to_thread.run_sync(os.open, self._path, os.O_RDONLY)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self.end:
            raise StopAsyncIteration
        if self._at < HEADER_BYTES:  # our own: that of the file may speak of more by now
            piece = self._header[self._at : self.end]
        else:
            wanted = min(PIECE_BYTES, self.end - self._at)
            piece = await trio.to_thread.run_sync(os.pread, self._fd, wanted, self._at)
            if not piece:  # repaired meanwhile, or cut off by hand
                raise StopAsyncIteration
        self._at += len(piece)
        return piece

    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Send this range alone, its end past the last octet; below 0, ``begin`` is from there."""
        self.begin = begin if begin >= 0 else max(0, self.size + begin)
        self.end = self.size if end is None else min(end, self.size)
        if not 0 <= self.begin < self.end:
            raise RequestedRangeNotSatisfiable
        return self.size
