"""The far end, compiled and as its twin has it: the same frames are heard, to the sample."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from rtcore import _far_end, _far_end_py
from rtcore.media.playout import Playout


def lives(module: Any, seed: int) -> list[object]:
    """What is heard of sound that comes in bursts, is written when due and cut at times."""

    class Mouth(module.FarEnd):  # type: ignore[misc]
        drained = 0

        def _on_drained(self) -> None:
            self.drained += 1

    dice, now_s, told = Random(seed), 0.0, list[object]()
    ledger, playout, ends = module.HeardCount(), Playout(), Mouth()
    ends._ledger, ends._playout = ledger, playout
    for _ in range(600):
        now_s += 0.02
        match dice.randrange(40):
            case 0 | 1 | 2:
                pcm = dice.randbytes(2 * dice.randrange(4000))
                playout.append(pcm)
                ledger.appended += len(pcm) // 2
            case 3:
                playout.clear(ledger.heard)
                ledger.appended = ledger.sent = ledger.heard
            case 4:
                ledger._lag = dice.randrange(2000)  # as an acknowledgement teaches
        playout.due(now_s)
        if dice.random() < 0.5:
            ledger.note_sent(playout.sent)
        told.append(ends.listen())
        told.append((ledger.appended, ledger.sent, ledger.heard, ledger._lag_left, ends.drained))
    assert any(isinstance(each, bytes) for each in told)
    return told


@pytest.mark.parametrize("seed", range(20))
def test_what_is_heard_is_the_same_on_the_twin(seed: int) -> None:
    assert lives(_far_end, seed) == lives(_far_end_py, seed)
