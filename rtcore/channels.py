"""Passing things on between the tasks of a reply."""

from __future__ import annotations

from typing import TypeVar

import trio

__all__ = ["put"]

T = TypeVar("T")


async def put(channel: trio.MemorySendChannel[T], item: T) -> None:
    """Send ``item``; wait only where the channel is full.

    ``channel.send`` gives every other task a turn each time: a reply of a dozen tokens and thirty
    pieces of sound then waits for forty rounds of the scheduler, which is most of what a busy
    node adds to a response. The channel's bound is what keeps a fast sender from going on for
    ever.

    Raises: as ``channel.send``. Cancelled: ``item`` was not sent.
    """
    try:
        channel.send_nowait(item)
    except (trio.WouldBlock, trio.BrokenResourceError):
        # who was cancelled together with its reader must see that, not a channel without one
        await channel.send(item)
