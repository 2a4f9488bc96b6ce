"""What a model writes becomes what a voice can say; what needs no change stays as it is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.agent.speech_text import speakable
from tests.agent.thoughts import Model, think

PLAIN = ["well", "we", "open", "at", "nine", "on", "Monday"]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # markup
        ("Hello **world**, _now_ and `here`.", "Hello world, now and here."),
        ("## Opening hours", "Opening hours"),
        ("- milk", "milk"),
        ("See [our page](https://example.com/a?b=1).", "See our page."),
        ("| Day | Time |\n|---|---|\n| Monday | noon |", "Day, Time, Monday, noon"),
        ("<b>bold</b> and **half", "bold and half"),
        ("snake_case_name stays", "snake_case_name stays"),
        # emoji
        ("Great \U0001f44d\U0001f3fd job \U0001f600!", "Great job!"),
        ("❤️ \U0001f389", ""),
        ("naïve café, señor", "naïve café, señor"),
        # numbers
        ("12 items, 1,234 in all", "twelve items, one thousand two hundred thirty-four in all"),
        ("3.14", "three point one four"),
        ("It is -5 °C, at most +3.", "It is minus five degrees Celsius, at most plus three."),
        ("Room 007, code 1234567", "Room zero zero seven, code one two three four five six seven"),
        ("the 21st, 12th and 3rd", "the twenty-first, twelfth and third"),
        ("a 2.5 kg bag, 1 km", "a two point five kilograms bag, one kilometer"),
        ("50% of #5", "fifty percent of number five"),
        ("from 9-5, 10–12", "from nine to five, ten to twelve"),
        ("AB12, v1.2.3 and 4x", "AB12, v1.2.3 and 4x"),
        # money
        ("$12.50 or €3", "twelve dollars and fifty cents or three euros"),
        ("£1.01", "one pound and one penny"),
        ("$5 million or 20 USD", "five million dollars or twenty dollars"),
        ("$0.99 and ₹1,000", "ninety-nine cents and one thousand rupees"),
        # days and times
        ("2026-03-01", "March first, twenty twenty-six"),
        ("March 1st, 2026 and May 5", "March first, twenty twenty-six and May fifth"),
        ("3/4/2026", "March fourth, twenty twenty-six"),
        ("25/12/2026", "December twenty-fifth, twenty twenty-six"),
        ("in 1999-2004", "in nineteen ninety-nine to two thousand four"),
        ("9:30 am, 9:05 and 9:00", "nine thirty am, nine oh five and nine o'clock"),
        ("17:00", "seventeen hundred"),
        # addresses
        ("+1 555-010-0199", "plus one, five five five, zero one zero, zero one nine nine"),
        ("(555) 010-0199", "five five five, zero one zero, zero one nine nine"),
        ("555-0100", "five five five, zero one zero zero"),
        ("jo.smith2@example.com", "jo dot smith two at example dot com"),
        ("https://www.example.com/a?x=1.", "example dot com slash a."),
        ("on example.com today", "on example dot com today"),
        # words
        ("24/7 & e.g. 1/2", "twenty-four seven and for example one half"),
        ("AT&T", "AT&T"),
        ("**", ""),
    ],
)  # fmt: skip
def test_english(written: str, spoken: str) -> None:
    assert speakable(written) == spoken


WORDS = r"(?:[A-Za-zéß]{1,6}|don't|vs\.|approx\.|e\.g\.|AT&T|www|com|-)[,;:.!?]?"


@given(st.lists(st.from_regex(WORDS, fullmatch=True), max_size=8))
def test_a_plain_sentence_is_spoken_like_one_that_is_looked_into(words: list[str]) -> None:
    said = " ".join(words)
    assert speakable(f"Well {said}") == speakable(f"Well  {said}")  # two spaces are not plain


def test_a_date_is_read_as_its_region_does() -> None:
    assert speakable("3/4/2026", "en-GB") == "April third, twenty twenty-six"


def test_a_language_without_a_table_keeps_its_numbers() -> None:
    assert speakable("Das kostet **12,50 €** \U0001f600", "de") == "Das kostet 12,50 €"


@given(st.text(max_size=300))
def test_whatever_a_model_writes_comes_out(text: str) -> None:
    spoken = speakable(text)
    assert "\n" not in spoken
    assert speakable(text, "xx").strip() == speakable(text, "xx")


@given(st.lists(st.sampled_from(PLAIN), min_size=1))
def test_plain_words_stay_as_they_are(words: list[str]) -> None:
    assert speakable(f"{' '.join(words)}.") == f"{' '.join(words)}."


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_every_number_has_a_name(number: int) -> None:
    assert not any(c.isdigit() for c in speakable(f"It is {number:,} now."))


@pytest.mark.parametrize(
    "part", ["1", "(", "a.", "1,", "<a", "*a", "[", "- ", "1-", "a@", "|", "_a "]
)
def test_no_text_holds_the_loop_up(part: str) -> None:
    began_s = time.perf_counter()
    speakable(part * (2000 // len(part)))
    assert time.perf_counter() - began_s < 0.5


async def test_the_voice_is_given_words_and_history_the_text() -> None:
    said, thought = await think(Model("It is **$5**. \U0001f600"))
    assert said == ["It is five dollars."]
    assert thought.segments == [(0, "It is **$5**.")]
