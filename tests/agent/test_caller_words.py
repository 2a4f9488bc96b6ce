"""Which words belong to which turn."""

from __future__ import annotations

from rtcore.agent.caller_words import CallerWords
from rtcore.turn.events import Transcript


def said(segment: int, text: str, *, is_final: bool = True) -> Transcript:
    return Transcript(segment=segment, text=text, is_final=is_final)


def test_segments_are_joined_in_order_and_replaced_by_newer() -> None:
    words = CallerWords()
    words.add(said(1, "in the morning"))
    words.add(said(0, "I come", is_final=False))
    words.add(said(0, "I come tomorrow"))
    assert words.text == "I come tomorrow in the morning"


def test_a_closed_turn_leaves_nothing_to_the_next() -> None:
    words = CallerWords()
    words.add(said(0, "hello"))
    words.close()
    assert words.text == ""
    assert words.add(said(0, "hello.")) is None  # the same words, revised
    assert words.text == ""


def test_a_segment_that_goes_on_brings_only_what_is_new() -> None:
    words = CallerWords()
    words.add(said(0, "I want a table", is_final=False))
    words.close()
    words.voice()
    fresh = words.add(said(0, "I want a table for four"))
    assert fresh is not None
    assert fresh.text == words.text == "for four"


def test_words_found_late_without_a_voice_are_not_a_turn() -> None:
    words = CallerWords()
    words.add(said(0, "I want", is_final=False))
    words.close()
    assert words.add(said(0, "I want a table")) is None


def test_an_older_segment_is_past() -> None:
    words = CallerWords()
    words.add(said(3, "yes"))
    words.close()
    words.voice()
    assert words.add(said(1, "no")) is None


def test_keys_are_told_as_keys() -> None:
    words = CallerWords()
    words.add(said(0, "my number is"))
    words.keys("12")
    words.keys("3#")
    assert words.text == "my number is (pressed 123#)"


def test_memory_of_old_segments_is_bounded() -> None:
    words = CallerWords()
    for n in range(1000):
        words.add(said(n, "word"))
        words.close()
    assert len(words._answered) <= 8
