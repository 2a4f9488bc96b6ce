"""The specification of ``_media``: slow and obvious, G.711 left to its own room.

``_media.read_media`` may say None where :func:`read_media` here finds audio; where it does
return an event, the two are equal.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from rtcore._audio import alaw_to_pcm, mulaw_to_pcm, pcm_to_alaw, pcm_to_mulaw
from rtcore.protocol.events import Encoding, Media

__all__ = ["NO_CHUNK", "MediaReader", "MediaWriter", "decode_payload", "read_media", "write_audio"]

NO_CHUNK = -1
FRAME_BYTES, USUAL_MAX, PIECE_MAX = 320, 1024, 16_000

BASE64 = re.compile(rb"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def decode_payload(payload: bytes, encoding: Encoding) -> bytes | None:
    if not BASE64.fullmatch(payload):  # b64decode lets some wrong padding pass
        return None
    octets = base64.b64decode(payload)
    if encoding == "l16":
        return octets if len(octets) % 2 == 0 else None
    return mulaw_to_pcm(octets) if encoding == "mulaw" else alaw_to_pcm(octets)


def write_audio(pcm: bytes, encoding: Encoding, head: bytes, tail: bytes) -> bytes:
    if len(pcm) % 2:
        raise ValueError("half a sample")
    if encoding != "l16":
        pcm = pcm_to_mulaw(pcm) if encoding == "mulaw" else pcm_to_alaw(pcm)
    return head + base64.b64encode(pcm) + tail


def read_media(message: bytes, encoding: Encoding) -> Media | None:
    try:
        fields: Any = json.loads(message)
    except (ValueError, RecursionError):
        return None
    media = fields.get("media") if isinstance(fields, dict) else None
    if not isinstance(media, dict) or fields.get("event") != "media":
        return None
    payload, track, chunk = media.get("payload"), media.get("track", "inbound"), media.get("chunk")
    if not isinstance(payload, str) or not isinstance(track, str):
        return None
    pcm = decode_payload(payload.encode(), encoding)
    if pcm is None:
        return None
    return Media(pcm=pcm, track=track, chunk=None if chunk is None else int(chunk))


class MediaReader:
    """See ``_media.MediaReader``; like :func:`read_media` here, it may read more than that."""

    def __init__(self) -> None:
        self._plain_encoding: Encoding | None = None
        self._malformed_in_a_row = 0
        self.chunk = 0

    def read_frame(self, message: bytes) -> bytes | None:
        if self._plain_encoding is None or len(message) > USUAL_MAX:
            return None
        media = read_media(message, self._plain_encoding)
        if media is None or media.track != "inbound" or len(media.pcm) != FRAME_BYTES:
            return None
        self._malformed_in_a_row = 0
        self.chunk = NO_CHUNK if media.chunk is None else media.chunk
        return media.pcm


class MediaWriter(MediaReader):
    """See ``_media.MediaWriter``."""

    def __init__(self) -> None:
        super().__init__()
        self._play_head = b""

    def write_piece(self, pcm: bytes) -> bytes | None:
        if self._plain_encoding is None or len(pcm) % 2 or len(pcm) > PIECE_MAX:
            return None
        return write_audio(pcm, self._plain_encoding, self._play_head, b'"}}')
