"""The pipe protocol: whole frames out of any split, and nothing but them."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.errors import RemoteProtocolError
from rtcore.providers.embedded import _wire
from rtcore.providers.embedded._wire import Frame, Kind

FRAMES = st.lists(
    st.builds(Frame, st.sampled_from(Kind), st.integers(0, 0xFFFFFFFF), st.binary(max_size=200)),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(0, 1800), max_size=6))
def test_any_split_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    octets = b"".join(map(_wire.pack, frames))
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    unframer = _wire.Unframer()
    got = [f for a, b in itertools.pairwise(edges) for f in unframer.feed(octets[a:b])]
    assert got == frames


@given(FRAMES)
def test_the_blocking_side_reads_what_it_writes(frames: list[Frame]) -> None:
    pipe = io.BytesIO()
    for frame in frames:
        _wire.write(pipe, frame)
    pipe.seek(0)
    assert list(iter(lambda: _wire.read(pipe), None)) == frames


def test_a_frame_cut_off_is_the_end() -> None:
    octets = _wire.pack(Frame(Kind.SOUND, 1, b"four"))
    assert _wire.read(io.BytesIO(octets[:-1])) is None
    assert _wire.read(io.BytesIO(octets[:3])) is None


@pytest.mark.parametrize(
    "header",
    [
        _wire.HEADER.pack(_wire.PAYLOAD_MAX_BYTES + 1, Kind.SOUND, 1),
        _wire.HEADER.pack(0, 200, 1),
        b"Traceback (most",
    ],
)
def test_what_is_no_frame_is_refused(header: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        _wire.Unframer().feed(header)
