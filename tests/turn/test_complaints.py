"""One case for each thing users of other systems complain of that turn-taking decides."""

from __future__ import annotations

import pytest

from rtcore.turn import Expectation
from rtcore.turn.events import AgentState, BargeInDismissed, CallerIdle, FloorLost, TurnEnded
from tests.turn.driving import ECHO, Line, names, speaking
from tests.turn.sounds import dtmf


def test_the_recogniser_cannot_hold_the_floor() -> None:
    """Interim results that keep coming must not keep the caller "speaking" for ever."""
    line = Line()
    line.voice(800)
    for _ in range(20):
        line.words("the blue one over there", final=False, same=True)
        line.hush(100)
    assert line.names.count("ended") == 1


def test_speech_state_is_the_lines_not_the_transcribers() -> None:
    """A recogniser that dies in mid-sentence leaves no latch: silence still ends the turn."""
    line = Line()
    line.voice(300)
    line.words("I would like", final=False)
    line.voice(700)
    line.hush(2000)
    assert line.names[-1] == "ended"


def test_an_agent_said_to_speak_on_a_silent_line_is_found_out() -> None:
    line = speaking()
    line.play(False)
    line.hush(6000)
    ((_, lost),) = line.of(FloorLost)
    assert isinstance(lost, FloorLost)
    assert (lost.reason, lost.count) == ("mute", 1)


def test_an_answer_that_never_comes_is_found_out() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.voice(800)
    line.hush(1000)
    line.agent(AgentState.THINKING)
    line.hush(10_200)
    assert [event.reason for _, event in line.of(FloorLost)] == ["no_reply", "no_reply"]  # type: ignore[attr-defined]


def test_noise_after_the_turn_does_not_leave_the_caller_unanswered() -> None:
    """A cough voids the reply being thought of: a turn must end again, so one is given."""
    line = Line()
    line.agent(AgentState.LISTENING)
    line.voice(800)
    line.words("What time is it?")
    line.hush(500)
    assert line.names[-1] == "ended"
    line.forget()
    line.voice(300)
    assert line.names == ["started", "confirmed"]
    line.hush(2500)
    assert line.names[-1] == "ended"


def test_the_echo_of_a_speakerphone_interrupts_nobody() -> None:
    line = Line()
    line.agent(AgentState.SPEAKING)
    for delay in (2, 10, 20):  # frames
        for index in range(400):
            line.push(ECHO[(index - delay) % len(ECHO)])
    assert line.names == []


def test_with_minimum_words_the_agent_still_falls_silent_at_once() -> None:
    line = speaking(min_words=3)
    line.voice(100)
    assert line.names == ["started", "suspected"]


def test_an_uninterruptible_greeting_hears_nothing_at_all() -> None:
    """One gate: no event, so nothing reaches a recogniser, no words, keys or noise interrupt."""
    line = Line()
    line.agent(AgentState.SPEAKING, interruptible=False)
    line.echo(2000)
    line.voice(800)
    line.words("stop")
    line.keys("1")
    assert line.names == []
    line.agent(AgentState.SPEAKING, interruptible=True)
    line.voice(1000)
    assert line.names == ["started", "suspected", "confirmed"]


def test_a_segment_that_becomes_protected_settles_what_was_suspected() -> None:
    line = speaking()
    line.voice(100)
    assert names(line.agent(AgentState.SPEAKING, interruptible=False)) == ["dismissed", "stopped"]
    ((_, event),) = line.of(BargeInDismissed)
    assert isinstance(event, BargeInDismissed)
    assert event.reason == "protected"


def test_a_false_interruption_costs_less_than_300_ms() -> None:
    line = speaking()
    line.voice(80)
    line.hush(500)
    (suspected,) = (at for at, event in line.log if names([event]) == ["suspected"])
    (dismissed,) = (at for at, event in line.log if names([event]) == ["dismissed"])
    assert dismissed - suspected <= 300


def test_the_same_words_do_not_wait_five_times_longer_on_the_other_side_of_a_threshold() -> None:
    """No cliff: beliefs of 0.49 and 0.51 commit within 50 ms of each other."""

    def commit_ms(belief: float) -> float:
        line = Line()
        line.voice(1000)
        line.hush(100)
        line.words("the blue one", end_of_turn=belief)
        line.hush(3000)
        return line.of(TurnEnded)[0][0]

    assert abs(commit_ms(0.49) - commit_ms(0.51)) <= 50


def test_deadlines_are_absolute_late_words_do_not_chain_waits() -> None:
    """Words that come late shorten what is left; they never start a wait of their own."""
    line = Line()
    line.voice(1000)
    line.hush(700)
    assert names(line.words("Yes please.")) == ["resumed", "ended"]


def test_duplicate_transcripts_start_no_second_answer() -> None:
    line = Line()
    line.voice(1000)
    line.words("Book a table.")
    line.hush(280)
    for _ in range(5):
        line.words("Book a table.", same=True)
        line.hush(20)
    assert line.names.count("eager") == 1
    line.hush(1000)
    assert line.names.count("ended") == 1
    assert line.words("Book a table.", same=True) == []


def test_the_caller_who_says_nothing_is_reminded_twice_then_let_go() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.hush(31_000)
    idle = [event for _, event in line.of(CallerIdle)]
    assert [(event.count, event.is_last) for event in idle] == [(1, False), (2, False), (3, True)]  # type: ignore[attr-defined]
    line.hush(6000)
    assert line.names[-1] == "lost"  # a goodbye that led to nothing is noticed too


def test_speaking_starts_the_reminders_anew() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.hush(11_000)
    line.voice(500)
    line.hush(1000)
    line.agent(AgentState.SPEAKING)
    line.echo(500)
    line.agent(AgentState.LISTENING)
    line.forget()
    line.hush(10_200)
    ((_, idle),) = line.of(CallerIdle)
    assert isinstance(idle, CallerIdle)
    assert idle.count == 1


@pytest.mark.parametrize(("digits", "wait_ms"), [("12", 2000), ("12#", 0), ("1234", 0)])
def test_keys_end_a_turn_when_they_are_whole(digits: str, wait_ms: int) -> None:
    line = Line()
    line.detector.expect(Expectation.digits(4))
    events = line.keys(digits)
    assert bool(events) == (wait_ms == 0)
    line.hush(wait_ms + 40)
    ((_, ended),) = line.of(TurnEnded)
    assert isinstance(ended, TurnEnded)
    assert ended.reason == "dtmf"


def test_the_tones_of_keys_are_no_speech() -> None:
    line = speaking()
    for key in "159#":
        for index in range(10):
            line.push(dtmf(key, -15.0, at=index))
        line.echo(100)
    assert "confirmed" not in line.names
    line = speaking()
    line.keys("5")
    line.forget()
    line.voice(100)  # the rest of the tone, whatever it sounds like
    assert "started" not in line.names


def test_a_caller_too_soft_for_the_ear_is_heard_through_the_recogniser() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.hush(1000)
    line.words("Can you hear me?")
    line.hush(500)
    assert line.names[-1] == "ended"


def test_an_agent_that_speaks_unasked_takes_the_speculation_back() -> None:
    line = Line()
    line.voice(800)
    line.hush(300)
    assert line.names[-1] == "eager"
    assert names(line.agent(AgentState.SPEAKING)) == ["resumed"]
    assert not line.detector.is_turn_open
