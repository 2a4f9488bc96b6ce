"""What holds after any sequence of events, whoever misbehaves."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rtcore.turn import Expectation, TurnConfig
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    CallerIdle,
    Event,
    FloorLost,
    SpeechStarted,
    SpeechStopped,
    TurnEager,
    TurnEnded,
    TurnResumed,
)
from tests.turn.driving import Line

LONGEST_SILENCE_MS = 15_000 + 40  # the idle limit of "patient", the longest timer there is

TEXTS = ("mhm", "stop", "my number is", "Yes please.", "one two three", "uh", "", "book a table")

by_the_caller = st.one_of(
    st.tuples(st.just("voice"), st.sampled_from([20, 60, 100, 200, 500, 1200])),
    st.tuples(st.just("hush"), st.sampled_from([40, 200, 300, 600, 1000, 2500, 6000])),
    st.tuples(st.just("note"), st.sampled_from([200, 1500])),
    st.tuples(st.just("words"), st.sampled_from(TEXTS), st.booleans(), st.booleans()),
)
step = st.one_of(
    by_the_caller,
    st.tuples(st.just("echo"), st.sampled_from([200, 1500])),
    st.tuples(st.just("agent"), st.sampled_from(AgentState), st.booleans(), st.booleans()),
    st.tuples(st.just("keys"), st.sampled_from(["1", "#", "123"])),
    st.tuples(st.just("play"), st.booleans()),
    st.tuples(st.just("expect"), st.sampled_from(["free", "digits", "yes_no", "date"])),
    st.tuples(st.just("configure"), st.sampled_from(["eager", "balanced", "patient"])),
)


class Watcher:
    """Checks each event against what came before it, and the machine after each call."""

    def __init__(self) -> None:
        self.suspected = self.eager = False
        self.turns = 0  # opened and not ended: never more than one
        self.speaking = False
        self.last_sample = 0

    def see(self, line: Line, events: list[Event]) -> None:
        detector = line.detector
        for event in events:
            match event:
                case SpeechStarted():
                    assert not self.speaking
                    self.speaking = True
                case SpeechStopped():
                    assert self.speaking
                    self.speaking = False
                case BargeInSuspected():
                    assert not self.suspected, "suspected twice"
                    self.suspected = True
                case BargeInConfirmed():
                    self.suspected = False
                case BargeInDismissed():
                    assert self.suspected, "dismissed what was not suspected"
                    self.suspected = False
                case TurnEager():
                    assert not self.eager, "eager twice"
                    self.eager = True
                case TurnResumed():
                    assert self.eager, "resumed what was not eager"
                    self.eager = False
                case TurnEnded():
                    self.eager = False
                case CallerIdle() | FloorLost():
                    assert event.count >= 1
            assert 0 <= event.at_sample <= detector.now_samples
        if detector.is_turn_open:
            assert detector.agent_state is AgentState.LISTENING, "two have the floor"
        else:
            assert not self.eager, "a speculation on no turn"
        if self.suspected:
            assert detector.agent_state is AgentState.SPEAKING
        if detector.agent_state is not AgentState.SPEAKING:
            assert detector.due_sample is not None, "nobody has the floor and no timer is armed"


def play(line: Line, watcher: Watcher, steps: list[tuple[Any, ...]]) -> None:
    for kind, *given_ in steps:
        match kind:
            case "voice" | "hush" | "note" | "echo":
                sound = {"voice": line.voice, "hush": line.hush, "note": line.note}.get(
                    kind, line.echo
                )
                for _ in range(given_[0] // 20):
                    watcher.see(line, sound(20))
            case "words":
                watcher.see(line, line.words(given_[0], final=given_[1], same=given_[2]))
            case "agent":
                state, plays, interruptible = given_
                watcher.see(line, line.agent(state, plays=plays, interruptible=interruptible))
            case "keys":
                watcher.see(line, line.keys(given_[0]))
            case "play":
                line.play(given_[0])
            case "expect":
                watcher.see(line, line.detector.expect(Expectation(given_[0])))
            case "configure":
                watcher.see(line, line.detector.configure(TurnConfig.preset(given_[0])))


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=14))
def test_any_sequence_keeps_the_invariants(steps: list[tuple[Any, ...]]) -> None:
    line, watcher = Line(), Watcher()
    play(line, watcher, steps)
    # liveness: left alone, it breaks the silence within the longest timer
    watcher.see(line, line.agent(AgentState.LISTENING, plays=False))
    line.forget()
    for _ in range(LONGEST_SILENCE_MS // 20):
        watcher.see(line, line.hush(20))
    assert line.names, "the floor was lost"
    assert not watcher.suspected, "suspected, neither confirmed nor dismissed"
    # no event after the end
    closing = line.detector.close()
    assert all(isinstance(event, BargeInDismissed | TurnResumed) for event in closing)
    line.forget()
    line.voice(500)
    line.hush(1000)
    line.words("hello")
    line.keys("1")
    line.agent(AgentState.SPEAKING)
    assert line.detector.expect() == line.detector.close() == []
    assert line.names == []


@settings(max_examples=25, deadline=None)
@given(st.lists(by_the_caller, max_size=14))
def test_a_turn_ends_at_most_once(steps: list[tuple[Any, ...]]) -> None:
    """With a caller alone on the line each end needs a beginning of its own."""
    line, watcher = Line(), Watcher()
    opened = ended = 0
    for one in steps:
        before = line.detector.is_turn_open
        line.forget()
        play(line, watcher, [one])
        ended += line.names.count("ended")
        opened += line.names.count("started") + (one[0] == "words" and not before)
        assert ended <= opened
