"""The compiled media message against its twin, and both against the general decoder."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtcore.protocol import _media, _media_py
from rtcore.protocol.events import Encoding, Media, PlayAudio
from rtcore.protocol.plivo import PlivoStream

ENCODINGS: tuple[Encoding, ...] = ("mulaw", "alaw", "l16")
AUDIO = base64.b64encode(bytes(range(160))).decode()
encodings = st.sampled_from(ENCODINGS)
pieces = st.sampled_from([b"", b'"', b"\\", b"{", b"}", b",", b":", b"0", b" ", b"="])
base64_like = st.text("AZaz09+/=", max_size=40).map(str.encode)


def usual(payload: str = AUDIO, **changes: Any) -> dict[str, Any]:
    media = {"track": "inbound", "timestamp": "1705312200000", "chunk": 41, "payload": payload}
    return {
        "event": "media",
        "sequenceNumber": 42,
        "streamId": "0f6e3a0e-7a5b-4a3e-9f7b-1f0f3f2a1b11",
        "media": media | changes,
        "extra_headers": '{"agent":"7"}',
    }


def shuffled(fields: dict[str, Any], seed: random.Random) -> dict[str, Any]:
    keys = list(fields)
    seed.shuffle(keys)
    return {
        key: shuffled(fields[key], seed) if isinstance(fields[key], dict) else fields[key]
        for key in keys
    }


def general(message: bytes, encoding: Encoding) -> Any:
    """What the stream makes of ``message`` without the one-pass path."""
    return PlivoStream(encoding=encoding)._read(message)


@given(
    st.binary(max_size=400),
    encodings,
    st.randoms(use_true_random=False),
    st.sampled_from([None, " ", "\n\t"]),
    st.sampled_from(["inbound", "outbound"]),
    st.one_of(st.integers(0, 10**17), st.integers(1, 10**17).map(str)),
)
def test_the_usual_shape_is_read_in_one_pass_in_any_order_and_spacing(
    octets: bytes,
    encoding: Encoding,
    seed: random.Random,
    space: str | None,
    track: str,
    chunk: int | str,
) -> None:
    octets = octets[: len(octets) // 2 * 2]
    fields = usual(base64.b64encode(octets).decode(), track=track, chunk=chunk)
    message = json.dumps(shuffled(fields, seed), indent=space).encode()
    event = _media.read_media(message, encoding)
    assert event is not None
    assert event == _media_py.read_media(message, encoding) == general(message, encoding)
    assert (event.track, event.chunk) == (track, int(chunk))


def test_a_message_with_a_payload_alone_is_enough() -> None:
    message = b'{"event":"media","media":{"payload":"/w=="}}'
    assert _media.read_media(message, "mulaw") == Media(pcm=b"\0\0")


@given(
    st.sampled_from([0, 80, 160, 320, 640]),
    encodings,
    st.sampled_from([8000, 16_000]),
    st.sampled_from(["inbound", "outbound"]),
    st.one_of(st.none(), st.integers(0, 10**17)),
)
def test_a_frame_is_read_as_the_stream_would_read_it(
    octets: int, encoding: Encoding, rate_hz: int, track: str, chunk: int | None
) -> None:
    fields = usual(base64.b64encode(random.Random(octets).randbytes(octets)).decode(), track=track)
    fields["media"]["chunk"] = chunk
    if chunk is None:
        del fields["media"]["chunk"]
    message = json.dumps(fields).encode()
    event = general(message, encoding)
    is_frame = track == "inbound" and len(event.pcm) == 320 and rate_hz == 8000
    for kind in (_media.MediaReader, _media_py.MediaReader):
        reader = kind()
        assert reader.read_frame(message) is None  # the stream has not begun
        reader._plain_encoding = encoding if rate_hz == 8000 else None
        reader._malformed_in_a_row = 2
        assert reader.read_frame(message) == (event.pcm if is_frame else None)
        assert reader._malformed_in_a_row == (0 if is_frame else 2)
        if is_frame:
            assert reader.chunk == (_media.NO_CHUNK if chunk is None else chunk)


def test_a_stream_reads_frames_from_its_start_to_its_stop() -> None:
    message = json.dumps(usual(base64.b64encode(bytes(160)).decode())).encode()
    stream = PlivoStream()
    assert stream.read_frame(message) is None
    stream.receive(json.dumps({"event": "start", "start": {"streamId": "s"}}).encode())
    assert stream.read_frame(message) is not None
    stream.receive(b'{"event":"stop"}')
    assert stream.read_frame(message) is None


def test_frames_wrapped_in_much_else_are_left_to_the_stream() -> None:
    message = json.dumps(usual(base64.b64encode(bytes(160)).decode()), indent=400).encode()
    for kind in (_media.MediaReader, _media_py.MediaReader):
        reader = kind()
        reader._plain_encoding = "mulaw"
        assert reader.read_frame(message) is None


@pytest.mark.parametrize(
    "message",
    [
        json.dumps({"event": "dtmf", "dtmf": {"digit": "5"}}),
        json.dumps(usual(track="both")),
        json.dumps(usual(track=None)),
        json.dumps(usual(chunk=1.5)),
        json.dumps(usual(chunk=-1)),
        json.dumps(usual(extra={"a": 1})),
        json.dumps(usual() | {"extra_headers": "é"}, ensure_ascii=False),
        json.dumps(usual()).replace("inbound", "inb\\u006fund"),
        json.dumps(usual()).replace('"event"', '"ev\\u0065nt"'),
        json.dumps(usual()).replace('"chunk": 41', '"chunk": 41, "chunk": 42'),
        json.dumps(usual()).replace('"event"', '"media": {"track": "outbound"}, "event"'),
        json.dumps(usual()).replace("41", "041"),
        json.dumps(usual()).replace("41", "9" * 19),
        json.dumps(usual()) + "x",
        json.dumps(usual())[:-1],
        json.dumps(usual("====")),
        json.dumps(usual("AAA")),
        json.dumps(usual("A===")),
        json.dumps(usual("AA=A")),
        json.dumps(usual("AA==AAAA")),
        json.dumps(usual("AA-_")),
        "",
        "{}",
        "[]",
        '{"event":"media","media":{}}',
        '{"event":"media","media":{"payload":"AAAA',
        '{"event":"media"}',
    ],
)
def test_the_unusual_is_left_to_the_general_decoder(message: str) -> None:
    assert _media.read_media(message.encode(), "mulaw") is None


@given(st.data(), encodings)
@settings(max_examples=400)
def test_what_one_pass_reads_of_a_damaged_message_the_others_read_alike(
    data: st.DataObject, encoding: Encoding
) -> None:
    message = bytearray(json.dumps(usual("AQIDBAUG")).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at : at + data.draw(st.integers(0, 4))] = data.draw(pieces)
    octets = bytes(message)
    event = _media.read_media(octets, encoding)
    if event is not None:
        assert event == _media_py.read_media(octets, encoding) == general(octets, encoding)


@given(st.one_of(st.binary(max_size=40), base64_like), encodings)
@example(b"", "l16")
@example(b"AAAA=", "mulaw")
@example(b"AAAA====", "mulaw")
@example(b"AAA=", "l16")
@example(b"AA==", "l16")
@example(b"/w==", "alaw")
def test_decode_payload_agrees_with_its_twin(payload: bytes, encoding: Encoding) -> None:
    assert _media.decode_payload(payload, encoding) == _media_py.decode_payload(payload, encoding)


@given(st.binary(max_size=700), encodings, st.binary(max_size=9), st.binary(max_size=9))
def test_write_audio_agrees_with_its_twin(
    pcm: bytes, encoding: Encoding, head: bytes, tail: bytes
) -> None:
    pcm = pcm[: len(pcm) // 2 * 2]
    written = _media.write_audio(pcm, encoding, head, tail)
    assert written == _media_py.write_audio(pcm, encoding, head, tail)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_octet_and_every_sample_agree_with_the_twin(encoding: Encoding) -> None:
    octets = base64.b64encode(bytes(range(256)))
    assert _media.decode_payload(octets, encoding) == _media_py.decode_payload(octets, encoding)
    samples = b"".join(value.to_bytes(2, "little") for value in range(65536))
    written = _media.write_audio(samples, encoding, b"", b"")
    assert written == _media_py.write_audio(samples, encoding, b"", b"")


@pytest.mark.parametrize("module", [_media, _media_py])
def test_half_a_sample_cannot_be_written(module: Any) -> None:
    with pytest.raises(ValueError, match="half a sample"):
        module.write_audio(b"\0", "mulaw", b"", b"")


@given(st.binary(max_size=700).map(lambda octets: octets[: len(octets) // 2 * 2]), encodings)
def test_a_piece_is_written_as_the_stream_would_write_it(pcm: bytes, encoding: Encoding) -> None:
    stream = PlivoStream()
    assert stream.write_piece(pcm) is None  # not begun
    media_format = {"encoding": f"audio/x-{encoding}", "sampleRate": 8000}
    start = {"event": "start", "start": {"streamId": "s", "mediaFormat": media_format}}
    stream.receive(json.dumps(start).encode())
    written = stream.write_piece(pcm)
    assert written is not None
    assert written == stream.send(PlayAudio(pcm=pcm))
    twin = _media_py.MediaWriter()
    twin._play_head, twin._plain_encoding = stream._play_head, encoding
    assert twin.write_piece(pcm) == written
    stream.receive(b'{"event":"stop"}')
    assert stream.write_piece(pcm) is None


@pytest.mark.parametrize("kind", [_media.MediaWriter, _media_py.MediaWriter])
def test_pieces_of_an_unusual_size_are_left_to_the_stream(kind: Any) -> None:
    writer = kind()
    assert writer.write_piece(b"") is None
    writer._plain_encoding = "l16"
    assert writer.write_piece(bytes(640)) is not None
    assert writer.write_piece(bytes(16_000)) is not None
    assert writer.write_piece(bytes(16_002)) is None
    assert writer.write_piece(bytes(641)) is None
