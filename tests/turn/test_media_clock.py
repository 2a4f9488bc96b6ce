"""Frames in order, gaps concealed, time counted in samples."""

from __future__ import annotations

import random
from array import array

from hypothesis import given
from hypothesis import strategies as st

from rtcore.turn.media_clock import MediaClock


def frame(number: int) -> bytes:
    return array("h", [100 + number] * 160).tobytes()


def test_an_orderly_line_is_not_delayed() -> None:
    clock = MediaClock()
    for n in range(1, 100):
        assert clock.push(frame(n), n, n * 0.02) == [frame(n)]
    assert clock.now_samples == 99 * 160
    assert (clock.lost_frames, clock.late_frames, clock.reordered_frames) == (0, 0, 0)


def test_frames_without_numbers_pass_as_they_come() -> None:
    clock = MediaClock()
    assert [clock.push(frame(n), None, n * 0.02) for n in range(3)] == [
        [frame(n)] for n in range(3)
    ]


def test_a_swapped_pair_is_put_right() -> None:
    clock = MediaClock()
    clock.push(frame(1), 1, 0.0)
    assert clock.push(frame(3), 3, 0.02) == []
    assert clock.push(frame(2), 2, 0.03) == [frame(2), frame(3)]
    assert clock.reordered_frames == 1


def test_a_lost_frame_is_concealed_once_its_window_is_over() -> None:
    clock = MediaClock()
    clock.push(frame(1), 1, 0.0)
    assert clock.push(frame(3), 3, 0.04) == []
    assert not clock.is_due(0.05)
    assert clock.tick(0.05) == []
    assert clock.is_due(0.061)
    out = clock.tick(0.061)
    assert len(out) == 2
    assert clock.lost_frames == 1
    assert clock.now_samples == 3 * 160


def test_a_frame_after_its_concealment_is_dropped_and_widens_the_window() -> None:
    clock = MediaClock()
    clock.push(frame(1), 1, 0.0)
    clock.push(frame(3), 3, 0.02)
    clock.tick(0.05)
    before = clock.window_ms
    assert clock.push(frame(2), 2, 0.06) == []
    assert clock.late_frames == 1
    assert clock.window_ms > before
    for n in range(4, 6000):
        clock.push(frame(n % 1000), n, 0.06 + n * 0.02)
    assert clock.window_ms == 20  # order shrinks it again


def test_a_new_count_is_no_loss() -> None:
    clock = MediaClock()
    clock.push(frame(1), 90_000, 0.0)
    assert clock.push(frame(2), 1, 0.02) == [frame(2)]
    assert clock.push(frame(3), 2, 0.04) == [frame(3)]
    assert clock.lost_frames == 0


def test_a_stalled_line_becomes_silence_in_real_time() -> None:
    clock = MediaClock()
    clock.push(frame(1), 1, 0.0)
    assert clock.tick(0.08) == []
    total = sum(len(clock.tick(0.02 * n)) for n in range(5, 101))
    assert total == clock.inserted_frames
    assert 94 <= total <= 97  # two seconds, less the wait before the first
    assert clock.push(frame(2), 2, 2.0) != []  # and what comes then is words, not debris


def test_nothing_is_put_in_before_the_first_frame() -> None:
    clock = MediaClock()
    assert not clock.is_due(100.0)
    assert clock.tick(100.0) == []


@given(st.integers(0, 1 << 30), st.floats(0, 0.2), st.integers(0, 3))
def test_any_line_gives_every_place_exactly_one_frame(
    seed: int, loss: float, distance: int
) -> None:
    """Reordered by up to ``distance``, some lost: as many frames come out as places went by."""
    dice = random.Random(seed)
    numbers = [n for n in range(1, 200) if n == 1 or dice.random() >= loss]
    order = sorted(numbers[1:], key=lambda n: n + dice.randint(0, distance))
    clock = MediaClock()
    out = clock.push(frame(1), 1, 0.0)
    for at, n in enumerate(order):
        now_s = (at + 1) * 0.02
        out += clock.tick(now_s)
        out += clock.push(frame(n), n, now_s)
    out += clock.tick((len(order) + 5) * 0.02)
    assert all(len(f) == 320 for f in out)
    assert clock.frames == len(out)
    made_up = clock.lost_frames + clock.inserted_frames
    assert len(out) - made_up == len(numbers) - clock.late_frames
