"""What a caller of the load generator does and finds out, on a made-up clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.load.caller import Caller, Plan
from bench.load.results import Counts, Heard
from bench.load.voice import FRAME_S, hush, paused, question, voiced

LOUD = b"\x00" * 160


class Talk:
    """A caller, and an agent that says what it is told, frame by frame."""

    def __init__(self, plan: Plan) -> None:
        self.heard, self.counts = Heard(), Counts()
        self.caller = Caller(0, plan, self.heard, self.counts, begins_s=0.1)
        self.now_s = 0.0

    def tick(self, *, agent_speaks: bool = False) -> bool:
        """20 ms; whether the caller spoke in them."""
        self.now_s += FRAME_S
        frame = self.caller.next_frame(self.now_s)
        if agent_speaks:
            self.caller.on_audio(LOUD, self.now_s)
        return frame not in hush()

    def until_spoken(self) -> Iterator[None]:
        """Ticks until the caller has said something and is silent again."""
        while not self.tick():
            yield
        while self.caller.is_speaking:
            self.tick()
            yield


@pytest.fixture
def talk() -> Talk:
    return Talk(Plan(speech=question(2), interrupt_every=0))


def test_a_response_counts_from_the_last_voiced_sample(talk: Talk) -> None:
    for _ in talk.until_spoken():
        pass
    ended_s = talk.now_s
    for _ in range(9):
        talk.tick()
    talk.tick(agent_speaks=True)
    assert talk.heard.response_ms == [pytest.approx(talk.now_s * 1000 - ended_s * 1000, abs=20)]
    assert talk.heard.turns == [(0, pytest.approx(ended_s, abs=0.02), talk.heard.response_ms[0])]


def test_the_next_question_follows_when_the_agent_is_done(talk: Talk) -> None:
    for _ in talk.until_spoken():
        pass
    for _ in range(20):
        talk.tick(agent_speaks=True)
    ended_s = talk.now_s
    while not talk.tick():
        pass
    assert talk.now_s - ended_s == pytest.approx(Plan(speech=question(2)).pause_s, abs=0.05)
    assert talk.counts.turns == 2
    assert talk.heard.worst_gap_ms == [pytest.approx(0, abs=1e-6)]


def test_an_answer_that_never_comes_is_counted_and_not_waited_for(talk: Talk) -> None:
    for _ in talk.until_spoken():
        pass
    while not talk.tick():
        assert talk.now_s < 20
    assert talk.counts.unanswered == 1


def test_a_hole_in_a_reply_is_told(talk: Talk) -> None:
    for _ in talk.until_spoken():
        pass
    for number in range(30):
        talk.tick(agent_speaks=number not in (10, 11))
    while not talk.tick():
        pass
    assert max(talk.heard.gap_ms) == pytest.approx(40)
    assert talk.heard.worst_gap_ms == [pytest.approx(40)]


def interrupted(reply_s: float = 0.0) -> Talk:
    """A talk in which the caller has just begun to talk over the agent."""
    plan = Plan(speech=question(2), interrupt_every=1, interrupt_after_s=0.2, reply_s=reply_s)
    talk = Talk(plan)
    for _ in talk.until_spoken():
        pass
    talk.tick(agent_speaks=True)
    talk.caller.on_audio(LOUD, talk.now_s)  # a frame ahead, as servers are
    while not talk.tick(agent_speaks=True):
        pass
    assert talk.now_s < 5
    return talk


def test_a_barge_in_is_timed_to_clear_and_to_silence() -> None:
    talk = interrupted()
    began_s = talk.now_s - FRAME_S
    for _ in range(5):
        talk.tick(agent_speaks=True)
    talk.caller.on_clear(talk.now_s)
    while talk.caller.is_speaking:
        talk.tick()
    assert talk.heard.clear_ms == [pytest.approx(120, abs=1)]
    assert talk.heard.silence_ms == [pytest.approx(120, abs=1)]
    assert talk.heard.interruptions[0][1] == pytest.approx(began_s, abs=0.001)
    assert talk.counts.uninterrupted == 0


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("is_cleared", [True, False])
def test_a_reply_that_ends_by_itself_was_not_silenced(is_marked: bool, is_cleared: bool) -> None:
    # its end is known by a checkpoint, by its length, or (nobody cleared it) by its silence
    talk = interrupted(reply_s=0.0 if is_marked else 0.5)
    for _ in range(5):
        talk.tick(agent_speaks=True)
    if is_marked:
        talk.caller.ear.checkpoint("end", talk.now_s)
    for _ in range(8):
        talk.tick()
    if is_cleared:
        talk.caller.on_clear(talk.now_s)
    for _ in range(40):
        talk.tick()
    talk.tick(agent_speaks=True)
    assert talk.heard.silence_ms == []
    assert (talk.counts.ended_alone, talk.counts.uninterrupted) == (1, 0)
    assert talk.counts.interruptions == 1


@pytest.mark.parametrize("reply_s", [0.0, 3.0])
def test_a_reply_that_was_held_before_it_was_cleared_was_silenced_when_it_was_held(
    reply_s: float,
) -> None:
    talk = interrupted(reply_s)
    for _ in range(5):
        talk.tick(agent_speaks=True)
    for _ in range(4):
        talk.tick()
    talk.caller.on_clear(talk.now_s)
    while talk.caller.is_speaking:
        talk.tick()
    assert talk.heard.silence_ms == [pytest.approx(160, abs=1)]
    assert talk.heard.clear_ms == [pytest.approx(200, abs=1)]
    assert talk.counts.ended_alone == 0


def test_an_agent_that_stalls_while_it_is_talked_over_was_not_silenced() -> None:
    talk = interrupted(reply_s=3.0)
    while talk.caller.is_speaking:
        talk.tick()  # no clear: the rest may come yet
    for _ in range(30):
        talk.tick()
    talk.tick(agent_speaks=True)
    assert talk.heard.silence_ms == []
    assert (talk.counts.ended_alone, talk.counts.uninterrupted) == (0, 1)


@pytest.mark.parametrize("reply_s", [0.0, 3.0])
def test_a_reply_that_was_held_and_cleared_when_the_caller_had_finished_was_silenced(
    reply_s: float,
) -> None:
    talk = interrupted(reply_s)
    for _ in range(5):
        talk.tick(agent_speaks=True)
    while talk.caller.is_speaking:
        talk.tick()
    assert talk.heard.silence_ms == []  # not yet
    talk.caller.on_clear(talk.now_s)
    for number in range(30):
        talk.tick(agent_speaks=number > 20)
    assert talk.heard.silence_ms == [pytest.approx(160, abs=1)]
    assert len(talk.heard.clear_ms) == 1
    assert (talk.counts.ended_alone, talk.counts.uninterrupted) == (0, 0)
    assert talk.counts.stale_pieces == 0
    assert len(talk.heard.response_ms) == 2


def test_an_agent_that_only_draws_breath_was_not_silenced() -> None:
    talk = interrupted()
    for _ in range(12):
        talk.tick(agent_speaks=True)
    while talk.caller.is_speaking:
        talk.tick()
    for _ in range(5):
        talk.tick(agent_speaks=True)
    assert talk.heard.silence_ms == []
    assert (talk.counts.ended_alone, talk.counts.uninterrupted) == (0, 1)


def test_who_holds_a_reply_and_says_nothing_more_was_not_silenced() -> None:
    talk = interrupted(reply_s=3.0)
    while talk.counts.turns < 3:
        talk.tick()
    assert talk.counts.unanswered == 1
    assert (talk.counts.ended_alone, talk.counts.uninterrupted) == (0, 1)


def test_an_agent_that_talks_on_was_not_interrupted() -> None:
    talk = interrupted()
    while talk.caller.is_speaking:
        talk.tick(agent_speaks=True)
    assert talk.counts.uninterrupted == 1
    assert talk.heard.silence_ms == []


def test_audio_after_its_clear_is_stale() -> None:
    talk = interrupted()
    talk.caller.on_clear(talk.now_s)
    talk.caller.on_audio(LOUD, talk.now_s + 0.01)
    assert talk.counts.stale_pieces == 1


def test_speaking_into_a_pause_is_a_cut_off() -> None:
    talk = Talk(
        Plan(speech=question(2), paused=paused(voiced(2)), paused_every=1, interrupt_every=0)
    )
    while not talk.tick():
        pass
    for _ in range(15):  # into the pause of half a second
        talk.tick()
    talk.tick(agent_speaks=True)
    assert talk.counts.cut_offs == 1
    assert talk.counts.paused_turns == 1


LONG = Plan(speech=question(2), interrupt_every=0, reply_s=1.0)


@pytest.mark.parametrize("stall_frames", [50, 95, 130])
def test_the_rest_of_a_reply_that_stalled_is_a_gap_and_no_quick_answer(stall_frames: int) -> None:
    talk = Talk(LONG)
    for _ in talk.until_spoken():
        pass
    for number in range(50 + stall_frames):  # half of the reply, a stall, the other half
        talk.tick(agent_speaks=not 25 <= number < 25 + stall_frames)
    (first_ms,) = talk.heard.response_ms  # of the first question
    assert first_ms < 30
    assert talk.counts.stalled == 1
    was_spoken_into = stall_frames == 50
    assert (talk.counts.cut_offs, talk.counts.unanswered) == ((1, 0) if was_spoken_into else (0, 1))
    while talk.counts.turns < 3:
        talk.tick()
    assert talk.heard.worst_gap_ms == [
        pytest.approx(Plan(speech=question(2)).pause_s * 1000, abs=40),  # borne, until the question
        pytest.approx(stall_frames * FRAME_S * 1000, abs=1),
    ]
    for _ in range(60):  # an answer after all that is one again
        talk.tick(agent_speaks=not talk.caller.is_speaking)
    assert len(talk.heard.response_ms) == 2
    assert talk.counts.stalled == 1


def test_what_follows_a_clear_is_an_answer_and_the_stall_is_told_all_the_same() -> None:
    talk = Talk(LONG)
    for _ in talk.until_spoken():
        pass
    for _ in range(25):
        talk.tick(agent_speaks=True)
    for _ in talk.until_spoken():
        pass
    talk.caller.on_clear(talk.now_s)  # the rest will never come
    for _ in range(50):
        talk.tick(agent_speaks=True)
    assert (len(talk.heard.response_ms), talk.counts.stalled, talk.counts.unanswered) == (2, 1, 0)


@pytest.mark.parametrize(("reply_s", "spoken_s"), [(1.0, 0.8), (0.0, 0.3)])
def test_a_reply_that_was_said_or_whose_length_is_not_known_did_not_stall(
    reply_s: float, spoken_s: float
) -> None:
    talk = Talk(Plan(speech=question(2), interrupt_every=0, reply_s=reply_s))
    for _ in talk.until_spoken():
        pass
    for _ in range(round(spoken_s / FRAME_S)):
        talk.tick(agent_speaks=True)
    for _ in talk.until_spoken():
        pass
    talk.tick(agent_speaks=True)
    assert talk.counts.stalled == 0
    assert len(talk.heard.response_ms) == 2
