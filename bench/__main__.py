"""``python -m bench NAME …``: each bench is a module with ``main(argv) -> exit status``."""

from __future__ import annotations

import importlib
import sys

BENCHES = ("latency", "capacity", "turns", "kernels", "peers", "recordings", "compare")


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in BENCHES:
        sys.stderr.write(f"usage: python -m bench {'|'.join(BENCHES)} [options]\n")
        return 2
    bench = importlib.import_module(f"bench.{argv[0]}")
    status: int = bench.main(argv[1:])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
