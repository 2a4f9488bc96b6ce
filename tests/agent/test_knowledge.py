"""A lookup runs while the caller speaks; a turn waits for it no longer than its budget."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from rtcore.agent.knowledge import FusedIndex, Lookup, fused, told
from rtcore.errors import ProviderError
from rtcore.ports import Hit
from tests.agent.thoughts import Model, think

PARKING, HOURS = (
    Hit(text="Behind the house.", source="a.md"),
    Hit(text="Nine to five.", title="Hours"),
)


class ScriptedIndex:
    """Takes ``takes_s`` and finds what it is told to."""

    def __init__(self, *hits: Hit, takes_s: float = 0.0, error: bool = False) -> None:
        self.hits, self.takes_s, self.error = hits, takes_s, error
        self.asked: list[str] = []
        self.open = 0

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        self.asked.append(question)
        self.open += 1
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.open -= 1
        if self.error:
            raise ProviderError("index", "broken", retryable=False)
        return self.hits[:limit]


@asynccontextmanager
async def looking(index: ScriptedIndex) -> AsyncIterator[Lookup]:
    lookup = Lookup(index)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lookup.run)
        yield lookup
        nursery.cancel_scope.cancel()
    assert index.open == 0


async def test_what_was_looked_up_while_the_caller_spoke_is_there_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    index = ScriptedIndex(PARKING, takes_s=0.2)
    async with looking(index) as lookup:
        for words in ("where", "where is", "where is the", "Where is the car park?"):
            lookup.hear(words)
            await trio.sleep(0.05)
        await trio.sleep(0.2)  # the endpoint is awaited
        began_s = trio.current_time()
        assert await lookup.find("where is the car park") == (PARKING,)
        assert trio.current_time() == began_s
        assert lookup.skipped == 0
        assert index.asked[-1] == "where is the car park"
        assert lookup.searches == len(index.asked) < 4  # one at a time: newer words wait


async def test_past_the_budget_the_turn_goes_on_without_and_it_is_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with looking(ScriptedIndex(PARKING, takes_s=1.0)) as lookup:
        began_s = trio.current_time()
        assert await lookup.find("where is the car park") == ()
        assert trio.current_time() - began_s == pytest.approx(0.05)
        assert lookup.skipped == 1
        await trio.sleep(1)
        assert await lookup.find("Where is the car park?") == (PARKING,)


async def test_past_the_budget_what_the_beginning_found_is_better_than_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with looking(ScriptedIndex(PARKING, takes_s=0.2)) as lookup:
        lookup.hear("where is the car")
        await trio.sleep(0.3)
        assert await lookup.find("where is the car park please") == (PARKING,)
        assert lookup.skipped == 0


async def test_a_beginning_that_found_nothing_counts_as_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    index = ScriptedIndex()
    async with looking(index) as lookup:
        lookup.hear("where")
        await trio.sleep(0.01)
        index.takes_s, index.hits = 1.0, (PARKING,)
        assert await lookup.find("where is the car park") == ()
        assert lookup.skipped == 1


async def test_a_question_given_up_before_it_is_asked_does_not_stand_in_the_way_of_the_newest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with looking(ScriptedIndex(PARKING, takes_s=0.01)) as lookup:

        async def find(words: str, *, is_given_up: bool) -> None:
            with trio.CancelScope() as asking:
                if is_given_up:
                    asking.cancel()
                assert await lookup.find(words) == (PARKING,)

        for number in range(30):  # which of the two runs first is Trio's choice
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(find, "where is the", is_given_up=True))
                nursery.start_soon(partial(find, f"where is car park {number}", is_given_up=False))
        assert lookup.skipped == 0
        assert lookup.searches == 30


async def test_an_index_that_hangs_or_fails_costs_no_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for index in (ScriptedIndex(takes_s=60.0), ScriptedIndex(error=True)):
        async with looking(index) as lookup:
            assert await lookup.find("hello there") == ()
            await trio.sleep(3)
            assert lookup.failed == 1
            index.takes_s, index.error, index.hits = 0.0, False, (HOURS,)
            assert await lookup.find("when do you open") == (HOURS,)


async def test_nothing_said_is_nothing_searched() -> None:
    index = ScriptedIndex(PARKING)
    async with looking(index) as lookup:
        lookup.hear("...")
        await trio.testing.wait_all_tasks_blocked()
    assert index.asked == []


async def test_what_was_found_stands_before_the_caller_s_words_and_its_source_is_kept() -> None:
    async def lookup(text: str) -> tuple[Hit, ...]:
        assert text == "Hello?"
        return (PARKING, HOURS)

    model = Model("Behind the house.")
    _, thought = await think(model, lookup=lookup)
    assert model.requests[0].messages[-2] == told((PARKING, HOURS))
    assert "[Hours]\nNine to five." in model.requests[0].messages[-2].text
    assert model.requests[0].messages[-1].text == "Hello?"
    assert thought.sources == ("a.md",)


async def test_nothing_found_is_nothing_told() -> None:
    async def lookup(text: str) -> tuple[Hit, ...]:
        return ()

    model = Model("Hello.")
    await think(model, lookup=lookup)
    assert [message.role for message in model.requests[0].messages] == ["user"]


def test_what_two_rankings_agree_on_comes_first() -> None:
    other = Hit(text="other")
    assert fused([(PARKING, HOURS), (other, HOURS)])[0] == HOURS
    assert fused([(PARKING,), ()]) == (PARKING,)


async def test_indexes_are_asked_at_once_and_one_may_fail(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow, broken = ScriptedIndex(PARKING, takes_s=1.0), ScriptedIndex(error=True, takes_s=1.0)
    began_s = trio.current_time()
    assert await FusedIndex(slow, broken).search("q", 3) == (PARKING,)
    assert trio.current_time() - began_s == pytest.approx(1.0)
    with pytest.raises(ProviderError):
        await FusedIndex(broken).search("q", 3)
