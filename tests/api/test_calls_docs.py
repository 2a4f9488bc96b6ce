"""The telephony guide, command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from rtcore.testing import Phone, wait
from tests.api.telephone import CALLER, HUMAN, OURS, serving

GUIDE = Path(__file__).parents[2] / "docs" / "telephony.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_command_of_the_guide_works(sqlite_url: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    steered = next(number for number, block in enumerate(blocks) if "/mute" in block)
    blocks.insert(steered, "sleep 3")  # as a reader would, hear the greeting first
    async with serving(sqlite_url) as node:
        node.plivo.rent(OURS)
        node.plivo.phones[CALLER] = Phone(scripts=[[wait(30_000)], [wait(30_000)]])
        node.plivo.phones[HUMAN] = Phone(when_rung="ignore")
        token = node.http.headers["Authorization"].removeprefix("Bearer ")
        done = await trio.run_process(
            ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
            cwd=tmp_path,
            env={**os.environ, "RTCORE_URL": node.url, "RTCORE_KEY": token},
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert b"event: state" in done.stdout
        assert b"Hello Ann, this is the front desk." in done.stdout
        call, fetched = node.plivo.calls.values()
        assert (call.keys_heard, call.dialled) == ("12#", [HUMAN])
        assert fetched.order.to_number == HUMAN
