"""The first guide, as a new user runs it: real processes, real curl, an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from rtcore.providers import build_responder, build_synthesizer, build_transcriber
from tests.api.client import Api

GUIDE = Path(__file__).parents[2] / "docs" / "getting-started.md"
ALONE = ("unshare", "--user", "--map-root-user", "--net", "bash", "-c")
LIMIT_S = 110
END = "\n@@@\n"

# the ports of the guide are free in a network of one's own
SCRIPT = """
ip link set lo up 2> /dev/null || true
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT
"""


def steps() -> list[tuple[str, str]]:
    """Each block of commands, with what it is shown to print, if anything."""
    text = GUIDE.read_text(encoding="utf-8")
    found = re.findall(r"```sh\n(.*?)```\n(?:```text\n(.*?)```)?", text, re.DOTALL)
    return [(commands, shown) for commands, shown in found]


def pattern_of(shown: str) -> re.Pattern[str]:
    pieces = (re.escape(piece.strip()) for piece in re.split(r"…|\n", shown.strip()))
    return re.compile(".*?".join(pieces), re.DOTALL)


def command_line() -> list[str]:
    """Bash in a network of its own, where that is allowed."""
    try:
        allowed = subprocess.run([*ALONE, "ip link set lo up"], capture_output=True, check=False)
    except FileNotFoundError:
        return ["bash", "-c"]
    return list(ALONE) if allowed.returncode == 0 else ["bash", "-c"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_of_the_guide_works_and_prints_what_is_shown(tmp_path: Path) -> None:
    for module in ("pocketsphinx", "espeakng_loader"):
        pytest.importorskip(module)
    guide = steps()
    assert len(guide) >= 10
    script = SCRIPT + "".join(f"{commands}\nprintf '\\n@@@\\n'\n" for commands, _ in guide)
    done = subprocess.run(
        [*command_line(), script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    said = done.stdout + done.stderr
    printed = done.stdout.split(END)
    assert len(printed) == len(guide) + 1, said
    for (commands, shown), out in zip(guide, printed, strict=False):
        if shown:
            assert pattern_of(shown).search(out), f"{commands}\nprinted\n{out}"
    assert done.returncode == 0, said
    log = (tmp_path / "rtcore.log").read_text()
    assert "14155550100" not in log


async def test_the_services_of_a_real_account_can_be_had_as_they_are_configured(api: Api) -> None:
    """As far as that is known without their keys."""
    account = GUIDE.read_text(encoding="utf-8").partition("## With a real account")[2]
    (given,) = re.findall(r"-d '(\{\n.*?\n\})'", account, re.DOTALL)
    services = msgspec.json.decode(given)
    (names,) = re.findall(r"for SERVICE in (.*);", account)
    for name in names.split():
        await api.ask("PUT", f"/v1/secrets/{name}-key", {"value": "sk-1"})
    agent = await api.create("/v1/agents", {"name": "desk"})
    path, any_ = f"/v1/agents/{agent['id']}?publish=true", {"If-Match": "*"}
    assert (await api.ask("PATCH", path, services, headers=any_)).status == 200
    keys = {f"{name.upper()}_API_KEY": "sk-1" for name in names.split()}
    builders = {"stt": build_transcriber, "llm": build_responder, "tts": build_synthesizer}
    for kind, (choice,) in services.items():
        options = choice.pop("options", {})
        del choice["secret"]
        builders[kind]([choice | options], keys)
