"""Piper's command line as documented, with the voice of the fakes: a process of its own.

As ``python -m tests.fakes.piper_cli``; which of the two programs it behaves like, and what goes
wrong, is in the environment: ``PIPER_LIKE`` (``piper1`` or ``rhasspy``), ``PIPER_FAULT``.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import sys
import time
import wave
from pathlib import Path

from tests.fakes import _voice

FAULT = os.environ.get("PIPER_FAULT", "")
LIKE_RHASSPY = os.environ.get("PIPER_LIKE") == "rhasspy"


def install(directory: Path, rate_hz: int = 22_050, **environment: str) -> tuple[Path, Path]:
    """A program and a voice in ``directory``: their paths."""
    program, voice = directory / "piper", directory / "voice.onnx"
    root = Path(__file__).parents[2]
    given = " ".join(f"{name}={value}" for name, value in environment.items())
    program.write_text(
        f'#!/bin/sh\ncd {root} && exec env {given} {sys.executable} -m {__name__} "$@"\n'
    )
    program.chmod(0o700)
    voice.write_bytes(b"onnx")
    Path(f"{voice}.json").write_text(json.dumps({"audio": {"sample_rate": rate_hz}}))
    return program, voice


def pcm_of(text: str, rate_hz: int) -> bytes:
    pcm = array.array("h", _voice.pcm_of(text))
    samples = len(pcm) * rate_hz // 8000
    return array.array("h", [pcm[at * 8000 // rate_hz] for at in range(samples)]).tobytes()


def write_wav(path: Path, pcm: bytes, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--speaker", type=int)
    parser.add_argument("--length_scale", type=float)
    parser.add_argument("--sentence_silence", type=float, default=0.0)
    parser.add_argument("--volume", type=float)
    parser.add_argument("--log")
    given = parser.parse_args()
    rate_hz = json.loads(Path(f"{given.model}.json").read_text())["audio"]["sample_rate"]
    if FAULT == "start":
        sys.exit("ValueError: no such voice")
    if given.log:
        with open(given.log, "a") as log:
            log.write(" ".join(sys.argv[1:]) + "\n")
    for line in sys.stdin:
        text = line.strip()
        if not text and not LIKE_RHASSPY:
            continue  # nothing is said of it
        if not any(char.isalnum() for char in text) or (FAULT and FAULT in text):
            raise wave.Error("# channels not specified")
        if text.endswith("will hang."):
            time.sleep(3600)
        if given.log:
            with open(given.log, "a") as log:
                log.write(text + "\n")
        path = Path(given.output_dir) / f"{time.monotonic_ns()}.wav"
        write_wav(path, pcm_of(text, rate_hz), rate_hz)
        if LIKE_RHASSPY:  # the name first, the last of the file after it
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            sys.stdout.write(f"{path}\n")
            sys.stdout.flush()
            time.sleep(0.02)
            path.write_bytes(whole)
            sys.stderr.write("[piper] [info] Real-time factor: 0.05\n")
        else:
            sys.stderr.write(f"INFO:__main__:Wrote {path}\n")


if __name__ == "__main__":
    main()
