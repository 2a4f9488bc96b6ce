"""The turn machine, driven by sounds whose voice is known frame by frame."""

from __future__ import annotations

import array

import pytest

from rtcore.turn import TurnDetector

SILENCE = bytes(320)


@pytest.mark.parametrize("frame", [SILENCE, array.array("h", [0] * 160), memoryview(SILENCE)])
def test_any_buffer_of_a_frame_is_taken(frame: object) -> None:
    detector = TurnDetector()
    assert detector.push(frame, frame) == []  # type: ignore[arg-type]
    assert detector.now_samples == 160


def test_a_short_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="160 samples"):
        TurnDetector().push(bytes(318))
