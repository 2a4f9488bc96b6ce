"""The guide to records, command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from rtcore.testing import Phone, hang_up, read_wav, wait
from tests.api.telephone import CALLER, OURS, Node, serving

GUIDE = Path(__file__).parents[2] / "docs" / "records.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_command_of_the_guide_works(sqlite_url: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    async with serving(sqlite_url, recordings=tmp_path / "kept") as node:
        node.plivo.rent(OURS)
        token = node.http.headers["Authorization"].removeprefix("Bearer ")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring_once_bound, node)
            done = await trio.run_process(
                ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
                cwd=tmp_path,
                env={**os.environ, "RTCORE_URL": node.url, "RTCORE_KEY": token},
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert done.returncode == 0, done.stdout
        assert b'"calls":1' in done.stdout
        assert b"/plivo/answer/agt_" in done.stdout
        assert len(read_wav(tmp_path / "call.wav")) > 8000
        assert (await trio.Path(tmp_path / "start.wav").stat()).st_size == 1000
        assert list((tmp_path / "kept").rglob("*.wav")) == []


async def ring_once_bound(node: Node) -> None:
    await node.until(lambda: node.plivo.numbers[OURS].app_id)
    node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(2000), hang_up()]]))
