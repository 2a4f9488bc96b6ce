"""What a second of speech costs to write, by the size of the pieces it is written in.

``python -m bench playout``. Larger pieces cost less and leave less lead to hide a stall of ours:
the line never holds more than 120 ms, so pieces of N ms let it fall to 120 - N before the next.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import trio
from rich.console import Console
from rich.table import Table

from rtcore.config import CallConfig
from rtcore.media import fast
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.media.limits import SocketLimits
from rtcore.media.line import Line
from rtcore.media.pacer import Pacer
from rtcore.protocol.plivo import PlivoStream
from rtcore.testing import speak

CHUNKS_MS = (20, 40, 60, 80, 120)
SECONDS = 20
START = b'{"event":"start","start":{"callId":"c","streamId":"s"}}'


def main(argv: Sequence[str]) -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench playout", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs: int = parser.parse_args(argv).runs
    table = Table(box=None)
    for heading in ("piece ms", "messages/s", "µs a second of speech, p50", "min", "least lead ms"):
        table.add_column(heading, justify="right")
    costs: dict[int, list[float]] = {chunk_ms: [] for chunk_ms in CHUNKS_MS}
    counts: dict[int, float] = {}
    for _ in range(runs):  # in turn: neighbours then meet all sizes alike
        for chunk_ms in CHUNKS_MS:
            cost, counts[chunk_ms] = trio.run(_write, chunk_ms)
            costs[chunk_ms].append(cost)
    for chunk_ms, taken in costs.items():
        table.add_row(
            str(chunk_ms),
            f"{counts[chunk_ms]:.0f}",
            f"{statistics.median(taken):.0f}",
            f"{min(taken):.0f}",
            str(CallConfig().lead_ms - chunk_ms),
        )
    Console().print(table)
    return 0


async def _anyone(request: UpgradeRequest) -> Rejection | None:
    return None


async def _write(chunk_ms: int) -> tuple[float, float]:
    """µs for a second of speech, and the messages of one, over a real socket on loopback."""
    limits = SocketLimits()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        accepted: list[fast.FastSocket] = []

        async def accept() -> None:
            stream = await listeners[0].accept()
            socket = await fast.accept(stream, _anyone, limits, nursery)
            assert socket is not None
            accepted.append(socket)

        async with trio.open_nursery() as both:
            both.start_soon(accept)
            caller = await fast.connect("127.0.0.1", port, "/", limits, nursery)
        config = CallConfig()
        line = Line(
            accepted[0],
            PlivoStream(),
            Pacer(),
            lead_ms=config.lead_ms,
            chunk_ms=chunk_ms,
            unsent_max_ms=config.unsent_max_ms,
        )
        caller.send(START)
        await line.receive()
        speech = speak("one two three four five six seven eight nine ten", 100).pcm
        messages = 0
        spent_s = 0.0
        for tick in range(SECONDS * 50):
            if tick % 50 == 0:
                line.playout.append(speech)
            began_s = time.perf_counter()
            line.pump(tick * 0.02)
            spent_s += time.perf_counter() - began_s
            if tick % 10 == 9:  # 200 ms of speech: something has been written
                messages += len(await caller.receive())
        for socket in (caller, accepted[0]):
            nursery.start_soon(socket.aclose)
    for listener in listeners:
        await listener.aclose()
    return spent_s / SECONDS * 1e6, messages / SECONDS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
