"""What is over is freed at once: nothing of a call or a reply waits for the garbage collector.

The collector stops every call of the process while it looks (:mod:`rtcore.heap`). An error that
ends a task is another thing: Trio's frames and its traceback hold each other.
"""

from __future__ import annotations

import dataclasses
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from rtcore.agent.agent import Agent, Colleague
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.listening import Listening
from rtcore.call import run_call
from rtcore.listening import ListeningCall
from rtcore.ports import ToolCall
from rtcore.testing import (
    FakeCarrier,
    ScriptedTranscriber,
    hang_up,
    interrupt_after,
    memory_sockets,
    say,
    simulate,
    wait,
    wait_for_agent_quiet,
)
from rtcore.testing.caller import Action
from rtcore.weakly import weakly
from tests.conversing import TURNS, agent_of, asked, model
from tests.test_call import ANSWERS, TALK, VOICE, busy_script, scripted, tool

INTERRUPTED = [
    wait_for_agent_quiet(500),
    say(VOICE),
    interrupt_after(600, VOICE),
    wait_for_agent_quiet(1000),
    hang_up(),
]
MIDST = [wait(500), say(VOICE), wait(900), hang_up()]
ALONE = [wait(500), say(VOICE), wait(20_000), hang_up()]


class Kept:
    """The types of what only the collector could free, those of test doubles apart."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()

    def look(self) -> None:
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
        finally:
            gc.set_debug(0)
        for each in gc.garbage:
            module = type(each).__module__
            if module.startswith("rtcore.") and not module.startswith("rtcore.testing"):
                self.types[type(each).__qualname__] += 1
        gc.garbage.clear()


@contextmanager
def collecting_by_hand() -> Iterator[Kept]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield Kept()
    finally:
        gc.enable()
        gc.unfreeze()
        gc.collect()


def left_by(scenario: Callable[[], Awaitable[None]]) -> Counter[str]:
    async def run() -> None:
        await scenario()
        await trio.sleep(60)  # whatever it started has ended
        kept.look()

    with collecting_by_hand() as kept:
        simulate(run)
    return kept.types


def call_of(
    agent: Agent, script: list[Action], limit_s: float = 3600.0
) -> Callable[[], Awaitable[None]]:
    kind = ListeningCall if agent.definition.listening is not None else None

    async def run() -> None:
        here, there = memory_sockets()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeCarrier(script, limit_s=limit_s).call, here)
            record = await run_call(there, agent, kind=kind)
            assert record.notes
            nursery.cancel_scope.cancel(reason="call over")

    return run


def with_function(name: str, effect: str) -> Agent:
    wanted = ToolCall(id="c1", name=name, arguments="{}")
    tools = (tool(name, effect, [], 2.0),) if effect else ()
    return scripted(answers=(wanted, ANSWERS[1]), welcome="", tools=tools)


def with_colleague() -> Agent:
    away = ToolCall(id="h", name="hand_over", arguments='{"to":"law"}')
    first = scripted(answers=(away, ANSWERS[1]), welcome="")
    colleagues = {"law": Colleague(scripted(), what_for="they ask for it")}
    return dataclasses.replace(first, colleagues=colleagues)


def listener() -> Agent:
    definition = AgentDefinition(name="ears", listening=Listening())
    return Agent(definition, transcriber=ScriptedTranscriber(["I want to cancel"], 150))


CALLS = {
    "answered": call_of(scripted(), TALK),
    "interrupted": call_of(scripted(), INTERRUPTED),
    "hung up in the midst": call_of(scripted(), MIDST),
    "reads": call_of(with_function("look", "read"), ALONE),
    "writes": call_of(with_function("order", "write"), ALONE),
    "writes, interrupted": call_of(with_function("order", "write"), INTERRUPTED),
    "hangs up": call_of(with_function("hang_up", ""), ALONE),
    "handed over": call_of(with_colleague(), ALONE),
    "listened to": call_of(listener(), TALK),
    **{
        f"speech model, turns {turns}, {name}": call_of(agent_of(talker, *tools), script)
        for turns in TURNS
        for name, talker, tools, script in (
            ("answered", model(turns=turns), (), TALK),
            ("interrupted", model(turns=turns), (), INTERRUPTED),
            ("hung up", model(turns=turns), (), MIDST),
            (
                "function",
                model(asked("order"), *ANSWERS, turns=turns),
                (tool("order", "write", [], 2.0),),
                ALONE,
            ),
        )
    },
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_nothing_to_the_collector(name: str) -> None:
    assert left_by(CALLS[name]) == {}


def test_a_call_that_is_cancelled_leaves_nothing_to_the_collector() -> None:
    async def scenario() -> None:
        here, there = memory_sockets()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeCarrier([wait(60_000)]).call, here)
            with trio.move_on_after(1.5):
                await run_call(there, scripted())
            nursery.cancel_scope.cancel(reason="call over")

    assert left_by(scenario) == {}


@pytest.mark.parametrize("hang_up_ms", range(100, 9000, 450))
def test_hung_up_anywhere_nothing_is_left_to_the_collector(hang_up_ms: int) -> None:
    assert left_by(call_of(scripted(), busy_script(), limit_s=hang_up_ms / 1000)) == {}


def test_what_only_the_collector_can_free_is_seen() -> None:
    async def scenario() -> None:
        agents = [scripted(), scripted()]
        for agent in agents:
            object.__setattr__(agent, "colleagues", {"self": agent})

    assert left_by(scenario)["Agent"] == 2


def test_a_part_that_outlives_its_whole_is_told() -> None:
    class Whole:
        def double(self, number: int) -> int:
            return 2 * number

    whole = Whole()
    part = weakly(whole.double)
    assert part(21) == 42
    del whole
    with pytest.raises(ReferenceError):
        part(21)
