"""Parts that stand alone: rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.web.limits import BUCKETS_MAX, RateLimiter


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = RateLimiter(rate_per_s=2, burst=3)
    assert [limiter.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.wait_s("b", 0.0) == 0
    assert limiter.wait_s("a", 0.5) == 0
    assert limiter.wait_s("a", 0.5) == pytest.approx(0.5)
    assert [limiter.wait_s("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_the_buckets_are_bounded() -> None:
    limiter = RateLimiter(rate_per_s=1, burst=1)
    for number in range(BUCKETS_MAX + 10):
        limiter.wait_s(str(number), 0.0)
    assert len(limiter._buckets) == BUCKETS_MAX


@given(st.lists(st.floats(0, 10), max_size=60))
def test_no_stretch_of_time_gives_more_than_burst_and_rate(gaps_s: list[float]) -> None:
    limiter, now_s, taken = RateLimiter(rate_per_s=3, burst=5), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        taken += limiter.wait_s("k", now_s) == 0
        assert taken <= 5 + 3 * now_s + 1e-6
