"""The guide, command by command, as a new user runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from tests.api.live import serving

GUIDE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_command_of_the_guide_works(
    nursery: trio.Nursery, sqlite_url: str, tmp_path: Path
) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 7
    address, token = await nursery.start(serving, sqlite_url)
    with trio.fail_after(60):
        done = await trio.run_process(
            ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
            cwd=tmp_path,
            env={**os.environ, "RTCORE_URL": address, "RTCORE_KEY": token},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    assert b"Tuesday to Sunday" in done.stdout
    assert b"event: answer" in done.stdout
    nursery.cancel_scope.cancel()
