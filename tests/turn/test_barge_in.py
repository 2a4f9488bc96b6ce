"""Two steps to an interruption: suspected (hold), then confirmed (clear) or dismissed (go on)."""

from __future__ import annotations

from array import array

import pytest

from rtcore.testing import speak
from rtcore.turn import TurnConfig
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    TurnEnded,
)
from tests.turn.driving import Line, names, speaking
from tests.turn.sounds import hoarse, noise, tone

BALANCED = TurnConfig()


def dismissal(line: Line) -> tuple[float, str]:
    ((at, event),) = line.of(BargeInDismissed)
    assert isinstance(event, BargeInDismissed)
    return at, event.reason


def dismissal_reasons(line: Line) -> list[str]:
    return [event.reason for _, event in line.of(BargeInDismissed)]  # type: ignore[attr-defined]


def test_speech_is_suspected_at_once_and_confirmed_when_it_lasts() -> None:
    line = speaking()
    line.voice(600)
    ((suspected, event),) = line.of(BargeInSuspected)
    ((confirmed, _),) = line.of(BargeInConfirmed)
    assert suspected - 2000 <= 80
    assert event.at_sample == 16_000
    assert confirmed - 2000 == BALANCED.confirm_ms
    assert line.detector.is_turn_open


def test_the_turn_that_interrupted_ends_as_any_other() -> None:
    line = speaking()
    line.voice(1000)
    line.agent(AgentState.LISTENING)
    line.hush(1500)
    assert line.names[-1] == "ended"
    assert len(line.of(TurnEnded)) == 1


def test_a_blip_is_dismissed_after_a_short_quiet() -> None:
    line = speaking()
    line.voice(120)
    line.hush(600)
    at, reason = dismissal(line)
    assert reason == "blip"
    assert at - 2120 <= 220
    assert not line.detector.is_turn_open


def test_a_tune_is_not_confirmed_and_not_waited_for() -> None:
    line = speaking()
    for at in range(60):
        partials = [tone(262 * k, -20 - 4 * k, at) for k in (1, 2, 3, 5)]
        line.push(array("h", [sum(samples) for samples in zip(*partials, strict=True)]))
    (suspected, _), *_ = line.of(BargeInSuspected)
    (dismissed, first), *_ = line.of(BargeInDismissed)
    assert isinstance(first, BargeInDismissed)
    assert first.reason == "no_words"
    assert dismissed - suspected <= BALANCED.confirm_ms
    assert "confirmed" not in line.names


def test_a_note_that_is_held_never_gets_the_floor() -> None:
    line = speaking()
    line.note(4000)
    assert "confirmed" not in line.names


def test_hiss_is_dismissed_and_never_gets_the_floor() -> None:
    line = speaking()
    line.voice(60)
    for index in range(150):
        line.push(noise(-18.0, index))
    (suspected, _), *_ = line.of(BargeInSuspected)
    (dismissed, _), *_ = line.of(BargeInDismissed)
    assert dismissed - suspected <= 400
    assert "confirmed" not in line.names


@pytest.mark.parametrize("seed", range(5))
def test_a_hoarse_voice_that_goes_on_gets_the_floor(seed: int) -> None:
    line = speaking()
    start = line.now_ms
    for frame in hoarse(80, seed):
        line.push(frame)
    ((confirmed, _),) = line.of(BargeInConfirmed)
    assert confirmed - start <= 1500


@pytest.mark.parametrize(
    "text",
    [
        "stop wait I have a question about that bill", "no no no that is wrong listen to me",
        "hello there can you hear me now please", "what are your opening hours on the weekend",
        "never mind I will call again tomorrow morning", "I would rather talk to a person",
    ],
)  # fmt: skip
def test_the_scripted_voice_is_a_voice(text: str) -> None:
    line = speaking()
    start = line.now_ms
    pcm = memoryview(speak(text).pcm).cast("h")
    for at in range(0, len(pcm) - 159, 160):
        line.push(array("h", pcm[at : at + 160]))
    (confirmed, _), *_ = line.of(BargeInConfirmed)
    assert confirmed - start <= 500


def test_who_was_taken_for_a_blip_and_goes_on_is_heard_out() -> None:
    line = speaking()
    start = line.now_ms
    for _ in range(3):  # 200 ms of voice, 220 of quiet: no spell of it lasts to be confirmed
        line.voice(200)
        line.hush(220)
    assert dismissal_reasons(line) == ["blip"]
    (confirmed, _), *_ = line.of(BargeInConfirmed)
    assert confirmed - start <= 1000


def test_one_real_word_confirms() -> None:
    line = speaking()
    line.voice(300)
    line.words("stop", final=False)
    assert line.names[-1] == "confirmed"


def test_a_backchannel_is_dismissed_as_soon_as_it_is_known() -> None:
    line = speaking()
    line.voice(260)
    line.hush(120)
    assert names(line.words("mhm", final=False)) == ["dismissed"]
    line.voice(300)
    line.hush(600)
    assert dismissal(line)[1] == "backchannel"
    assert "confirmed" not in line.names


def test_a_yes_that_is_still_being_spoken_is_not_dismissed() -> None:
    line = speaking()
    line.voice(260)
    assert line.words("yes", final=False) == []
    line.voice(100)
    line.words("yes that", final=False, same=True)
    assert line.names == ["started", "suspected", "confirmed"]
    line = speaking()
    line.voice(260)
    line.words("yes", final=False)
    line.hush(200)
    assert dismissal(line)[1] == "backchannel"


def test_a_backchannel_that_goes_on_is_none() -> None:
    line = speaking()
    line.voice(260)
    line.words("yeah", final=False)
    line.voice(300)
    line.words("yeah but I have a question", final=False, same=True)
    assert line.names[-1] == "confirmed"


def test_words_that_come_after_the_dismissal_still_confirm() -> None:
    line = speaking()
    line.voice(200)
    line.hush(300)
    assert dismissal(line)[1] == "blip"
    line.words("stop")
    assert line.names[-1] == "confirmed"
    line.hush(400)
    assert line.names[-1] == "ended"


def test_a_streaming_recogniser_earns_voice_more_time() -> None:
    line = Line()
    line.voice(500)
    line.words("Tell me more.")
    line.hush(500)
    line.agent(AgentState.SPEAKING)
    line.echo(1000)
    line.forget()
    start = line.now_ms
    line.voice(1000)
    ((confirmed, _),) = line.of(BargeInConfirmed)
    assert confirmed - start == BALANCED.confirm_streaming_ms


def test_late_words_of_the_turn_before_interrupt_nobody() -> None:
    line = Line()
    line.voice(800)
    line.words("what is the time", final=False)
    line.hush(1500)
    assert line.names[-1] == "ended"
    line.agent(AgentState.SPEAKING)
    line.words("What is the time today?", same=True)
    line.words("Please.")
    line.echo(500)
    assert "confirmed" not in line.names


def test_two_words_can_be_asked_for() -> None:
    line = speaking(min_words=2)
    line.voice(200)
    line.words("well", final=False)
    assert "confirmed" not in line.names
    line.words("well listen now", final=False, same=True)
    assert line.names[-1] == "confirmed"


def test_the_edge_of_our_speech_asks_for_twice_the_evidence() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.hush(1000)
    line.agent(AgentState.SPEAKING)
    line.echo(20)
    line.voice(600)
    ((at, _),) = line.of(BargeInSuspected)
    assert at - 1020 >= 2 * BALANCED.suspect_ms


def test_the_first_key_interrupts() -> None:
    line = speaking()
    assert names(line.keys("5")) == ["confirmed"]
    line.hush(2100)
    ((_, ended),) = line.of(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert ended.reason == "dtmf"


def test_keys_pressed_before_we_speak_are_answered_once_we_have_spoken() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.keys("5")
    line.hush(300)
    line.agent(AgentState.SPEAKING)
    line.echo(1000)
    assert line.names == []
    line.agent(AgentState.LISTENING)
    line.hush(40)
    ((_, ended),) = line.of(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert ended.reason == "dtmf"
    line.agent(AgentState.SPEAKING)
    line.echo(1000)
    line.agent(AgentState.LISTENING)
    line.hush(1000)
    assert len(line.of(TurnEnded)) == 1


def test_thinking_is_cancelled_by_speech_and_the_turn_goes_on() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.voice(800)
    line.hush(1000)
    assert line.names[-1] == "ended"
    assert line.detector.agent_state is AgentState.THINKING
    line.forget()
    start = line.now_ms
    line.voice(400)
    assert line.names == ["started", "confirmed"]
    ((at, _),) = line.of(BargeInConfirmed)
    assert at - start <= BALANCED.thinking_ms + 40
    line.hush(2000)
    assert line.names.count("ended") == 1


def test_a_click_does_not_void_a_thought() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.voice(800)
    line.hush(1000)
    line.forget()
    line.voice(80)
    line.hush(1000)
    assert line.names == ["started", "stopped"]


def test_an_agent_that_stops_under_a_suspicion_yields() -> None:
    line = speaking()
    line.voice(120)
    assert names(line.agent(AgentState.LISTENING)) == ["confirmed"]
    line = speaking()
    line.voice(120)
    line.hush(100)
    line.agent(AgentState.THINKING)
    assert dismissal(line)[1] == "yielded"


def test_the_far_end_tells_the_state_when_nobody_does() -> None:
    line = Line()
    line.play(True)
    line.echo(1000)
    assert line.detector.agent_state is AgentState.SPEAKING
    line.voice(600)
    assert line.names == ["started", "suspected", "confirmed"]
    line.play(False)
    line.hush(2000)
    assert line.names[-1] == "ended"
    assert line.detector.agent_state is AgentState.LISTENING


def test_barge_in_can_be_left_to_words_or_turned_off() -> None:
    line = speaking(barge_in="words")
    line.voice(1500)
    assert line.names == ["started"]
    line.words("stop that", final=False)
    assert line.names[-1] == "confirmed"
    line = speaking(barge_in="off")
    line.voice(1500)
    line.words("stop that", final=False)
    assert line.names == ["started"]
