"""G.711, levels and re-framing: exact against their twins, the standard library and numpy."""

from __future__ import annotations

import importlib
import math
import warnings
from array import array
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtcore import _audio_py, audio

ALL_OCTETS = bytes(range(256))
ALL_SAMPLES = array("h", range(-32768, 32768))
SAMPLES = st.lists(st.integers(-32768, 32767), max_size=480)

Kernel = Callable[[object], bytes]


@pytest.fixture(scope="module")
def audioop() -> ModuleType:
    """The standard library's codec: gone in 3.13, where audioop-lts takes its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it goes is why we have ours
        try:
            return importlib.import_module("audioop")
        except ModuleNotFoundError:
            pytest.skip("no audioop here; audioop-lts would bring it back")


# --- G.711 ---


@pytest.mark.parametrize(
    ("expand", "twin"),
    [
        (audio.mulaw_to_pcm, _audio_py.expand_mulaw),
        (audio.alaw_to_pcm, _audio_py.expand_alaw),
    ],
)
def test_every_octet_expands_as_its_twin_says(expand: Kernel, twin: Callable[[int], int]) -> None:
    assert array("h", expand(ALL_OCTETS)).tolist() == [twin(octet) for octet in ALL_OCTETS]


@pytest.mark.parametrize(
    ("compress", "twin"),
    [
        (audio.pcm_to_mulaw, _audio_py.compress_mulaw),
        (audio.pcm_to_alaw, _audio_py.compress_alaw),
    ],
)
def test_every_sample_compresses_as_its_twin_says(
    compress: Kernel, twin: Callable[[int], int]
) -> None:
    assert list(compress(ALL_SAMPLES)) == [twin(sample) for sample in ALL_SAMPLES]


def test_g711_equals_audioop_over_every_value(audioop: ModuleType) -> None:
    assert audio.mulaw_to_pcm(ALL_OCTETS) == audioop.ulaw2lin(ALL_OCTETS, 2)
    assert audio.alaw_to_pcm(ALL_OCTETS) == audioop.alaw2lin(ALL_OCTETS, 2)
    assert audio.pcm_to_mulaw(ALL_SAMPLES) == audioop.lin2ulaw(ALL_SAMPLES, 2)
    assert audio.pcm_to_alaw(ALL_SAMPLES) == audioop.lin2alaw(ALL_SAMPLES, 2)


def test_g711_at_points_printed_in_the_recommendation() -> None:
    """Tables 1a to 2b: the largest and smallest magnitudes, in units of 14 and 13 bits."""
    mulaw = {0x80: 8031, 0x8F: 4191, 0xFE: 2, 0xFF: 0, 0x7F: 0, 0x7E: -2, 0x00: -8031}
    alaw = {0xAA: 4032, 0xD5: 1, 0x55: -1, 0x2A: -4032}
    assert array("h", audio.mulaw_to_pcm(bytes(mulaw))).tolist() == [4 * v for v in mulaw.values()]
    assert array("h", audio.alaw_to_pcm(bytes(alaw))).tolist() == [8 * v for v in alaw.values()]


def test_what_was_compressed_once_stays_as_it_is() -> None:
    again = audio.pcm_to_mulaw(audio.mulaw_to_pcm(ALL_OCTETS))
    assert again == ALL_OCTETS.replace(b"\x7f", b"\xff")  # µ-law has two zeros
    assert audio.pcm_to_alaw(audio.alaw_to_pcm(ALL_OCTETS)) == ALL_OCTETS


def test_itu_tool_differs_only_in_ties_below_zero() -> None:
    def g191(sample: int) -> int:  # ITU-T G.191, ulaw_compress
        magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 8191)
        segment = magnitude.bit_length() - 6
        code = (segment << 4) | ((magnitude >> (segment + 1)) & 15)
        return code ^ (0x7F if sample < 0 else 0xFF)

    ours = audio.pcm_to_mulaw(ALL_SAMPLES)
    differ = [s for s, octet in zip(ALL_SAMPLES, ours, strict=True) if octet != g191(s)]
    assert len(differ) == 508
    assert max(differ) < 0
    assert all(abs(ours[s + 32768] - g191(s)) == 1 for s in differ)


BUFFERS: list[Callable[[bytes], object]] = [
    bytes,
    bytearray,
    memoryview,
    lambda octets: memoryview(b"x" + octets)[1:],  # at an odd address
    lambda octets: array("h", octets),
    lambda octets: np.frombuffer(octets, np.int16),
]


@pytest.mark.parametrize("as_buffer", BUFFERS)
def test_any_buffer_of_samples_will_do(as_buffer: Callable[[bytes], object]) -> None:
    pcm = audio.mulaw_to_pcm(ALL_OCTETS)
    assert audio.pcm_to_mulaw(as_buffer(pcm)) == audio.pcm_to_mulaw(pcm)
    assert audio.peak(as_buffer(pcm)) == 32124
    assert audio.level_dbfs(as_buffer(pcm)) == audio.level_dbfs(pcm)
    assert audio.Resampler(8000, 16000).push(as_buffer(pcm)) == (
        audio.Resampler(8000, 16000).push(pcm)
    )
    assert audio.Concealer().good(as_buffer(pcm)) == pcm


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_the_forms_in_place_write_what_the_others_return(law: str) -> None:
    expand, expand_into = getattr(audio, f"{law}_to_pcm"), getattr(audio, f"{law}_to_pcm_into")
    compress, compress_into = getattr(audio, f"pcm_to_{law}"), getattr(audio, f"pcm_to_{law}_into")
    pcm = bytearray(b"\xaa" * 514)
    assert expand_into(ALL_OCTETS, pcm) == 256
    assert pcm == expand(ALL_OCTETS) + b"\xaa\xaa"
    payload = bytearray(b"\xbb" * 258)
    assert compress_into(memoryview(pcm)[:512], payload) == 256
    assert payload == compress(pcm[:512]) + b"\xbb\xbb"


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_the_forms_in_place_refuse_what_does_not_fit(law: str) -> None:
    expand_into = getattr(audio, f"{law}_to_pcm_into")
    compress_into = getattr(audio, f"pcm_to_{law}_into")
    with pytest.raises(ValueError, match="give at least 6 octets"):
        expand_into(b"abc", bytearray(4))
    with pytest.raises(ValueError, match="even number"):
        expand_into(b"abc", bytearray(7))
    with pytest.raises(ValueError, match="give at least 2 octets"):
        compress_into(bytes(4), bytearray(1))
    with pytest.raises(BufferError):
        expand_into(b"abc", bytes(6))
    with pytest.raises(BufferError):
        compress_into(bytes(4), bytes(2))
    target = bytearray(6)
    expand_into(b"abc", target)
    target.append(0)  # a buffer still borrowed could not grow


@pytest.mark.parametrize(
    "kernel",
    [
        audio.pcm_to_mulaw,
        audio.pcm_to_alaw,
        audio.frame_power,
        audio.level_dbfs,
        audio.peak,
        audio.Resampler(8000, 16000).push,
        audio.Resampler(8000, 8000).push,
        audio.Concealer().good,
    ],
)
def test_half_a_sample_is_refused_with_advice(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match=r"pcm is 321 octets.*even number.*Reframer"):
        kernel(bytes(321))
    with pytest.raises(ValueError, match="items of 8 octets: convert it to int16"):
        kernel(np.zeros(4))
    with pytest.raises(TypeError):
        kernel("text")


# --- levels ---


@given(SAMPLES)
@example([])
@example([-32768] * 160)  # the loudest frame
@example([0] * 160)
@example([1])
def test_levels_agree_with_their_twins(samples: list[int]) -> None:
    pcm = array("h", samples)
    assert audio.frame_power(pcm) == _audio_py.frame_power(samples)
    assert audio.level_dbfs(pcm) == pytest.approx(_audio_py.level_dbfs(samples), abs=1e-9)
    assert audio.peak(pcm) == _audio_py.peak(samples)
    assert -127.0 <= audio.level_dbfs(pcm) <= 0.0


def test_full_scale_is_the_square_wave() -> None:
    square = array("h", [-32768] * 160)
    sine = array("h", [round(32767 * math.sin(math.tau * n / 8)) for n in range(160)])
    assert audio.level_dbfs(square) == 0.0
    assert audio.level_dbfs(sine) == pytest.approx(-3.01, abs=0.005)
    assert audio.level_dbfs(bytes(320)) == audio.level_dbfs(b"") == -127.0


# --- re-framing ---


@given(
    pieces=st.lists(st.binary(max_size=700), max_size=12),
    frame_bytes=st.sampled_from([2, 6, 320, 960]),
)
def test_frames_are_the_stream_cut_evenly(pieces: list[bytes], frame_bytes: int) -> None:
    reframer = audio.Reframer(frame_bytes)
    frames: list[bytes] = []
    pushed = 0
    for piece in pieces:
        frames += reframer.push(piece)
        pushed += len(piece)
        assert len(frames) == pushed // frame_bytes  # a frame leaves as soon as it is whole
    frames += reframer.flush()
    stream = b"".join(pieces)
    stream = stream[: len(stream) // 2 * 2]
    assert all(len(frame) == frame_bytes for frame in frames)
    assert b"".join(frames) == stream.ljust(len(frames) * frame_bytes, b"\0")
    assert 0 <= len(frames) * frame_bytes - len(stream) < frame_bytes
    assert reframer.flush() == []


def test_a_whole_frame_passes_without_a_copy() -> None:
    frame = bytes(audio.FRAME_BYTES)
    (out,) = audio.Reframer().push(frame)
    assert out is frame


def test_a_flushed_reframer_begins_anew() -> None:
    reframer = audio.Reframer(4)
    assert reframer.push(bytearray(b"abc")) == []
    assert reframer.flush() == [b"ab\0\0"]
    assert reframer.push(memoryview(b"cdef")) == [b"cdef"]


@pytest.mark.parametrize("frame_bytes", [0, -2, 321])
def test_a_frame_holds_whole_samples(frame_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"frame_bytes is {frame_bytes}: .*even, positive"):
        audio.Reframer(frame_bytes)
    with pytest.raises(ValueError, match=f"frame_bytes is {frame_bytes}: .*even, positive"):
        audio.Concealer(frame_bytes)
