"""A simulated run is the same run every time, and what it leaves behind is seen."""

from __future__ import annotations

import os
import time

import pytest
import trio

from rtcore.testing import Resources, simulate


async def racing(count: int) -> list[int]:
    finished: list[int] = []

    async def run(number: int) -> None:
        for _ in range(3):
            await trio.sleep(1)
        finished.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(run, number)
    return finished


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    first = simulate(racing, 20, seed=1)
    assert simulate(racing, 20, seed=1) == first
    assert simulate(racing, 20, seed=2) != first


def test_hours_pass_in_no_time() -> None:
    began_s = time.monotonic()
    simulate(trio.sleep, 36_000)
    assert time.monotonic() - began_s < 60  # of ten hours


def test_what_the_program_raises_comes_out() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        simulate(fail)


async def test_a_task_and_a_file_left_behind_are_named() -> None:
    before = Resources.held()
    reader, writer = os.pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        left = Resources.held().left_since(before)
        nursery.cancel_scope.cancel()
    os.close(reader)
    os.close(writer)
    assert len([what for what in left if what.startswith("task") and "sleep_forever" in what]) == 1
    assert len([what for what in left if what.startswith("file") and "pipe" in what]) == 2
    assert Resources.held().left_since(before) == ()
