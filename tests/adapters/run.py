"""One adapter in a whole node: its fake, ``rtcore serve`` as a process, a caller, what they saw."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil
import trio

from rtcore.call import CallRecord
from rtcore.commands.call import NotConnected, call
from rtcore.testing import Action, CarrierReport, LineClock
from rtcore.testing.loopback import free_port
from rtcore.usage import Kind, ProviderUsage
from tests.adapters.kinds import PORTS, USUAL, Adapter, Agent
from tests.adapters.programs import SITE, Program
from tests.adapters.talk import FUNCTION, GATE, RESULT, SENTENCES
from tests.fakes._faults import Fault
from tests.fakes._ws import FakeSocketServer
from tests.fakes.function import FakeFunction

REFUSES, SLOW = Fault(status=503), Fault(first_delay_s=3.0)
BEGINNINGS = (REFUSES, SLOW)  # they befall who connects
Backing = Literal["alone", "second", "first"]
FAULT_EVERY_S = 5.0  # longer than a turn of the talk, so that each harms another
UP_LIMIT_S = 120.0  # a machine that does much else
CALL_LIMIT_S = 120.0
RECORD_LIMIT_S = 5.0
EXIT_LIMIT_S = 10.0
KEY_NAMES = (
    "DEEPGRAM_API_KEY", "ASSEMBLYAI_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY", "ELEVENLABS_API_KEY", "CARTESIA_API_KEY",
)  # fmt: skip
KEYS = {name: "key-0123456789" for name in KEY_NAMES}


class Gate:
    """Lets ``count`` calls begin together: a node that starts beside them would disturb them."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._open = trio.Event()

    async def passed(self) -> None:
        """Wait until all have come."""
        self._missing -= 1
        if not self._missing:
            self._open.set()
        await self._open.wait()


@dataclass(frozen=True)
class Seen:
    """What became of one call: the carrier's account, the node's record, the fakes."""

    agent: Agent
    report: CarrierReport
    record: CallRecord
    fakes: Mapping[Kind, Sequence[Any]]
    function_calls: int
    late_ms: float  # the caller's worst: above some 50 the machine was too busy to be a caller
    cpu_ms: float  # of the node and the programs it runs, a second of the call

    def used(self, kind: Kind, member: int = 0) -> ProviderUsage:
        """What the record says was used of a member of a list."""
        found = (u for u in self.record.usage if u.kind == kind and u.member == member)
        return next(found, ProviderUsage(kind=kind, provider="", member=member))

    @property
    def said(self) -> tuple[str, ...]:
        """What the agent is to have said, turn by turn."""
        (said,) = {a.said for k, a in self.agent.items() if k in ("llm", "speech")}
        return said

    @property
    def longest_wait_ms(self) -> float:
        """The longest a caller who had finished heard nothing at all."""
        waits = [
            (self.report.duration_ms - turn.end_sample / 8)
            if turn.response_ms is None
            else turn.response_ms
            for turn in self.report.turns[1:]
        ]
        return max(waits, default=0.0)


async def converse(
    agent: Agent,
    script: Sequence[Action],
    folder: Path,
    *,
    backing: Backing = "alone",
    faults: Mapping[Kind, Sequence[Any]] = {},
    gate: Gate | None = None,
) -> Seen:
    """Hold one conversation with ``agent``.

    Args:
        backing: the place of each provider in its list: ``second`` to one that refuses all, or
            ``first``, with another after it; a program cannot be started any more then.
        faults: what goes wrong with each kind, one every ``FAULT_EVERY_S``: the next session or
            request meets it, and sessions that are open are lost.
        gate: passed once the node is up; None: the call is made at once.
    """
    async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
        fakes: dict[Kind, list[Any]] = {}
        specs: dict[Kind, list[dict[str, Any]]] = {}
        for kind, adapter in agent.items():
            others = {"second": (adapter.peer, adapter), "first": (adapter, adapter.peer)}
            members = others.get(backing, (adapter,))
            fakes[kind] = [member.fake() for member in members]
            for fake, member in zip(fakes[kind], members, strict=True):
                fake.faults.usual = member.usual
            if backing == "second":
                fakes[kind][0].faults.usual = REFUSES
            specs[kind] = [
                member.spec(await nursery.start(fake.serve))
                for fake, member in zip(fakes[kind], members, strict=True)
            ]
        function = FakeFunction(RESULT)
        function.url = await nursery.start(function.serve)
        (folder / "gate.md").write_text(f"# Visiting\n\n{GATE}\n", encoding="utf-8")
        path = folder / "agent.toml"
        path.write_text(agent_file(specs, function.url), encoding="utf-8")
        port, records = free_port(), folder / "records.jsonl"
        command = [
            sys.executable, "-m", "rtcore", "serve", "--agent", str(path),
            "--port", str(port), "--records", str(records),
        ]  # fmt: skip
        (folder / "sitecustomize.py").write_text(SITE)
        node = await closing.enter_async_context(serving(command, folder))
        programs = [each for some in fakes.values() for each in some if isinstance(each, Program)]
        for program in programs:
            program.join(node.pid, folder)
            if backing == "first":
                program.refuse()
                await program.end()
        if gate is not None:
            await gate.passed()
        url = f"ws://127.0.0.1:{port}/plivo/media/dev"
        for kind, some in faults.items():
            harming = harm_sessions if kind == "speech" else harm
            nursery.start_soon(harming, fakes[kind], some)
        clock = LineClock()
        nursery.start_soon(clock.run)
        before_ms = cpu_ms_of(node.pid)
        report = await call(url, script, limit_s=CALL_LIMIT_S, clock=clock)
        cpu_ms = (cpu_ms_of(node.pid) - before_ms) / report.duration_ms * 1000
        record = await the_record(records)
        calls = len(function.requests)
        seen = Seen(agent, report, record, fakes, calls, clock.latest_ms, cpu_ms)
        await trio.sleep(0.2)  # what the fakes have still to see of the end
        for program in programs:
            await program.look()
        nursery.cancel_scope.cancel()
    return seen


async def converse_with_own(
    adapter: Adapter,
    script: Sequence[Action],
    folder: Path,
    *,
    gate: Gate | None = None,
    backing: Backing = "alone",
    faults: Sequence[str] = (),
) -> Seen:
    """The same with a program of its own, whose mind is one of :mod:`own_mind`.

    Args:
        backing: its place in a list: ``second`` to a service that refuses all, or ``first``,
            going wrong whenever it is asked, and a service that answers after it.
        faults: what goes wrong with it, one at every other request.
    """
    async with AsyncExitStack() as closing, trio.open_nursery() as nursery:

        async def spec_of(other: Adapter, fake: Any, usual: Fault) -> dict[str, Any]:
            fake.faults.usual = usual
            return other.spec(await nursery.start(fake.serve))

        ears, service, voice = USUAL["stt"], USUAL["llm"], USUAL["tts"]
        other = service.fake()
        usual = service.usual if backing == "first" else REFUSES
        others = [] if backing == "alone" else [await spec_of(service, other, usual)]
        given = {
            "stt": [await spec_of(ears, ears.fake(), ears.usual)],
            "tts": [await spec_of(voice, voice.fake(), voice.usual)],
            "before": others if backing == "second" else [],
            "after": others if backing == "first" else [],
            "is_raising": backing == "first",
            "faults": faults,
        }
        told, records = folder / "given.json", folder / "records.jsonl"
        told.write_bytes(msgspec.json.encode(given))
        own = "tests.adapters.own_mind"
        command = [sys.executable, "-m", own, adapter.provider, str(told), str(records)]
        node = await closing.enter_async_context(serving(command, folder))
        if gate is not None:
            await gate.passed()
        port = (folder / "node.log").read_text(encoding="utf-8").split()[1]
        clock = LineClock()
        nursery.start_soon(clock.run)
        url = f"ws://127.0.0.1:{port}/"
        before_ms = cpu_ms_of(node.pid)
        report = await call(url, script, limit_s=CALL_LIMIT_S, clock=clock)
        cpu_ms = (cpu_ms_of(node.pid) - before_ms) / report.duration_ms * 1000
        record = await the_record(records)
        mind = msgspec.json.decode(records.read_bytes(), type=_Own).mind
        agent: Agent = {**USUAL, "llm": adapter}
        minds = {"alone": [mind], "second": [other, mind], "first": [mind, other]}[backing]
        seen = Seen(agent, report, record, {"llm": minds}, mind.done, clock.latest_ms, cpu_ms)
        nursery.cancel_scope.cancel()
    return seen


class OwnMind(msgspec.Struct, frozen=True):
    """What it counted."""

    asked: int
    stopped: int
    done: int
    unmet: int  # faults


class _Own(msgspec.Struct, frozen=True):
    mind: OwnMind


async def harm(fakes: Sequence[Any], faults: Sequence[Any]) -> None:
    """Have ``faults`` met one by one, by the last of a list."""
    for fault in faults:
        await trio.sleep(FAULT_EVERY_S)
        fake = fakes[-1]
        fake.faults.add(fault)
        if isinstance(fake, Program):
            await fake.befall()
        if isinstance(fake, FakeSocketServer):
            await fake.drop_all()


async def harm_sessions(fakes: Sequence[Any], faults: Sequence[Fault]) -> None:
    """The same for two speech models, of which one holds the session.

    What befalls a session's middle befalls that one. What befalls who connects befalls whoever
    is connected to as the session is lost: the other, or the same where a session is resumed.
    """
    for fake in fakes[1:]:
        fake.faults = fakes[0].faults
    for fault in faults:
        await trio.sleep(FAULT_EVERY_S)
        present = max(fakes, key=lambda fake: fake.open_sessions)
        if fault in BEGINNINGS:
            present.faults.add(fault)
            await present.drop_all()
        else:
            session = next(each for each in present.sessions if each.is_open)
            session.fault = later(fault, session.sent)


def later(fault: Fault, sent: int) -> Fault:
    """``fault`` after ``sent`` messages more."""
    names = ("drop_after", "stall_after", "error_after", "malformed_after")
    after = {name: getattr(fault, name) for name in names if getattr(fault, name) is not None}
    return replace(fault, **{name: count + sent for name, count in after.items()})


def cpu_ms_of(pid: int) -> float:
    """What a process and those it has started have used so far, that are there now."""
    root, used_s = psutil.Process(pid), 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used_s += times.user + times.system
    return used_s * 1000


@asynccontextmanager
async def serving(command: Sequence[str], folder: Path) -> AsyncIterator[trio.Process]:
    """Keep a node while the block runs; its log lies in ``folder``."""
    env = {**os.environ, **KEYS, "PYTHONPATH": str(folder)}
    with (folder / "node.log").open("wb") as log:
        process = await trio.lowlevel.open_process(list(command), env=env, stdout=log, stderr=log)
        try:
            with trio.fail_after(UP_LIMIT_S):
                while b"listening" not in (said := (folder / "node.log").read_bytes()):
                    if process.poll() is not None:
                        raise NotConnected(f"the node did not start: {said.decode()[-2000:]}")
                    await trio.sleep(0.05)
            yield process
        finally:
            with trio.move_on_after(EXIT_LIMIT_S, shield=True):
                process.send_signal(signal.SIGTERM)
                await process.wait()
            if process.returncode is None:
                process.kill()


async def the_record(path: Path) -> CallRecord:
    """The record of the one call, once it is written."""
    with trio.move_on_after(RECORD_LIMIT_S):
        while (record := last_record(path)) is None:
            await trio.sleep(0.05)
        return record
    said = path.with_name("node.log").read_text(encoding="utf-8")
    raise NotConnected(f"the node wrote no record: {said[-2000:]}")


def last_record(path: Path) -> CallRecord | None:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if not lines or not lines[-1].endswith(b"\n"):
        return None
    return msgspec.json.decode(lines[-1], type=CallRecord)


def agent_file(specs: Mapping[Kind, Sequence[Mapping[str, Any]]], function_url: str) -> str:
    """An agent with these providers, a function and a document."""
    lines = [
        'name = "desk"',
        'welcome_message = ""',
        'documents = ["gate.md"]',
        "allow_private_urls = true",
        "may_hang_up = false",
        f"phrases = {_toml(SENTENCES)}",
    ]
    for kind, members in specs.items():
        for spec in members:
            lines.append(f"[[{PORTS[kind]}]]")
            lines += [f"{name} = {_toml(value)}" for name, value in spec.items()]
    function = {
        "type": "webhook",
        "name": FUNCTION,
        "description": "Look up an order.",
        "effect": "read",
        "url": function_url,
        "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}},
    }
    lines.append("[[functions]]")
    lines += [f"{name} = {_toml(value)}" for name, value in function.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return msgspec.json.encode(value).decode()
