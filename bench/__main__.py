"""``python -m bench NAME …``: each bench is a module with ``main(argv) -> exit status``.

Without a name, or with ``all``: the whole suite, in less than 15 minutes; options go to it.
"""

from __future__ import annotations

import importlib
import sys

BENCHES = (
    "all", "latency", "capacity", "turns", "kernels", "peers", "recordings", "playout", "compare",
    "api_beside_calls", "turnaround",
)  # fmt: skip
SUITE = "suite"  # the module of `all`: that name is Python's own


def main(argv: list[str]) -> int:
    name, *rest = argv if argv and not argv[0].startswith("-") else ["all", *argv]
    if name not in BENCHES:
        sys.stderr.write(f"usage: python -m bench {'|'.join(BENCHES)} [options]\n")
        return 2
    bench = importlib.import_module(f"bench.{SUITE if name == 'all' else name}")
    status: int = bench.main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
