"""The commands that docs/benchmarks.md shows are ones that the benches take."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from bench.__main__ import BENCHES, SUITE
from bench.latency import LIVE, _spec
from rtcore.providers import build_responder, build_synthesizer, build_transcriber

TEXT = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[3:]
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("python -m bench")
]
BUILD = {
    "transcriber": build_transcriber,
    "responder": build_responder,
    "synthesizer": build_synthesizer,
}
KEYS = {name: "key" for name in ("DEEPGRAM_API_KEY", "OPENAI_API_KEY", "CARTESIA_API_KEY")}


def test_every_bench_is_shown() -> None:
    assert {name for name, *_ in COMMANDS} == set(BENCHES) - {"all"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_bench_knows_the_options_that_are_shown(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    name, *given = command
    assert name != SUITE
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"bench.{name}").main(["--help"])
    assert caught.value.code == 0
    known = re.findall(r"--[a-z-]+", capsys.readouterr().out)
    assert {part for part in given if part.startswith("--")} <= set(known)


def test_the_providers_that_are_shown_can_be_had() -> None:
    (given,) = (command for command in COMMANDS if "live" in command)
    for option, kind in LIVE.items():
        spec = _spec(given[given.index(option) + 1])
        assert BUILD[kind]([spec], KEYS).members
