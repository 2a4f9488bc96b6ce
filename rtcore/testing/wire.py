"""Plivo's stream messages from the carrier's side, written apart from :mod:`rtcore.protocol`.

Strict where the node's own decoder is lenient: it takes only the form that is documented.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtcore.audio import FRAME_MS
from rtcore.testing.line import LineFormat

__all__ = ["Checkpoint", "ClearAudio", "Command", "PlayAudio", "SendDtmf", "Writer", "read"]

EPOCH_MS = 1_705_312_200_000  # media timestamps count from a fixed day: the same call every run


class PlayedMedia(msgspec.Struct, frozen=True):
    contentType: str  # noqa: N815 # the carrier's own spelling, here and below
    sampleRate: int  # noqa: N815
    payload: bytes  # base64 on the wire


class PlayAudio(msgspec.Struct, frozen=True, tag_field="event", tag="playAudio"):
    media: PlayedMedia


class Checkpoint(msgspec.Struct, frozen=True, tag_field="event", tag="checkpoint"):
    streamId: str  # noqa: N815
    name: str


class ClearAudio(msgspec.Struct, frozen=True, tag_field="event", tag="clearAudio"):
    streamId: str  # noqa: N815


class SendDtmf(msgspec.Struct, frozen=True, tag_field="event", tag="sendDTMF"):
    dtmf: str


Command = PlayAudio | Checkpoint | ClearAudio | SendDtmf
_COMMANDS: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)


def read(message: bytes) -> Command:
    """What the node says.

    Raises:
        msgspec.DecodeError: it is not JSON, or not a command as documented.
    """
    return _COMMANDS.decode(message)


class Writer:
    """Numbers and writes the messages of one stream, as Plivo would."""

    def __init__(
        self,
        *,
        call_id: str,
        stream_id: str,
        line: LineFormat,
        extra_headers: str,
        tracks: Sequence[str] = ("inbound",),
    ) -> None:
        self.stream_id = stream_id
        self._call_id = call_id
        self._line = line
        self._extra_headers = extra_headers
        self._sequence = 0
        self._tracks = list(tracks)
        self._chunks = dict.fromkeys(tracks, 0)
        self._stream = stream_id.encode()
        self._tail = b'"},"extra_headers":%b}' % msgspec.json.encode(extra_headers)

    def start(self) -> bytes:
        return self._write(
            event="start",
            start={
                "callId": self._call_id,
                "streamId": self.stream_id,
                "accountId": "MAFAKECARRIER0000000",
                "tracks": self._tracks,
                "mediaFormat": {
                    "encoding": self._line.content_type,
                    "sampleRate": self._line.rate_hz,
                },
            },
            extra_headers=self._extra_headers,
        )

    def media(self, payload: bytes, track: str = "inbound") -> bytes:
        """One frame, of the caller unless told; ``payload`` is base64 already."""
        self._sequence += 1
        chunk = self._chunks[track] = self._chunks[track] + 1
        return (
            b'{"event":"media","sequenceNumber":%d,"streamId":"%b","media":{"track":"%b",'
            b'"timestamp":"%d","chunk":%d,"payload":"%b%b'
        ) % (
            self._sequence,
            self._stream,
            track.encode(),
            EPOCH_MS + chunk * FRAME_MS,
            chunk,
            payload,
            self._tail,
        )

    def dtmf(self, digit: str) -> bytes:
        return self._write(
            event="dtmf",
            streamId=self.stream_id,
            dtmf={"track": "inbound", "digit": digit},
            extra_headers=self._extra_headers,
        )

    def played_stream(self, name: str) -> bytes:
        return self._write(event="playedStream", streamId=self.stream_id, name=name)

    def cleared_audio(self) -> bytes:
        return self._write(event="clearedAudio", streamId=self.stream_id)

    def error(self, reason: str) -> bytes:
        return self._write(event="error", streamId=self.stream_id, reason=reason)

    def stop(self) -> bytes:
        return self._write(event="stop", stop={"callId": self._call_id})

    def _write(self, **message: object) -> bytes:
        self._sequence += 1
        return msgspec.json.encode({**message, "sequenceNumber": self._sequence})
