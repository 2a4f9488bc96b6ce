"""Server-sent events: the same events however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import RemoteProtocolError
from rtcore.providers._sse import EVENT_MAX_BYTES, SseEvent, SseParser

STREAM = (
    "\ufeff: comment\r\n"
    "event: first\r\ndata: Grüße\r\ndata:  aus Köln\r\n\r\n"
    "id: 7\nretry: 10\ndata:{}\n\n"
    "event: empty\n\n"
    "data\rdata: x\r\r"
    "data: last 漢"
).encode()
EVENTS = [
    SseEvent("first", "Grüße\n aus Köln".encode()),
    SseEvent("message", b"{}"),
    SseEvent("message", b"\nx"),
    SseEvent("message", "last 漢".encode()),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    parser = SseParser()
    edges = [0, *sorted(cuts), len(STREAM)]
    found: list[SseEvent] = []
    for start, end in pairwise(edges):
        found += parser.feed(STREAM[start:end])
    assert found + parser.end() == EVENTS


@given(st.binary(max_size=300))
def test_anything_at_all_is_survived(octets: bytes) -> None:
    parser = SseParser()
    whole = SseParser()
    found = [event for n in range(len(octets)) for event in parser.feed(octets[n : n + 1])]
    assert found + parser.end() == whole.feed(octets) + whole.end()


@pytest.mark.parametrize("line", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
def test_an_endless_event_is_refused(line: bytes) -> None:
    parser = SseParser()
    times = EVENT_MAX_BYTES // 500
    with pytest.raises(RemoteProtocolError):
        [parser.feed(line) for _ in range(times)]
