"""A short stretch of the simulated days of ``python -m tests.soak --provider NAME``."""

from __future__ import annotations

import pytest

from tests.days import DAYS, Day, agent_of, simulated_day


@pytest.mark.parametrize("number", range(len(DAYS)))
def test_a_stretch_of_troubled_calls_leaves_nothing(number: int) -> None:
    day = simulated_day(DAYS[number], 0.3, number)
    assert day.calls > 0
    assert day.turns > 0
    assert day.complaints == []


def test_what_must_not_be_is_said() -> None:
    day = Day(silences_ms=[700.0, 8500.0], teardown_s=0.2, left=["task x"], wrong=["call 3"])
    assert day.complaints == [
        "call 3",
        "task x",
        "teardown took 200 ms",
        "8500 ms of silence",
    ]


def test_a_provider_is_found_by_its_kind_and_name() -> None:
    assert agent_of("tts:cartesia")["tts"].provider == "cartesia"
    with pytest.raises(KeyError):
        agent_of("stt:nobody")
