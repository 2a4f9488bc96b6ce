"""A script becomes frames: what is said is found again, and what is waited for has a limit."""

from __future__ import annotations

from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from rtcore.audio import pcm_to_mulaw
from rtcore.testing import Action, Utterance, dtmf, say, speak, wait, wait_for_agent_quiet
from rtcore.testing.caller import Caller
from rtcore.testing.ear import Ear
from rtcore.testing.line import MULAW_8K

SPEECH = speak("one two").pcm  # 600 ms
LOUD = b"\x80"


def perform(script: list[Action], ear: Ear | None = None) -> tuple[Caller, list[bytes]]:
    keys: list[str] = []
    caller = Caller(script, MULAW_8K, ear or Ear(MULAW_8K), keys.append)
    frames = []
    while (frame := caller.next_frame()) is not None:
        frames.append(b64decode(frame))
    return caller, frames


@given(st.integers(0, 500), st.integers(0, 5))
def test_what_is_said_is_whole_and_where_it_is_said_to_be(cut: int, waits: int) -> None:
    pcm = SPEECH[: len(SPEECH) - 2 * cut]
    caller, frames = perform([wait(waits * 20), say(pcm), wait(20)])
    assert {len(frame) for frame in frames} == {160}
    sound = b"".join(frames)
    (stretch,) = caller.stretches
    assert stretch.start == waits * 160
    assert 0 <= waits * 160 + len(pcm) // 2 - stretch.end < 80  # cut inside a wave: its dip
    assert sound[stretch.start : stretch.end] == pcm_to_mulaw(pcm)
    assert set(sound[: stretch.start] + sound[stretch.end :]) == {0xFF}


def test_a_long_pause_parts_a_recording_into_turns() -> None:
    pause = bytes(2 * 8 * 1500)
    breath = bytes(2 * 8 * 700)
    found = Utterance(bytes(1600) + SPEECH + breath + SPEECH + pause + SPEECH + bytes(1600))
    assert [(part.start, part.end) for part in found.stretches] == [
        (800, 800 + 4800 + 5600 + 4800),
        (800 + 4800 + 5600 + 4800 + 12000, 800 + 4800 + 5600 + 4800 + 12000 + 4800),
    ]
    assert len(found.phrases) == 3
    assert Utterance(bytes(16000)).stretches == ()
    assert Utterance(b"").stretches == ()


def test_an_utterance_is_encoded_once_for_all_who_say_it() -> None:
    utterance = Utterance(SPEECH)
    assert utterance.frames(MULAW_8K) is utterance.frames(MULAW_8K)


def test_waiting_ends_when_the_agent_has_spoken_and_stopped() -> None:
    ear = Ear(MULAW_8K)
    caller = Caller([wait_for_agent_quiet(400)], MULAW_8K, ear, lambda _: None)
    ear.push(LOUD * 1600, 8000)  # audible from 1.0 to 1.2 s
    for number in range(1000):
        ear.advance(number * 160)
        if caller.next_frame() is None:
            break
    assert number * 20 == 1600


def test_waiting_for_a_beginning_and_for_an_end_have_their_own_limits() -> None:
    _, frames = perform([wait_for_agent_quiet(400, 5000, 600)])
    assert len(frames) == 30
    ear = Ear(MULAW_8K)
    ear.push(LOUD * 8000 * 30, 0)
    caller = Caller([wait_for_agent_quiet(400, 5000, 600)], MULAW_8K, ear, lambda _: None)
    count = 0
    while caller.next_frame() is not None:
        count += 1
        ear.advance(count * 160)
    assert 250 <= count <= 252


def test_what_was_talked_over_is_not_the_answer() -> None:
    """The tail of the interrupted reply ends after a short interruption; the answer comes later."""
    ear = Ear(MULAW_8K)
    script = [wait(1000), say(SPEECH), wait_for_agent_quiet(300)]
    caller = Caller(script, MULAW_8K, ear, lambda _: None)
    ear.push(LOUD * 8 * 1800, 0)  # goes on 200 ms past our last word
    answered = False
    for number in range(1000):
        now = number * 160
        if number == 150:  # the answer, at 3 s
            ear.push(LOUD * 1600, now)
            answered = True
        ear.advance(now)
        if caller.next_frame() is None:
            break
    assert answered
    assert number * 20 == 3500


def test_keys_are_pressed_in_their_place() -> None:
    pressed: list[tuple[str, int]] = []
    frames: list[bytes] = []
    script = [wait(100), dtmf("1"), wait(40), dtmf("23")]
    caller = Caller(
        script, MULAW_8K, Ear(MULAW_8K), lambda digits: pressed.append((digits, len(frames)))
    )
    while (frame := caller.next_frame()) is not None:
        frames.append(frame)
    assert pressed == [("1", 5), ("23", 7)]
