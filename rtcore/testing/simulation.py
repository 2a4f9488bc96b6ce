"""A whole program on a simulated clock: the same run every time, and nothing left after it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar, TypeVarTuple

import msgspec
import trio
import trio.testing
from trio._core import _run

__all__ = ["Resources", "simulate"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def simulate(async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, seed: int = 0) -> T:
    """Run ``async_fn(*args)`` to its end on a clock that jumps whenever every task waits.

    The same ``seed`` gives the same order of tasks, so the same run, byte for byte; another
    seed gives another order that Trio might have chosen. Nothing inside may wait for real
    sockets, threads or processes: the clock would not wait for them.

    Raises:
        Whatever ``async_fn`` raises.
    """
    with _deterministic_scheduling(seed):
        return trio.run(async_fn, *args, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def _deterministic_scheduling(seed: int) -> Iterator[None]:
    """Order each batch of runnable tasks by age, then shuffle it with a seeded generator.

    Trio keeps this switch private, for its own tests and for hypothesis-trio's.
    """
    allowed, state = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # Final, by intent of trio
    _run._r.seed(seed)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        _run._r.setstate(state)


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a process holds at one moment: its tasks, its open files, its children.

    Files and children are read from ``/proc``; elsewhere than on Linux they are not seen.
    """

    tasks: frozenset[str]
    files: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def held(cls) -> Resources:
        """Take stock, from inside or outside :func:`trio.run`."""
        return cls(
            tasks=frozenset(_tasks()),
            files=frozenset(_open_files()),
            processes=frozenset(_children()),
        )

    def left_since(self, before: Resources) -> tuple[str, ...]:
        """What is held now and was not before, each in words."""
        return tuple(
            f"{kind} {what}"
            for kind, now, then in (
                ("task", self.tasks, before.tasks),
                ("file", self.files, before.files),
                ("process", self.processes, before.processes),
            )
            for what in sorted(now - then)
        )


def _tasks() -> Iterator[str]:
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:  # outside trio.run there is none
        return
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield f"{task.name} #{task._counter}"
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)


def _open_files() -> Iterator[str]:
    """``/proc/self/fd``, less the descriptor that reads it."""
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        return
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
        yield f"{name} -> {target}"


def _children() -> Iterator[str]:
    folder = "/proc/self/task"
    if not os.path.isdir(folder):
        return
    for thread in os.listdir(folder):
        path = f"{folder}/{thread}/children"
        with suppress(FileNotFoundError), open(path, encoding="ascii") as listing:  # it may end
            yield from listing.read().split()
