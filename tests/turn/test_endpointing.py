"""Two steps to the end of a turn: eager, then commit after a curve of completeness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.turn import Expectation, TurnConfig
from rtcore.turn.endpointing import Patience, commit_delay_ms
from rtcore.turn.events import AgentState, SpeechStopped, TurnEager, TurnEnded
from tests.turn.driving import Line, names

BALANCED = TurnConfig()


def ended_after(line: Line, spoke_until_ms: float) -> float:
    (at, _), *more = line.of(TurnEnded)
    assert not more, "a turn ends once"
    return at - spoke_until_ms


def spoken(text: str | None = None, **said: object) -> Line:
    """A caller who spoke for 1 s; the final words come 160 ms after."""
    line = Line()
    line.hush(400)
    line.voice(1000)
    line.hush(160)
    if text is not None:
        line.words(text, **said)  # type: ignore[arg-type]
    line.hush(3000)
    return line


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1000))
def test_the_delay_falls_with_completeness_and_has_no_cliff(
    one: float, two: float, earned_ms: float
) -> None:
    low, high = sorted((one, two))
    slow = commit_delay_ms(BALANCED, low, earned_ms)
    fast = commit_delay_ms(BALANCED, high, earned_ms)
    assert BALANCED.complete_ms <= fast <= slow <= BALANCED.unfinished_ms
    assert slow - fast <= 2500 * (high - low) + 1e-6  # ms for each unit: continuous


def test_words_unknown_commit_at_the_unsure_delay() -> None:
    line = spoken()
    assert ended_after(line, 1400) == BALANCED.unsure_ms
    assert names([event for _, event in line.log]) == ["started", "stopped", "eager", "ended"]
    assert line.of(TurnEager)[0][0] == 1400 + 220  # not too long before its commit


def test_complete_words_commit_at_once() -> None:
    assert ended_after(spoken("Yes please."), 1400) <= 320


def test_unfinished_words_are_given_time() -> None:
    assert 1700 <= ended_after(spoken("my number is"), 1400) <= 1800


def test_the_end_is_dated_back_to_the_last_voice() -> None:
    _, stopped = spoken().of(SpeechStopped)[0]
    assert abs(stopped.at_sample / 8 - 1400) <= 20


def test_the_recognisers_belief_shortens_and_lengthens() -> None:
    sure = ended_after(spoken("the blue one in the corner", end_of_turn=0.95), 1400)
    plain = ended_after(spoken("the blue one in the corner"), 1400)
    doubtful = ended_after(spoken("the blue one in the corner", end_of_turn=0.1), 1400)
    assert sure < plain < doubtful


def test_no_belief_alone_ends_a_turn_of_unfinished_words_at_once() -> None:
    assert ended_after(spoken("my number is", end_of_turn=0.9), 1400) > 600


def test_a_number_waits_for_its_digits() -> None:
    line = Line()
    line.detector.expect(Expectation.digits(10))
    line.hush(400)
    for index, group in enumerate(("555", "867", "5309")):
        line.voice(700)
        line.hush(160)
        line.words(group)
        if index < 2:
            line.hush(1200)
            assert "ended" not in line.names
    line.hush(400)
    assert line.names[-1] == "ended"


def test_an_expectation_holds_for_one_turn() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.detector.expect(Expectation.digits(4))
    line.voice(600)
    line.words("1234")
    line.hush(600)
    assert line.names[-1] == "ended"
    line.agent(AgentState.SPEAKING)
    line.echo(400)
    line.agent(AgentState.LISTENING)
    line.forget()
    line.voice(600)
    line.words("12 tickets please.")
    line.hush(600)
    assert line.names[-1] == "ended"


def test_changed_words_restart_the_speculation() -> None:
    line = Line()
    line.voice(1000)
    line.words("book a", final=False)
    line.hush(500)
    assert line.names[-1] == "eager"
    assert names(line.words("Book a table.", same=True)) == ["resumed", "ended"]
    line = Line()
    line.voice(1000)
    line.words("book a table", final=False)
    line.hush(400)
    assert line.names[-1] == "eager"
    assert names(line.words("Book a table!", same=True)) == ["ended"]  # the same words: kept


def test_speculation_is_bounded() -> None:
    line = Line(eager_max=2)
    for _ in range(4):
        line.voice(400)
        line.hush(400)
    assert line.names.count("eager") == 2
    assert line.names.count("resumed") == 2


def test_speaking_on_takes_the_speculation_back() -> None:
    line = Line()
    line.voice(1000)
    line.hush(500)
    assert line.names[-1] == "eager"
    line.voice(200)
    assert line.names[-2:] == ["started", "resumed"]
    line.voice(500)
    line.hush(1000)
    assert line.names.count("ended") == 1


def test_a_breath_in_the_pause_does_not_prolong_it() -> None:
    line = Line()
    line.voice(1000)
    line.hush(400)
    line.voice(20)  # one frame
    line.hush(1000)
    assert ended_after(line, 1000) == BALANCED.unsure_ms


def test_a_click_is_no_turn() -> None:
    line = Line()
    line.hush(400)
    line.voice(60)
    line.hush(3000)
    assert line.names == ["started", "stopped"]


def test_a_turn_that_never_ends_is_ended() -> None:
    line = Line(turn_max_ms=5000)
    line.voice(6000)
    (at, ended), *_ = line.of(TurnEnded)
    assert ended.reason == "too_long"  # type: ignore[attr-defined]
    assert at <= 5020


def test_a_noise_that_no_recogniser_understands_says_so() -> None:
    line = Line()
    line.agent(AgentState.LISTENING)
    line.voice(500)
    line.words("Hello there.")
    line.hush(500)
    line.agent(AgentState.SPEAKING)
    line.echo(1000)
    line.agent(AgentState.LISTENING)
    line.forget()
    line.voice(500)
    line.hush(2000)
    ((_, ended),) = line.of(TurnEnded)
    assert ended.reason == "no_words"  # type: ignore[attr-defined]


def test_who_goes_on_after_pauses_is_waited_for() -> None:
    line = Line()
    for _ in range(3):
        line.voice(600)
        line.hush(760)
    line.voice(600)
    line.forget()
    end_ms = line.now_ms
    line.hush(1500)
    assert 900 <= ended_after(line, end_ms) <= BALANCED.unsure_max_ms


def test_patience_is_earned_by_pauses_and_fades() -> None:
    patience = Patience()
    for pause_ms in (100, 700, 300, 900):
        patience.add(pause_ms)
    assert patience.earned_ms == 2 * Patience.STEP_MS
    patience.next_turn()
    patience.add(5000)  # nobody took the floor for so long: that was another turn
    patience.next_turn()
    assert patience.earned_ms < 2


def test_a_turn_waits_longer_than_its_own_longest_pause() -> None:
    patience = Patience()
    patience.add(880)
    assert patience.beyond_ms(860) == Patience.AGAIN * 880 - 860
    patience.add(620)
    patience.add(620)
    assert patience.beyond_ms(1100) == 3 * Patience.STEP_MS
    patience.next_turn()
    assert patience.beyond_ms(860) == patience.earned_ms


@pytest.mark.parametrize("commit_ms", [200, 500, 1000])
def test_a_plain_silence_timer_is_a_configuration(commit_ms: int) -> None:
    line = Line(
        eager_max=0,
        complete_ms=commit_ms,
        unsure_ms=commit_ms,
        unfinished_ms=commit_ms,
    )
    line.voice(1000)
    line.hush(2000)
    assert line.names == ["started", "stopped", "ended"]
    assert ended_after(line, 1000) == commit_ms
