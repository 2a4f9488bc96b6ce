"""The far-end guard: agreement with its twin, and what it must do on a line."""

from __future__ import annotations

import math
import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtcore.turn import _guard, _guard_py
from rtcore.turn._guard import AUDIBLE, FAR, LIVELY, LOUD, PERIODIC, STEADY, TONE
from tests.turn.sounds import dtmf, noise, silence, tone, voice

READ_BACK = (
    "level_dbfs",
    "far_dbfs",
    "floor_dbfs",
    "threshold_dbfs",
    "return_loss_db",
    "voice_dbfs",
    "periodicity",
    "steady_frames",
)

frames = st.one_of(
    st.just(silence()),
    st.builds(tone, st.floats(60, 1800), st.floats(-60, -3)),
    st.builds(noise, st.floats(-70, -3), st.integers(0, 1000)),
    st.builds(voice, st.integers(0, 40), st.floats(-50, -6)),
    st.sampled_from([dtmf(key, -12) for key in "159D"]),
    st.just(array("h", [-32768] * 160)),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(frames, st.none() | frames), min_size=1, max_size=40),
    st.integers(1, 100),
)
def test_guard_agrees_with_its_twin(
    pushed: list[tuple[array[int], array[int] | None]], window: int
) -> None:
    fast = _guard.Guard(far_window_frames=window)
    slow = _guard_py.Guard(far_window_frames=window)
    for index, (pcm, far) in enumerate(pushed):
        fast.relief_db = slow.relief_db = 3.0 * (index % 2)
        assert fast.push(pcm, far) == slow.push(pcm, far)
        for name in READ_BACK:
            assert getattr(fast, name) == pytest.approx(getattr(slow, name), abs=1e-9), name


@pytest.mark.parametrize("module", [_guard, _guard_py])
def test_a_frame_is_320_octets(module: object) -> None:
    guard = module.Guard()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="160 samples"):
        guard.push(bytes(319))
    with pytest.raises(ValueError, match="160 samples"):
        guard.push(bytes(320), bytes(10))
    with pytest.raises(ValueError, match="far_window_frames"):
        module.Guard(far_window_frames=0)  # type: ignore[attr-defined]


def test_echo_is_not_audible_once_the_return_loss_is_known() -> None:
    guard = _guard.Guard(echo_margin_db=4.5)
    opened = loud = 0
    for index in range(500):  # 10 s; the echo comes back 200 ms later and 20 dB down
        far = voice(index, -15.0)
        echo = voice(index - 10, -35.0) if index >= 10 else silence()
        flags = guard.push(echo, far)
        assert flags & FAR
        opened += bool(flags & AUDIBLE) and index > 50
        loud += bool(flags & LOUD)
    assert opened == loud == 0
    assert 17.0 < guard.return_loss_db < 26.0


def test_a_caller_is_audible_over_the_echo() -> None:
    guard = _guard.Guard(echo_margin_db=4.5)
    for index in range(300):
        guard.push(voice(index - 10, -35.0), voice(index, -15.0))
    heard = [guard.push(voice(index, -20.0), voice(index, -15.0)) for index in range(300, 320)]
    assert sum(bool(flags & AUDIBLE) for flags in heard) >= 15
    assert any(flags & LOUD for flags in heard)


def test_the_floor_follows_the_noise_within_two_seconds() -> None:
    guard = _guard.Guard()
    for index in range(110):
        guard.push(noise(-45.0, index))
    assert -49.0 < guard.floor_dbfs < -43.0
    assert not guard.push(noise(-45.0, 999)) & AUDIBLE
    assert guard.push(voice(3, -25.0)) & AUDIBLE


def test_speech_does_not_raise_the_floor() -> None:
    guard = _guard.Guard()
    for index in range(500):
        guard.push(voice(index, -20.0) if index % 50 < 40 else silence())
    assert guard.floor_dbfs < -60.0


@pytest.mark.parametrize("key", "0123456789*#ABCD")
def test_every_key_is_a_tone(key: str) -> None:
    guard = _guard.Guard()
    guard.push(dtmf(key, -12.0))
    assert guard.push(dtmf(key, -12.0)) & TONE


def test_voice_is_lively_a_note_is_not_and_noise_is_neither() -> None:
    def flags(sounds: list[array[int]]) -> list[int]:
        guard = _guard.Guard()
        return [guard.push(sound) for sound in sounds][3:]

    voiced = flags([voice(index, -20.0) for index in range(40)])
    assert sum(bool(f & LIVELY) for f in voiced) > 0.6 * len(voiced)
    note = flags([tone(220.0, -20.0, at=i) for i in range(40)])
    assert all(f & STEADY and not f & LIVELY for f in note)
    hiss = flags([noise(-20.0, index) for index in range(40)])
    assert not any(f & (PERIODIC | LIVELY | STEADY | TONE) for f in hiss)


def test_two_tones_apart_from_dtmf_are_no_key() -> None:
    guard = _guard.Guard()
    mixed = array("h", [a + b for a, b in zip(tone(350, -15), tone(440, -15), strict=True)])
    guard.push(mixed)
    assert not guard.push(mixed) & TONE


def test_silence_has_a_level() -> None:
    guard = _guard.Guard()
    assert guard.push(silence()) == 0
    assert guard.level_dbfs == -100.0
    assert math.isfinite(guard.threshold_dbfs)


def test_random_octets_never_upset_it() -> None:
    rng = random.Random(7)
    guard = _guard.Guard()
    for _ in range(300):
        guard.push(rng.randbytes(320), rng.randbytes(320) if rng.random() < 0.5 else None)
    assert math.isfinite(guard.return_loss_db)
