"""Real voices and noises, where the recordings lie beside the checkout (or in RTCORE_AUDIO)."""

from __future__ import annotations

import os
import wave
from array import array
from pathlib import Path

import pytest

from rtcore.turn import TurnConfig, TurnDetector
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    TurnEnded,
)

AUDIO = Path(os.environ.get("RTCORE_AUDIO", Path(__file__).parents[3] / "shared" / "audio"))
pytestmark = pytest.mark.skipif(not AUDIO.is_dir(), reason="no recordings")

PROMPT = "agent-voice-asterisk/demo-moreinfo.wav"
CALLER = "speechbrain-asr/spk1_snt3.wav"
CALL = "aws-lca/Auto_Repairs_40_UTC_caller.wav"


def read(name: str) -> array[int]:
    with wave.open(str(AUDIO / name)) as wav:
        assert wav.getframerate() == 8000
        return array("h", wav.readframes(wav.getnframes()))


def scaled(pcm: array[int], gain_db: float) -> array[int]:
    gain = 10.0 ** (gain_db / 20.0)
    return array("h", [round(sample * gain) for sample in pcm])


def play(
    near: array[int], far: array[int] | None = None, config: TurnConfig | None = None
) -> list[tuple[int, Event]]:
    """All decisions, and the sample at which each was made."""
    detector = TurnDetector(config)
    decided: list[tuple[int, Event]] = []
    if far is not None:
        detector.agent(AgentState.SPEAKING)
    for start in range(0, len(near) - 159, 160):
        heard = far[start : start + 160] if far is not None and start + 160 <= len(far) else None
        events = detector.push(near[start : start + 160], heard)
        decided += [(detector.now_samples, event) for event in events]
    return decided


def test_our_own_voice_coming_back_interrupts_nobody() -> None:
    far = read(PROMPT)
    near = array("h", bytes(2 * 1600)) + scaled(far, -22.0)  # 200 ms late
    assert not [event for _, event in play(near, far) if not isinstance(event, SpeechStarted)]


def test_a_caller_over_our_voice_is_heard_at_once() -> None:
    far, caller = read(PROMPT), read(CALLER)
    near = array("h", bytes(2 * 1600)) + scaled(far, -25.0)
    at = 8000 * 4
    for index, sample in enumerate(caller[: len(near) - at]):
        near[at + index] = max(-32768, min(32767, near[at + index] + sample))
    decided = [(now, event) for now, event in play(near, far) if now >= at]
    (suspected, *_), (confirmed, *_) = (
        [now for now, event in decided if isinstance(event, kind)]
        for kind in (BargeInSuspected, BargeInConfirmed)
    )
    voice_at = at + next(index for index, sample in enumerate(caller) if abs(sample) > 1000)
    assert suspected - voice_at < 8 * 200
    assert confirmed - suspected < 8 * 800


def test_a_real_caller_gets_a_turn_each_time_they_stop() -> None:
    decided = play(read(CALL)[: 8000 * 90])
    ends = [(now, event) for now, event in decided if isinstance(event, TurnEnded)]
    assert 5 <= len(ends) <= 20
    delays_ms = sorted((now - event.at_sample) / 8 for now, event in ends)
    assert delays_ms[0] >= 840
    # nobody answers here, so all is one turn to the detector, and its pauses earn patience
    assert delays_ms[len(delays_ms) // 2] <= 1100
    assert delays_ms[-1] <= 1200


def test_the_same_recording_gives_the_same_decisions() -> None:
    pcm = read(CALLER)
    assert play(pcm) == play(pcm)


@pytest.mark.parametrize("name", ["ding1.wav", "dtmf-1.wav", "dtmf-5.wav", "dtmf-9.wav"])
def test_tones_over_our_voice_are_not_confirmed(name: str) -> None:
    far = read(PROMPT)
    near = array("h", bytes(2 * 8000 * 3)) + read(f"dtmf-pipecat/{name}") + array("h", bytes(16000))
    assert not [e for _, e in play(near, far) if isinstance(e, BargeInConfirmed)]
