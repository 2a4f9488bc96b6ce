"""A node of one's own, with a mind of one's own: ``python -m tests.adapters.own_mind``.

What an agent's file cannot name: an async generator, or a plain generator in a thread. Its ears
and voice are those of a JSON file; records go where they are told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from rtcore import Agent, AgentDefinition, serve_calls
from rtcore.agent.functions import function
from rtcore.call import CallRecord
from rtcore.ports import Delta, Hit, ResponderRequest, ToolCall
from rtcore.providers import build_synthesizer, build_transcriber, serve_providers
from rtcore.providers.callable_responder import CallableResponder
from rtcore.providers.knowledge_sqlite import SqliteKnowledge
from rtcore.providers.thread_responder import ThreadResponder
from tests.adapters.talk import FUNCTION, GATE, plan

TOKEN_S = 0.012


def planned(request: ResponderRequest) -> list[str | Delta]:
    """The pieces of the answer."""
    last = request.messages[-1]
    texts, call = plan(last.text, is_result=last.role == "tool")
    return [*texts, *([ToolCall(id="c1", name=FUNCTION, arguments='{"id": 7}')] if call else [])]


class Mind:
    """Counts how often it is asked, and how often it is stopped before its end."""

    def __init__(self) -> None:
        self.asked = self.stopped = 0

    async def think(self, request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        self.asked += 1
        is_whole = False
        try:
            for piece in planned(request):
                await trio.sleep(TOKEN_S)
                yield piece
            is_whole = True
        finally:
            self.stopped += not is_whole

    def think_in_a_thread(self, request: ResponderRequest) -> Generator[str | Delta, None, None]:
        self.asked += 1
        is_whole = False
        try:
            for piece in planned(request):
                trio.from_thread.run(trio.sleep, TOKEN_S)
                yield piece
            is_whole = True
        finally:
            self.stopped += not is_whole


async def serve(kind: str, specs: Path, records: Path) -> None:
    """Serve until cancelled; each record is followed by a line of what the mind has counted."""
    given = json.loads(await trio.Path(specs).read_text())
    ears = build_transcriber(given["stt"], os.environ)
    voice = build_synthesizer(given["tts"], os.environ)
    mind, done = Mind(), 0
    responder: Any = CallableResponder(mind.think)
    if kind == "thread":
        responder = ThreadResponder(mind.think_in_a_thread)

    async def find_order(id: int) -> str:
        """Look up an order."""
        nonlocal done
        done += 1
        return "it is on its way"

    def keep(record: CallRecord) -> None:
        counts = {"asked": mind.asked, "stopped": mind.stopped, "done": done}
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
        await nursery.start(serve_providers, [ears, voice])
        port = await nursery.start(partial(serve_calls, agent, on_record=keep))
        sys.stdout.write(f"listening {port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
