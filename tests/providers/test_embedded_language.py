"""The recogniser's dictionary and language model."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.providers.embedded import _language
from rtcore.providers.embedded._language import arpa_model, count, expand, fit, pronounce

CMU = ["a AH", "a(2) EY", "harbour HH AA R B ER", "side S AY D", "m EH M", "r AA R", "i AY"]
WORDS = st.lists(st.sampled_from(["when", "are", "you", "open", "car", "park"]), min_size=1)


def parsed(arpa: str) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """Return the probabilities and the back-off weights of an ARPA file."""
    p: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    order = 0
    for line in arpa.splitlines():
        if line.endswith("-grams:"):
            order = int(line[1])
        elif order and line and line != "\\end\\":
            value, *rest = line.split()
            gram = tuple(rest[:order])
            p[gram] = 10 ** float(value)
            if len(rest) > order:
                backoff[gram] = 10 ** float(rest[order])
    return p, backoff


@given(st.lists(st.tuples(WORDS, st.floats(0.1, 4.0)), min_size=1, max_size=12))
def test_after_any_history_the_probabilities_sum_to_one(
    sentences: list[tuple[list[str], float]],
) -> None:
    vocabulary = {word for words, _ in sentences for word in words} | {"weather"}
    p, backoff = parsed(arpa_model(count(sentences, vocabulary)))
    words = [gram[0] for gram in p if len(gram) == 1 and gram != ("<s>",)]

    def probability(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in p:
            return p[*history, word]
        return backoff.get(history, 1.0) * probability(history[1:], word)

    histories = defaultdict(list)
    for gram in p:
        histories[gram[:-1]].append(gram)
    for history in histories:
        total = sum(probability(history, word) for word in words)
        assert total == pytest.approx(1.0, abs=2e-3)  # four decimals of a logarithm


def test_a_word_without_a_sound_breaks_the_sentence() -> None:
    followers = count([(["where", "is", "xyzzy", "street"], 1.0)], {"where", "is", "street"})
    assert set(followers["is",]) == {"</s>"}
    assert set(followers["<s>",]) == {"where", "street"}


def test_words_are_pronounced_whole_in_two_or_by_letters() -> None:
    found = pronounce(["a", "harbourside", "mri", "xyzzy"], CMU)
    assert found == {
        "a": ["AH", "EY"],
        "harbourside": ["HH AA R B ER S AY D"],
        "mri": ["EH M AA R AY"],
    }


def test_a_phrase_is_expected_in_many_wrappings() -> None:
    said = {" ".join(words) for words, _ in expand(["Where can I park?"])}
    assert {
        "where can i park",
        "hello where can i park",
        "can you tell me where can i park",
        "where can i park please",
    } <= said
    assert "thank you goodbye" in said


def test_fit_tells_expected_order_from_word_salad() -> None:
    vocabulary = set(["when", "are", "you", "open"]) | set(_language.ENGLISH.background)
    followers = count([(["when", "are", "you", "open"], 1.0)], vocabulary)
    assert fit(["when", "are", "you", "open"], followers) == 1.0
    assert fit(["open", "you", "are", "when"], followers) < 0.2
    assert fit(["sugar"], followers) == 0.0
