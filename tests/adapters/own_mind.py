"""A node of one's own, with a mind of one's own: ``python -m tests.adapters.own_mind``.

What an agent's file cannot name: an async generator, or a plain generator in a thread. Its ears
and voice are those of a JSON file; records go where they are told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from rtcore import Agent, AgentDefinition, serve_calls
from rtcore.agent.functions import function
from rtcore.call import CallRecord
from rtcore.ports import Delta, Hit, Responder, ResponderRequest, ToolCall
from rtcore.providers import (
    build_responder,
    build_synthesizer,
    build_transcriber,
    serve_providers,
)
from rtcore.providers._settings import Deadlines
from rtcore.providers.callable_responder import CallableResponder
from rtcore.providers.fallback import FallbackResponder
from rtcore.providers.knowledge_sqlite import SqliteKnowledge
from rtcore.providers.thread_responder import ThreadResponder
from tests.adapters.talk import FUNCTION, GATE, plan

TOKEN_S = 0.012


def planned(request: ResponderRequest) -> list[str | Delta]:
    """The pieces of the answer."""
    last = request.messages[-1]
    texts, call = plan(last.text, is_result=last.role == "tool")
    return [*texts, *([ToolCall(id="c1", name=FUNCTION, arguments='{"id": 7}')] if call else [])]


MIND_FAULTS = ("raises", "breaks off", "stalls", "slow", "ends early", "nonsense")
PIECES_BEFORE = 2  # what is said of an answer that goes wrong in its middle
STALLED_S = (
    60.0  # past every limit, and then over: a thread that waits for ever is never free again
)
SLOW_S = 1.2  # just within the limit of a first piece
DEADLINES = Deadlines(first_byte_s=1.5, stall_s=1.0)


class EveryOther:
    """Hands out each of some faults once, to every other request."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.waiting = list(faults)
        self._is_due = True

    def next(self) -> str:
        self._is_due = not self._is_due
        return self.waiting.pop(0) if self._is_due and self.waiting else ""


class Faults(Protocol):
    """What goes wrong with one answer: one of ``MIND_FAULTS``, or nothing."""

    def next(self) -> str: ...


class Mind:
    """Counts how often it is asked, and how often it is stopped before its end."""

    def __init__(self, faults: Faults) -> None:
        self.asked = self.stopped = 0
        self.faults = faults

    async def think(self, request: ResponderRequest) -> AsyncGenerator[Any, None]:
        """As an async generator."""
        self.asked += 1
        self.stopped += 1
        for wait_s, piece in self._steps(request):
            await trio.sleep(wait_s)
            if piece is not None:
                yield piece
        self.stopped -= 1

    def think_in_a_thread(self, request: ResponderRequest) -> Generator[Any, None, None]:
        """As a plain generator."""
        self.asked += 1
        self.stopped += 1
        for wait_s, piece in self._steps(request):
            trio.from_thread.run(trio.sleep, wait_s)
            if piece is not None:
                yield piece
        self.stopped -= 1

    def _steps(self, request: ResponderRequest) -> Iterator[tuple[float, Any]]:
        """How long to wait, and what is said then, if anything."""
        fault = self.faults.next()
        if fault == "raises":
            raise RuntimeError("a bug")
        if fault == "slow":
            yield SLOW_S, None
        for number, piece in enumerate(planned(request)):
            if fault and number == PIECES_BEFORE:
                if fault == "breaks off":
                    raise ValueError("a bug in the middle")
                if fault == "ends early":
                    return
                if fault == "nonsense":
                    yield 0.0, number
                if fault == "stalls":
                    yield STALLED_S, None
            yield TOKEN_S, piece


class Raising:
    """Goes wrong whenever it is asked."""

    def next(self) -> str:
        return "raises"


def responder_of(kind: str, mind: Mind) -> Any:
    """``mind`` as a :class:`rtcore.ports.Responder`."""
    if kind == "thread":
        return ThreadResponder(mind.think_in_a_thread, deadlines=DEADLINES)
    return CallableResponder(mind.think, deadlines=DEADLINES)


def members_of(specs: Sequence[Mapping[str, Any]]) -> Sequence[Responder]:
    """The minds that ``specs`` list; none, if they list none."""
    if not specs:
        return ()
    built = build_responder(specs, os.environ)
    assert isinstance(built, FallbackResponder)
    return built.members


async def serve(kind: str, specs: Path, records: Path) -> None:
    """Serve until cancelled; each record is followed by a line of what the mind has counted."""
    given = json.loads(await trio.Path(specs).read_text())
    ears = build_transcriber(given["stt"], os.environ)
    voice = build_synthesizer(given["tts"], os.environ)
    mind, done = Mind(Raising() if given["is_raising"] else EveryOther(given["faults"])), 0
    responder = responder_of(kind, mind)
    if given["before"] or given["after"]:
        before, after = (members_of(given[side]) for side in ("before", "after"))
        responder = FallbackResponder([*before, responder, *after])

    async def find_order(id: int) -> str:
        """Look up an order."""
        nonlocal done
        done += 1
        return "it is on its way"

    def keep(record: CallRecord) -> None:
        counts = {
            "asked": mind.asked,
            "stopped": mind.stopped,
            "done": done,
            "unmet": len(getattr(mind.faults, "waiting", ())),
        }
        with records.open("ab") as file:
            file.write(msgspec.json.encode({**msgspec.to_builtins(record), "mind": counts}) + b"\n")

    agent = Agent(
        AgentDefinition(name="desk", welcome_message=""),
        ears,
        responder,
        voice,
        tools=(function(find_order, "read", name=FUNCTION),),
        may_hang_up=False,
        knowledge=SqliteKnowledge([Hit(text=GATE, title="Visiting", source="gate.md")]),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_providers, [ears, responder, voice])
        port = await nursery.start(partial(serve_calls, agent, on_record=keep))
        sys.stdout.write(f"listening {port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
