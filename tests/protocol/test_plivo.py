"""Plivo's stream: every accepted variant, every refusal, and 100,000 broken messages."""

from __future__ import annotations

import base64
import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import LocalProtocolError, RemoteProtocolError
from rtcore.protocol.events import (
    Checkpoint,
    ClearAudio,
    Cleared,
    Command,
    Dtmf,
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
from rtcore.protocol.plivo import (
    MAX_MESSAGE_BYTES,
    TRANSITIONS,
    PlivoStream,
    State,
    parse_extra_headers,
)

START: dict[str, Any] = {
    "event": "start",
    "sequenceNumber": 1,
    "start": {
        "callId": "c-1",
        "streamId": "s-1",
        "accountId": "MAXXXXXXXXXXXXXXXXXX",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    },
    "extra_headers": "userId=12345,sessionId=abc",
}
MEDIA = {
    "event": "media",
    "sequenceNumber": 42,
    "streamId": "s-1",
    "media": {"track": "inbound", "timestamp": "1705312200000", "chunk": 41, "payload": "/////w=="},
}
EXAMPLES: dict[type[Event], dict[str, Any]] = {
    Start: START,
    Media: MEDIA,
    Dtmf: {"event": "dtmf", "dtmf": {"track": "inbound", "digit": "5", "timestamp": "1"}},
    Played: {"event": "playedStream", "sequenceNumber": 75, "streamId": "s-1", "name": "u1.1"},
    Cleared: {"event": "clearedAudio", "sequenceNumber": 80, "streamId": "s-1"},
    Stop: {"event": "stop", "stop": {"callId": "c-1", "streamId": "s-1"}},
    LineFault: {"event": "error", "reason": "buffer_overflow"},
    Ignored: {"event": "muteStream"},
}


def wire(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def start(**changes: Any) -> dict[str, Any]:
    return START | {"start": START["start"] | changes}


def started(**changes: Any) -> PlivoStream:
    stream = PlivoStream()
    stream.receive(wire(start(**changes)))
    return stream


def stream_in(state: State) -> PlivoStream:
    stream = PlivoStream()
    if state is not State.IDLE:
        stream.receive(wire(START))
    if state is State.ENDED:
        stream.receive(wire(EXAMPLES[Stop]))
    assert stream.state is state
    return stream


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_table_says_what_may_be_heard_when(state: State, kind: type[Event]) -> None:
    stream = stream_in(state)
    message = wire(EXAMPLES[kind])
    after = TRANSITIONS.get((state, kind))
    if after is None:
        with pytest.raises(RemoteProtocolError, match=f"{kind.__name__} in {state.name}") as caught:
            stream.receive(message)
        assert caught.value.close_code == 1002
        assert stream.state is state
    else:
        assert type(stream.receive(message)) is kind
        assert stream.state is after


def test_start_as_documented() -> None:
    assert PlivoStream().receive(wire(START)) == Start(
        call_id="c-1",
        stream_id="s-1",
        encoding="mulaw",
        rate_hz=8000,
        tracks=("inbound",),
        account_id="MAXXXXXXXXXXXXXXXXXX",
        headers={"userId": "12345", "sessionId": "abc"},
    )


def test_start_with_next_to_nothing_takes_the_format_we_asked_for() -> None:
    stream = PlivoStream(encoding="l16", rate_hz=16000)
    event = stream.receive(b'{"event":"start","streamId":"s-1","extra_headers":null}')
    assert event == Start(call_id="", stream_id="s-1", encoding="l16", rate_hz=16000)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"callId": "", "callUUID": "c-2"}, "call_id", "c-2"),
        ({"callId": 5}, "call_id", ""),
        ({"accountId": None}, "account_id", None),
        ({"tracks": None}, "tracks", ("inbound",)),
        ({"tracks": ["inbound", "outbound", 3]}, "tracks", ("inbound", "outbound")),
        ({"mediaFormat": {"type": "audio/x-l16", "rate": "16000"}}, "rate_hz", 16000),
        ({"mediaFormat": {"type": "audio/x-l16", "rate": "16000"}}, "encoding", "l16"),
        ({"mediaFormat": {"encoding": "audio/X-MULAW;rate=8000"}}, "encoding", "mulaw"),
        ({"mediaFormat": {"encoding": "PCMU", "sampleRate": "8000"}}, "encoding", "mulaw"),
        ({"mediaFormat": {"encoding": "ulaw", "channels": 1}}, "encoding", "mulaw"),
        ({"mediaFormat": {"encoding": "audio/x-alaw"}}, "encoding", "alaw"),
        ({"mediaFormat": {"encoding": "pcma"}}, "encoding", "alaw"),
        ({"mediaFormat": {"encoding": "l16", "sampleRate": 16000, "rate": 8000}}, "rate_hz", 16000),
        ({"mediaFormat": None, "customParameters": {"a": 1}}, "rate_hz", 8000),
    ],
)
def test_start_variants(changes: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(PlivoStream().receive(wire(start(**changes))), field) == value


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "audio/opus", "sampleRate": 8000},
        {"encoding": "audio/x-mulaw", "sampleRate": 16000},
        {"encoding": "audio/x-l16", "sampleRate": 24000},
    ],
)
def test_audio_we_do_not_know_is_refused_not_guessed(media_format: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        PlivoStream().receive(wire(start(mediaFormat=media_format)))
    assert caught.value.close_code == 1003


def test_a_start_without_a_stream_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="streamId"):
        PlivoStream().receive(wire(start(streamId=None)))


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        (MEDIA, Media(pcm=b"\0" * 8, chunk=41)),
        ({"event": "media", "media": {"payload": "/////w=="}}, Media(pcm=b"\0" * 8)),
        (
            {"event": "media", "media": {"payload": "/w==", "chunk": "7", "track": "outbound"}},
            Media(pcm=b"\0\0", chunk=7, track="outbound"),
        ),
        (
            {"event": "media", "media": {"payload": "/w==", "chunk": None, "timestamp": {}}},
            Media(pcm=b"\0\0"),
        ),
        (
            {"event": "media", "media": {"payload": "/w==", "track": "third", "chunk": -1}},
            Media(pcm=b"\0\0", track="third"),
        ),
        ({"event": "dtmf", "dtmf": {"digit": "5"}}, Dtmf(digits="5")),
        ({"event": "dtmf", "dtmf": {"digit": 5}}, Dtmf(digits="5")),
        ({"event": "dtmf", "dtmf": {"digit": "1a#"}}, Dtmf(digits="1A#")),
        ({"event": "playedStream", "name": "u1.1"}, Played(name="u1.1")),
        ({"event": "played", "name": "u1.1", "sequenceNumber": "4"}, Played(name="u1.1")),
        ({"event": "clearedAudio"}, Cleared()),
        ({"event": "stop"}, Stop()),
        ({"event": "stop", "stop": {"reason": "hangup"}}, Stop(reason="hangup")),
        ({"event": "stop", "stop": "now", "reason": "hangup"}, Stop(reason="hangup")),
        ({"event": "playFailed", "message": "too late"}, LineFault(reason="too late")),
        ({"event": "error"}, LineFault(reason="error")),
        ({"event": "checkpoint", "name": "x"}, Ignored(kind="checkpoint")),
        ({"event": "unmuteStream"}, Ignored(kind="unmuteStream")),
        ({"event": "x" * 100}, Ignored(kind="x" * 32)),
        ({"event": None}, Ignored(kind="unnamed")),
        ({}, Ignored(kind="unnamed")),
    ],
)
def test_messages_of_an_open_stream(fields: dict[str, Any], event: Event) -> None:
    assert started().receive(wire(fields)) == event


def test_escaped_base64_takes_the_general_path_to_the_same_audio() -> None:
    message = wire(MEDIA).replace(b"/", b"\\/").replace(b"=", b"\\u003d")
    assert started().receive(message) == Media(pcm=b"\0" * 8, chunk=41)


MALFORMED = [
    b"",
    b"hello",
    b"null",
    b"[]",
    b"\xff",
    b'"\xff"',
    b"[" * 60_000,
    b'{"event":"media"}',
    b'{"event":"media","media":{"payload":5}}',
    b'{"event":"media","media":{"payload":"AAA"}}',
    '{"event":"media","media":{"payload":"AAAé"}}'.encode(),
    b'{"event":"dtmf"}',
    b'{"event":"dtmf","dtmf":{"digit":"x"}}',
    b'{"event":"dtmf","dtmf":{"digit":""}}',
    b'{"event":"playedStream"}',
]


@pytest.mark.parametrize("message", MALFORMED, ids=lambda message: message[:40])
def test_an_unreadable_message_is_dropped(message: bytes) -> None:
    assert started().receive(message) == Ignored(kind="malformed")


def test_half_a_sample_of_l16_is_unreadable() -> None:
    stream = started(mediaFormat={"encoding": "audio/x-l16", "sampleRate": 8000})
    payload = base64.b64encode(b"\0\0\0").decode()
    message = wire({"event": "media", "media": {"payload": payload}})
    assert stream.receive(message) == Ignored(kind="malformed")


@pytest.mark.parametrize("state", [State.IDLE, State.STREAMING])
def test_unreadable_messages_in_a_row_end_the_stream(state: State) -> None:
    stream = stream_in(state)
    for message in MALFORMED[:4]:
        stream.receive(message)
    with pytest.raises(RemoteProtocolError, match="5 unreadable messages") as caught:
        stream.receive(MALFORMED[4])
    assert caught.value.close_code == 1007


@pytest.mark.parametrize("good", [MEDIA, {"event": "dtmf", "dtmf": {"digit": "5"}}])
def test_a_readable_message_between_unreadable_ones_forgives(good: dict[str, Any]) -> None:
    stream = started()
    for _ in range(50):
        for message in MALFORMED[:4]:
            stream.receive(message)
        stream.receive(wire(good))


def test_a_message_past_the_limit_ends_the_stream() -> None:
    message = wire(MEDIA)
    stream = started()
    assert isinstance(stream.receive(message.ljust(MAX_MESSAGE_BYTES)), Media)
    with pytest.raises(RemoteProtocolError) as caught:
        stream.receive(message.ljust(MAX_MESSAGE_BYTES + 1))
    assert caught.value.close_code == 1009


# --- extra headers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", {}),
        ("{}", {}),
        ("k=v,k2=v2", {"k": "v", "k2": "v2"}),
        ("k=v;k2=v2,3", {"k": "v", "k2": "v2,3"}),
        (' {"k":"v","n":5} ', {"k": "v", "n": "5"}),
        ('{"k":', {}),
        (" a = b%20c , d=e=f,,=x,lonely,a=last", {"a": "last", "d": "e=f"}),
    ],
)
def test_extra_headers_in_their_forms(text: str, headers: dict[str, str]) -> None:
    assert parse_extra_headers(text) == headers


@given(st.text(max_size=80))
def test_extra_headers_never_fail(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_extra_headers(text).values())


# --- commands -----------------------------------------------------------------------------

COMMANDS: list[tuple[Command, dict[str, Any]]] = [
    (
        PlayAudio(pcm=b"\0" * 8),
        {
            "event": "playAudio",
            "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": "/////w=="},
        },
    ),
    (Checkpoint(name='u"1'), {"event": "checkpoint", "streamId": "s-1", "name": 'u"1'}),
    (ClearAudio(), {"event": "clearAudio", "streamId": "s-1"}),
    (SendDtmf(digits="12#A"), {"event": "sendDTMF", "dtmf": "12#A"}),
]


@pytest.mark.parametrize(("command", "fields"), COMMANDS)
def test_commands_as_documented(command: Command, fields: dict[str, Any]) -> None:
    assert json.loads(started().send(command)) == fields
    with pytest.raises(LocalProtocolError, match="before start"):
        PlivoStream().send(command)
    assert json.loads(stream_in(State.ENDED).send(command)) == fields


@pytest.mark.parametrize(
    "command",
    [
        PlayAudio(pcm=b"\0"),
        PlayAudio(pcm=b"\0\0" * MAX_MESSAGE_BYTES),
        SendDtmf(digits=""),
        SendDtmf(digits="1x"),
        Checkpoint(name="x" * MAX_MESSAGE_BYTES),
    ],
    ids=["half a sample", "too long", "no keys", "no key", "long name"],
)
def test_what_may_never_be_sent(command: Command) -> None:
    with pytest.raises(LocalProtocolError):
        started().send(command)


@pytest.mark.parametrize(
    ("name", "rate_hz"),
    [
        ("audio/x-mulaw", 8000),
        ("audio/x-alaw", 8000),
        ("audio/x-l16", 8000),
        ("audio/x-l16", 16000),
    ],
)
def test_audio_we_send_comes_back_as_we_sent_it(name: str, rate_hz: int) -> None:
    stream = started(mediaFormat={"encoding": name, "sampleRate": rate_hz})
    coarse = b"".join(value.to_bytes(2, "little", signed=True) for value in (8, -8, 1000, -32000))
    sent = json.loads(stream.send(PlayAudio(pcm=coarse)))["media"]
    assert (sent["contentType"], sent["sampleRate"]) == (name, rate_hz)
    echo = stream.receive(wire({"event": "media", "media": {"payload": sent["payload"]}}))
    assert isinstance(echo, Media)
    again = json.loads(stream.send(PlayAudio(pcm=echo.pcm)))["media"]
    assert again == sent  # a code's own value has no other code
    assert (echo.pcm == coarse) == (name == "audio/x-l16")


# --- fuzz ---------------------------------------------------------------------------------


def mutations(seed: int) -> Any:
    """Messages of every kind, damaged in one to four places, and plain noise."""
    chance = random.Random(seed)
    seeds = [wire(fields) for fields in EXAMPLES.values()]
    seeds += [wire(fields) for fields in (start(mediaFormat={"type": "l16", "rate": "16000"}), {})]
    pieces = [b'"', b"\\", b"{", b"}", b"[", b",", b":", b"0", b"null", b"1e9", b"\\u0000", b"\xff"]
    while True:
        if chance.random() < 0.1:
            yield chance.randbytes(chance.randrange(60))
            continue
        message = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(message) + 1)
            piece = chance.choice(pieces) if chance.random() < 0.7 else chance.randbytes(1)
            message[at : at + chance.choice((0, 1, 1, 2, 8))] = piece
        yield bytes(message)


def test_100_000_broken_messages_raise_nothing_but_the_peers_fault() -> None:
    outcomes = {"events": 0, "refused": 0}
    stream = started()
    for message in itertools.islice(mutations(seed=20261121), 100_000):
        try:
            assert isinstance(stream.receive(message), Event)
            outcomes["events"] += 1
        except RemoteProtocolError:
            outcomes["refused"] += 1
            stream = started() if outcomes["refused"] % 2 else PlivoStream()
    assert min(outcomes.values()) > 10_000, outcomes
