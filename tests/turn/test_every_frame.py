"""What every frame passes through: agreement with the twin, alone and under what builds on it."""

from __future__ import annotations

import importlib.util
import random
import sys
from types import ModuleType
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtcore.audio import FRAME_MS
from rtcore.media._beats import BEAT_MS
from rtcore.turn import TurnConfig, _every_frame, _every_frame_py, detector, media_clock
from rtcore.turn._every_frame import READ_FRAMES
from rtcore.turn.events import (
    AgentState,
    BargeInSuspected,
    CallerIdle,
    FloorLost,
    SpeechStopped,
    TurnEager,
    TurnEnded,
)
from tests.turn.sounds import noise, silence, voice


def on_twin(module: ModuleType) -> ModuleType:
    """``module`` once more, with the twin under it."""
    spec = importlib.util.find_spec(module.__name__)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, {"rtcore.turn._every_frame": _every_frame_py}):
        spec.loader.exec_module(other)
    return other


SLOW_CLOCK, SLOW_DETECTOR = on_twin(media_clock), on_twin(detector)
SOUNDS = {
    "silence": [silence()],
    "noise": [noise(-45, number) for number in range(25)],
    "voice": [voice(number, -15) for number in range(25)],
}


def pcm(number: int) -> bytes:
    return random.Random(number).randbytes(320)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=60),
    st.integers(0, 160),
    st.integers(100, 400),
    st.sets(st.integers(0, 59), max_size=2),
)
def test_a_spell_agrees_with_its_twin(
    frames: list[tuple[bool, bool, bool]], start_ms: int, stop_ms: int, resets: set[int]
) -> None:
    fast = _every_frame.VoiceSpell(start_ms, stop_ms)
    slow = _every_frame_py.VoiceSpell(start_ms, stop_ms)
    for index, (voiced, periodic, likely) in enumerate(frames):
        if index in resets:
            fast.reset()
            slow.reset()
        now = (index + 1) * 160
        assert fast.push(voiced, periodic, now, likely) == slow.push(voiced, periodic, now, likely)
        for name in ("active", "onset_sample", "end_sample", "voiced_frames", "is_stirring"):
            assert getattr(fast, name) == getattr(slow, name), name


@given(
    st.lists(st.sampled_from(["push", "push", "push", "open", "close"]), max_size=60),
    st.integers(0, 200),
    st.integers(0, 100),
    st.booleans(),
)
def test_a_gate_agrees_with_its_twin(
    steps: list[str], preroll_ms: int, chunk_ms: int, pass_all: bool
) -> None:
    gates = [
        module.SpeechGate(preroll_ms=preroll_ms, chunk_ms=chunk_ms, pass_all=pass_all)
        for module in (_every_frame, _every_frame_py)
    ]
    for number, step in enumerate(steps):
        fast, slow = (
            gate.push(pcm(number)) if step == "push" else getattr(gate, step)() for gate in gates
        )
        assert fast == slow
        assert gates[0].is_open == gates[1].is_open


COUNTS = (
    "frames",
    "lost_frames",
    "late_frames",
    "reordered_frames",
    "inserted_frames",
    "window_ms",
)


@given(
    st.lists(
        st.tuples(st.none() | st.integers(-3, 5) | st.integers(-600, 600), st.floats(0, 0.3)),
        max_size=60,
    )
)
def test_a_media_clock_is_the_same_on_either(steps: list[tuple[int | None, float]]) -> None:
    """Each step is a frame, its number told as what it differs from the next; then a tick."""
    fast, slow = media_clock.MediaClock(), SLOW_CLOCK.MediaClock()
    now_s, chunk = 0.0, 1000
    for number, (off, wait_s) in enumerate(steps):
        said = None if off is None else chunk + off
        chunk += 1
        assert fast.push(pcm(number), said, now_s) == slow.push(pcm(number), said, now_s)
        now_s += wait_s
        assert fast.is_due(now_s) == slow.is_due(now_s)
        assert fast.tick(now_s) == slow.tick(now_s)
        for name in COUNTS:
            assert getattr(fast, name) == getattr(slow, name), name


STRETCH = (
    st.sampled_from(["silence", "noise", "voice"]),
    st.booleans(),  # we are heard
    st.integers(1, 60),  # frames of it
    st.none() | st.sampled_from(AgentState),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            *STRETCH,
            st.booleans(),  # may be interrupted
        ),
        max_size=12,
    )
)
def test_turns_are_the_same_on_either(
    stretches: list[tuple[str, bool, int, AgentState | None, bool]],
) -> None:
    fast, slow = detector.TurnDetector(), SLOW_DETECTOR.TurnDetector()
    at = 0
    for kind, heard, frames, state, interruptible in stretches:
        if state is not None:
            assert fast.agent(state, interruptible) == slow.agent(state, interruptible)
        for _ in range(frames):
            at += 1
            near = SOUNDS[kind][at % len(SOUNDS[kind])]
            far = SOUNDS["voice"][(at + 9) % 25] if heard else None
            assert fast.push(near, far) == slow.push(near, far)
            assert fast.due_sample == slow.due_sample
            assert fast.is_awaited == slow.is_awaited
    assert fast.close() == slow.close()


TIMED = SpeechStopped | TurnEager | TurnEnded | BargeInSuspected | CallerIdle | FloorLost


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(*STRETCH),
        max_size=12,
    ),
    st.sampled_from([60, 80, 120]),
    st.integers(0, 1),  # whether the first frame is heard alone
)
def test_what_somebody_waits_for_comes_with_a_frame_that_is_awaited(
    stretches: list[tuple[str, bool, int, AgentState | None]], start_ms: int, phase: int
) -> None:
    """Frames are heard as they come while one is awaited, else two in one go."""
    machine = detector.TurnDetector(TurnConfig(start_ms=start_ms))
    machine.agent(AgentState.LISTENING)
    timed = TIMED
    if start_ms < 80:  # two loud frames are enough: of a suspicion alone
        timed = SpeechStopped | TurnEager | TurnEnded | CallerIdle | FloorLost
    at, was_awaited = 0, False
    for kind, heard, frames, state in stretches:
        if state is not None:
            machine.agent(state)
        was_awaited = machine.is_awaited  # asked anew when the machine was told something
        for _ in range(frames):
            at += 1
            far = SOUNDS["voice"][(at + 9) % 25] if heard else None
            decided = machine.push(SOUNDS[kind][at % len(SOUNDS[kind])], far)
            assert was_awaited or not any(isinstance(event, timed) for event in decided)
            if was_awaited or at % READ_FRAMES == phase:
                was_awaited = machine.is_awaited


def test_as_many_frames_are_heard_in_one_go_as_a_beat_is_long() -> None:
    assert READ_FRAMES * FRAME_MS == BEAT_MS


def awaited(machine: detector.TurnDetector, frames: list[bytes]) -> list[bool]:
    """Of each of ``frames``, whether it was, before it came."""
    found: list[bool] = []
    for frame in frames:
        found.append(machine.is_awaited)
        machine.push(frame)
    return found


def test_few_frames_are_awaited() -> None:
    """Of a turn those with which it may stop, or be over, and one before; of ours only voice."""
    machine = detector.TurnDetector()
    machine.agent(AgentState.LISTENING)
    assert not any(awaited(machine, [silence()] * 50))
    assert not any(awaited(machine, SOUNDS["voice"] * 2))
    assert 4 <= sum(awaited(machine, [silence()] * 60)) <= 6
    assert machine.agent_state is AgentState.THINKING
    machine.agent(AgentState.SPEAKING)
    assert not any(awaited(machine, [silence()] * 50))
    assert sum(awaited(machine, SOUNDS["voice"][:6])) in (2, 3)  # then it is suspected


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="160 samples"):
        detector.TurnDetector().push(bytes(318))


def test_a_clock_that_has_heard_nothing_is_never_due() -> None:
    assert not media_clock.MediaClock().is_due(1e9)
