"""A node process: whom it obeys.

Signals, and under a supervisor that one too: it gives orders and is told how the node is, over
one socket, the process's standard input. When the supervisor vanishes the socket ends, and the
process drains: nobody would restart it, and its successor wants the port.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import msgspec
import structlog
import trio

from rtcore.node import Node

__all__ = ["DRAIN", "REPORT_EVERY_S", "STOP", "Report", "obey_signals", "obey_supervisor"]

log = structlog.get_logger()

DRAIN, STOP = b"d", b"s"  # an order that comes twice is one order
REPORT_EVERY_S = 1.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is; a line of JSON every second, the first once it listens."""

    has_room: bool
    calls: int
    metrics: str  # in Prometheus' text format


async def obey_signals(
    signals: AsyncIterator[int], node: Node, everything: trio.CancelScope
) -> None:
    """Drain ``node`` at the first signal, cancel ``everything`` at the second.

    The first counts as the first even of a node that drains already: who signals a whole service
    reaches a worker twice, once through its supervisor.
    """
    is_second = False
    async for _ in signals:
        if is_second:
            log.warning("stopping_now", calls=len(node.calls))
            everything.cancel(reason="second signal")
        is_second = True
        node.drain()


async def obey_supervisor(
    node: Node, metrics: Callable[[], bytes], everything: trio.CancelScope
) -> None:
    """Report on ``node`` and obey, until the supervisor is gone; then drain.

    Args:
        metrics: everything this process counts, in Prometheus' text format.
        everything: cancelled when the supervisor will not wait for calls any longer.
    """
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(_take_stdin()))
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(_report, stream, node, metrics)
        with suppress(trio.BrokenResourceError):
            while orders := await stream.receive_some(64):
                if STOP in orders:
                    log.warning("stopping_now", calls=len(node.calls))
                    everything.cancel(reason="the supervisor waits no longer")
                elif not node.is_draining:
                    node.drain()
        log.error("supervisor_gone", calls=len(node.calls))
        node.drain()
        nursery.cancel_scope.cancel(reason="the supervisor is gone")


async def _report(stream: trio.SocketStream, node: Node, metrics: Callable[[], bytes]) -> None:
    with suppress(trio.BrokenResourceError):
        while True:
            report = Report(
                has_room=node.has_room, calls=len(node.calls), metrics=metrics().decode()
            )
            await stream.send_all(msgspec.json.encode(report) + b"\n")
            await trio.sleep(REPORT_EVERY_S)


def _take_stdin() -> socket.socket:
    """The supervisor's socket; what this process starts must not inherit it."""
    own = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return own
