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

__all__ = [
    "DRAIN",
    "REPORT_EVERY_S",
    "STOP",
    "STOP_LIMIT_S",
    "Report",
    "obey_signals",
    "obey_supervisor",
]

log = structlog.get_logger()

DRAIN, STOP = b"d", b"s"  # an order that comes twice is one order
REPORT_EVERY_S = 1.0
STOP_LIMIT_S = 5.0  # for calls to end and be written, and the carrier to tell of their end


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker is; a line of JSON every second, the first once it listens."""

    has_room: bool
    calls: int
    metrics: str  # in Prometheus' text format


async def obey_signals(
    signals: AsyncIterator[int], node: Node, everything: trio.CancelScope
) -> None:
    """Drain ``node`` at the first signal, stop it at the second, cancel ``everything`` at a third.

    The first counts as the first even of a node that drains already: who signals a whole service
    reaches a worker twice, once through its supervisor.
    """
    signals_had = 0
    async for _ in signals:
        signals_had += 1
        if signals_had == 1:
            node.drain()
        elif signals_had == 2:
            _stop(node, everything)
        else:
            everything.cancel(reason="third signal")


def _stop(node: Node, everything: trio.CancelScope) -> None:
    """End the calls of ``node`` with their records; whatever else it takes, soon all ends."""
    log.warning("stopping_now", calls=len(node.calls))
    node.stop()
    everything.deadline = min(everything.deadline, trio.current_time() + STOP_LIMIT_S)


async def obey_supervisor(
    node: Node, metrics: Callable[[], bytes], everything: trio.CancelScope
) -> None:
    """Report on ``node`` and obey, until the supervisor is gone; then drain.

    Args:
        metrics: everything this process counts, in Prometheus' text format.
        everything: ends soon after the supervisor will not wait for calls any longer.
    """
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(_take_stdin()))
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(_report, stream, node, metrics)
        with suppress(trio.BrokenResourceError):
            while orders := await stream.receive_some(64):
                if STOP in orders:
                    _stop(node, everything)
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
