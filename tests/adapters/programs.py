"""Providers that are programs of the node's own machine: what stands where a fake would.

Piper is the real one where ``RTCORE_PIPER_VOICE`` names a voice for it, else a stand-in that
behaves as it does (``tests/fakes/piper_cli.py``).
"""

from __future__ import annotations

import enum
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import trio

from rtcore.providers.embedded import CALLER_VOICE, EmbeddedVoice
from tests.adapters.kinds import USUAL, Adapter, Agent
from tests.adapters.talk import GATE, GOODBYE, LONG, SENTENCES
from tests.fakes import piper_cli
from tests.providers._harness import pcm_of, spoken

SPHINX, ESPEAK = "rtcore.providers.embedded._sphinx", "rtcore.providers.embedded._espeak"
PIPER = "--output_dir"
MARGINS_S = 0.6  # what a recogniser hears before and after an utterance
LOUD = 300  # of a sample: above what sounds before and after a word
REFUSED_S = 3.0  # how long a program cannot be started
IDLE_S, BUSY_S = 0.3, 0.05  # watched for so long, a program that is idle has not worked for so long
GARBAGE = b"\xff" * 4096
# read by every Python of the node as it starts: how a program is kept from starting
SITE = """
import os, sys
from pathlib import Path
refused = Path(__file__).with_name("refused")
if refused.exists() and refused.read_text() in sys.orig_argv:
    os._exit(1)
"""


class Harm(enum.StrEnum):
    """What befalls a program."""

    DIES = "process killed"
    STALLS = "stopped"
    GARBAGE = "garbage in its pipe"
    NO_START = "killed, and cannot start"


HARMS = {str(harm): harm for harm in Harm}


@dataclass(eq=False)
class Harms:
    """What is still to befall it."""

    waiting: deque[Harm] = field(default_factory=deque)
    usual: object = None

    def add(self, harm: Harm) -> None:
        self.waiting.append(harm)


class Program:
    """One program and the processes of a node that are it; ``mark`` is a word of its command."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.faults = Harms()
        self.is_idle = False
        self.spoken_lines: list[str] = []
        self._directory = Path()
        self._node: psutil.Process | None = None
        self._refused = Path()
        self._seen: list[psutil.Process] = []

    async def serve(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what the program needs; start with where it is."""
        self._directory = Path(tempfile.mkdtemp(prefix="rtcore-adapter-"))
        try:
            if self.mark == PIPER:
                piper_cli.install(self._directory)
            task_status.started(str(self._directory))
            await trio.sleep_forever()
        finally:
            shutil.rmtree(self._directory)

    def join(self, node: int, folder: Path) -> None:
        """It is run by process ``node``, whose Pythons look into ``folder``."""
        self._node, self._refused = psutil.Process(node), folder / "refused"

    @property
    def processes(self) -> list[psutil.Process]:
        """Those that are it, now."""
        assert self._node is not None
        found = []
        for process in self._node.children(recursive=True):
            try:
                if self.mark in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    @property
    def left(self) -> list[int]:
        """Those that were seen and are still there."""
        return [each.pid for each in self._seen if each.is_running()]

    async def befall(self) -> None:
        """Have the next of ``faults`` happen."""
        harm = self.faults.waiting[0]
        while not (found := self.processes):
            await trio.sleep(0.01)
        if harm is Harm.NO_START:
            self.refuse()
        for process in found:
            harm_process(harm, process.pid)
        self.faults.waiting.popleft()
        if harm is Harm.NO_START:
            await trio.sleep(REFUSED_S)
            self._refused.unlink()

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        for process in self.processes:
            harm_process(Harm.DIES, process.pid)
        while self.processes:
            await trio.sleep(0.01)

    def refuse(self) -> None:
        """It cannot be started any more."""
        self._refused.write_text(self.mark)

    def allow(self) -> None:
        """It can be started again."""
        self._refused.unlink(missing_ok=True)

    async def look(self) -> None:
        """See whether it does anything now that the call is over."""
        self._seen = self.processes
        before_s = sum(sum(each.cpu_times()[:2]) for each in self._seen)
        await trio.sleep(IDLE_S)
        self.is_idle = sum(sum(each.cpu_times()[:2]) for each in self._seen) - before_s <= BUSY_S
        log = self._directory / "log"
        if log.exists():
            self.spoken_lines = log.read_text().splitlines()[2:]  # after its arguments and a probe


@contextmanager
def refusable() -> Iterator[Path]:
    """Let every Python that this process starts look into a folder whether it may."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(SITE)
        os.environ["PYTHONPATH"] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop("PYTHONPATH")
            if before is not None:
                os.environ["PYTHONPATH"] = before


def harm_process(harm: Harm, pid: int) -> None:
    """Have ``harm`` befall one process."""
    if harm is Harm.STALLS:
        os.kill(pid, signal.SIGSTOP)
    elif harm is Harm.GARBAGE:
        with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as pipe:
            pipe.write(GARBAGE)
    else:
        os.kill(pid, signal.SIGKILL)


def _is_over(program: Program) -> bool:
    """Nothing of it works once the call is over, or is there once the node is."""
    is_cut = len(program.spoken_lines) < len(LONG.split(". "))
    return program.is_idle and not program.left and is_cut


@dataclass(frozen=True, kw_only=True)
class Local(Adapter):
    """A provider that is a program, or a few rules, of the node itself."""

    needs: Callable[[str], Mapping[str, Any]] = lambda directory: {}
    counts: Callable[[Any], float]  # what was used of it, by what was seen of the call

    def spec(self, url: str) -> dict[str, Any]:
        return {"provider": self.provider, **self.needs(url), **self.options}

    @property
    def peer(self) -> Adapter:
        return USUAL[self.kind]

    def counted(self, seen: Any) -> float:
        return self.counts(seen)


def _uttered_s(seen: Any) -> float:
    """What the caller said, in seconds, with what is heard around it."""
    return sum(_voiced_s(sound_of[text]) + MARGINS_S for text in SENTENCES)


def _voiced_s(pcm: bytes) -> float:
    loud = [at for at, sample in enumerate(memoryview(pcm).cast("h")) if abs(sample) > LOUD]
    return (loud[-1] - loud[0]) / 8000


def _said_chars(seen: Any) -> float:
    """What the agent said, and the sentence that it was in when it was interrupted."""
    said = [m.text for m in seen.record.transcript if m.role == "assistant"]
    return float(sum(len(text) for text in said))


def _line_chars(seen: Any) -> float:
    """What Piper was asked to say."""
    return float(sum(len(line) for line in seen.fakes["tts"][-1].spoken_lines))


def _piper(directory: str) -> dict[str, Any]:
    own = os.environ.get("RTCORE_PIPER_VOICE")
    if own is not None:
        return {"voice": own}
    return {
        "voice": f"{directory}/voice.onnx",
        "executable": f"{directory}/piper",
        "extra": ["--log", f"{directory}/log"],
    }


IDLE = "idle after the call, gone with the node"
FOUND_BY_RULE = "order :  on its way"
EMBEDDED_EARS = Local(
    "stt", "embedded", lambda: Program(SPHINX), {}, _is_over, IDLE, lambda fake: 0.0,
    counts=_uttered_s,
)  # fmt: skip
RULES = Local(
    "llm", "rules", lambda: Program("no process"),
    {"unknown_line": LONG, "goodbye_line": GOODBYE},
    lambda program: True, "whole at once", lambda fake: 0.0,
    said=(GATE, FOUND_BY_RULE, LONG, GOODBYE), counts=lambda seen: len(SENTENCES) + 1.0,
)  # fmt: skip
EMBEDDED_VOICE = Local(
    "tts", "embedded", lambda: Program(ESPEAK), {}, _is_over, IDLE, lambda fake: 0.0,
    counts=_said_chars, ahead=3,
)  # fmt: skip
PIPER_VOICE = Local(
    "tts", "piper", lambda: Program(PIPER), {"deadlines": {"first_byte_s": 2.0}}, _is_over,
    f"no line more; {IDLE}", lambda fake: 0.0, needs=_piper, counts=_line_chars,
)  # fmt: skip
PROGRAMS = (EMBEDDED_EARS, RULES, EMBEDDED_VOICE, PIPER_VOICE)
PROGRAM_AGENTS: tuple[Agent, ...] = (
    {"stt": EMBEDDED_EARS, "llm": RULES, "tts": EMBEDDED_VOICE},
    {**USUAL, "tts": PIPER_VOICE},
)

sound_of: dict[str, bytes] = {}  # the caller's sentences, as people say them


async def learn_to_speak() -> None:
    """Fill :data:`sound_of`: a recogniser that is none of the fakes hears nothing else."""
    if sound_of:
        return
    voice = EmbeddedVoice(CALLER_VOICE)
    async with trio.open_nursery() as nursery:
        await nursery.start(voice.run)
        audio = await spoken(voice, *SENTENCES)
        nursery.cancel_scope.cancel(reason="all is said")
    sound_of.update({text: pcm_of(audio, index) for index, text in enumerate(SENTENCES)})
