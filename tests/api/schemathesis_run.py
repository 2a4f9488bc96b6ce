"""``python -m tests.api.schemathesis_run``: schemathesis, all its checks, against a live server.

Prints its summary; fails if one check did. What is on the command line is passed on, by default
``--max-time 60``: the budget of the fuzzing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import structlog
import trio

from tests.api.live import serving

CONFIG = Path(__file__).with_name("schemathesis.toml")


async def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    options = sys.argv[1:] or ["--max-time", "60"]
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            address, token = await nursery.start(serving, f"sqlite:///{folder}/rtcore.db")
            done = await trio.run_process(
                [
                    str(Path(sys.executable).with_name("schemathesis")),
                    f"--config-file={CONFIG}",
                    "run",
                    f"{address}/openapi.json",
                    "-H",
                    f"Authorization: Bearer {token}",
                    "--checks=all",
                    # an Idempotency-Key that is sent again gets the first answer, also when
                    # what was created then has been deleted since
                    "--exclude-checks=ensure_resource_availability",
                    "--workers=1",  # with more, CPython 3.11 trips over its own AST recursion count
                    "--seed=1",
                    "--warnings=off",
                    "--no-color",
                    *options,
                ],
                check=False,
                cwd=folder,  # it leaves a cache where it runs
                stderr=subprocess.STDOUT,
            )
            nursery.cancel_scope.cancel()
    return done.returncode


if __name__ == "__main__":
    sys.exit(trio.run(main))
