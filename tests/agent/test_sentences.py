"""The first piece early, whole sentences after it, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtcore.agent.sentences import SEGMENT_MAX_CHARS, SentenceSplitter


def split(text: str, step: int = 1) -> list[str]:
    splitter = SentenceSplitter()
    out: list[str] = []
    for at in range(0, len(text), step):
        out += splitter.push(text[at : at + step])
    return out + splitter.flush()


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("Yes. We are open.", ["Yes.", "We are open."]),
        ("It costs 3.50 dollars. Fine?", ["It costs 3.50 dollars.", "Fine?"]),
        ("Dr. Smith is in. He waits.", ["Dr. Smith is in.", "He waits."]),
        ("No. You cannot.", ["No.", "You cannot."]),
        ('She said "Stop!" Then she left.', ['She said "Stop!"', "Then she left."]),
        ("We open at 9 a.m. on Monday.", ["We open at 9 a.m. on Monday."]),
        ("See example.com for more. Bye.", ["See example.com for more.", "Bye."]),
        ("Well, we open at nine, and no later.", ["Well, we open at nine,", "and no later."]),
        ("One\nTwo\nThree", ["One", "Two", "Three"]),
        ("Wait... what?", ["Wait...", "what?"]),
        ("  \n ", []),
        ("!!!", []),
        ("没问题。好的！", ["没问题。", "好的！"]),
    ],
)  # fmt: skip
def test_where_it_cuts(text: str, segments: list[str]) -> None:
    assert split(text) == segments
    assert split(text, 7) == segments


def test_a_clause_is_enough_only_for_the_first_piece() -> None:
    text = "Of course I can do that, one moment, please. First the name, then the number."
    assert split(text) == [
        "Of course I can do that,",
        "one moment, please.",
        "First the name, then the number.",
    ]


def test_a_sentence_without_end_is_cut_at_a_space() -> None:
    pieces = split("word " * 200)
    assert all(len(piece) <= SEGMENT_MAX_CHARS for piece in pieces)
    assert " ".join(pieces) == ("word " * 200).strip()


@settings(max_examples=300)
@given(st.text(alphabet='ab .,!?\n"3', max_size=200), st.integers(1, 9))
@example("thirty-three and three, 3\n", 4)  # two ends in one step: the first counts
@example("a" * 279 + ", b c. d", 9)
def test_nothing_is_lost_and_the_steps_do_not_matter(text: str, step: int) -> None:
    pieces = split(text, step)
    said = [c for piece in pieces for c in piece if c.isalnum()]
    assert said == [c for c in text if c.isalnum()]
    assert pieces == split(text, 1)
