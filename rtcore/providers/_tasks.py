"""Structured concurrency of a session: one main task, some helpers, one plain error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from rtcore.errors import RtcoreError

__all__ = ["run_beside"]

T = TypeVar("T")
AsyncFn = Callable[[], Awaitable[object]]


async def run_beside(main: Callable[[], Awaitable[T]], *helpers: AsyncFn) -> T:
    """Run ``main`` to its end beside ``helpers``, which are cancelled with it.

    An error of any of them ends all; when it is ours it is raised bare, not as a group of one.
    """
    try:
        async with trio.open_nursery() as nursery:
            for helper in helpers:
                nursery.start_soon(helper)
            result = await main()
            nursery.cancel_scope.cancel(reason="main task ended")
            return result
    except BaseExceptionGroup as group:
        error = _first_of_ours(group)
        if error is None:
            raise
        raise error from error.__cause__


def _first_of_ours(group: BaseExceptionGroup[BaseException]) -> RtcoreError | None:
    """The first error of a group that holds nothing but errors of ours."""
    ours, rest = group.split(RtcoreError)
    if ours is None or rest is not None:
        return None
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, RtcoreError) else None
