"""Ten thousand simulated calls, hung up anywhere, with random faults: what is left of them?

``python -m tests.soak [--calls 10000] [--workers 2]``. The same checks as
``test_hung_up_anywhere_nothing_is_left``, more of them, and the memory watched.

``python -m tests.soak --provider NAME [--hours 24]`` lets a node with that provider, its fake
behind it or its processes beside it, live through so many simulated hours of calls and faults
instead; ``all`` does it for each agent of :mod:`tests.days`, which have every provider.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time

import psutil
import structlog

from rtcore.testing import Resources
from tests.days import COLUMNS, DAYS, agent_of, simulated_day
from tests.test_call import soak_one

WARM_UP = 200  # calls before memory is expected to stand still: caches fill


def share(first: int, last: int) -> tuple[float, float, list[str]]:
    """Run calls ``first`` to ``last``; worst teardown in s, growth in MiB, what was left."""
    process = psutil.Process()
    before = Resources.held()
    worst_s = base = 0.0
    for number, seed in enumerate(range(first, last)):
        worst_s = max(worst_s, soak_one(seed))
        if number == min(WARM_UP, (last - first) // 2):
            gc.collect()
            base = process.memory_info().rss
    gc.collect()
    growth = (process.memory_info().rss - base) / 2**20
    return worst_s, growth, list(Resources.held().left_since(before))


def days(provider: str, hours: float, seed: int) -> int:
    """Print a line of the table for each agent that is asked for."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    agents = DAYS if provider == "all" else (agent_of(provider),)
    sys.stdout.write(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n")
    is_good = True
    for agent in agents:
        began = time.monotonic()
        day = simulated_day(agent, hours, seed)
        cells = day.cells(agent, hours, time.monotonic() - began)
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
        is_good = is_good and not day.complaints
    return 0 if is_good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--provider", help="as in an agent's file: stt:deepgram, ...; or all")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated, with --provider")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.provider is not None:
        return days(options.provider, options.hours, options.seed)
    began = time.monotonic()
    size = options.calls // options.workers
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        results = pool.starmap(share, [(n * size, (n + 1) * size) for n in range(options.workers)])
    for worst_s, growth, left in results:
        sys.stdout.write(
            f"{size} calls: worst teardown {worst_s * 1000:.1f} simulated ms, memory "
            f"{growth:+.1f} MiB after the first {WARM_UP}, left: {', '.join(left) or 'nothing'}\n"
        )
    sys.stdout.write(f"{options.calls} calls in {time.monotonic() - began:.0f} s\n")
    return 1 if any(left for _, _, left in results) else 0


if __name__ == "__main__":
    sys.exit(main())
