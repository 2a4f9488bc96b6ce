"""A short stretch of the simulated days of ``python -m tests.soak --provider NAME``."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio

from tests.adapters.programs import PROGRAM_AGENTS
from tests.days import DAYS, Day, agent_of, simulated_day
from tests.patient_clock import simulate_patiently

HOURS = 0.05  # a call, or two; with programs, which are real, one


@pytest.mark.parametrize(
    "number",
    range(len(DAYS)),
    ids=lambda number: ", ".join(adapter.provider for adapter in DAYS[number].values()),
)
def test_a_stretch_of_troubled_calls_leaves_nothing(number: int) -> None:
    has_programs = DAYS[number] in PROGRAM_AGENTS
    day = simulated_day(DAYS[number], 0.01 if has_programs else HOURS, number)
    assert day.calls > 0
    assert day.turns > 0
    assert day.complaints == []


async def _count() -> int:
    """Work of a thread, beside a deadline that the clock must not jump to meanwhile."""
    with trio.fail_after(1):
        return await trio.to_thread.run_sync(lambda: sum(range(2_000_000)))


async def _ask() -> bytes:
    """The same of a process, which then waits for ever to be asked again."""
    code = "import sys; sys.stdout.write(sys.stdin.readline()); sys.stdout.flush(); input()"
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.fail_after(0.001):
        await process.stdin.send_all(b"well?\n")
        answer = bytes(await process.stdout.receive_some())
    with trio.move_on_after(3600) as hour:
        await process.stdout.receive_some()
    assert hour.cancelled_caught
    process.kill()
    await process.wait()
    await process.stdin.aclose()
    await process.stdout.aclose()
    return answer


def test_the_clock_stands_still_while_a_thread_or_a_process_works() -> None:
    assert simulate_patiently(_count) == sum(range(2_000_000))
    assert simulate_patiently(_ask) == b"well?\n"


async def _ask_within_a_thread() -> list[float]:
    """The times at which a thread is told what the loop waited for."""

    def work() -> list[float]:
        return [trio.from_thread.run(_later, wait_s) for wait_s in (1.0, 2.0)]

    return await trio.to_thread.run_sync(work)


async def _later(wait_s: float) -> float:
    await trio.sleep(wait_s)
    return trio.current_time()


def test_a_thread_takes_the_time_that_it_asks_for() -> None:
    first_s, second_s = simulate_patiently(_ask_within_a_thread)
    assert second_s - first_s == pytest.approx(2.0)


def test_what_must_not_be_is_said() -> None:
    day = Day(silences_ms=[700.0, 8500.0], teardown_s=0.2, left=["task x"], wrong=["call 3"])
    assert day.complaints == [
        "call 3",
        "task x",
        "teardown took 200 ms",
        "8500 ms of silence",
    ]


def test_a_provider_is_found_by_its_kind_and_name() -> None:
    assert agent_of("tts:cartesia")["tts"].provider == "cartesia"
    assert agent_of("speech:gemini_live")["speech"].provider == "gemini_live"
    assert agent_of("llm:thread")["llm"].provider == "thread"
    assert agent_of("tts:piper")["tts"].provider == "piper"
    with pytest.raises(KeyError):
        agent_of("stt:nobody")
