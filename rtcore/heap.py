"""Keeps the garbage collector's pauses out of calls: for a process that is a node.

Measured on one core: with CPython's defaults a full collection took 65 ms at 250 calls, and came
every 6 s; at 400 calls the middle generation took up to 50 ms. What start-up left behind is never
garbage, and what calls leave is nearly all freed by counting references, or dies young. So only
the young are collected as we go, a thousand at a time: at 400 calls that is 1.9 ms, seven times
a second (five thousand took 7 ms on average and 15 at worst, and every response that met them was
late by as much). The rest is collected when nobody is on the line, or every five minutes: then one
pause of some 100 ms, most of which the lead of each reply hides.
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
