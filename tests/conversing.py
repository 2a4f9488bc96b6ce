"""Speech models that follow a script, their agents, and what callers say to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.call import Call, CallRecord, run_call
from rtcore.ports import ToolCall
from rtcore.testing import (
    Action,
    FakeCarrier,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    hang_up,
    memory_sockets,
    say,
    simulate,
    wait,
    wait_for_agent_quiet,
)
from tests.test_call import ANSWERS, QUESTIONS, VOICE

T = TypeVar("T")
Said = str | ToolCall | tuple[str | ToolCall, ...]
TALK = [wait_for_agent_quiet(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
TWICE = [say(VOICE), wait_for_agent_quiet(1000), say(VOICE), wait_for_agent_quiet(1000)]
ASK = [wait(500), say(VOICE), wait_for_agent_quiet(1000)]
TURNS = ("ours", "theirs")


def model(*replies: Said, **how: Any) -> ScriptedSpeechModel:
    """One that takes 300 ms to its first sound, whatever it says."""
    return ScriptedSpeechModel(replies or ANSWERS, QUESTIONS, **{"first_audio_ms": 300, **how})


def agent_of(
    talker: ScriptedSpeechModel,
    *tools: Tool,
    welcome: str = "",
    voice: ScriptedSynthesizer | None = None,
    **words: Any,
) -> Agent:
    definition = AgentDefinition(name="desk", welcome_message=welcome, **words)
    if voice is None:
        return Agent(definition, speech_model=talker, tools=tools)
    return Agent(definition, synthesizer=voice, speech_model=talker, tools=tools)


def told(talker: ScriptedSpeechModel, kind: type[T]) -> list[T]:
    return [command for command in talker.told if isinstance(command, kind)]


def asked(name: str) -> ToolCall:
    return ToolCall(id=name, name=name, arguments="{}")


def steered(
    agent: Agent, script: list[Action], *steps: tuple[float, Callable[[Call], object]]
) -> CallRecord:
    """One call, and what is done to it at which second of it."""
    records: list[CallRecord] = []

    async def run() -> None:
        here, there = memory_sockets()
        async with trio.open_nursery() as nursery:

            async def later(call: Call, after_s: float, do: Callable[[Call], object]) -> None:
                await trio.sleep(after_s)
                do(call)

            def started(call: Call) -> None:
                for step in steps:
                    nursery.start_soon(later, call, *step)

            nursery.start_soon(FakeCarrier([*script, hang_up()]).call, here)
            records.append(await run_call(there, agent, on_start=started))
            nursery.cancel_scope.cancel(reason="call over")

    simulate(run)
    (record,) = records
    return record
