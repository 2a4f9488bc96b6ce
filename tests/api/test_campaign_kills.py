"""A campaign whose nodes are killed: real processes, real sockets, and a count of what rang."""

from __future__ import annotations

import pytest

from tests.api.campaign_kills import Outcome, kill_again_and_again

KILLS = 3  # `python -m tests.api.campaign_kills 40` for longer


def check(outcome: Outcome) -> None:
    assert max(outcome.rung.values()) == 1, outcome
    attempts = [url for _, url in outcome.asked]
    assert len(set(attempts)) == len(attempts)
    assert {each["state"] for each in outcome.targets.values()} == {"done"}
    for number in outcome.numbers:
        found = outcome.targets[number]["outcome"]
        # rung: its outcome is known in the end; not rung: nobody could know that
        assert found == (outcome.wanted[number] if outcome.rung[number] else "unknown")


async def test_no_number_rings_twice_though_a_node_is_killed(
    postgres_url: str | None,
) -> None:
    if postgres_url is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    check(await kill_again_and_again(postgres_url, KILLS, has_survivor=True))


async def test_no_number_rings_twice_though_the_only_node_is_killed(sqlite_url: str) -> None:
    check(await kill_again_and_again(sqlite_url, KILLS, has_survivor=False))
