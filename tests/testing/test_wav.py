"""Any usual recording is read as 8 kHz mono; a call's recording is written as it goes."""

from __future__ import annotations

import math
import struct
import wave
from array import array
from pathlib import Path

import pytest

from rtcore.audio import mulaw_to_pcm, pcm_to_mulaw
from rtcore.errors import ConfigError
from rtcore.testing import L16_16K, MULAW_8K, WavTape, WavWriter, read_wav
from rtcore.testing.tape import interleave


def tone(rate_hz: int, seconds: float = 0.5) -> array[int]:
    """A 400 Hz sine at half scale."""
    return array(
        "h",
        (
            round(16000 * math.sin(math.tau * 400 * n / rate_hz))
            for n in range(int(rate_hz * seconds))
        ),
    )


def riff(tag: int, channels: int, rate_hz: int, bits: int, data: bytes) -> bytes:
    head = struct.pack("<HHIIHH", tag, channels, rate_hz, 0, 0, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += (
        b"LIST" + struct.pack("<I", 3) + b"odd\0" + b"data" + struct.pack("<I", len(data)) + data
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def assert_is_tone(pcm: bytes, tolerance: int) -> None:
    got, wanted = array("h", pcm), tone(8000)
    assert len(got) == pytest.approx(len(wanted), abs=20)
    # at the same phase up to the resampler's delay
    best = min(
        max(abs(a - b) for a, b in zip(got[lag + 100 : -100], wanted[100:-200], strict=False))
        for lag in range(20)
    )
    assert best < tolerance


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
def test_every_usual_rate(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(riff(1, 1, rate_hz, 16, tone(rate_hz).tobytes()))
    assert_is_tone(read_wav(path), 2500)  # half a sample of phase


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_width_mono_and_stereo(tmp_path: Path, bits: int, channels: int) -> None:
    samples = []
    for sample in tone(8000):
        if bits == 8:
            samples.append(bytes([(sample >> 8) + 128]) * channels)
        else:
            samples.append(
                (sample << (bits - 16)).to_bytes(bits // 8, "little", signed=True) * channels
            )
    path = tmp_path / "tone.wav"
    path.write_bytes(riff(1, channels, 8000, bits, b"".join(samples)))
    assert_is_tone(read_wav(path), 260 if bits == 8 else 1)


def test_telephone_codecs_and_a_file_cut_short(tmp_path: Path) -> None:
    path, payload = tmp_path / "tone.wav", pcm_to_mulaw(tone(8000).tobytes())
    whole = riff(7, 1, 8000, 8, payload)
    path.write_bytes(whole)
    assert read_wav(path) == mulaw_to_pcm(payload)
    path.write_bytes(whole[:-1000])
    assert read_wav(path) == mulaw_to_pcm(payload[:-1000])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a WAV file"),
        (b"ID3" + bytes(100), "not a WAV file"),
        (riff(1, 1, 11025, 16, b""), "11025 Hz"),
        (riff(3, 1, 8000, 32, b""), "format 0x0003 of 32 bits"),
        (riff(1, 0, 8000, 16, b""), "no channel"),
        (riff(1, 1, 8000, 16, b"")[:30], "no audio"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_wav(path)
    assert caught.value.field == str(path)


def test_a_recording_can_be_read_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    with WavWriter(path) as writer:
        tape = WavTape(writer)
        for second in range(3):
            tape.hear_caller(b"\x80" * 8000)
            tape.hear_agent(b"\x00" * 8010)  # the ear is a moment ahead
            tape.flush(MULAW_8K)
            assert len(tape.agent) == 10 * (second + 1)
            with wave.open(str(path)) as reader:
                assert reader.getparams()[:4] == (2, 2, 8000, 8000 * (second + 1))
                left, right = struct.unpack("<hh", reader.readframes(1))
                assert (left, right) == (32124, -32124)


def test_a_wide_line_is_recorded_at_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    with WavWriter(path, rate_hz=16000) as writer:
        tape = WavTape(writer)
        tape.hear_caller(tone(16000).tobytes())
        tape.hear_agent(bytes(16000))
        tape.flush(L16_16K)
    with wave.open(str(path)) as reader:
        assert reader.getframerate() == 16000
        assert reader.readframes(8000) == interleave(tone(16000).tobytes(), b"")
