"""What a carrier tells us and what we tell it: one set for all carriers, no I/O.

Audio is linear here: int16, little-endian, mono, at the stream's own rate. The codec of each
carrier turns it into what travels on the line.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "Checkpoint",
    "ClearAudio",
    "Cleared",
    "Command",
    "Dtmf",
    "Encoding",
    "Event",
    "Ignored",
    "LineFault",
    "Media",
    "PlayAudio",
    "Played",
    "SendDtmf",
    "Start",
    "Stop",
]

Encoding = Literal["mulaw", "alaw", "l16"]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The stream is open; nothing may be sent before it."""

    call_id: str
    stream_id: str
    encoding: Encoding
    rate_hz: int
    tracks: tuple[str, ...] = ("inbound",)
    account_id: str | None = None
    headers: dict[str, str] = {}  # extra headers that we asked the carrier to repeat to us


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of audio, of any length; usually 20 ms."""

    pcm: bytes  # int16 little-endian at the stream's rate
    track: str = "inbound"
    chunk: int | None = None  # counts the pieces of this track from 1, where the carrier says so


class Dtmf(msgspec.Struct, frozen=True, kw_only=True):
    """Keys the caller pressed: one or more of ``0-9 * # A-D``."""

    digits: str


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """All that was queued before checkpoint ``name`` has been heard."""

    name: str


class Cleared(msgspec.Struct, frozen=True):
    """The carrier dropped what it had queued, asked to or not."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier announces the end of the stream; the socket's close says the same."""

    reason: str = ""


class LineFault(msgspec.Struct, frozen=True, kw_only=True):
    """The carrier complains (playout failed, buffer overflow); the call goes on."""

    reason: str


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """A message that means nothing to us: counted, never fatal."""

    kind: str


Event = Start | Media | Dtmf | Played | Cleared | Stop | LineFault | Ignored


class PlayAudio(msgspec.Struct, frozen=True, kw_only=True):
    """Append audio to what the caller is hearing."""

    pcm: bytes  # int16 little-endian at the stream's rate


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for ``Played(name)`` once all audio sent before has been heard."""

    name: str


class ClearAudio(msgspec.Struct, frozen=True):
    """Drop all that has been sent and not been heard."""


class SendDtmf(msgspec.Struct, frozen=True, kw_only=True):
    """Send keys into the call as tones."""

    digits: str


Command = PlayAudio | Checkpoint | ClearAudio | SendDtmf
