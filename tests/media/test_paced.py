"""The paced sound, compiled and as its twin has it: the same pieces at the same times."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from rtcore.media import _paced, _paced_py
from tests.twins import on_twin


def lives(kind: Any, seed: int) -> list[object]:
    """What a line says and shows while a reply is fed, marked, held, resumed and dropped."""
    dice, now_s, told = Random(seed), 100.0, list[object]()
    playout = kind(lead_ms=dice.choice([40, 120, 200]), chunk_ms=dice.choice([20, 40, 60]))
    for number in range(400):
        match dice.randrange(10):
            case 0 | 1:
                playout.append(dice.randbytes(2 * dice.randrange(3000)))
            case 2:
                told.append(playout.align())
                playout.mark(f"r{number}")
            case 3 if dice.random() < 0.3:
                playout.pause()
            case 4:
                told.append(playout.resume(now_s, dice.choice([0, 480, 8000])))
            case 5 if dice.random() < 0.3:
                told.append(playout.clear(max(0, playout.sent - dice.randrange(2000))))
            case 6:
                playout.start_anew()
            case _:
                now_s += dice.choice([0.02, 0.02, 0.02, 0.3])
        told.append(playout.due(now_s))
        told.append((playout.due_s, playout.is_waiting, playout.unsent_samples))
        told.append(playout.heard_frame(playout.sent - dice.randrange(-200, 900)))
        told.append((playout.sent, playout.end, playout.underruns, playout.underrun_samples))
    return told


@pytest.mark.parametrize("seed", range(20))
def test_a_line_is_the_same_on_the_twin(seed: int) -> None:
    from rtcore.media import playout

    twin = on_twin(playout, {"rtcore.media._paced": _paced_py})
    assert issubclass(playout.Playout, _paced.PacedSound)
    assert issubclass(twin.Playout, _paced_py.PacedSound)
    assert lives(playout.Playout, seed) == lives(twin.Playout, seed)


def test_nothing_is_read_past_what_is_there() -> None:
    sound = _paced.PacedSound(120, 40)
    sound.append(bytes(320))
    sound.end = 10_000  # of which 160 samples are here
    (piece,) = sound.due(0.0)
    assert piece == bytes(320)
    assert sound.heard_frame(8000) == b""
