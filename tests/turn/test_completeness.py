"""Words into votes: what reads as finished, what does not, what only says "go on"."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.turn import FREE, Expectation
from rtcore.turn.completeness import completeness, fuse, is_backchannel, normal, real_words
from rtcore.turn.language import LANGUAGES, language

EN = LANGUAGES["en"]


def vote(text: str, expected: Expectation = FREE) -> float:
    return completeness(text, expected, EN)


@pytest.mark.parametrize(
    "text",
    [
        "yes", "No.", "Yes please", "that's all", "Thank you.", "What time do you open?",
        "I need a new battery for my car.", "book me in for Tuesday thank you",
    ],
)  # fmt: skip
def test_finished(text: str) -> None:
    assert vote(text) >= 0.85


@pytest.mark.parametrize(
    "text",
    [
        "and", "I would like to", "my number is", "my name is", "it should be for the", "uh",
        "because", "and then I need a", "so it's about my", "hold on", "the red one and",
        "I was wondering", "well um",
    ],
)  # fmt: skip
def test_unfinished(text: str) -> None:
    assert vote(text) <= 0.15


@pytest.mark.parametrize("text", ["", "   ", "zebra crossing", "the blue one"])
def test_neither(text: str) -> None:
    assert 0.3 <= vote(text) <= 0.7


@pytest.mark.parametrize(
    "text",
    [
        "what are your opening hours", "where can i park my car", "can i pay by card",
        "how much does a visit cost", "what time do you close", "do you take insurance",
        "is there parking nearby", "when are you open", "how do i get there", "how much is it",
        "can you help me with that", "what is that for", "who is my doctor", "what's the price",
        "which one is cheaper", "how long does it take", "would that work", "is it open",
        "so can i bring my dog please", "hello do i need an appointment", "where is it",
        "could you repeat that", "how old are you", "where are you from", "are you open today",
    ],
)  # fmt: skip
def test_a_whole_question_needs_no_question_mark(text: str) -> None:
    assert vote(text) >= 0.85


@pytest.mark.parametrize(
    "text",
    [
        "what are your", "where can i", "how much does a", "how much does a visit", "can i",
        "do you have any", "when can i", "can you tell me", "can you tell me if", "is there a",
        "where can i find", "what time do", "what time do you", "can i get", "do you take",
        "could you please", "how do i get", "what kind of", "is it possible to", "are you",
        "what are your opening,",
    ],
)  # fmt: skip
def test_a_question_that_has_only_begun(text: str) -> None:
    assert vote(text) <= 0.2


@pytest.mark.parametrize(
    "text", ["when i was young", "what we need is", "may first", "no is fine", "can i pay"]
)
def test_what_is_no_clear_question_gets_no_such_vote(text: str) -> None:
    assert vote(text) < 0.85


def test_a_plain_statement_is_likelier_whole_than_not() -> None:
    for text in (
        "i would like to book a table", "no i do not have the number", "tomorrow at ten",
        "i need to change my booking",
    ):  # fmt: skip
        assert 0.65 <= vote(text) <= 0.8


def test_a_question_is_finished_whatever_its_last_word() -> None:
    assert vote("What time is it?") >= 0.9
    assert vote("Who should I talk to?") >= 0.9


def test_a_full_stop_does_not_finish_an_open_clause() -> None:
    assert vote("My number is.") <= 0.15


def test_a_number_of_unknown_length_may_go_on() -> None:
    assert vote("five five five") < 0.4
    assert vote("555 867 5309") > 0.6


@pytest.mark.parametrize(
    ("text", "expected", "finished"),
    [
        ("yes", Expectation("yes_no"), True),
        ("yeah that works for me", Expectation("yes_no"), True),
        ("yes but", Expectation("yes_no"), False),
        ("five five five", Expectation.digits(10), False),
        ("555 867 5309", Expectation.digits(10), True),
        ("double five five", Expectation.digits(3), True),
        ("oh seven triple nine", Expectation.digits(5), True),
        ("B E E", Expectation.spelled(4), False),
        ("B E E R", Expectation.spelled(4), True),
        ("March", Expectation("date"), False),
        ("the third of March", Expectation("date"), True),
        ("tomorrow", Expectation("date"), True),
        ("my name is", Expectation("name"), False),
        ("John Smith", Expectation("name"), True),
    ],
)
def test_what_was_asked_decides_first(text: str, expected: Expectation, finished: bool) -> None:
    assert (vote(text, expected) >= 0.85) is finished


@pytest.mark.parametrize(
    "text", ["mhm", "Mm-hmm.", "okay", "uh huh", "Yeah, okay.", "oh I see", "right", "um yeah"]
)
def test_backchannels(text: str) -> None:
    assert is_backchannel(text, EN)
    assert real_words(text, EN) == 0


@pytest.mark.parametrize("text", ["stop", "no", "yeah but", "okay wait", "yes I have a question"])
def test_real_words(text: str) -> None:
    assert not is_backchannel(text, EN)
    assert real_words(text, EN) >= 1


def test_silence_is_no_backchannel() -> None:
    assert not is_backchannel("", EN)
    assert real_words("...", EN) == 0


@given(
    st.text(max_size=60), st.sampled_from(["free", "yes_no", "digits", "date", "name", "spelled"])
)
def test_any_text_gets_a_vote(text: str, kind: str) -> None:
    assert 0.0 <= vote(text, Expectation(kind)) <= 1.0  # type: ignore[arg-type]
    assert real_words(text, EN) <= len(text)


@given(st.lists(st.floats(0, 1), max_size=5))
def test_fused_votes_stay_votes_and_half_adds_nothing(votes: list[float]) -> None:
    fused = fuse(*votes)
    assert 0.0 < fused < 1.0
    assert fuse(*votes, 0.5) == pytest.approx(fused)


def test_punctuation_and_case_do_not_change_words() -> None:
    assert normal("Book a table,  please!") == normal("book A table please")
    assert normal("It’s") == "it's"


def test_a_language_without_tables_says_nothing() -> None:
    assert language("en-GB") is EN
    assert language("tlh") is None
    assert completeness("yes", FREE, None) == 0.5
    assert not is_backchannel("mhm", None)
    assert real_words("nuqneH", None) == 1


@pytest.mark.parametrize("tag", sorted(LANGUAGES))
def test_tables_are_as_normal_leaves_words(tag: str) -> None:
    table = LANGUAGES[tag]
    for phrases in (table.backchannels, table.stops, table.complete, table.openers):
        assert all(normal(phrase) == phrase for phrase in phrases)
    assert not table.stops & table.backchannels
