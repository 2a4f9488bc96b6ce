"""Plivo's answer documents: what to do with a call, as small structs and one :func:`render`.

Attributes left ``None`` are left out, and Plivo's default holds. What may stand inside what, and
the limits of each value, are in the types. Source: Plivo's XML reference (2026), one page a verb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

import msgspec
from msgspec import Meta, field

from rtcore.errors import LocalProtocolError

__all__ = [
    "Conference",
    "Dial",
    "Dtmf",
    "Element",
    "GetDigits",
    "GetInput",
    "Hangup",
    "Number",
    "Play",
    "PreAnswer",
    "Record",
    "Redirect",
    "Speak",
    "Stream",
    "User",
    "Wait",
    "render",
]

MAX_DOCUMENT_BYTES = 100_000
MAX_EXTRA_HEADERS_BYTES = 512

Url = Annotated[str, Meta(max_length=2048, pattern=r"^https?://\S+\Z")]
SocketUrl = Annotated[str, Meta(max_length=2048, pattern=r"^wss?://\S+\Z")]
Method = Literal["GET", "POST"]
HeaderWord = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+\Z")]
SipHeaderWord = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]+\Z")]
SipUri = Annotated[str, Meta(max_length=2048, pattern=r"^sips?:\S+\Z")]
Words = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]

_TAG, _BODY, _CHILDREN = "_tag", "_body", "_children"  # no attribute of Plivo's begins with _


class _Verb(msgspec.Struct, frozen=True, rename="camel", tag_field=_TAG, tag=True):
    """A struct is an element of its own name; its fields are attributes, in camel case."""


class Stream(_Verb, frozen=True, kw_only=True):
    """Open the audio WebSocket. With ``keep_call_alive`` what follows runs when it has closed."""

    url: SocketUrl = field(name=_BODY)
    bidirectional: bool = True
    keep_call_alive: bool = True
    content_type: Literal[
        "audio/x-mulaw;rate=8000", "audio/x-l16;rate=8000", "audio/x-l16;rate=16000"
    ] = "audio/x-mulaw;rate=8000"  # always said: the documents disagree on the default
    audio_track: Literal["inbound", "outbound", "both"] | None = None
    stream_timeout: Positive | None = None  # seconds
    status_callback_url: Url | None = None
    status_callback_method: Method | None = None
    extra_headers: dict[HeaderWord, HeaderWord] | None = None  # no secrets: logged and repeated
    noise_cancellation: bool | None = None
    noise_cancellation_level: Annotated[int, Meta(ge=60, le=100)] | None = None

    def __post_init__(self) -> None:
        if self.bidirectional and self.audio_track not in (None, "inbound"):
            raise LocalProtocolError("Stream: a bidirectional stream carries the inbound track")
        if self.noise_cancellation_level is not None and not self.noise_cancellation:
            raise LocalProtocolError("Stream: a level needs noise_cancellation")
        if len(_attribute(self.extra_headers or {}).encode()) > MAX_EXTRA_HEADERS_BYTES:
            raise LocalProtocolError(f"Stream: extra_headers over {MAX_EXTRA_HEADERS_BYTES} octets")


class Redirect(_Verb, frozen=True, kw_only=True):
    """Fetch the next document from ``url``; what follows here never runs."""

    url: Url = field(name=_BODY)
    method: Method | None = None


class Hangup(_Verb, frozen=True, kw_only=True):
    """End the call; with ``reason``, refuse it before it is answered."""

    reason: Literal["rejected", "busy"] | None = None
    schedule: Positive | None = None  # seconds from now


class Speak(_Verb, frozen=True, kw_only=True):
    """Let Plivo say ``text``. A language the voice lacks costs the whole document."""

    text: Words = field(name=_BODY)
    voice: Words | None = None
    language: Words | None = None
    loop: Count | None = None


class Play(_Verb, frozen=True, kw_only=True):
    """Play a recording; ``loop`` 0 never ends."""

    url: Url = field(name=_BODY)
    loop: Count | None = None


class Wait(_Verb, frozen=True, kw_only=True):
    length: Positive | None = None  # seconds
    silence: bool | None = None
    min_silence: Positive | None = None  # milliseconds
    beep: bool | None = None


class PreAnswer(_Verb, frozen=True, kw_only=True):
    """What the caller hears before the call is answered, at most 30 s."""

    children: Annotated[tuple[Speak | Play | Wait, ...], Meta(min_length=1)] = field(name=_CHILDREN)


class Number(_Verb, frozen=True, kw_only=True):
    number: Annotated[str, Meta(pattern=r"^\+?[0-9]{2,15}\Z")] = field(name=_BODY)  # E.164
    send_digits: Words | None = None
    send_on_preanswer: bool | None = None


class User(_Verb, frozen=True, kw_only=True):
    sip_uri: SipUri = field(name=_BODY)
    send_digits: Words | None = None
    send_on_preanswer: bool | None = None
    sip_headers: dict[SipHeaderWord, SipHeaderWord] | None = None
    sip_auth_username: Words | None = None
    sip_auth_password: Annotated[str, Meta(min_length=8, max_length=128)] | None = None


class Dial(_Verb, frozen=True, kw_only=True):
    """Ring its numbers and SIP users together; the first to answer has the call."""

    children: Annotated[tuple[Number | User, ...], Meta(min_length=1)] = field(name=_CHILDREN)
    action: Url | None = None
    method: Method | None = None
    redirect: bool | None = None  # True: the document that ``action`` returns takes over
    timeout: Positive | None = None  # seconds of ringing
    time_limit: Positive | None = None  # seconds
    caller_id: Words | None = None
    caller_name: Annotated[str, Meta(max_length=50)] | None = None
    hangup_on_star: bool | None = None
    callback_url: Url | None = None
    callback_method: Method | None = None
    confirm_sound: Url | None = None
    confirm_key: Words | None = None
    confirm_timeout: Positive | None = None  # seconds
    dial_music: Annotated[str, Meta(pattern=r"^(real|https?://\S+)\Z")] | None = None
    digits_match: Words | None = None
    digits_match_b_leg: Words | None = field(default=None, name="digitsMatchBLeg")
    sip_headers: dict[SipHeaderWord, SipHeaderWord] | None = None


class GetDigits(_Verb, frozen=True, kw_only=True):
    """Collect keys and post them to ``action``; the children are heard meanwhile."""

    children: tuple[Speak | Play, ...] = field(default=(), name=_CHILDREN)
    action: Url | None = None
    method: Method | None = None
    redirect: bool | None = None
    num_digits: Annotated[int, Meta(ge=1, le=99)] | None = None
    timeout: Positive | None = None  # seconds before the first key
    digit_timeout: Positive | None = None  # seconds between keys
    finish_on_key: Words | None = None
    retries: Positive | None = None
    play_beep: bool | None = None
    valid_digits: Words | None = None
    invalid_digits_sound: Url | None = None
    log: bool | None = None


class GetInput(_Verb, frozen=True, kw_only=True):
    """Collect keys or words and post them to ``action``; the children are heard meanwhile."""

    action: Url
    children: tuple[Speak | Play, ...] = field(default=(), name=_CHILDREN)
    method: Method | None = None
    redirect: bool | None = None
    input_type: Literal["dtmf", "speech", "dtmf speech"] | None = None
    execution_timeout: Annotated[int, Meta(ge=5, le=60)] | None = None  # seconds
    digit_end_timeout: Annotated[int, Meta(ge=2, le=10)] | None = None  # seconds
    speech_end_timeout: Annotated[int, Meta(ge=2, le=10)] | None = None  # seconds
    num_digits: Annotated[int, Meta(ge=1, le=32)] | None = None
    finish_on_key: Words | None = None
    language: Words | None = None
    speech_model: Literal["default", "command_and_search", "phone_call"] | None = None
    hints: Words | None = None
    profanity_filter: bool | None = None
    interim_speech_results_callback: Url | None = None
    interim_speech_results_callback_method: Method | None = None
    log: bool | None = None


class Dtmf(_Verb, frozen=True, kw_only=True, tag="DTMF"):
    digits: Annotated[str, Meta(pattern=r"^[0-9*#wW]+\Z")] = field(name=_BODY)
    is_async: bool | None = field(default=None, name="async")


class Record(_Verb, frozen=True, kw_only=True):
    """Record the caller, or with ``record_session`` the whole call from here on."""

    action: Url | None = None
    method: Method | None = None
    redirect: bool | None = None
    file_format: Literal["mp3", "wav"] | None = None
    timeout: Positive | None = None  # seconds of silence
    max_length: Positive | None = None  # seconds
    finish_on_key: Words | None = None
    play_beep: bool | None = None
    record_session: bool | None = None
    start_on_dial_answer: bool | None = None
    record_channel_type: Literal["mono", "stereo"] | None = None
    transcription_type: Words | None = None
    transcription_url: Url | None = None
    callback_url: Url | None = None
    callback_method: Method | None = None


class Conference(_Verb, frozen=True, kw_only=True):
    """Join ``room``."""

    room: Words = field(name=_BODY)
    muted: bool | None = None
    start_conference_on_enter: bool | None = None
    end_conference_on_exit: bool | None = None
    stay_alone: bool | None = None
    max_members: Positive | None = None
    time_limit: Positive | None = None  # seconds
    wait_sound: Url | None = None
    enter_sound: Words | None = None  # a URL, or beep:1, beep:2
    exit_sound: Words | None = None
    hangup_on_star: bool | None = None
    record: bool | None = None
    record_file_format: Literal["mp3", "wav"] | None = None
    action: Url | None = None
    method: Method | None = None
    redirect: bool | None = None
    callback_url: Url | None = None
    callback_method: Method | None = None
    digits_match: Words | None = None
    floor_event: bool | None = None
    relay_dtmf: bool | None = field(default=None, name="relayDTMF")


Element = (
    Stream | Redirect | Hangup | Speak | Play | Wait | PreAnswer | Dial
    | GetDigits | GetInput | Dtmf | Record | Conference
)  # fmt: skip

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def render(*elements: Element) -> bytes:
    """Return the document that does ``elements`` in turn; without any, it does nothing.

    Raises:
        LocalProtocolError: a value past its limit, an element where it may not stand, a second
            ``Stream`` (what that does is undefined), a document past 100 kB.
    """
    plain = msgspec.to_builtins(elements)
    try:
        msgspec.convert(plain, tuple[Element, ...])
    except msgspec.ValidationError as exc:
        raise LocalProtocolError(f"answer document: {exc}") from exc
    if sum(isinstance(element, Stream) for element in elements) > 1:
        raise LocalProtocolError("answer document: more than one Stream")
    response = ElementTree.Element("Response")
    for verb in plain:
        _append(response, verb)
    text = ElementTree.tostring(response, encoding="unicode")
    if _FORBIDDEN.search(text):
        raise LocalProtocolError("answer document: a character that XML does not know")
    document = b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()
    if len(document) > MAX_DOCUMENT_BYTES:
        raise LocalProtocolError(f"answer document: {len(document)} octets")
    return document


def _append(parent: ElementTree.Element, verb: dict[str, Any]) -> None:
    element = ElementTree.SubElement(parent, verb.pop(_TAG))
    element.text = verb.pop(_BODY, None)
    for child in verb.pop(_CHILDREN, ()):
        _append(element, child)
    for name, value in verb.items():
        if value is not None:
            element.set(name, _attribute(value))


def _attribute(value: str | bool | int | Mapping[str, str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={text}" for name, text in value.items())
    return str(value)
