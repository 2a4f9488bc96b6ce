"""The ear plays at real time: against a model that moves one sample at a time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rtcore.testing.ear import Ear, Hole
from rtcore.testing.line import MULAW_8K

LOUD, QUIET = b"\x80", b"\xff"

Step = tuple[str, int]  # what to do after that many samples
STEPS = st.lists(
    st.tuples(st.sampled_from(["play", "checkpoint", "clear", "look"]), st.integers(0, 900)),
    max_size=40,
)


class Model:
    """The specification: a list of samples, played one by one."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.queue: list[int | str] = []  # octets, and names of checkpoints between them
        self.played: list[str] = []

    def wait(self, samples: int) -> None:
        for _ in range(samples):
            self._reach()
            self.heard.append(self.queue.pop(0) if self.queue else QUIET[0])  # type: ignore[arg-type]
        self._reach()

    def _reach(self) -> None:
        while self.queue and isinstance(self.queue[0], str):
            self.played.append(str(self.queue.pop(0)))


@settings(max_examples=60)
@given(STEPS)
def test_it_agrees_with_the_model(steps: list[Step]) -> None:
    heard, model, now, played = bytearray(), Model(), 0, []
    ear = Ear(MULAW_8K, heard.extend)
    for number, (action, samples) in enumerate(steps):
        now += samples
        model.wait(samples)
        if action == "play":
            sound = bytes((number * 31 + n) % 256 for n in range(number * 7))
            assert ear.push(sound, now)
            model.queue.extend(sound)
        elif action == "checkpoint":
            ear.checkpoint(str(number), now)
            model.queue.append(str(number))
        elif action == "clear":
            ear.advance(now)
            played += ear.played()
            model.wait(0)
            ear.clear(now)
            model.queue.clear()
        else:
            ear.advance(now)
            played += ear.played()
        assert ear.queued(now) == sum(isinstance(item, int) for item in model.queue)
    ear.advance(now)
    model.wait(0)
    assert heard == model.heard
    assert played + ear.played() == model.played


def test_runs_bridge_short_pauses_and_end_at_a_clear() -> None:
    ear = Ear(MULAW_8K)
    ear.push(LOUD * 800 + QUIET * 2400 + LOUD * 800 + QUIET * 4000 + LOUD * 1600, 0)
    ear.advance(7000)
    assert [(run.start, run.end) for run in ear.runs] == [(0, 4000)]
    assert ear.is_audible(7000)
    assert not ear.is_audible(7201)
    ear.clear(8400)
    ear.push(LOUD * 80, 8500)
    ear.advance(9000)
    assert [(run.start, run.end) for run in ear.runs] == [(0, 4000), (8000, 8400), (8500, 8580)]


def test_a_hole_is_noted_when_it_ends_and_says_what_stood_before_it() -> None:
    ear = Ear(MULAW_8K)
    ear.push(LOUD * 160, 100)
    ear.push(LOUD * 160, 300)
    ear.checkpoint("sentence", 300)
    ear.push(LOUD * 160, 500)
    ear.push(LOUD * 160, 600)
    assert ear.holes == [
        Hole(start=260, end=300, is_boundary=False),
        Hole(start=460, end=500, is_boundary=True),
    ]


def test_a_sound_of_any_length_is_heard_bit_by_bit() -> None:
    heard = bytearray()
    ear = Ear(MULAW_8K, heard.extend)
    ear.push(LOUD * 1000, 0)
    for now in range(0, 1001, 7):
        ear.advance(now)
        assert len(heard) == now
    assert ear.runs[0].end == now
