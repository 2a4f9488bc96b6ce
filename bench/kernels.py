"""What each audio kernel costs per 20 ms frame, beside numpy and the standard library's audioop.

``python -m bench kernels`` prints a table, ``--json`` the raw samples too. A sample is the mean
of one batch of calls in a tight loop, the loop's own cost included (about 0.02 µs).
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import tempfile
import timeit
import warnings
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import percentile, surroundings
from rtcore import audio
from rtcore.recording import Recordings
from rtcore.turn import TurnDetector
from rtcore.turn._every_frame import SpeechGate
from rtcore.turn._guard import Guard
from rtcore.turn.media_clock import MediaClock

__all__ = ["Result", "main", "measure"]

BATCHES = 200  # so that p99 is the third worst
BATCH_MS = 2.0  # long against the clock's 0.1 µs, short against a scheduler's slice
FRAME_MS = 20
PAIRS_HZ = [
    (8000, 16000),
    (16000, 8000),
    (8000, 24000),
    (24000, 8000),
    (16000, 24000),
    (24000, 16000),
    (22050, 8000),
    (48000, 8000),
]

Call = Callable[[], object]
Forms = dict[str, Call]  # rtcore, numpy, audioop -> the same work done


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel in one implementation; microseconds per 20 ms frame."""

    kernel: str
    form: str  # rtcore, numpy or audioop
    batch_calls: int
    p50_us: float
    p99_us: float
    max_us: float
    samples_us: list[float]


def speech(rate_hz: int) -> bytes:
    """20 ms of something voiced: a decaying series of harmonics of 125 Hz at -12 dBFS or so."""
    samples = rate_hz * FRAME_MS // 1000
    return array(
        "h",
        [
            round(sum(5000 / k * math.sin(math.tau * 125 * k * n / rate_hz) for k in range(1, 11)))
            for n in range(samples)
        ],
    ).tobytes()


def find_audioop() -> ModuleType | None:
    """Return audioop: the standard library's up to 3.12, audioop-lts after it, if installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module("audioop")
        except ModuleNotFoundError:
            return None


def by_audioop(function: str, *args: object) -> Forms:
    """Return the form of audioop, or none where there is no audioop."""
    module = find_audioop()
    return {} if module is None else {"audioop": partial(getattr(module, function), *args)}


def codecs() -> dict[str, Forms]:
    pcm, octets = speech(8000), bytes(range(160))
    pcm_room, octet_room = bytearray(320), bytearray(160)
    every_octet = bytes(range(256))
    every_sample = np.arange(65536, dtype=np.uint16).tobytes()  # as int16: 0 to 32767, -32768 to -1

    def looked_up(table: bytes, entry: str, buffer: bytes, index: str) -> Call:
        entries = np.frombuffer(table, np.dtype(entry))
        return lambda: entries[np.frombuffer(buffer, np.dtype(index))].tobytes()

    found: dict[str, Forms] = {}
    for law, old, expand, compress in (
        ("µ-law", "ulaw", audio.mulaw_to_pcm, audio.pcm_to_mulaw),
        ("A-law", "alaw", audio.alaw_to_pcm, audio.pcm_to_alaw),
    ):
        found[f"{law} to pcm"] = {
            "rtcore": partial(expand, octets),
            "numpy": looked_up(expand(every_octet), "<i2", octets, "u1"),
            **by_audioop(f"{old}2lin", octets, 2),
        }
        found[f"pcm to {law}"] = {
            "rtcore": partial(compress, pcm),
            "numpy": looked_up(compress(every_sample), "u1", pcm, "<u2"),
            **by_audioop(f"lin2{old}", pcm, 2),
        }
    return found | {
        "µ-law to pcm, in place": {"rtcore": partial(audio.mulaw_to_pcm_into, octets, pcm_room)},
        "pcm to µ-law, in place": {"rtcore": partial(audio.pcm_to_mulaw_into, pcm, octet_room)},
    }


def levels() -> dict[str, Forms]:
    pcm = speech(8000)

    def power() -> float:
        return float(np.mean(np.frombuffer(pcm, np.int16).astype(np.float64) ** 2))

    def peak() -> int:
        return int(np.abs(np.frombuffer(pcm, np.int16).astype(np.int32)).max())

    return {
        "power": {
            "rtcore": partial(audio.frame_power, pcm),
            "numpy": power,
            **by_audioop("rms", pcm, 2),
        },
        "level": {
            "rtcore": partial(audio.level_dbfs, pcm),
            "numpy": lambda: 10 * math.log10(power() / 32768**2),
        },
        "peak": {
            "rtcore": partial(audio.peak, pcm),
            "numpy": peak,
            **by_audioop("max", pcm, 2),
        },
    }


def by_matrix(from_hz: int, to_hz: int) -> Call:
    """Resample a frame as one matrix product, numpy's quickest way; no state is kept."""
    pcm = speech(from_hz)
    span = 32 * max(1, from_hz // to_hz)  # as many past samples as our filter has taps
    history = np.zeros(span, np.float32)
    # all entries alike: the cost of a product does not hang on its values
    matrix = np.full((to_hz * FRAME_MS // 1000, span + len(pcm) // 2), 1e-3, np.float32)

    def call() -> bytes:
        frame = np.concatenate([history, np.frombuffer(pcm, np.int16)])
        out: bytes = np.clip(np.rint(matrix @ frame), -32768, 32767).astype(np.int16).tobytes()
        return out

    return call


def resamplers() -> dict[str, Forms]:
    """audioop's ratecv only interpolates on a line, without a filter: less work for its figure."""
    return {
        f"{from_hz} to {to_hz} Hz": {
            "rtcore": partial(audio.Resampler(from_hz, to_hz).push, speech(from_hz)),
            "numpy": by_matrix(from_hz, to_hz),
            **by_audioop("ratecv", speech(from_hz), 2, 1, from_hz, to_hz, None),
        }
        for from_hz, to_hz in PAIRS_HZ
    }


def streams() -> dict[str, Forms]:
    pcm = speech(8000)
    lossy = audio.Concealer()

    def lose_one() -> None:
        lossy.lost()
        lossy.good(pcm)

    return {
        "good frame": {"rtcore": partial(audio.Concealer().good, pcm)},
        "lost frame, then a good one": {"rtcore": lose_one},
        "re-frame a whole frame": {"rtcore": partial(audio.Reframer().push, pcm)},
        "re-frame pieces of 12.5 ms": {"rtcore": partial(audio.Reframer().push, pcm[:200])},
    }


def every_frame() -> dict[str, Forms]:
    """What a frame passes through in which nothing happens; webrtcvad is most of the third."""
    pcm = bytes(320)
    gate = SpeechGate(preroll_ms=300, chunk_ms=100, pass_all=False)
    return {
        "media clock": {"rtcore": partial(MediaClock().push, pcm, None, 0.0)},
        "guard": {"rtcore": partial(Guard().push, pcm)},
        "turn machine": {"rtcore": partial(TurnDetector().push, pcm)},
        "speech gate": {"rtcore": partial(gate.push, pcm)},
    }


def measure(kernel: str, form: str, call: Call, batches: int = BATCHES) -> Result:
    """Time ``call`` in ``batches`` batches of equal size."""
    timer = timeit.Timer(call)
    trial = min(timer.repeat(repeat=3, number=100)) / 100
    number = max(1, round(BATCH_MS / 1000 / trial))
    samples_us = [seconds / number * 1e6 for seconds in timer.repeat(batches, number)]
    p50_us, p99_us = (percentile(samples_us, share) or 0.0 for share in (0.5, 0.99))
    return Result(
        kernel=kernel,
        form=form,
        batch_calls=number,
        p50_us=p50_us,
        p99_us=p99_us,
        max_us=max(samples_us),
        samples_us=[round(sample, 4) for sample in samples_us],
    )


def table_of(results: Sequence[Result], where: dict[str, str]) -> Table:
    table = Table(
        title="Audio kernels, µs per 20 ms frame",
        caption="{when} · {commit} · {cpu} · {cores} cores · Python {python}".format(**where),
    )
    table.add_column("kernel")
    table.add_column("form")
    for name in ("p50", "p99", "max", "times rtcore"):
        table.add_column(name, justify="right")
    ours = {result.kernel: result.p50_us for result in results if result.form == "rtcore"}
    for result in results:
        times = "" if result.form == "rtcore" else f"{result.p50_us / ours[result.kernel]:.1f}"
        figures = (f"{v:.3f}" for v in (result.p50_us, result.p99_us, result.max_us))
        table.add_row(result.kernel, result.form, *figures, times)
    return table


def recorders() -> dict[str, Forms]:
    """The call's own share of a recording; what it hands on is dropped, so that none piles up."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Recordings(Path(folder), waiting_max_bytes=0).begin("bench.wav")
    frame = speech(8000)
    return {"recording, both sides": {"rtcore": partial(recording.push, frame, frame)}}


def main(argv: list[str] | None = None) -> int:
    """Measure every kernel; print a table, or JSON with all samples."""
    parser = argparse.ArgumentParser(prog="python -m bench kernels", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON, raw samples included")
    parser.add_argument("--batches", type=int, default=BATCHES, help="batches for each kernel")
    options = parser.parse_args(argv)
    if options.batches < 1:
        parser.error("--batches must be at least 1")
    kernels = codecs() | levels() | resamplers() | streams() | every_frame() | recorders()
    results = []
    with Console(stderr=True).status("measuring") as status:
        for kernel, forms in kernels.items():
            for form, call in forms.items():
                status.update(f"measuring {kernel} ({form})")
                results.append(measure(kernel, form, call, options.batches))
    where = surroundings(["kernels", *(sys.argv[1:] if argv is None else argv)])
    if options.json:
        report = {"where": where, "results": results}
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        Console().print(table_of(results, where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
