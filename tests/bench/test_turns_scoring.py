"""Scores against decisions made by hand, and detectors against sounds made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.turns.drive import Decision, drive
from bench.turns.labels import Span, ms
from bench.turns.peers import RULES, TimerDetector
from bench.turns.scoring import Tally, score, summary
from bench.turns.tracks import Line, Timeline, Track
from rtcore.audio import FRAME_SAMPLES
from rtcore.turn.completeness import Expectation
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    Transcript,
    TurnEager,
    TurnEnded,
    TurnResumed,
)


def track_with(line: Timeline, seconds: float = 12.0) -> Track:
    line.cursor = ms(1000 * seconds)
    return line.finish("made", Line())


def empty() -> Timeline:
    return Timeline("dev", np.random.default_rng(1))


def at(milliseconds: float, event: type[Event]) -> Decision:
    return Decision(ms(milliseconds), event(at_sample=ms(milliseconds)))


@pytest.fixture
def turn_track() -> Track:
    """One turn: 1-2 s, a pause of 0.8 s, 2.8-4 s; the agent answers at 6.5 s."""
    line = empty()
    spans = [Span(8000, 16000), Span(22400, 32000)]
    line.says(spans, ["i would like to", "Go now."])
    line.turn(spans, ms(6500))
    return track_with(line)


def test_a_good_turn(turn_track: Track) -> None:
    tally = score(
        turn_track,
        [
            at(1070, SpeechStarted),
            at(2260, TurnEager),
            at(2860, TurnResumed),
            at(4250, TurnEager),
            at(4850, TurnEnded),
        ],
    )
    assert tally.onset_ms == [70.0]
    assert (tally.pauses, tally.cut_pauses, tally.eager_wasted) == (1, 0, 1)
    assert (tally.eager_ms, tally.commit_ms) == ([250.0], [850.0])


def test_a_cut_turn_counts_once_and_still_ends(turn_track: Track) -> None:
    tally = score(turn_track, [at(2700, TurnEnded), at(2850, TurnEnded), at(4700, TurnEnded)])
    assert (tally.cut_pauses, tally.cut_turns, tally.cut_in_speech) == (1, 1, 0)
    assert tally.commit_ms == [700.0]
    assert tally.onsets_missed == 1


def test_a_turn_nobody_ended_and_one_ended_in_mid_word(turn_track: Track) -> None:
    tally = score(turn_track, [at(1500, TurnEnded), at(6600, TurnEnded)])
    assert (tally.turns_uncommitted, tally.cut_in_speech, tally.cut_pauses) == (1, 1, 0)


@pytest.fixture
def agent_track() -> Track:
    """The agent speaks from 1 to 11 s: a cough at 3 s, a "mhm" at 5 s, a barge-in at 7 s."""
    line = empty()
    line.agent(np.full(ms(10_000), 1000.0), ms(1000))
    line.event(np.full(ms(300), 500.0), ms(3000), "cough")
    line.says([Span(ms(5000), ms(5300))], ["mhm"])
    line.backchannel(Span(ms(5000), ms(5300)))
    line.says([Span(ms(7000), ms(9000))], ["Wait, please stop."])
    line.barge_in(Span(ms(7000), ms(9000)))
    return track_with(line)


def test_what_interrupts_is_told_apart(agent_track: Track) -> None:
    tally = score(
        agent_track,
        [
            at(1500, BargeInSuspected),
            at(1900, BargeInDismissed),
            at(3100, BargeInSuspected),
            at(3500, BargeInConfirmed),
            at(5100, BargeInSuspected),
            at(5600, BargeInDismissed),
            at(7080, BargeInSuspected),
            at(7400, BargeInConfirmed),
        ],
    )
    assert (tally.false_suspected, tally.false_confirmed) == (1, 0)
    assert (tally.events_suspected, tally.events_confirmed) == (1, 1)
    assert tally.confirmed_kinds == ["cough"]
    assert (tally.backchannels_suspected, tally.backchannels_confirmed) == (1, 0)
    assert (tally.masked, tally.suspect_ms, tally.confirm_ms) == (0, [80.0], [400.0])
    assert tally.held_ms == [400.0, 500.0]
    assert summary(tally)["agent_lost_ms"]["max"] == 380.0  # the 120 ms ahead were still heard


def test_a_barge_in_that_was_already_suspected_is_masked(agent_track: Track) -> None:
    tally = score(agent_track, [at(6500, BargeInSuspected)])
    assert (tally.masked, tally.unconfirmed, tally.false_suspected) == (1, 1, 1)


def test_tallies_add_field_by_field() -> None:
    total = Tally(onset_ms=[1.0], pauses=2) + Tally(onset_ms=[2.0], pauses=3, turns=1)
    assert total == Tally(onset_ms=[1.0, 2.0], pauses=5, turns=1)


def test_an_empty_tally_has_nothing_to_say() -> None:
    assert summary(Tally()) == {}


class Loud:
    """Voice is what is loud: a detector whose answers the test knows."""

    window_samples = FRAME_SAMPLES

    def voiced(self, window: bytes, speaking: bool) -> bool:
        return bool(np.abs(np.frombuffer(window, "<i2")).mean() > 200)


def timeline_of_voice() -> Timeline:
    line = empty()
    line.caller(np.full(8000, 3000.0), 8000)
    line.says([Span(8000, 16000)], ["Stop it."])
    return line


def test_a_timer_ends_a_turn_when_its_time_is_up() -> None:
    line = timeline_of_voice()
    line.turn([Span(8000, 16000)], ms(5000))
    track = track_with(line, 6)
    tally = score(track, drive(TimerDetector(RULES["webrtc-timer"], Loud()), track, words=False))
    assert tally.onset_ms == [60.0]
    assert tally.commit_ms == [700.0]


@pytest.mark.parametrize("words", [False, True])
def test_a_rule_that_resumes_waits_for_words(words: bool) -> None:
    line = timeline_of_voice()
    line.agent(np.full(ms(6000), 900.0), 0)
    line.barge_in(Span(8000, 16000))
    track = track_with(line, 7)
    rule = replace(RULES["livekit-vad"], end_ms=4000.0)  # no commit before the resumption
    decisions = drive(TimerDetector(rule, Loud()), track, words=words)
    kinds = [type(decision.event) for decision in decisions]
    assert (BargeInConfirmed in kinds) is words
    assert (BargeInDismissed in kinds) is not words
    suspected = next(d for d in decisions if isinstance(d.event, BargeInSuspected))
    assert suspected.emitted == 8000 + ms(500)


class Listener:
    """Remembers what it is told; ends a turn at once when ``ends_at`` samples are heard."""

    def __init__(self, ends_at: int | None = None) -> None:
        self.states: list[tuple[int, AgentState]] = []
        self.far: list[bool] = []
        self.texts: list[str] = []
        self.heard = 0
        self._ends_at = ends_at

    def push(self, pcm: bytes, far: bytes | None) -> list[Event]:
        self.heard += len(pcm) // 2
        self.far.append(far is not None)
        return [TurnEnded(at_sample=self.heard)] if self.heard == self._ends_at else []

    def agent(self, state: AgentState) -> list[Event]:
        self.states.append((self.heard, state))
        return []

    def expect(self, expectation: Expectation) -> list[Event]:
        return []

    def transcript(self, transcript: Transcript) -> list[Event]:
        self.texts.append(transcript.text)
        return []


def test_the_agent_thinks_after_a_turn_and_speaks_when_the_script_says() -> None:
    line = empty()
    line.agent(np.full(8000, 900.0), 16000)
    track = track_with(line, 4)
    listener = Listener(ends_at=8000)
    drive(listener, track, words=False)
    assert listener.states == [
        (8000, AgentState.THINKING),
        (16000, AgentState.SPEAKING),
        (24000, AgentState.LISTENING),
    ]
    assert sum(listener.far) == 50
    assert listener.heard == len(track.caller)


def test_words_are_told_only_when_they_are_known(turn_track: Track) -> None:
    deaf, hearing = Listener(), Listener()
    drive(deaf, turn_track, words=False)
    drive(hearing, turn_track, words=True)
    assert deaf.texts == []
    assert hearing.texts[-1] == "Go now."


def test_a_reference_that_runs_ahead_is_told_early_and_heard_on_time() -> None:
    line = empty()
    line.agent(np.full(8000, 900.0), 16000)
    line.cursor = ms(5000)
    track = line.finish("made", Line(reference_ahead_ms=300.0))
    assert track.speaking == (Span(16000 - 2400, 24000 - 2400),)
    assert track.audible == (Span(16000, 24000),)
    assert np.flatnonzero(track.far)[0] == 16000 - 2400
