"""Keeps the garbage collector's pauses out of calls: for a process that is a node.

What start-up left behind is never garbage, and what a call or a reply leaves is freed as its last
reference goes, for nothing of it holds itself (:mod:`rtcore.weakly`). So only the young are
collected as we go, a thousand at a time: with five thousand, each response that met a collection
was later. The rest, left by errors and by code that is not ours, is collected when nobody is on
the line, or every five minutes: a pause that the lead of each reply hides (`docs/benchmarks.md`
has a window of 400 calls that holds one).
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import trio

__all__ = ["keep_heap"]

YOUNG_MAX = 1_000  # container objects before the young are looked at
NEVER = 1_000_000  # the others are ours to collect
IDLE_CHECK_S = 60.0
FULL_AFTER_CHECKS = 5  # without an idle moment: collect all the same


async def keep_heap(is_idle: Callable[[], bool]) -> None:
    """Own the collector of this process until cancelled; then it is as it was."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, NEVER, NEVER)
    try:
        waited = 0
        while True:
            await trio.sleep(IDLE_CHECK_S)
            waited += 1
            if is_idle() or waited >= FULL_AFTER_CHECKS:
                gc.collect()
                waited = 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
