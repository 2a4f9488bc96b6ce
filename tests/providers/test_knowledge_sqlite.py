"""Documents in SQLite's full text: what is found, and that no question breaks it."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

from rtcore.ports import Hit
from rtcore.providers.knowledge_sqlite import SqliteKnowledge

HITS = (
    Hit(title="Parking", text="The car park lies behind the house.", source="place.md"),
    Hit(title="Opening hours", text="We are open from nine to five on weekdays.", source="desk.md"),
    Hit(title="Dogs", text="Dogs may wait in the garden.", source="place.md"),
)


async def test_the_passage_that_fits_best_comes_first() -> None:
    index = SqliteKnowledge(HITS)
    assert (await index.search("Where can I park my car?", 3))[0] == HITS[0]
    assert (await index.search("when do you open", 1)) == (HITS[1],)
    assert (await index.search("is my dog welcome", 3)) == (HITS[2],)
    index.close()


async def test_only_common_words_find_nothing() -> None:
    index = SqliteKnowledge(HITS)
    assert await index.search("what is it that you do", 3) == ()
    assert await index.search("", 3) == ()
    index.close()


@given(st.text(max_size=200))
def test_no_question_breaks_it(question: str) -> None:
    async def ask() -> None:
        index = SqliteKnowledge(HITS)
        assert len(await index.search(f"{question} park", 2)) <= 2
        index.close()

    trio.run(ask)


async def test_many_ask_at_once() -> None:
    index = SqliteKnowledge(HITS)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(index.search, "car park", 2)
    with trio.move_on_after(0):
        await index.search("car park", 2)
    assert await index.search("car park", 1) == (HITS[0],)
    index.close()
