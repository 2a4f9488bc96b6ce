"""Plivo's audio stream, sans I/O: messages in, events out; commands in, messages out.

Source: Plivo's audio streaming reference (2026), widened to what other Plivo-compatible senders
and older documents show: numbers as text, absent fields, former names. The carrier's timestamps
are never read: they differ in kind from one document to the next.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from rtcore.errors import LocalProtocolError, RemoteProtocolError
from rtcore.protocol._media import MediaWriter, decode_payload, read_media, write_audio
from rtcore.protocol.events import (
    Checkpoint,
    ClearAudio,
    Cleared,
    Command,
    Dtmf,
    Encoding,
    Event,
    Ignored,
    LineFault,
    Media,
    PlayAudio,
    Played,
    SendDtmf,
    Start,
    Stop,
)

__all__ = ["MAX_MESSAGE_BYTES", "TRANSITIONS", "PlivoStream", "State", "parse_extra_headers"]

MAX_MESSAGE_BYTES = 64 * 1024  # Plivo's limit, for both directions
MALFORMED_LIMIT = 5  # in a row: one is a slip, five are a peer that speaks something else
DTMF_KEYS = frozenset("0123456789*#ABCD")
PLAIN_RATE_HZ = 8000  # that of the audio on this side
KIND_MAX_CHARS = 32  # of an unknown event's name: enough to know it by

# WebSocket close codes (RFC 6455, 7.4.1)
UNSUPPORTED_DATA, INCONSISTENT_DATA, TOO_BIG = 1003, 1007, 1009

# What each name of the wire means: documented names, then those of MIME (RFC 4856) and RTP.
ENCODING_WORDS: Final[Mapping[Encoding, tuple[str, ...]]] = {
    "l16": ("l16",),
    "mulaw": ("mulaw", "ulaw", "pcmu"),
    "alaw": ("alaw", "pcma"),  # not offered by Plivo today; some who speak its protocol do
}
CONTENT_TYPES: Final[Mapping[Encoding, str]] = {
    "l16": "audio/x-l16",
    "mulaw": "audio/x-mulaw",
    "alaw": "audio/x-alaw",
}
RATES_HZ: Final[Mapping[Encoding, tuple[int, ...]]] = {
    "l16": (8000, 16000),
    "mulaw": (8000,),
    "alaw": (8000,),
}

State = enum.Enum("State", ["IDLE", "STREAMING", "ENDED"])
STREAMING = State.STREAMING  # asked for every message, and a member costs a look-up by name

# What may be heard in which state, and the state it leads to; anything else is refused.
TRANSITIONS: Final[Mapping[tuple[State, type[Event]], State]] = {
    (State.IDLE, Start): State.STREAMING,
    (State.IDLE, Ignored): State.IDLE,  # a greeting we do not know must not cost the call
    (State.IDLE, LineFault): State.IDLE,
    (State.STREAMING, Media): State.STREAMING,
    (State.STREAMING, Dtmf): State.STREAMING,
    (State.STREAMING, Played): State.STREAMING,
    (State.STREAMING, Cleared): State.STREAMING,
    (State.STREAMING, LineFault): State.STREAMING,
    (State.STREAMING, Ignored): State.STREAMING,
    (State.STREAMING, Stop): State.ENDED,
}

Fields = dict[str, Any]

MALFORMED = Ignored(kind="malformed")
DECODER = msgspec.json.Decoder()  # untyped: one odd field must not cost the message
ENCODER = msgspec.json.Encoder()


class PlivoStream(MediaWriter):
    """One stream from ``start`` to ``stop``: audio is linear on this side, coded on the other.

    Args:
        encoding, rate_hz: what our answer document asked for; holds where ``start`` is silent.
        malformed_limit: so many unreadable messages in a row end the stream.
    """

    def __init__(
        self,
        *,
        encoding: Encoding = "mulaw",
        rate_hz: int = 8000,
        malformed_limit: int = MALFORMED_LIMIT,
    ) -> None:
        super().__init__()
        self._state = State.IDLE
        self._encoding = encoding
        self._rate_hz = rate_hz
        self._stream_id = ""
        self._malformed_limit = malformed_limit

    @property
    def state(self) -> State:
        return self._state

    def receive(self, message: bytes) -> Event:
        """Decode one whole message, text or binary alike.

        What cannot be read is ``Ignored("malformed")``; an event we have no use for is
        ``Ignored`` under its own name, which the peer chose.

        Raises:
            RemoteProtocolError: the message is too long, of an audio format we do not know,
                out of order, or one unreadable message too many. The stream is over.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise RemoteProtocolError(f"message of {len(message)} octets", close_code=TOO_BIG)
        if self._state is STREAMING:
            media = read_media(message, self._encoding)
            if media is not None:  # the table would leave the state as it is
                self._malformed_in_a_row = 0
                return media
        event = self._read(message)
        state = TRANSITIONS.get((self._state, type(event)))
        if state is None:
            raise RemoteProtocolError(f"{type(event).__name__} in {self._state.name}")
        self._note_malformed(event is MALFORMED)
        if isinstance(event, Start):
            self._open(event)
        self._state = state
        is_plain = state is STREAMING and self._rate_hz == PLAIN_RATE_HZ
        self._plain_encoding = self._encoding if is_plain else None
        return event

    def send(self, command: Command) -> bytes:
        """Encode one command as one text message.

        After ``stop`` this still encodes: the announcement may cross what we have under way.

        Raises:
            LocalProtocolError: before ``start``; audio cut within a sample; keys that no
                telephone has; a message past the carrier's limit.
        """
        if self._state is State.IDLE:
            raise LocalProtocolError(f"{type(command).__name__} before start")
        message = self._write(command)
        if len(message) > MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"message of {len(message)} octets")
        return message

    def _open(self, start: Start) -> None:
        self._encoding, self._rate_hz = start.encoding, start.rate_hz
        self._stream_id = start.stream_id
        self._play_head = (
            b'{"event":"playAudio","media":{"contentType":"%b","sampleRate":%d,"payload":"'
            % (CONTENT_TYPES[start.encoding].encode(), start.rate_hz)
        )

    def _note_malformed(self, is_malformed: bool) -> None:
        self._malformed_in_a_row = self._malformed_in_a_row + 1 if is_malformed else 0
        if self._malformed_in_a_row >= self._malformed_limit:
            raise RemoteProtocolError(
                f"{self._malformed_in_a_row} unreadable messages in a row",
                close_code=INCONSISTENT_DATA,
            )

    def _read(self, message: bytes) -> Event:
        try:
            fields = DECODER.decode(message)
        except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested without end
            return MALFORMED
        if not isinstance(fields, dict):
            return MALFORMED
        kind = fields.get("event")
        if kind == "start":
            return _start(fields, self._encoding, self._rate_hz)
        if kind == "media":
            return _media(fields, self._encoding) or MALFORMED
        if not isinstance(kind, str):
            return Ignored(kind="unnamed")
        reader = READERS.get(kind)
        if reader is None:
            return Ignored(kind=kind[:KIND_MAX_CHARS])
        return reader(fields) or MALFORMED

    def _write(self, command: Command) -> bytes:
        match command:
            case PlayAudio(pcm=pcm):
                try:
                    return write_audio(pcm, self._encoding, self._play_head, b'"}}')
                except ValueError as exc:
                    raise LocalProtocolError(f"PlayAudio: {exc}") from exc
            case Checkpoint(name=name):
                fields = {"event": "checkpoint", "streamId": self._stream_id, "name": name}
            case ClearAudio():
                fields = {"event": "clearAudio", "streamId": self._stream_id}
            case SendDtmf(digits=digits):
                if not digits or not DTMF_KEYS.issuperset(digits):
                    raise LocalProtocolError("SendDtmf: keys are 0-9 * # A-D")
                fields = {"event": "sendDTMF", "dtmf": digits}
        return ENCODER.encode(fields)


# --- one reader an event: its fields in, the event out, None when it cannot be read -------


def _start(fields: Fields, encoding: Encoding, rate_hz: int) -> Start:
    body = _object(fields, "start")
    stream_id = _text(body, "streamId") or _text(fields, "streamId")
    if not stream_id:
        raise RemoteProtocolError("start without streamId")
    media_format = _object(body, "mediaFormat")
    name = _text(media_format, "encoding") or _text(media_format, "type")
    if name:
        encoding = _encoding(name)
    for key in ("rate", "sampleRate"):  # the documented name comes last and wins
        rate_hz = _integer(media_format, key) or rate_hz
    if rate_hz not in RATES_HZ[encoding]:
        raise RemoteProtocolError(f"{encoding} at {rate_hz} Hz", close_code=UNSUPPORTED_DATA)
    tracks = body.get("tracks")
    names = [name for name in tracks if isinstance(name, str)] if isinstance(tracks, list) else []
    return Start(
        call_id=_text(body, "callId") or _text(body, "callUUID"),
        stream_id=stream_id,
        encoding=encoding,
        rate_hz=rate_hz,
        tracks=tuple(names) or ("inbound",),
        account_id=_text(body, "accountId") or None,
        headers=parse_extra_headers(_text(fields, "extra_headers")),
    )


def _media(fields: Fields, encoding: Encoding) -> Media | None:
    body = _object(fields, "media")
    payload = body.get("payload")
    if not isinstance(payload, str):
        return None
    pcm = decode_payload(payload.encode(), encoding)
    if pcm is None:
        return None
    return Media(pcm=pcm, track=_text(body, "track") or "inbound", chunk=_integer(body, "chunk"))


def _dtmf(fields: Fields) -> Dtmf | None:
    digit = _object(fields, "dtmf").get("digit")
    digits = str(digit).upper() if isinstance(digit, (str, int)) else ""
    return Dtmf(digits=digits) if digits and DTMF_KEYS.issuperset(digits) else None


def _played(fields: Fields) -> Played | None:
    name = _text(fields, "name")
    return Played(name=name) if name else None


def _cleared(fields: Fields) -> Cleared:
    return Cleared()


def _stop(fields: Fields) -> Stop:
    return Stop(reason=_text(_object(fields, "stop"), "reason") or _text(fields, "reason"))


def _fault(fields: Fields) -> LineFault:
    return LineFault(reason=_text(fields, "reason") or _text(fields, "message") or fields["event"])


READERS: Final[Mapping[str, Callable[[Fields], Event | None]]] = {
    "dtmf": _dtmf,
    "playedStream": _played,
    "played": _played,  # its name in older documents
    "clearedAudio": _cleared,
    "stop": _stop,
    "error": _fault,
    "playFailed": _fault,
}


# --- fields of any type, read as what they should be --------------------------------------


def _object(fields: Fields, key: str) -> Fields:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _text(fields: Fields, key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def _integer(fields: Fields, key: str) -> int | None:
    """A whole number from 0, as such or in digits; 18 digits fit every counter there is."""
    text = str(fields.get(key))
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _encoding(name: str) -> Encoding:
    base = name.partition(";")[0].lower()
    for encoding, words in ENCODING_WORDS.items():
        if any(word in base for word in words):
            return encoding
    raise RemoteProtocolError(
        f"unknown encoding {name[:KIND_MAX_CHARS]!r}", close_code=UNSUPPORTED_DATA
    )


def parse_extra_headers(text: str) -> dict[str, str]:
    """Read the ``extra_headers`` of a message in any of the forms in which they come.

    ``k=v,k2=v2`` is what we ask for; ``k=v;k2=v2`` and the text of a JSON object come as well.
    Values are percent-decoded, a repeated key keeps its last; what is neither form is left out.
    """
    if text.lstrip().startswith("{"):
        try:
            fields = DECODER.decode(text)
        except (ValueError, RecursionError):
            return {}
        return {
            key: value if isinstance(value, str) else str(value) for key, value in fields.items()
        }
    pairs = (pair.partition("=") for pair in text.split(";" if ";" in text else ","))
    return {key.strip(): unquote(value.strip()) for key, sep, value in pairs if sep and key.strip()}
