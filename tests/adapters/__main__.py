"""``python -m tests.adapters``: every provider in a whole node, and the table of it.

Each agent of ``kinds.AGENTS`` holds the conversation of ``talk`` (two questions, one that needs a
function, one that is talked over), then holds it again behind providers that refuse all; then each
provider alone goes wrong in six ways, one after the other, within one call. ``--short`` leaves
the last out. Takes some four minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from tests.adapters import table
from tests.adapters.kinds import ADAPTERS, AGENTS, MODELS, OWN_MINDS, USUAL, Adapter, Agent
from tests.adapters.own_mind import MIND_FAULTS
from tests.adapters.programs import (
    EMBEDDED_EARS,
    EMBEDDED_VOICE,
    HARMS,
    PIPER_VOICE,
    PROGRAM_AGENTS,
    PROGRAMS,
    RULES,
    learn_to_speak,
    sound_of,
)
from tests.adapters.run import Backing, Gate, Seen, converse, converse_with_own
from tests.adapters.table import FAULTS, Row, markdown
from tests.adapters.talk import conversation, troubled
from tests.fakes._ears import teach

_Call = Callable[[Gate, Path], Awaitable[None]]
ALL = (*ADAPTERS, *OWN_MINDS, *MODELS, *PROGRAMS)
AT_ONCE = 3  # calls: the caller's side of all of them is this process
ATTEMPTS_MAX = 3
TROUBLED_TURNS = 14
LATE_MAX_MS = 50.0  # of the caller's frames: what comes in later is a stalled line to the node
INTRO = """# Adapters in a whole node

Written by `python -m tests.adapters`: do not edit. For each line a real node (`rtcore serve` as a
process of its own, with an agent's file that names the provider by URL), a caller over a real
socket, and the provider's fake (`tests/fakes`) on loopback between them.

- **works**: what was heard, said, looked up and called, word by word; what was talked over is in
  the record as far as it was heard. *knowledge*: the passage of a document was found while the
  caller spoke and given to the mind; a speech model has the function `look_up` instead, calls it,
  and is told the passage before it answers.
- **cancel stops the service**: what the fake was told when the caller interrupted (a recogniser:
  when the call ended).
- **fail-over**: the same conversation with a member before it in the list that refuses all (503).
- **usage**: the call's record beside what the fake counted; they may differ by 1 %, a
  recogniser's by the silence that fills up the least message it takes (80 ms an utterance), a
  voice's by the sentence that was being asked for when the caller interrupted.
- **faults injected**: in one call, each once, every five seconds, open connections lost with it;
  each turn ended in an answer or an apology, and the call went on to its end. *longest wait*:
  from the end of the caller's words to the first sound, the worst of that call.

A mind of one's own (`callable`, an async generator; `thread`, a plain one) is in a program of its
own, which counts how often it was asked and stopped. It stands behind a service that refuses
(`fail-over`), then, *raising* whenever it is asked, before one that answers. Its faults: it
raises at once, breaks off with an error, stalls, is slow, ends early, yields what is no text.

A speech model's faults befall the session that is open; *503* and *slow* befall whoever is
connected to as it is lost, of a list of two: a model that stands alone and is refused as it
connects again is given up, and the call ends.

The embedded providers and Piper are programs of the node's own machine, found among its
processes: killed, stopped (SIGSTOP), 4 KiB of garbage written into their pipe, killed and for
three seconds kept from starting. *dead*: first of a list and not to be started at all. Nobody
counts what they do but Piper's stand-in, which keeps the lines it was given
(`tests/fakes/piper_cli.py`; the real program where `RTCORE_PIPER_VOICE` names a voice). Instead
there stands what the caller said, with 0.6 s around each utterance (embedded recogniser), the
questions and the function's result (rules; a guess that was thrown away comes on top), and what
was said to the end or to the interruption (embedded voice, which is up to three sentences ahead
of it).
"""


Rows = dict[str, Row]  # by their names


def rows_of(only: str = "") -> Rows:
    """An empty row for each adapter, or for those whose name holds ``only``."""
    return {adapter.name: Row(adapter.name) for adapter in ALL if only in adapter.name}


async def conversations(rows: Rows, at_once: int = AT_ONCE) -> None:
    """All but the fail-over and the faults."""
    alone: list[Agent] = [{"speech": model} for model in MODELS]
    calls: list[_Call] = [partial(_own, each, rows[each.name]) for each in _of(rows, OWN_MINDS)]
    agents = (*alone, *AGENTS, *PROGRAM_AGENTS)
    calls += [partial(_converse, each, rows) for each in agents if _of(rows, each)]
    await learn_to_speak()
    await _at_once(calls, at_once)


async def fail_overs(rows: Rows) -> None:
    """The same behind others that refuse."""
    alone: list[Agent] = [{"speech": model} for model in MODELS]
    hosted = (*alone, *AGENTS, *PROGRAM_AGENTS)
    calls: list[_Call] = [partial(_fail_over, each, rows) for each in hosted if _of(rows, each)]
    for program in _of(rows, PROGRAMS):
        if program is not RULES:  # there is nothing of it that could be missing
            calls.append(partial(_fails_over, program, rows[program.name]))
    for own in _of(rows, OWN_MINDS):
        calls.append(partial(_own_fails_over, own, rows[own.name], "second"))
        calls.append(partial(_own_fails_over, own, rows[own.name], "first"))
    await learn_to_speak()
    await _at_once(calls)


async def troubles(rows: Rows) -> None:
    """The faults."""
    harmed = _of(rows, (*ADAPTERS, *MODELS, EMBEDDED_EARS, EMBEDDED_VOICE, PIPER_VOICE))
    calls: list[_Call] = [partial(_trouble, each, rows[each.name]) for each in harmed]
    calls += [partial(_own_in_trouble, each, rows[each.name]) for each in _of(rows, OWN_MINDS)]
    await learn_to_speak()
    await _at_once(calls)


def _of(rows: Rows, adapters: Iterable[Adapter] | Agent) -> list[Adapter]:
    """Those of ``adapters`` that have a row."""
    each = adapters.values() if isinstance(adapters, Mapping) else adapters
    return [adapter for adapter in each if adapter.name in rows]


async def _converse(agent: Agent, rows: Rows, gate: Gate, folder: Path) -> None:
    seen = await _hold(agent, gate, folder)
    for adapter in _of(rows, agent):
        row = rows[adapter.name]
        row.works = row.works or table.works(seen)
        row.cancel = row.cancel or table.cancel(adapter, seen)
        row.usage = row.usage or table.usage(adapter, seen)


async def _own(adapter: Adapter, row: Row, gate: Gate, folder: Path) -> None:
    seen = await _patiently(
        lambda place, gate: converse_with_own(adapter, conversation(), place, gate=gate),
        table.complaints, gate, folder,
    )  # fmt: skip
    row.works = table.works(seen)
    row.cancel = table.cancel(adapter, seen)
    row.usage = table.usage(adapter, seen)


async def _own_fails_over(
    adapter: Adapter, row: Row, backing: Backing, gate: Gate, folder: Path
) -> None:
    seen = await _patiently(
        lambda place, gate: converse_with_own(
            adapter, conversation(), place, gate=gate, backing=backing
        ),
        table.complaints, gate, folder,
    )  # fmt: skip
    found = table.fail_over(adapter, seen)
    if backing == "second":
        row.fail_over = found
    else:
        row.as_first = f"; raising, {found}"


async def _own_in_trouble(adapter: Adapter, row: Row, gate: Gate, folder: Path) -> None:
    seen = await _patiently(
        lambda place, gate: converse_with_own(
            adapter, troubled(TROUBLED_TURNS), place, gate=gate, faults=MIND_FAULTS
        ),
        table.survived, gate, folder,
    )  # fmt: skip
    _account(row, seen, MIND_FAULTS, seen.fakes["llm"][0].unmet)


async def _fail_over(agent: Agent, rows: Rows, gate: Gate, folder: Path) -> None:
    seen = await _hold(agent, gate, folder, "second")
    for adapter in _of(rows, agent):
        row = rows[adapter.name]
        row.fail_over = row.fail_over or table.fail_over(adapter, seen)


async def _fails_over(program: Adapter, row: Row, gate: Gate, folder: Path) -> None:
    agent: Agent = {**USUAL, program.kind: program}
    seen = await _hold(agent, gate, folder, "first")
    row.as_first = f"; dead, {table.fail_over(program, seen)}"


async def _hold(agent: Agent, gate: Gate, folder: Path, backing: Backing = "alone") -> Seen:
    return await _patiently(
        lambda place, gate: converse(
            agent, conversation(_voice_for(agent, backing)), place, gate=gate, backing=backing
        ),
        table.complaints, gate, folder,
    )  # fmt: skip


def _voice_for(agent: Agent, backing: Backing = "alone") -> Callable[[str], bytes]:
    """How the caller speaks: as people do, where the ears that are to hear are no fake's."""
    is_heard = agent.get("stt") is EMBEDDED_EARS and backing != "first"
    return sound_of.__getitem__ if is_heard else teach


async def _trouble(adapter: Adapter, row: Row, gate: Gate, folder: Path) -> None:
    faults: Mapping[str, Any] = HARMS if adapter in PROGRAMS else FAULTS[adapter.kind]
    agent: Agent = {**USUAL, adapter.kind: adapter}
    backing: Backing = "alone"
    if adapter.steady is not None:  # one alone that is refused as it connects again is given up
        agent, backing = {"speech": replace(adapter, fake=adapter.steady)}, "first"
    script = troubled(TROUBLED_TURNS, _voice_for(agent))
    given = {adapter.kind: tuple(faults.values())}
    seen = await _patiently(
        lambda place, gate: converse(
            agent, script, place, gate=gate, faults=given, backing=backing
        ),
        table.survived, gate, folder,
    )  # fmt: skip
    unmet = max(len(fake.faults.waiting) for fake in seen.fakes[adapter.kind])
    _account(row, seen, tuple(faults), unmet)


def _account(row: Row, seen: Seen, faults: Sequence[str], unmet: int) -> None:
    met = f"no: {unmet} of {len(faults)} were not met" if unmet else ", ".join(faults)
    row.faults = table.survived(seen) or met
    row.waited_ms.append(seen.longest_wait_ms)


async def _patiently(
    talk: Callable[[Path, Gate | None], Awaitable[Seen]],
    complaints: Callable[[Seen], object],
    gate: Gate,
    folder: Path,
) -> Seen:
    """Have the talk; again where something was wrong and the machine too busy to be the caller."""
    once: Gate | None = gate
    for attempt in range(ATTEMPTS_MAX):
        place = folder / str(attempt)
        place.mkdir()
        seen = await talk(place, once)
        if seen.late_ms <= LATE_MAX_MS or not complaints(seen):
            break
        once = None
    return seen


async def _at_once(calls: Sequence[_Call], at_once: int = AT_ONCE) -> None:
    for first in range(0, len(calls), at_once):
        some = calls[first : first + at_once]
        gate = Gate(len(some))
        with TemporaryDirectory() as name:
            async with trio.open_nursery() as nursery:
                for number, each in enumerate(some):
                    folder = Path(name) / str(number)
                    folder.mkdir()
                    nursery.start_soon(each, gate, folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.adapters", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--short", action="store_true", help="without the faults")
    parser.add_argument("--out", type=Path, help="write the page there; else print the table")
    given = parser.parse_args()
    rows = rows_of(given.only)
    for part in (
        (conversations, fail_overs) if given.short else (conversations, fail_overs, troubles)
    ):
        trio.run(part, rows)
    lines = markdown(rows.values())
    if given.out is None:
        sys.stdout.write(lines)
    else:
        git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
        when = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}"
        given.out.write_text(f"{INTRO}\n{when}\n\n{lines}", encoding="utf-8")
    return 0 if all(row.holds for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
