"""The frame codec by the sections of Autobahn's case list, and against wsproto."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from rtcore.errors import LocalProtocolError
from rtcore.media._frames import BINARY, PING, PONG, TEXT, FrameCodec, is_wire_code

MASK = bytes.fromhex("37fa213d")  # RFC 6455, section 5.7
CONTINUATION, CLOSE = 0, 8
LIMIT = 65_536


def server(max_message_bytes: int = LIMIT) -> FrameCodec:
    return FrameCodec(is_client=False, max_message_bytes=max_message_bytes)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_octets: int | None = None,
) -> bytes:
    """One frame, as wrong as asked for; ``length_octets`` (0, 2, 8) forces a form of length."""
    size = len(payload)
    if length_octets is None:
        length_octets = 0 if size < 126 else 2 if size < 65_536 else 8
    short = {0: size, 2: 126, 8: 127}[length_octets]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short])
    head += size.to_bytes(length_octets) if length_octets else b""
    if mask is None:
        return head + payload
    return head + mask + bytes(octet ^ mask[i & 3] for i, octet in enumerate(payload))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def unmasked(data: bytes) -> tuple[int, bytes]:
    """The one short frame a server wrote: its opcode and payload."""
    assert data[0] & 0xF0 == 0x80
    assert data[1] == len(data) - 2 < 126
    return data[0] & 0x0F, data[2:]


def told(codec: FrameCodec) -> list[tuple[int, bytes]]:
    return [unmasked(reply) for reply in codec.take_replies()]


# --- 1.x framing ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 400, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("step", [1, 997, 10**6])
def test_a_message_of_any_size_in_pieces_of_any_size(size: int, opcode: int, step: int) -> None:
    payload = bytes(0x20 + i % 0x5F for i in range(size))
    data = frame(opcode, payload)
    codec, got = server(), []
    for at in range(0, len(data), step):
        got += codec.feed(data[at : at + step])
    assert got == [payload]
    assert codec.close_code == 0


def test_all_that_arrives_at_once_is_returned_at_once() -> None:
    data = b"".join(frame(TEXT, b"%d" % n) for n in range(100))
    assert server().feed(bytearray(data)) == [b"%d" % n for n in range(100)]


def test_only_the_octets_named_are_read() -> None:
    data = frame(TEXT, b"one") + frame(TEXT, b"two")
    assert server().feed(data, len(data) - 9) == [b"one"]


# --- 2.x pings, pongs -------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    codec = server()
    data = frame(PING, payload)
    for octet in data:
        assert codec.feed(bytes([octet])) == []
    assert told(codec) == [(PONG, payload)]
    assert told(codec) == []


def test_pings_are_answered_in_order_and_pongs_ignored() -> None:
    codec = server()
    codec.feed(b"".join(frame(PING, b"%d" % n) + frame(PONG, b"x") for n in range(10)))
    assert told(codec) == [(PONG, b"%d" % n) for n in range(10)]


# --- 2.5, 3.x, 4.x, 5.x: what breaks the protocol ---------------------------------------

BROKEN = {
    "2.5 ping over 125 octets": frame(PING, bytes(126)),
    "3.x rsv 1": frame(TEXT, b"x", rsv=4),
    "3.x rsv 2": frame(BINARY, b"x", rsv=2),
    "3.x rsv 3": frame(PING, b"x", rsv=1),
    **{f"4.1 opcode {n}": frame(n, b"x") for n in range(3, 8)},
    **{f"4.2 opcode {n}": frame(n, b"x") for n in range(11, 16)},
    "5.1 fragmented ping": frame(PING, b"x", fin=False),
    "5.2 fragmented pong": frame(PONG, b"x", fin=False),
    "5.9 nothing to continue": frame(CONTINUATION, b"x"),
    "5.10 nothing to continue": frame(CONTINUATION, b"x", fin=False),
    "5.16 continued after the end": frame(TEXT, b"") + frame(CONTINUATION, b"x"),
    "5.18 text inside a text": frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"),
    "7.3.2 close of one octet": frame(CLOSE, b"\x03"),
    "7.3.6 close over 125 octets": frame(CLOSE, close_payload(1000, b"x" * 124)),
    "unmasked text": frame(TEXT, b"x", mask=None),
    "unmasked ping": frame(PING, b"x", mask=None),
    "length 125 in 2 octets": frame(TEXT, b"x" * 125, length_octets=2),
    "length 65535 in 8 octets": frame(TEXT, b"x" * 65_535, length_octets=8),
    "length past 63 bits": b"\x81\xff" + b"\x80" + bytes(7) + MASK,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("step", [1, 10**6])
def test_a_broken_frame_ends_it_with_1002(data: bytes, step: int) -> None:
    codec, got = server(), []
    stream = frame(TEXT, b"before") + data + frame(TEXT, b"after")
    for at in range(0, len(stream), step):
        got += codec.feed(stream[at : at + step])
    assert got[0] == b"before"
    assert b"after" not in got
    assert (codec.close_code, codec.is_fault) == (1002, True)
    [(opcode, payload)] = told(codec)
    assert (opcode, payload[:2]) == (CLOSE, close_payload(1002))
    assert payload[2:].decode() == codec.close_reason != ""


def test_a_client_refuses_what_is_masked_and_masks_what_it_sends() -> None:
    client = FrameCodec(is_client=True, max_message_bytes=LIMIT)
    sent = [client.encode(TEXT, b"hello") for _ in range(2000)]
    assert {f[1] for f in sent} == {0x85}
    assert len({f[2:6] for f in sent}) > 1990  # each its own mask
    assert server().feed(b"".join(sent)) == [b"hello"] * 2000
    assert client.feed(frame(TEXT, b"hi", mask=None)) == [b"hi"]
    client.feed(frame(TEXT, b"hi"))
    assert (client.close_code, client.is_fault) == (1002, True)


# --- 5.x fragmentation ------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 10**6])
def test_control_frames_between_fragments(step: int) -> None:
    data = (
        frame(TEXT, b"", fin=False)
        + frame(PING, b"1")
        + frame(CONTINUATION, "grö".encode()[:-1], fin=False)
        + frame(PONG, b"x")
        + frame(CONTINUATION, "ö".encode()[1:], fin=False)
        + frame(PING, b"2")
        + frame(CONTINUATION, b"n")
        + frame(TEXT, b"next")
    )
    codec, got = server(), []
    for at in range(0, len(data), step):
        got += codec.feed(data[at : at + step])
    assert got == ["grön".encode(), b"next"]
    assert told(codec) == [(PONG, b"1"), (PONG, b"2")]


# --- 6.x UTF-8 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "κόσμε",
        "\x00",
        "\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
        "\ud7ff\ue000\ufffd",
        "a" * 99,
    ],
)
def test_utf8_is_taken(text: str) -> None:
    assert server().feed(frame(TEXT, text.encode())) == [text.encode()]


@pytest.mark.parametrize(
    "octets",
    [
        b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\xbf", b"\xe2\x82",
        b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80", b"\xf4\x90\x80\x80",
        b"\xf5", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("lead", [b"", b"x" * 7, b"x" * 400])
def test_what_is_not_utf8_ends_it_with_1007(octets: bytes, lead: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        octets.decode()
    for data in (
        frame(TEXT, lead + octets),
        frame(TEXT, lead, fin=False) + frame(CONTINUATION, octets),
    ):
        codec = server()
        assert codec.feed(data) == []
        assert (codec.close_code, codec.is_fault) == (1007, True)
        assert server().feed(frame(BINARY, lead + octets)) == [lead + octets]


def test_bad_text_is_refused_before_its_message_is_whole() -> None:  # 6.4.x
    codec = server()
    codec.feed(frame(TEXT, b"\xf4\x90" + b"x" * 500)[:10])
    assert codec.close_code == 1007


# --- 7.x close --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999]
)
def test_a_close_is_answered_with_its_code(code: int) -> None:
    codec = server()
    data = frame(TEXT, b"last") + frame(CLOSE, close_payload(code, "grün".encode()))
    assert codec.feed(data + frame(TEXT, b"late") + frame(PING)) == [b"last"]
    assert (codec.close_code, codec.close_reason, codec.is_fault) == (code, "grün", False)
    assert told(codec) == [(CLOSE, close_payload(code))]
    assert codec.feed(frame(TEXT, b"later")) == []


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000])
def test_a_close_with_no_such_code_is_a_fault(code: int) -> None:
    codec = server()
    codec.feed(frame(CLOSE, close_payload(code)))
    assert (codec.close_code, codec.is_fault) == (1002, True)
    assert not is_wire_code(code)
    if code != 1005:
        with pytest.raises(LocalProtocolError):
            codec.encode_close(code)


def test_a_close_without_a_code() -> None:
    codec = server()
    codec.feed(frame(CLOSE))
    assert (codec.close_code, codec.is_fault) == (1005, False)
    assert told(codec) == [(CLOSE, b"")]


def test_a_close_reason_must_be_utf8() -> None:
    codec = server()
    codec.feed(frame(CLOSE, close_payload(1000, b"\xce")))
    assert (codec.close_code, codec.is_fault) == (1007, True)


def test_nothing_is_answered_once_our_close_is_sent() -> None:
    codec = server()
    assert unmasked(codec.encode_close(1001, "ä" * 62)) == (
        CLOSE,
        close_payload(1001, "ä".encode() * 61),  # 123 octets would cut the last in two
    )
    assert codec.feed(frame(PING) + frame(TEXT, b"x") + frame(CLOSE)) == [b"x"]
    assert codec.take_replies() == []
    assert codec.close_code == 1005


# --- 9.x limits -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"x" * 1001),
        frame(TEXT, b"x" * 1001)[:8],  # known from its head
        frame(BINARY, b"x" * 1000, fin=False) + frame(CONTINUATION, b"x"),
        b"\x82\xff" + b"\x7f" + b"\xff" * 7 + MASK,
    ],
)
def test_a_message_past_the_limit_ends_it_with_1009(data: bytes) -> None:
    codec = server(1000)
    assert codec.feed(frame(TEXT, b"y" * 1000) + data) == [b"y" * 1000]
    assert (codec.close_code, codec.is_fault) == (1009, True)


def test_fragments_by_the_thousand() -> None:
    data = frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 10_000
    assert server().feed(data + frame(CONTINUATION)) == [b"x" * 10_001]


# --- against wsproto --------------------------------------------------------------------

payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.sampled_from([b"x" * 125, b"x" * 126, b"\xc3", b"\xa9", b"", b"x" * 300, b"\xf4\x90"]),
    st.integers(0, 5100).map(close_payload),
)
frames = st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY, PING, PONG]), payloads),
    st.builds(frame, st.sampled_from([TEXT, CONTINUATION]), payloads, fin=st.booleans()),
    st.builds(frame, st.just(CLOSE), payloads),
    st.builds(
        frame,
        st.integers(0, 15),
        payloads,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 2, 4]),
        mask=st.sampled_from([MASK, MASK, bytes(4), None]),
        length_octets=st.sampled_from([None, 2, 8]),
    ),
    st.binary(min_size=1, max_size=12),
)
streams = st.lists(frames, max_size=8).map(b"".join)

Outcome = tuple[list[bytes], list[bytes], tuple[int, str] | None, int]


def by_wsproto(pieces: list[bytes]) -> Outcome:
    """Messages, pings, the close, and the code of the fault (0: none), as wsproto has them."""
    protocol = FrameProtocol(client=False, extensions=[])
    messages: list[bytes] = []
    pings: list[bytes] = []
    close: tuple[int, str] | None = None
    parts = b""
    for piece in pieces:
        protocol.receive_bytes(piece)
        try:
            for got in protocol.received_frames():
                if got.opcode is Opcode.PING:
                    pings.append(bytes(got.payload))
                elif got.opcode is Opcode.CLOSE:
                    close = int(got.payload[0]), got.payload[1]
                elif got.opcode is not Opcode.PONG:
                    payload = got.payload
                    parts += payload.encode() if isinstance(payload, str) else payload
                    if got.message_finished:
                        messages.append(parts)
                        parts = b""
        except ParseFailed as exc:
            return messages, pings, close, int(exc.code)
    return messages, pings, close, 0


def by_ours(pieces: list[bytes]) -> Outcome:
    codec = FrameCodec(is_client=False, max_message_bytes=2**62)
    messages = [message for piece in pieces for message in codec.feed(piece)]
    pings = [payload for opcode, payload in told(codec) if opcode == PONG]
    if codec.is_fault:
        return messages, pings, None, codec.close_code
    close = (codec.close_code, codec.close_reason) if codec.close_code else None
    return messages, pings, close, 0


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@given(streams, st.lists(st.integers(0, 10**6), max_size=6))
@example(frame(CLOSE, close_payload(1014)), [])
@example(
    frame(TEXT, b"\xe2", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"\x82\xac"), [3]
)
def test_any_octets_in_any_split_mean_what_wsproto_says(data: bytes, cuts: list[int]) -> None:
    """Two differences are allowed, both wsproto's.

    It does not know 1014, registered with IANA since. And it looks at some of a head only
    once the whole head, or some payload, has come; so where ours has found a fault and it has
    none yet, it is given enough octets to look.
    """
    ours = by_ours(split(data, cuts))
    assert ours == by_ours([data])
    theirs = by_wsproto([data])
    if ours[3] and not theirs[3]:
        theirs = by_wsproto([data, bytes(70_000)])
        if theirs[3] == 0:  # still waiting, for a payload of gigabytes
            theirs = (*theirs[:3], 1002)
    if ours[2] is not None and ours[2][0] == 1014:
        assert theirs == (*ours[:2], None, 1002)
    else:
        assert ours == theirs


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.text(max_size=300))))
def test_what_either_role_writes_wsproto_reads(messages: list[tuple[int, str]]) -> None:
    for is_client in (False, True):
        writer = FrameCodec(is_client=is_client, max_message_bytes=LIMIT)
        reader = FrameProtocol(client=not is_client, extensions=[])
        for opcode, text in messages:
            reader.receive_bytes(writer.encode(opcode, text.encode()))
            payloads = [got.payload for got in reader.received_frames()]
            whole = "".join(payloads) if opcode == TEXT else b"".join(payloads).decode()
            assert whole == text
