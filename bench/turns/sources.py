"""The recordings: read, brought to 8 kHz, given a role and a side of the split.

The split is by speaker where speakers are named and by file elsewhere, fixed by name and never
by chance. It is worth as much as whoever tunes keeps to ``--split dev``.

=================== ============================== ===================================
folder              dev                            heldout
=================== ============================== ===================================
picovoice-commands  every other file by name       the others (last 12: babble only)
fsdd-digits         jackson                        nicolas, theo
agent-voice-*       every other prompt (1 speaker) the other prompts
noise-*             every other file by name       the others
speechbrain-asr     all (one speaker)
speech-recognition                                 all (one speaker)
aws-lca             the party named ``caller``     the party named ``agent``
=================== ============================== ===================================

A folder this table does not know (any folder of WAVs) holds utterances, split file by file; without
prompts among them, every fourth file becomes the agent's voice and is not used as a caller.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bench.turns.labels import RATE_HZ, Samples, speech_spans

__all__ = ["SPLITS", "AudioMissing", "Call", "Clip", "Library", "Split", "load"]

Split = Literal["dev", "heldout"]
SPLITS: tuple[Split, ...] = ("dev", "heldout")
BABBLE_FILES = 12  # of picovoice-commands, by name: the manifest keeps them for babble
DEV_DIGIT_SPEAKERS = frozenset({"jackson"})
ONE_SPEAKER: dict[str, Split] = {"speechbrain-asr": "dev", "speech-recognition": "heldout"}
# auditok has background noise, azure-sdk mixes two speakers in one channel: neither can be labelled
UNUSED = frozenset({"auditok", "azure-sdk"})


class AudioMissing(Exception):
    """No usable recording was found; the message says where and what to do."""


@dataclass(frozen=True)
class Clip:
    """One recording, 8000 Hz mono, on the scale of int16."""

    name: str
    pcm: Samples


@dataclass(frozen=True)
class Call:
    """A two-party call heard from one end: ``caller`` is the party being detected."""

    name: str
    caller: Samples
    other: Samples


@dataclass(frozen=True)
class Library:
    """What one side of the split may use."""

    split: Split
    utterances: list[Clip] = field(default_factory=list)
    digits: dict[str, list[tuple[int, Clip]]] = field(default_factory=dict)  # by speaker
    prompts: list[Clip] = field(default_factory=list)
    noises: list[Clip] = field(default_factory=list)
    babble: list[Clip] = field(default_factory=list)
    tones: list[Clip] = field(default_factory=list)  # DTMF
    barks: list[Clip] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


def read_wav(path: Path) -> Samples:
    """The first channel of a 16-bit WAV at 8000 Hz; other rates are resampled by spectrum."""
    with wave.open(str(path)) as wav:
        if wav.getsampwidth() != 2:
            raise AudioMissing(f"{path}: only 16-bit WAV files are read")
        raw = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
        pcm = raw[:: wav.getnchannels()].astype(np.float64)
        rate_hz = wav.getframerate()
    if rate_hz == RATE_HZ or not len(pcm):
        return pcm
    length = len(pcm) * RATE_HZ // rate_hz
    spectrum = np.fft.rfft(pcm)
    kept = np.zeros(length // 2 + 1, complex)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    resampled: Samples = np.fft.irfft(kept, length) * (length / len(pcm))
    return resampled


def load(folder: Path) -> dict[Split, Library]:
    """Both sides of the split, from a folder laid out like the manifest's or from any WAVs."""
    paths = sorted(folder.rglob("*.wav"))
    if not paths:
        raise AudioMissing(f"{folder}: no WAV files; give a folder with --audio DIR")
    sides: dict[Split, Library] = {split: Library(split) for split in SPLITS}
    rooms: dict[str, list[Path]] = {}
    for path in paths:
        rooms.setdefault(path.parent.name if path.parent != folder else "", []).append(path)
    noises: list[Clip] = []
    for room, members in rooms.items():
        if room == "aws-lca":
            _place_call(members, sides)
        elif room not in UNUSED:
            for index, path in enumerate(members):
                side = sides[ONE_SPEAKER.get(room, SPLITS[index % 2])]
                clip = Clip(path.stem, read_wav(path))
                if room.startswith("noise-"):
                    noises.append(clip)
                elif room == "fsdd-digits":
                    _place_digit(clip, sides)
                else:
                    _place(room, len(members) - index, clip, side, sides)
    for index, noise in enumerate(sorted(noises, key=lambda clip: clip.name)):
        sides[SPLITS[index % 2]].noises.append(noise)
    for library in sides.values():
        if not library.prompts:
            library.prompts.extend(library.utterances[::4])
            del library.utterances[::4]
        if not library.utterances or not library.prompts:
            raise AudioMissing(f"{folder}: too few recordings to build {library.split} tracks")
    return sides


def _place_call(paths: list[Path], sides: dict[Split, Library]) -> None:
    parties = {path.stem.rsplit("_", 1)[-1]: read_wav(path) for path in paths}
    caller, agent = parties["caller"], parties["agent"]
    sides["dev"].calls.append(Call("lca-caller", caller, agent))
    sides["heldout"].calls.append(Call("lca-agent", agent, caller))


def _place_digit(clip: Clip, sides: dict[Split, Library]) -> None:
    digit, speaker, _take = clip.name.split("_")
    side = sides["dev" if speaker in DEV_DIGIT_SPEAKERS else "heldout"]
    side.digits.setdefault(speaker, []).append((int(digit), clip))


def _place(room: str, left: int, clip: Clip, side: Library, sides: dict[Split, Library]) -> None:
    if room == "picovoice-commands" and left <= BABBLE_FILES:
        side.babble.append(clip)
    elif room.startswith("agent-voice"):
        side.prompts.append(clip)
    elif room == "dtmf-pipecat":
        for each in sides.values():  # synthetic tones: nothing to be learnt by heart
            each.tones.append(clip)
    elif room.startswith("event-"):
        for each in sides.values():  # one recording only
            each.barks.append(clip)
    elif speech_spans(clip.pcm):
        side.utterances.append(clip)
