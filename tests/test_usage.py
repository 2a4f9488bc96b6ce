"""What a call used: told or estimated, of each provider, spoken or thrown away."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rtcore.usage import Request, Tally, Usage

DOWN = ConnectionError("down")


def test_what_the_service_told_is_what_counts() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.got(40)
        asked.got(40)
        asked.told(90, 15, cached_tokens=64)
    assert (tally.requests, tally.answered, tally.failures) == (1, 1, 0)
    assert (tally.input_tokens, tally.output_tokens, tally.cached_tokens) == (90, 15, 64)
    assert tally.estimated_tokens == 0


async def test_an_answer_that_was_cut_is_estimated() -> None:
    tally = Tally()
    with trio.CancelScope() as scope, Request(tally, input_chars=400) as asked:
        asked.got(80)
        scope.cancel()
        await trio.lowlevel.checkpoint()
    assert (tally.input_tokens, tally.output_tokens, tally.estimated_tokens) == (100, 20, 120)
    assert tally.failures == 0


def test_one_that_counts_nothing_is_estimated() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.told(0, 0)
    assert tally.estimated_tokens == 100


def test_a_failure_before_the_answer_costs_nothing() -> None:
    tally = Tally()
    with pytest.raises(ConnectionError), Request(tally, input_chars=400):
        raise DOWN
    assert (tally.requests, tally.answered, tally.failures) == (1, 0, 1)
    assert tally.input_tokens == 0


def test_the_loser_of_a_race_is_waste() -> None:
    tally = Tally()
    with Request(tally, input_chars=400) as asked:
        asked.is_wasted = True
    assert tally.wasted_tokens == tally.input_tokens == 100


def test_a_list_counts_itself() -> None:
    class Alone:
        name = "mine"

    class Listed(Alone):
        counts_usage = True

    usage = Usage()
    usage.alone("llm", Alone()).requests += 1
    usage.alone("llm", Listed()).requests += 1
    (used,) = usage.report()
    assert (used.provider, used.member, used.requests) == ("mine", 0, 1)


def test_a_reply_thrown_away_is_waste_in_the_whole() -> None:
    call, spoken, thrown = Usage(), Usage(), Usage()
    for reply in (spoken, thrown):
        with Request(reply.of("llm", "m"), input_chars=40) as asked:
            asked.told(10, 5)
        voice = reply.of("tts", "v")
        voice.characters += 20
        voice.speech_samples += 8000
    call.add(spoken)
    call.add(thrown, is_wasted=True)
    mind, voice_used = call.report()
    assert (mind.input_tokens, mind.output_tokens, mind.wasted_tokens) == (20, 10, 15)
    assert (voice_used.characters, voice_used.wasted_characters) == (40, 20)
    assert (voice_used.speech_s, voice_used.wasted_speech_s) == (2.0, 1.0)


counts = st.integers(0, 1000)


@given(st.lists(st.tuples(counts, counts, st.booleans(), st.booleans()), max_size=20))
def test_waste_is_never_more_than_was_used(replies: list[tuple[int, int, bool, bool]]) -> None:
    call = Usage()
    for read, written, lost, thrown in replies:
        reply = Usage()
        with Request(reply.of("llm", "m"), 0) as asked:
            asked.is_wasted = lost
            asked.told(read, written)
        call.add(reply, is_wasted=thrown)
    for used in call.report():
        expected = sum(r + w for r, w, lost, thrown in replies if lost or thrown)
        assert used.wasted_tokens == expected
        assert used.wasted_tokens <= used.input_tokens + used.output_tokens
