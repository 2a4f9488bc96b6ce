"""The guide to campaigns, command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from rtcore.testing import FakePlivo, Phone, hang_up, wait
from tests.api.telephone import CALLER, serving

GUIDE = Path(__file__).parents[2] / "docs" / "campaigns.md"
BOB, CID = "14155550101", "14155550102"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_command_of_the_guide_works(sqlite_url: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    async with serving(sqlite_url, plivo=FakePlivo(scale=0.001)) as node:
        node.plivo.phones[CALLER] = Phone(scripts=[[wait(300), hang_up()]])
        node.plivo.phones[BOB] = Phone(is_machine=True)
        node.plivo.phones[CID] = Phone(when_rung="ignore")
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
        assert b'"duplicates":[3]' in done.stdout
        assert b'"outcomes":{"answered":1,"machine":1,"no_answer":1}' in done.stdout
        assert b'"retried":0' in done.stdout
        rung = sorted(call.order.to_number for call in node.plivo.calls.values())
        assert rung == [CALLER, BOB, CID]
