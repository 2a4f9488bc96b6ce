"""What the caller says on its way to the recogniser: bounded, and never waited for.

It is a channel of its own because a recogniser is woken for each 80 ms of speech. One of Trio's
would do; this one does less for each item, and gives no turn to all other tasks between two
items that are there already.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from rtcore.ports import CallerAudio, Hearing, UtteranceEnd

__all__ = ["HeardQueue"]

Heard = CallerAudio | UtteranceEnd


class HeardQueue:
    """At most ``bound`` items wait here; one task at a time reads them."""

    __slots__ = ("_bound", "items", "waiting")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self.items: deque[Heard] = deque()
        self.waiting: trio.lowlevel.Task | None = None

    def put(self, item: Heard) -> bool:
        """Hand ``item`` on without waiting; False: too much waits already, and it is not taken."""
        if len(self.items) >= self._bound:
            return False
        self.items.append(item)
        task, self.waiting = self.waiting, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        return True

    def reader(self) -> Hearing:
        """For one session: it goes on where the one before it ended, and never ends by itself."""
        return _Reader(self)


class _Reader(trio.abc.ReceiveChannel[Heard]):
    __slots__ = ("_is_closed", "_queue")

    def __init__(self, queue: HeardQueue) -> None:
        self._queue = queue
        self._is_closed = False

    async def receive(self) -> Heard:
        """Wait for the next item. Cancelled: nothing is lost.

        Other tasks have a turn only where it waits: what is there is taken at once.
        """
        queue = self._queue
        if queue.items:
            await trio.lowlevel.checkpoint_if_cancelled()
        while not queue.items or self._is_closed:
            if self._is_closed:
                raise trio.ClosedResourceError
            if queue.waiting is not None:
                raise trio.BusyResourceError("another task waits for what the caller says")
            queue.waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        return queue.items.popleft()

    __anext__ = receive  # it has no end to be told apart: the call's end is a cancellation

    def _give_up(self, _: Any) -> trio.lowlevel.Abort:
        self._queue.waiting = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def aclose(self) -> None:
        self._is_closed = True
        task, self._queue.waiting = self._queue.waiting, None
        if task is not None:
            trio.lowlevel.reschedule(task)
        await trio.lowlevel.checkpoint()
