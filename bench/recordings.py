"""Real human speech called into a real node: is every recording answered, does none hang?

``python -m bench recordings [--audio DIR]`` starts ``rtcore serve`` with the embedded
providers, calls it with recordings of several speakers (each call's sound in both directions is
recorded), and tells what came of each. The words need not be understood: the agent then asks to
repeat them. The folder is ``../shared/audio`` beside the checkout, ``RTCORE_AUDIO``, or
``--audio``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio
from rich.console import Console
from rich.table import Table

from bench.report.write import PLAIN_WIDTH
from rtcore.audio import mulaw_to_pcm, pcm_to_mulaw
from rtcore.commands.call import call
from rtcore.testing import (
    CarrierReport,
    LineClock,
    Utterance,
    hang_up,
    read_wav,
    say,
    wait_for_agent_quiet,
)

AT_ONCE = 6
START_LIMIT_S = 60.0
NOT_MEASURED = 3
CALL_LIMIT_S = 330.0  # the longest recording takes 245 s
LOUD = 256  # of int16: what the carrier takes for sound
ENDINGS = {("caller", "hung_up"), ("node", "agent_hung_up")}  # it may take words for a goodbye
PICKS = (  # folder, how many of its files; several speakers each
    ("aws-lca", 2),
    ("azure-sdk", 4),
    ("speechbrain-asr", 4),
    ("speech-recognition", 1),
    ("auditok", 1),
    ("picovoice-commands", 14),
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one recording."""

    name: str
    seconds: float
    is_answered: bool
    ended_by: str
    turns: int  # that the node found, with words or without
    responses: int
    barge_ins: int
    dismissed: int
    is_aligned: bool  # the recording of the call holds the caller's sound, to the sample
    node_ended_by: str


def main(argv: Sequence[str]) -> int:
    """Call, print the table; 0 if all were answered, none hung, all are aligned; 3 without any."""
    parser = argparse.ArgumentParser(prog="python -m bench recordings", description=__doc__)
    default = Path(os.environ.get("RTCORE_AUDIO", "../shared/audio"))
    parser.add_argument("--audio", type=Path, default=default)
    parser.add_argument("--json", action="store_true", help="the table as JSON")
    parser.add_argument("--socket", default="fast", choices=("fast", "portable"))
    options = parser.parse_args(argv)
    out = Console(stderr=options.json, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    files = [
        path
        for folder, count in PICKS
        for path in sorted((options.audio / folder).glob("*.wav"), key=_by_size)[:count]
    ]
    if not files:
        out.print(f"no recordings in {options.audio}")
        return NOT_MEASURED
    outcomes = trio.run(_run, files, options.socket, out)
    if options.json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(outcomes)) + "\n")
    else:
        out.print(_table(outcomes))
    bad = [o.name for o in outcomes if not (o.is_answered and o.is_aligned)]
    bad += [o.name for o in outcomes if (o.ended_by, o.node_ended_by) not in ENDINGS]
    out.print(f"{len(outcomes)} recordings, bad: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


def _by_size(path: Path) -> int:
    return -path.stat().st_size


async def _run(files: list[Path], socket: str, out: Console) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as scratch:
        records, log = Path(scratch) / "records.jsonl", Path(scratch) / "node.log"
        serve = f"serve --port 0 --log-json --socket {socket} --records".split()
        with log.open("wb") as stderr:  # nobody reads on: a pipe would fill, and the node wait
            node = subprocess.Popen(  # noqa: ASYNC220 - before anything is timed
                [sys.executable, "-m", "rtcore", *serve, str(records)], stderr=stderr
            )
        try:
            url = await _url_of(node, log)
            reports: dict[str, tuple[CarrierReport, bytes, bytes]] = {}
            limit = trio.CapacityLimiter(AT_ONCE)
            clock = LineClock(phases=AT_ONCE)
            async with trio.open_nursery() as calls:
                calls.start_soon(clock.run)
                async with trio.open_nursery() as nursery:
                    for number, path in enumerate(files):
                        tape = Path(scratch) / f"{number}.wav"
                        nursery.start_soon(_one, url, path, tape, clock, limit, reports, out)
                calls.cancel_scope.cancel()
            node.send_signal(signal.SIGTERM)
            with trio.move_on_after(10):
                await trio.to_thread.run_sync(node.wait, abandon_on_cancel=True)
            served = {r["call_id"]: r for r in map(json.loads, records.read_text().splitlines())}
        finally:
            node.kill()
            node.wait()
    return [_outcome(path, *reports[path.stem], served.get(path.stem, {})) for path in files]


async def _url_of(node: subprocess.Popen[bytes], log: Path) -> str:
    with trio.move_on_after(START_LIMIT_S):
        while node.poll() is None:
            for line in (await trio.Path(log).read_text()).splitlines(keepends=True):
                if '"listening"' in line and line.endswith("\n"):
                    url: str = json.loads(line)["url"]
                    return url.replace("{token}", "bench")
            await trio.sleep(0.05)
    raise SystemExit("the node did not start")


async def _one(
    url: str,
    path: Path,
    tape: Path,
    clock: LineClock,
    limit: trio.CapacityLimiter,
    reports: dict[str, tuple[CarrierReport, bytes, bytes]],
    out: Console,
) -> None:
    pcm = read_wav(path)
    script = [
        wait_for_agent_quiet(700, begin_limit_ms=4000),
        say(Utterance(pcm)),
        wait_for_agent_quiet(1500, begin_limit_ms=5000),
        hang_up(),
    ]
    async with limit:
        report = await call(
            url, script, call_id=path.stem, record=tape, clock=clock, limit_s=CALL_LIMIT_S
        )
    out.print(f"{path.parent.name}/{path.name}: {len(report.agent_runs)} replies heard")
    reports[path.stem] = (report, pcm, (await trio.Path(tape).read_bytes())[44:])


def _outcome(
    path: Path, report: CarrierReport, pcm: bytes, stereo: bytes, record: dict[str, object]
) -> Outcome:
    both = array("h")
    both.frombytes(stereo)
    stats = record.get("stats", {})
    assert isinstance(stats, dict)
    return Outcome(
        name=f"{path.parent.name}/{path.stem}",
        seconds=round(len(pcm) / 16000, 1),
        is_answered=len(report.agent_runs) > 1,  # the welcome, and something after it
        ended_by=report.ended_by,
        turns=stats.get("turns", 0) + stats.get("wordless_turns", 0),
        responses=len(record.get("turns", ())),  # type: ignore[arg-type]
        barge_ins=stats.get("barge_ins", 0),
        dismissed=stats.get("dismissed", 0),
        is_aligned=_is_aligned(report, pcm, both[0::2].tobytes(), both[1::2].tobytes()),
        node_ended_by=str(record.get("ended_by", "")),
    )


def _is_aligned(report: CarrierReport, pcm: bytes, caller: bytes, agent: bytes) -> bool:
    """Whether the recording holds both sides where they were: to the sample.

    The caller's side must be what was said, bit for bit; the agent's must become audible where
    the carrier says that each reply was first heard.
    """
    said = mulaw_to_pcm(pcm_to_mulaw(pcm))
    is_whole = said in caller or report.ended_by == "node"  # cut short by a goodbye
    heard = memoryview(agent).cast("h")
    return is_whole and all(
        abs(heard[start]) >= LOUD and not any(abs(s) >= LOUD for s in heard[start - 160 : start])
        for start, _ in report.agent_runs
        if start >= 160
    )


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(box=None)
    for field in Outcome.__struct_fields__:
        table.add_column(field, justify="left" if field == "name" else "right")
    for outcome in outcomes:
        table.add_row(*(str(getattr(outcome, field)) for field in Outcome.__struct_fields__))
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
