"""``rtcore replay``: the same answer every time, and true to both runs."""

from __future__ import annotations

import json
import math
import random
import struct
import wave
from array import array
from pathlib import Path

import pytest

from rtcore.audio import RATE_HZ, mulaw_to_pcm, pcm_to_mulaw
from rtcore.commands.replay import Change, Decision, changes, decide, read_call, replay
from rtcore.errors import ConfigError
from rtcore.turn import TurnConfig
from rtcore.turn.events import (
    BargeInConfirmed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    TurnEager,
    TurnEnded,
)


def voice(seconds: float, seed: int) -> list[int]:
    """A buzz with formant-like harmonics that a voice detector takes for speech."""
    rng = random.Random(seed)
    hertz = rng.uniform(110, 180)
    samples = []
    for n in range(int(seconds * RATE_HZ)):
        time = n / RATE_HZ
        swing = 0.6 + 0.4 * math.sin(2 * math.pi * 4 * time)
        tone = sum(
            math.sin(2 * math.pi * hertz * k * (1 + 0.02 * math.sin(9 * time)) * time)
            / (1 + abs(k - 5))
            for k in range(1, 20)
        )
        samples.append(int(3000 * swing * tone))
    return [max(-32000, min(32000, sample)) for sample in samples]


def silence(seconds: float) -> list[int]:
    rng = random.Random(5)
    return [rng.randint(-8, 8) for _ in range(int(seconds * RATE_HZ))]


def write(path: Path, left: list[int], right: list[int]) -> Path:
    length = max(len(left), len(right))
    frames = array("h")
    for n in range(length):
        frames.append(left[n] if n < len(left) else 0)
        frames.append(right[n] if n < len(right) else 0)
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(RATE_HZ)
        wav.writeframes(frames.tobytes())
    return path


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stretches of a caller 0.9 s apart, then silence; the agent answers at the end."""
    caller = [*silence(1.0), *voice(1.2, 1), *silence(0.9), *voice(1.0, 2), *silence(4.0)]
    agent = [*([0] * len(caller)), *voice(1.0, 3)]
    return write(tmp_path_factory.mktemp("replay") / "call.wav", caller, agent)


def at(sample: int, event: type[Event], decided: int) -> Decision:
    return Decision(decided, event(at_sample=sample))


def test_a_turn_is_found_and_the_channels_are_kept_apart(call: Path) -> None:
    caller, agent = read_call(call)
    assert len(caller) == len(agent)
    kinds = [type(decision.event) for decision in decide(caller, agent, TurnConfig())]
    assert SpeechStarted in kinds
    assert TurnEnded in kinds
    assert BargeInSuspected not in kinds  # the agent speaks only after the caller


def test_decisions_are_in_order_and_never_before_what_they_speak_of(call: Path) -> None:
    decisions = decide(*read_call(call), TurnConfig())
    assert [d.decided_sample for d in decisions] == sorted(d.decided_sample for d in decisions)
    assert all(decision.event.at_sample <= decision.decided_sample for decision in decisions)


def test_the_same_recording_gives_the_same_bytes(
    call: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for _ in range(2):
        assert replay(call, "balanced", "eager", json=True) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    document = json.loads(printed[0])
    assert list(document["presets"]) == ["eager", "balanced"]
    assert document["changes"]


def test_a_preset_against_itself_changes_nothing(call: Path) -> None:
    run = decide(*read_call(call), TurnConfig.preset("patient"))
    assert changes(run, run) == []


def test_a_slower_curve_removes_the_cut_off_and_ends_the_turn_later() -> None:
    quick = [
        at(0, SpeechStarted, 480),
        at(8000, TurnEager, 10_000),
        at(8000, TurnEnded, 12_800),
        at(15_000, SpeechStarted, 15_480),
        at(24_000, TurnEnded, 28_800),
    ]
    slow = [
        at(0, SpeechStarted, 480),
        at(8000, TurnEager, 10_400),
        at(15_000, SpeechStarted, 15_480),
        at(24_000, TurnEnded, 32_800),
    ]
    assert changes(quick, slow) == [
        Change(at_ms=1300, what="eager", verdict="later", shift_ms=50),
        Change(at_ms=1600, what="cut_off", verdict="removed"),
        Change(at_ms=4100, what="turn_end", verdict="later", shift_ms=500),
    ]
    assert changes(slow, quick)[1] == Change(at_ms=1600, what="cut_off", verdict="added")


def test_a_barge_in_only_one_run_sees_is_added_or_removed() -> None:
    seen = [at(16_000, BargeInSuspected, 16_480), at(16_000, BargeInConfirmed, 19_200)]
    added = changes([], seen)
    assert [(change.what, change.verdict) for change in added] == [
        ("barge_in_suspected", "added"),
        ("barge_in", "added"),
    ]
    assert {change.verdict for change in changes(seen, [])} == {"removed"}


def test_tables_name_both_presets(call: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(call, "patient", "balanced") == 0
    printed = capsys.readouterr().out
    assert "decisions of patient" in printed
    assert "from balanced to patient" in printed


def test_a_recording_of_a_node_is_read_as_it_is(call: Path, tmp_path: Path) -> None:
    """It is µ-law: what the line carried."""
    caller, agent = read_call(call)
    line = bytes(
        octet for both in zip(*map(pcm_to_mulaw, (caller, agent)), strict=True) for octet in both
    )
    shape = struct.pack("<HHIIHH", 7, 2, RATE_HZ, 2 * RATE_HZ, 2, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(shape)) + shape
    body += b"data" + struct.pack("<I", len(line)) + line
    path = tmp_path / "kept.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert read_call(path) == tuple(mulaw_to_pcm(pcm_to_mulaw(side)) for side in (caller, agent))


@pytest.fixture(scope="module")
def call_with_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words told the agent that the turn was over: it answers after 0.4 s, twice."""
    caller, agent = silence(1.0), [0] * RATE_HZ
    for seed in (1, 2):
        caller += [*voice(1.2, seed), *silence(2.4)]
        agent += [*([0] * (RATE_HZ * 16 // 10)), *voice(1.0, seed + 2), *([0] * RATE_HZ)]
    return write(tmp_path_factory.mktemp("replay") / "words.wav", caller, agent)


def test_what_words_decided_is_told_apart_and_said_to_be_unknown(
    call_with_words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(call_with_words, "balanced", json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["words_known"] is False
    events = [each["event"] for each in document["presets"]["balanced"]]
    assert "TurnEnded" not in events
    assert document["answered_first"] == {"balanced": [2620, 6220]}
    assert replay(call_with_words, "balanced") == 0
    printed = capsys.readouterr().out
    assert "Words are unknown to a replay" in printed
    assert "2 turns were answered before silence alone had ended them" in " ".join(printed.split())
    assert printed.count("the agent answered") == 2
    assert [line.split()[-2] for line in printed.splitlines() if "answered first" in line] == ["2"]


def test_a_turn_that_silence_ends_needs_no_words(
    call: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(call, "balanced", "eager") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Words are unknown to a replay" in printed
    assert "No turn was answered before silence alone had ended it" in printed


def test_an_unknown_preset_is_named(call: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(call, "hasty") == 2
    assert "hasty" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["absent", "text", "mono", "empty"])
def test_what_is_no_stereo_recording_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "call.wav"
    if kind == "text":
        path.write_bytes(b"not a wave file at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "mono":
        with wave.open(str(path), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(16_000)
            wav.writeframes(bytes(320))
    with pytest.raises(ConfigError, match="wav"):
        read_call(path)
    assert replay(path, "balanced") == 2
