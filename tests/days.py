"""Simulated days of calls with one provider in the node, going wrong at random.

The node's side is as in life: adapters, lists, calls. The line is in memory, the provider's fake
on loopback, whose octets arrive in the instant they are sent, so Trio's simulated clock only
jumps where everybody really waits. Threads of a mind and processes on the same machine are real,
and the clock stands still while they work (:mod:`tests.patient_clock`).
"""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.functions import function
from rtcore.call import CallRecord, run_call
from rtcore.config import CallConfig
from rtcore.ports import Hit
from rtcore.providers import (
    build_responder,
    build_speech_model,
    build_synthesizer,
    build_transcriber,
    serve_providers,
)
from rtcore.providers.knowledge_sqlite import SqliteKnowledge
from rtcore.testing import (
    Action,
    CarrierReport,
    FakeCarrier,
    LineFaults,
    Resources,
    Utterance,
    hang_up,
    interrupt_after,
    memory_sockets,
    say,
    wait_for_agent_quiet,
)
from rtcore.usage import Kind, Usage
from tests.adapters.kinds import (
    AGENTS,
    FOUND_BY_CALL,
    MODELS,
    OPEN_BY_LOOK_UP,
    OWN_MINDS,
    PIECE_S,
    USUAL,
    Adapter,
)
from tests.adapters.own_mind import MIND_FAULTS, STALLED_S, Mind, responder_of
from tests.adapters.programs import (
    EMBEDDED_EARS,
    PROGRAM_AGENTS,
    PROGRAMS,
    Harm,
    Program,
    harm_process,
    learn_to_speak,
    refusable,
)
from tests.adapters.programs import sound_of as espeak_says
from tests.adapters.run import KEYS, later
from tests.adapters.table import FAULTS
from tests.adapters.talk import FUNCTION, GATE, GOODBYE, LINE_OPENS, LONG, SENTENCES
from tests.fakes._ears import teach
from tests.fakes._talker import Answer
from tests.fakes.deepgram_agent import FakeDeepgramAgent
from tests.fakes.gemini_live import FakeGeminiLive
from tests.fakes.openai_realtime import FakeOpenAIRealtime
from tests.patient_clock import simulate_patiently

COLUMNS = (
    "providers", "simulated", "calls", "turns", "faults", "wait p50 / p99 / max, ms", "ended",
    "memory, slope", "left, or wrong",
)  # fmt: skip
SILENCE_MAX_MS = 8_000.0  # the longest pause of a turn (1.8 s), the watchdog of the floor (5 s),
# and the line with which it breaks the silence
GIVE_UP_MS = 30_000  # of a caller who hears nothing: past the limit, so that a breach is seen
TEARDOWN_MAX_S = 0.1
STUCK_S = 1800.0  # a call that outlasts its own limit
TROUBLE = 0.15  # of requests and sessions
SPEECH_TROUBLE = 0.5  # of sessions: they are whole calls
BETWEEN_S = 900.0  # calls, on average
HARM_WITHIN_S = 40.0  # of the beginning of a call with programs, if it lasts so long
SLOW_MAX_S = 3.0  # a program that is stopped, and goes on
STRIKE_MAX = 60  # messages into its session, a speech model's fault strikes
SHORT_STORY = " ".join(LONG.split(" ")[:60]) + "."
BUILDERS: dict[Kind, Callable[..., Any]] = {
    "stt": build_transcriber,
    "llm": build_responder,
    "tts": build_synthesizer,
    "speech": build_speech_model,
}


@dataclass
class Day:
    """What came of it."""

    calls: int = 0
    turns: int = 0
    talked_s: float = 0.0
    faults: int = 0
    unanswered: int = 0  # turns the caller gave up on
    silences_ms: list[float] = field(default_factory=list)
    teardown_s: float = 0.0
    ended: dict[str, int] = field(default_factory=dict)
    memory_mib: list[tuple[float, float]] = field(default_factory=list)  # hour, resident
    left: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    wrong: list[str] = field(default_factory=list)

    @property
    def slope_kib_per_h(self) -> float:
        """Of memory, once caches are full: over the second half."""
        half = self.memory_mib[len(self.memory_mib) // 2 :]
        if len(half) < 3:
            return 0.0
        return statistics.linear_regression(*zip(*half, strict=True)).slope * 1024

    @property
    def complaints(self) -> list[str]:
        """What must not be; empty where all is well."""
        found = [*self.wrong, *self.left]
        if self.teardown_s > TEARDOWN_MAX_S:
            found.append(f"teardown took {self.teardown_s * 1000:.0f} ms")
        if max(self.silences_ms, default=0.0) > SILENCE_MAX_MS:
            found.append(f"{max(self.silences_ms):.0f} ms of silence")
        return found

    def cells(self, agent: Mapping[Kind, Adapter], hours: float, took_s: float) -> list[str]:
        """One line of the table."""
        ranked = sorted(self.silences_ms)
        last = self.memory_mib[-1][1] if self.memory_mib else 0.0
        return [
            ", ".join(adapter.provider for adapter in agent.values()),
            f"{hours:g} h in {took_s / 60:.1f} min, {hours * 3600 / took_s:.0f} ×",
            f"{self.calls}, {self.talked_s / 3600:.1f} h",
            str(self.turns),
            str(self.faults),
            " / ".join(f"{ranked[int(share * (len(ranked) - 1))]:.0f}" for share in (0.5, 0.99, 1)),
            ", ".join(f"{count} {name}" for name, count in sorted(self.ended.items())),
            f"{last:.0f} MiB, {self.slope_kib_per_h:+.0f} KiB/h",
            "; ".join(self.complaints) or "nothing",
        ]


class Dice:
    """Faults at random for one fake, for as long as it is asked."""

    def __init__(self, adapter: Adapter, seed: int, day: Day) -> None:
        self._dice = random.Random(f"{seed}/{adapter.name}")
        self._faults: list[Any] = list(FAULTS[adapter.kind].values())
        if adapter in OWN_MINDS:
            self._faults = list(MIND_FAULTS)
        self._usual = "" if adapter in OWN_MINDS else adapter.usual
        self._is_speech = adapter.kind == "speech"
        self._share = SPEECH_TROUBLE if self._is_speech else TROUBLE
        self._day = day
        self.is_on = True

    def next(self) -> Any:
        if not self.is_on or self._dice.random() >= self._share:
            return self._usual
        self._day.faults += 1
        fault = self._dice.choice(self._faults)
        return later(fault, self._dice.randrange(STRIKE_MAX)) if self._is_speech else fault


TALK: tuple[Answer, ...] = (OPEN_BY_LOOK_UP, FOUND_BY_CALL, SHORT_STORY, GOODBYE)
SPOKEN_DAYS: dict[str, Callable[[], Any]] = {
    "openai_realtime": lambda: FakeOpenAIRealtime(TALK, SENTENCES, speed=1.2),
    "gemini_live": lambda: FakeGeminiLive(TALK, SENTENCES, piece_s=PIECE_S),
    "deepgram_agent": lambda: FakeDeepgramAgent(TALK, SENTENCES, piece_s=PIECE_S),
}
SPEECH_AGENTS: list[Mapping[Kind, Adapter]] = [
    {"speech": replace(each, fake=SPOKEN_DAYS[each.provider])} for each in MODELS
]
DAYS: tuple[Mapping[Kind, Adapter], ...] = (
    *AGENTS,
    *SPEECH_AGENTS,
    *({**USUAL, "llm": each} for each in OWN_MINDS),
    *PROGRAM_AGENTS,
)


def agent_of(provider: str) -> Mapping[Kind, Adapter]:
    """An agent that has the adapter of that name, the usual others with it.

    Raises:
        KeyError: there is none.
    """
    for agent in DAYS:
        if any(provider in (a.name, f"{a.kind}:{a.provider}") for a in agent.values()):
            return agent
    raise KeyError(provider)


def simulated_day(agent: Mapping[Kind, Adapter], hours: float, seed: int) -> Day:
    """:func:`simulate_day` on a clock of its own."""
    has_programs = any(adapter in PROGRAMS for adapter in agent.values())
    if has_programs:
        trio.run(learn_to_speak)
    with refusable() as folder:
        return simulate_patiently(
            simulate_day, agent, hours, seed, folder, seed=seed, has_processes=has_programs
        )


async def simulate_day(agent: Mapping[Kind, Adapter], hours: float, seed: int, folder: Path) -> Day:
    """Call after call for ``hours`` of simulated time; then see what is left.

    ``folder`` is where programs look whether they may start.
    """
    day, dice = Day(), random.Random(seed)
    before = Resources.held()
    process = psutil.Process()
    async with trio.open_nursery() as nursery:
        serving = trio.CancelScope()
        fakes: dict[Kind, Any] = {}
        ports: dict[Kind, Any] = {}
        for kind, adapter in agent.items():
            if adapter in OWN_MINDS:
                ports[kind] = responder_of(adapter.provider, Mind(Dice(adapter, seed, day)))
                continue
            fakes[kind] = fake = adapter.fake()
            if isinstance(fake, Program):
                fake.join(os.getpid(), folder)
            else:
                fake.faults = Dice(adapter, seed, day)
            ports[kind] = BUILDERS[kind]([adapter.spec(await nursery.start(fake.serve))], KEYS)
        programs = [fake for fake in fakes.values() if isinstance(fake, Program)]
        await nursery.start(_keep, list(ports.values()), serving)
        ready, hour = _agent(ports), 0
        sound_of = _as_people_do if agent.get("stt") is EMBEDDED_EARS else _sound
        while trio.current_time() < hours * 3600:
            with trio.fail_after(STUCK_S):
                async with trio.open_nursery() as call:
                    if programs:
                        call.start_soon(_harm, programs, dice, day)
                    await _call(ready, dice, day, sound_of)
                    call.cancel_scope.cancel(reason="the call is over")
            for fake in fakes.values():
                _forget(fake)
            if trio.current_time() >= (hour + 1) * 3600:
                hour = int(trio.current_time() // 3600)
                gc.collect()
                day.memory_mib.append((hour, process.memory_info().rss / 2**20))
            await trio.sleep(dice.expovariate(1 / BETWEEN_S))
        serving.cancel()
        await trio.sleep(5 + STALLED_S)
        for kind, fake in fakes.items():
            still = getattr(fake, "open_sessions", 0) + getattr(fake, "open_connections", 0)
            if still:
                day.left.append(f"{still} open at {agent[kind].name}")
        nursery.cancel_scope.cancel()
    await trio.sleep(1)
    day.left += Resources.held().left_since(before)
    return day


async def _harm(programs: Sequence[Program], dice: random.Random, day: Day) -> None:
    """Have something befall one of ``programs`` within a call."""
    await trio.sleep(dice.uniform(0, HARM_WITHIN_S))
    running = [program for program in programs if program.processes]
    if not running:
        return
    program = dice.choice(running)
    pids = [process.pid for process in program.processes]
    day.faults += 1
    harm = dice.choice((*Harm, None))
    if harm is None:  # slow
        harm_process(Harm.STALLS, pids[0])
        await trio.sleep(dice.uniform(0, SLOW_MAX_S))
        with suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGCONT)
        return
    program.faults.add(harm)
    try:
        await program.befall()
    finally:
        program.allow()


async def _keep(
    ports: Sequence[object],
    serving: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with serving:
        await serve_providers(ports, task_status=task_status)


def _agent(ports: Mapping[Kind, Any]) -> Agent:
    async def find_order(id: int) -> str:
        """Look up an order."""
        return "it is on its way"

    tool = function(find_order, "read", name=FUNCTION)
    definition = AgentDefinition(name="desk", welcome_message="", phrases=SENTENCES)
    if "speech" in ports:
        knowledge = SqliteKnowledge([Hit(text=GATE, title="Visiting", source="gate.md")])
        model = ports["speech"]
        return Agent(
            definition, speech_model=model, tools=(tool,), may_hang_up=False, knowledge=knowledge
        )
    return Agent(
        definition, ports["stt"], ports["llm"], ports["tts"], tools=(tool,), may_hang_up=False
    )


async def _call(
    agent: Agent, dice: random.Random, day: Day, sound_of: Callable[[str], Utterance]
) -> None:
    """One call of some minutes, hung up by the caller in the end, or at any instant."""
    here, there = memory_sockets()
    faults = LineFaults(
        seed=dice.randrange(1 << 30),
        loss=dice.choice((0.0, 0.0, 0.01)),
        jitter_ms=dice.choice((0.0, 0.0, 30.0)),
    )
    limit_s = dice.choice((1800.0, 1800.0, dice.uniform(1, 90)))
    carrier = FakeCarrier(_script(dice, sound_of), faults=faults, limit_s=limit_s)
    records: list[CallRecord] = []
    over_s = 0.0

    async def serve() -> None:
        nonlocal over_s
        records.append(await run_call(there, agent, CallConfig()))
        over_s = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        report = await carrier.call(here)
        ended_s = trio.current_time()
    day.teardown_s = max(day.teardown_s, over_s - ended_s)
    _account(day, records[0], report)


def _script(dice: random.Random, sound_of: Callable[[str], Utterance]) -> list[Action]:
    quiet = wait_for_agent_quiet(600, GIVE_UP_MS, GIVE_UP_MS)
    script: list[Action] = [say(_sound("")), say(sound_of(dice.choice(SENTENCES)))]
    for _ in range(dice.randrange(2, 12)):
        sentence = sound_of(dice.choice(SENTENCES))
        if dice.random() < 0.3:
            script.append(interrupt_after(dice.uniform(100, 2500), sentence, GIVE_UP_MS))
        else:
            script += [quiet, say(sentence)]
    return [*script, quiet, hang_up()]


@lru_cache
def _sound(sentence: str) -> Utterance:
    return Utterance(teach(sentence) if sentence else LINE_OPENS)


@lru_cache
def _as_people_do(sentence: str) -> Utterance:
    return Utterance(espeak_says[sentence])


def _account(day: Day, record: CallRecord, report: CarrierReport) -> None:
    day.calls += 1
    day.turns += record.stats.turns
    day.talked_s += record.duration_s
    day.ended[record.ended_by] = day.ended.get(record.ended_by, 0) + 1
    for used in record.usage:
        tally = day.usage.of(used.kind, used.provider, used.member)
        tally.requests += used.requests
        tally.failures += used.failures
    for turn in report.turns:
        if turn.response_ms is not None:
            day.silences_ms.append(turn.response_ms)
    if report.turns and report.ended_by == "caller":  # the last one that waited for an answer
        last = report.turns[-1]
        if last.response_ms is None:
            day.silences_ms.append(report.duration_ms - last.end_sample / 8)
    is_stale = report.counts.stale_messages and not record.stats.floor_lost  # that speaks at once
    if report.violations or is_stale:
        day.wrong.append(f"call {day.calls}: audio after its clear {report.violations[:2]}")


def _forget(fake: Any) -> None:
    """A fake remembers all; a day of it is more than memory is for."""
    if hasattr(fake, "sessions"):
        fake.sessions[:] = [session for session in fake.sessions if session.is_open]
        for session in fake.sessions:
            session.texts.clear()
            session.octets.clear()
            session.binary_sizes.clear()
    if hasattr(fake, "requests"):
        fake.requests.clear()
    for name in (
        "forms", "configured", "said", "conversations", "setups", "contents", "results", "heard",
        "settings", "prompts",
    ):  # fmt: skip
        getattr(fake, name, []).clear()
