"""Passing things on: at once where there is room, and cancelled like any other wait."""

from __future__ import annotations

import pytest
import trio

from rtcore.channels import put


async def test_what_fits_is_passed_on_without_a_turn_for_others() -> None:
    tx, rx = trio.open_memory_channel[int](2)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await put(tx, 1)
        await put(tx, 2)
        assert turns == 0
        with trio.move_on_after(0.01) as full:
            await put(tx, 3)
        assert full.cancelled_caught
        nursery.cancel_scope.cancel()
    assert (rx.receive_nowait(), rx.receive_nowait()) == (1, 2)


async def test_nobody_reads_any_more() -> None:
    tx, rx = trio.open_memory_channel[int](1)
    rx.close()
    with pytest.raises(trio.BrokenResourceError):
        await put(tx, 1)


async def test_cancelled_with_its_reader_it_is_cancelled() -> None:
    tx, rx = trio.open_memory_channel[int](1)
    with trio.CancelScope() as scope:
        rx.close()
        scope.cancel()
        await put(tx, 1)
    assert scope.cancelled_caught
