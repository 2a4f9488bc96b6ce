"""Ten thousand simulated calls, hung up anywhere, with random faults: what is left of them?

``python -m tests.soak [--calls 10000] [--workers 2]``. The same checks as
``test_hung_up_anywhere_nothing_is_left``, more of them, and the memory watched.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time

import psutil

from rtcore.testing import Resources
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
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
