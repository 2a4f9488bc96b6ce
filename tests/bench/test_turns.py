"""``python -m bench turns`` as a user runs it, on the recordings where they are at hand."""

from __future__ import annotations

import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.turns import main, run
from bench.turns.detectors import Unavailable, silero_model
from bench.turns.scenes import CONDITIONS, build
from bench.turns.scoring import Tally
from bench.turns.sources import SPLITS, AudioMissing, load
from bench.turns.targets import target_sheet, targets

AUDIO = Path(os.environ.get("RTCORE_AUDIO", Path(__file__).parents[2].parent / "shared" / "audio"))
recordings = pytest.mark.skipif(not AUDIO.is_dir(), reason=f"no recordings in {AUDIO}")
ONE = ["--conditions", "echo", "--split", "dev", "--quick"]


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a frame costs is not for a test to tell."""
    monkeypatch.setattr(run, "CPU_FRAMES", 320)
    monkeypatch.setattr(run, "CPU_ROUNDS", 1)
    monkeypatch.setattr(run, "COMMIT_SWEEP_MS", (300, 850))
    monkeypatch.setattr(run, "ONSET_SWEEP_MS", (60, 160))


def write_wav(path: Path, pcm: np.ndarray[Any, Any], rate_hz: int = 8000) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate_hz)
        wav.writeframes(pcm.astype("<i2").tobytes())


@pytest.fixture
def any_folder(tmp_path: Path) -> Path:
    """Ten recordings of bursts, at 16 kHz, in no layout the bench knows."""
    for index in range(10):
        rng = np.random.default_rng(index)
        burst = rng.standard_normal(24_000) * 3000 * (1 + np.sin(np.arange(24_000) / 900))
        write_wav(tmp_path / f"take{index}.wav", np.concatenate((np.zeros(4000), burst)), 16_000)
    return tmp_path


def test_any_folder_of_recordings_will_do(any_folder: Path) -> None:
    sides = load(any_folder)
    dev = {clip.name for clip in sides["dev"].utterances + sides["dev"].prompts}
    heldout = {clip.name for clip in sides["heldout"].utterances + sides["heldout"].prompts}
    assert dev
    assert heldout
    assert not dev & heldout
    built = {track.condition for track in build(sides["dev"], 1, quick=True)}
    assert {"quiet", "echo", "events"} <= built


def test_no_recordings_is_said_and_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AudioMissing):
        load(tmp_path)
    assert main(["--audio", str(tmp_path)]) == 2
    assert "--audio" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--detectors", "--presets", "--conditions"])
def test_an_unknown_name_is_said(
    option: str, any_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--audio", str(any_folder), option, "psychic"]) == 2
    assert "psychic" in capsys.readouterr().err


@recordings
def test_the_split_shares_no_speech() -> None:
    sides = load(AUDIO)
    for kind in ("utterances", "prompts", "noises", "babble"):
        names = [{clip.name for clip in getattr(sides[split], kind)} for split in SPLITS]
        assert not names[0] & names[1], kind
    assert not set(sides["dev"].digits) & set(sides["heldout"].digits)


@recordings
def test_tracks_are_the_same_for_the_same_seed_and_only_for_it() -> None:
    library = load(AUDIO)["dev"]
    first, again, other = (list(build(library, seed, quick=True)) for seed in (1, 1, 2))
    assert list(dict.fromkeys(track.condition for track in first)) == list(CONDITIONS)
    for one, two, three in zip(first, again, other, strict=True):
        assert one.caller.tobytes() == two.caller.tobytes()
        assert one.far.tobytes() == two.far.tobytes()
        assert one.script == two.script
        if one.condition != "call-live":  # the call as it was: only the noise floor differs
            assert one.speech != three.speech or not one.speech
        assert one.caller.tobytes() != three.caller.tobytes()


@recordings
def test_labels_lie_where_there_is_sound() -> None:
    for track in build(load(AUDIO)["heldout"], 1, quick=True):
        pcm = track.caller.astype(float)
        assert len(pcm) == len(track.far)
        assert len(pcm) % 160 == 0
        for turn in track.turns:
            assert turn.start < turn.end < turn.answered <= len(pcm)
        if track.condition == "quiet":
            for span in track.speech:
                assert np.mean(pcm[span.start : span.end] ** 2) > 100**2
            for pause in (pause for turn in track.turns for pause in turn.pauses):
                middle = pcm[pause.start + 400 : pause.end - 400]
                assert np.sqrt(np.mean(middle**2)) < 300


@recordings
def test_same_seed_same_scores_and_a_guarded_detector_beats_a_timer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = []
    for number in range(2):
        path = tmp_path / f"{number}.json"
        assert main([*ONE, "--json", str(path)]) == 0
        document = json.loads(path.read_text())
        scores.append(json.dumps(document["scores"]))
    assert scores[0] == scores[1]
    assert "rtcore:balanced" in capsys.readouterr().out
    detectors = document["scores"]["detectors"]
    ours = detectors["rtcore:balanced"]["no_words"]["dev"]["echo"]
    timer = detectors["webrtc-timer"]["no_words"]["dev"]["echo"]
    assert ours["false_suspected"]["per_minute"] < timer["false_suspected"]["per_minute"]
    assert (tmp_path / "1.md").read_text().startswith("# Turn-taking")
    assert {"machine", "commit", "command", "cpu_us_per_frame"} <= set(document)
    assert len(ours["raw"]["suspect_ms"]) == ours["barge_in_suspected_ms"]["n"]


def judged(tally: Tally, cpu_us: float) -> dict[str, bool | None]:
    tallies = {("rtcore:balanced", False, "heldout", "echo"): tally}
    lines = targets(tallies, {"rtcore:balanced": cpu_us}, "rtcore:balanced")
    sheet = target_sheet(lines, "rtcore:balanced")
    assert len(sheet.rows) == len(lines)
    assert sheet.markdown().count("NOT reached") == [each.is_met for each in lines].count(False)
    return {line.what: line.is_met for line in lines}


def test_a_missed_target_is_said_and_what_was_not_measured_is_not_missed() -> None:
    good = Tally(suspect_ms=[70.0] * 20, barge_ins=20, agent_samples=8000 * 600)
    reached = judged(good, 3.0)
    assert False not in reached.values()
    assert reached["masked barge-ins with echo"] is True
    assert reached["backchannels confirmed, words known"] is None
    assert judged(good, 5.0)["CPU a frame without Silero"] is False
    bad = Tally(
        barge_ins=20, masked=1, suspect_ms=[90.0] * 19, false_suspected=3, agent_samples=8000 * 600
    )
    missed = [what for what, verdict in judged(bad, 3.0).items() if verdict is False]
    assert missed == [
        "barge-in onset with echo, p50",
        "masked barge-ins with echo",
        "false barge-ins a minute of linear echo",
    ]


@recordings
def test_targets_are_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--conditions", "backchannels", "--quick", "--targets"]
    assert main([*options, "--detectors", "webrtc-timer"]) == 2  # none of ours to judge
    code = main([*options, "--detectors", "rtcore"])
    printed = capsys.readouterr().out
    assert code == 3  # what one condition alone does not show is not reached
    assert "unknown" in printed
    assert "what must be true" in printed


@recordings
def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    conditions = ["--conditions", "call,echo", "--split", "dev", "--quick"]
    assert main([*conditions, "--detectors", "webrtc-timer", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"turns-cutoffs.svg", "turns-onset.svg"}


def test_a_peer_that_cannot_run_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], any_folder: Path
) -> None:
    monkeypatch.setenv("RTCORE_SILERO", "/nowhere/silero_vad.onnx")
    with pytest.raises(Unavailable):
        silero_model()
    options = ["--audio", str(any_folder), "--conditions", "quiet", "--quick"]
    assert main([*options, "--detectors", "pipecat-vad,webrtc-timer"]) == 0
    assert "pipecat-vad: not run" in capsys.readouterr().err
