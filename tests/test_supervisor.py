"""Worker processes: started, restarted, given up, drained, stopped. Real, but tiny, processes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
import pytest
import trio

from rtcore import supervisor as module
from rtcore.supervisor import RestartPolicy, Supervisor

HASTY = RestartPolicy(pause_s=0.01, pause_max_s=0.02, young_max=3)
READY = """
import socket, sys, time
sock = socket.socket(fileno=0)
sock.sendall(b'{"has_room":true,"calls":0,"metrics":""}' + bytes([10]))
"""
OBEDIENT = READY + "sys.exit(0 if sock.recv(1) == b'd' else 9)"
STUBBORN = READY + "time.sleep(60)"
ORDERED = READY + "assert sock.recv(1) == b'd'; assert sock.recv(1) == b's'"
DYING = "raise SystemExit(1)"


def supervisor(code: str, workers: int = 2, drain_limit_s: float = 5) -> Supervisor:
    command = [sys.executable, "-c", code]
    return Supervisor(command, workers, drain_limit_s=drain_limit_s, policy=HASTY)


@asynccontextmanager
async def running(made: Supervisor) -> AsyncIterator[list[int]]:
    """The supervisor at work; its exit status is in the list once the block has ended."""
    statuses: list[int] = []

    async def run() -> None:
        statuses.append(await made.run())

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield statuses


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await trio.sleep(0.01)


def all_serve(made: Supervisor) -> bool:
    return all(worker.report is not None for worker in made.workers)


def test_the_pause_doubles_to_a_limit_and_ends_in_giving_up() -> None:
    policy = RestartPolicy(pause_s=0.5, pause_max_s=3, young_max=6)
    assert [policy.pause_after(n) for n in range(7)] == [0.5, 0.5, 1, 2, 3, 3, None]


async def test_all_workers_serve_until_a_drain() -> None:
    made = supervisor(OBEDIENT)
    assert not made.has_room
    async with running(made) as statuses:
        await until(lambda: all_serve(made))
        assert made.has_room
        made.drain()
    assert statuses == [0]
    assert [worker.restarts for worker in made.workers] == [0, 0]


async def test_the_others_wait_for_the_first() -> None:
    """What it does once for all (migrations) must be done, or have failed, by then."""
    made = supervisor(OBEDIENT)
    async with running(made):
        await made.workers[0].settled.wait()
        assert made.workers[1].report is None
        await until(lambda: all_serve(made))
        made.drain()


async def test_a_worker_that_dies_again_and_again_is_given_up() -> None:
    made = supervisor(DYING, workers=1)
    async with running(made) as statuses:
        pass
    assert statuses == [1]
    assert made.workers[0].is_given_up
    assert made.workers[0].restarts == 2


async def test_a_worker_that_was_drained_by_hand_is_started_anew_however_often() -> None:
    made = supervisor(READY, workers=1)
    async with running(made) as statuses:
        await until(lambda: made.workers[0].restarts > HASTY.young_max)
        assert not made.workers[0].is_given_up
        made.drain()
    assert statuses == [0]


async def test_a_worker_that_reports_nonsense_is_killed_and_the_others_stay() -> None:
    nonsense = "import sys\nif sys.argv[-1] == '1': import socket, time; " + (
        "socket.socket(fileno=0).sendall(b'nonsense' + bytes([10])); time.sleep(60)"
    )
    made = supervisor(f"{nonsense}\n{OBEDIENT}")
    async with running(made) as statuses:
        await until(lambda: made.workers[0].is_given_up)
        await until(lambda: made.workers[1].report is not None)
        made.drain()
    assert statuses == [1]


async def test_one_place_given_up_leaves_the_others_at_work() -> None:
    code = f"import sys\nif sys.argv[-1] == '1': {DYING}\n{OBEDIENT}"
    made = supervisor(code)
    async with running(made) as statuses:
        await until(lambda: made.workers[0].is_given_up)
        await until(lambda: made.workers[1].report is not None)
        assert made.has_room
        made.drain()
    assert statuses == [1]


async def test_what_cannot_be_started_like_this_is_not_tried_twice() -> None:
    made = supervisor("raise SystemExit(2)")
    async with running(made) as statuses:
        pass
    assert statuses == [2]
    assert [worker.restarts for worker in made.workers] == [0, 0]


async def test_a_drain_without_end_is_told_to_stop() -> None:
    made = supervisor(ORDERED, drain_limit_s=0.05)
    async with running(made) as statuses:
        await until(lambda: all_serve(made))
        made.drain()
    assert statuses == [0]


async def test_the_first_signal_drains_and_the_second_stops() -> None:
    made = supervisor(ORDERED, drain_limit_s=60)
    tx, rx = trio.open_memory_channel[int](0)
    async with running(made) as statuses, trio.open_nursery() as nursery:
        await until(lambda: all_serve(made))
        nursery.start_soon(made.obey, rx)
        await tx.send(15)
        await until(lambda: made.is_draining)
        assert not statuses
        await tx.send(15)
        await until(lambda: bool(statuses))
        await tx.aclose()
    assert statuses == [0]


async def test_who_does_not_obey_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_LIMIT_S", 0.05)
    made = supervisor(STUBBORN)
    async with running(made) as statuses:
        await until(lambda: all_serve(made))
        made.stop()
    assert statuses == [1]


async def test_who_falls_silent_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_LIMIT_S", 0.05)
    monkeypatch.setattr(module, "STOP_LIMIT_S", 0.05)
    made = supervisor(STUBBORN, workers=1)
    async with running(made):
        await until(lambda: made.workers[0].restarts == 1)
        made.stop()


async def test_cancelled_it_leaves_no_process() -> None:
    made = supervisor(STUBBORN)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await until(lambda: all_serve(made))
            workers = [each for each in psutil.Process().children() if STUBBORN in each.cmdline()]
            assert len(workers) == 2
            nursery.cancel_scope.cancel()
    assert not any(worker.is_running() for worker in workers)
