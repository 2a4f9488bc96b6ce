"""WAV files: any usual recording in, stereo recordings of calls out."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn

from rtcore.audio import RATE_HZ, RATES_HZ, Resampler, alaw_to_pcm, mulaw_to_pcm
from rtcore.errors import ConfigError
from rtcore.testing.line import LineFormat
from rtcore.testing.tape import Tape, interleave

__all__ = ["WavTape", "WavWriter", "read_channels", "read_wav"]

# format tags of RFC 2361; 0xFFFE says that the true one follows in the extension
PCM, ALAW, MULAW, EXTENSIBLE = 0x0001, 0x0006, 0x0007, 0xFFFE
SUBFORMAT = slice(24, 26)  # where the extension has it
SIZE_MAX = 0xFFFFFFFF  # of a RIFF file: sizes are 32 bits wide; streams without an end say so
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def read_wav(path: Path) -> bytes:
    """Read a recording as int16 mono at 8000 Hz; channels are averaged.

    Reads what :func:`read_channels` does, and raises what that does.
    """
    channels = read_channels(path)
    if len(channels) == 1:
        return channels[0]
    frames = zip(*(array("h", channel) for channel in channels), strict=True)
    return array("h", [sum(frame) // len(channels) for frame in frames]).tobytes()


def read_channels(path: Path) -> list[bytes]:
    """Read each channel of a recording as int16 at 8000 Hz, all of one length.

    Reads PCM of 8, 16, 24 or 32 bits, A-law and µ-law, at the rates of
    :data:`rtcore.audio.RATES_HZ`. A file cut short gives what is there.

    Raises:
        ConfigError: it is no WAV file, or of a kind not listed; the message says which.
        OSError: it cannot be read.
    """

    def refuse(what: str) -> NoReturn:
        raise ConfigError(str(path), what)

    head, data = _chunks(path.read_bytes(), refuse)
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", head)
    if tag == EXTENSIBLE and len(head) >= SUBFORMAT.stop:
        tag = int.from_bytes(head[SUBFORMAT], "little")
    if rate_hz not in RATES_HZ:
        refuse(f"{rate_hz} Hz: resample it to one of {', '.join(map(str, RATES_HZ))}")
    if not channels:
        refuse("it has no channel")
    pcm = _linear(tag, bits, data, refuse)
    samples = array("h", pcm[: len(pcm) // (2 * channels) * 2 * channels])
    return [_resampled(samples[side::channels].tobytes(), rate_hz) for side in range(channels)]


def _resampled(pcm: bytes, rate_hz: int) -> bytes:
    resampler = Resampler(rate_hz, RATE_HZ)
    return resampler.push(pcm) + resampler.flush()


def _chunks(riff: bytes, refuse: Callable[[str], NoReturn]) -> tuple[bytes, bytes]:
    """The format chunk and the data chunk."""
    if riff[:4] != b"RIFF" or riff[8:12] != b"WAVE":
        refuse("not a WAV file")
    at, head = 12, b""
    while at + 8 <= len(riff):
        kind, size = struct.unpack_from("<4sI", riff, at)
        body = riff[at + 8 : at + 8 + size]
        if kind == b"fmt ":
            head = body
        elif kind == b"data":
            if len(head) < 16:
                refuse("no format before the data")
            return head, body
        at += 8 + size + size % 2  # chunks begin at even offsets
    refuse("no audio in it")


def _linear(tag: int, bits: int, data: bytes, refuse: Callable[[str], NoReturn]) -> bytes:
    """Samples of any kind as int16; wider ones lose their lowest octets."""
    if tag == MULAW:
        return mulaw_to_pcm(data)
    if tag == ALAW:
        return alaw_to_pcm(data)
    if tag != PCM or bits not in (8, 16, 24, 32):
        refuse(f"format {tag:#06x} of {bits} bits: convert it to 16-bit PCM")
    if bits == 8:  # the only width without a sign
        return array("h", [(octet - 128) << 8 for octet in data]).tobytes()
    width = bits // 8
    data = data[: len(data) // width * width]
    pcm = bytearray(len(data) // width * 2)
    pcm[0::2] = data[width - 2 :: width]
    pcm[1::2] = data[width - 1 :: width]
    return bytes(pcm)


class WavWriter:
    """A stereo WAV file of int16, written as it comes; its header is right after each write."""

    def __init__(self, path: Path, rate_hz: int = RATE_HZ) -> None:
        """Raises OSError if ``path`` cannot be written."""
        self._file: BinaryIO = path.open("wb")
        self._rate_hz = rate_hz
        self._data_bytes = 0
        self._write_header()

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, left: bytes, right: bytes) -> None:
        """Append int16 of both sides; the shorter one is filled with silence."""
        stereo = interleave(left, right)
        self._file.write(stereo)
        self._data_bytes += len(stereo)
        self._write_header()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def _write_header(self) -> None:
        size, frame_bytes = min(self._data_bytes, SIZE_MAX - HEADER.size), 4
        header = HEADER.pack(
            b"RIFF", size + HEADER.size - 8, b"WAVE",
            b"fmt ", 16, PCM, 2, self._rate_hz, self._rate_hz * frame_bytes, frame_bytes, 16,
            b"data", size,
        )  # fmt: skip
        self._file.seek(0)
        self._file.write(header)
        self._file.seek(0, 2)
        self._file.flush()


class WavTape(Tape):
    """A tape that writes itself to a file once a second: left the caller, right the agent."""

    def __init__(self, writer: WavWriter) -> None:
        super().__init__()
        self._writer = writer

    def flush(self, line: LineFormat) -> None:
        whole = min(len(self.caller), len(self.agent))  # the ear may be a moment ahead
        left, right = bytes(self.caller[:whole]), bytes(self.agent[:whole])
        del self.caller[:whole], self.agent[:whole]
        self._writer.write(line.decode(left), line.decode(right))
