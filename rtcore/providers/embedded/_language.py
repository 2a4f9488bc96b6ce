"""What a caller is likely to say, as a dictionary and a bigram model for the recogniser.

The recogniser's general model is useless on the telephone (12 to 64 % of words wrong); one
built from the agent's own questions brings that to 3 to 19 %. Plain functions: text in,
text out.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from importlib import resources
from math import log10

import msgspec

__all__ = ["ENGLISH", "arpa_model", "count", "expand", "fit", "pronounce", "words_of"]

History = tuple[str, ...]
Followers = dict[History, dict[str, float]]

WORD = re.compile(r"[a-z']+")


class English(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The word lists of ``english.toml``, explained there."""

    manners: tuple[str, ...]
    openings: tuple[str, ...]
    asking: tuple[str, ...]
    closings: tuple[str, ...]
    digits: tuple[str, ...]
    hours: tuple[str, ...]
    clock: tuple[str, ...]
    stop_words: frozenset[str]
    background: tuple[str, ...]


ENGLISH = msgspec.toml.decode(
    resources.files(__package__).joinpath("english.toml").read_bytes(), type=English
)
BACKGROUND_MASS = 0.02  # of the unigram model, shared by the background words
ORDER = 3
SMALLEST = 1e-9  # probability left to words not seen, below which it is rounding
DISCOUNT = 0.3  # absolute discounting; of 0.2, 0.5 and 0.8 the least gave the fewest wrong words
PLAIN_WEIGHT = 4.0  # a phrase as the agent gave it
WRAPPED_WEIGHT = 0.1  # each of the ways of wrapping it, of which there are some twenty


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` as a dictionary spells them."""
    return WORD.findall(text.lower().replace("’", "'"))


def expand(phrases: Iterable[str]) -> Iterator[tuple[list[str], float]]:
    """Yield the sentences a caller may say, each with its weight.

    ``phrases`` are the agent's: questions, names, products. Each is also wrapped in the ways
    people open and close a question on the telephone.
    """
    for phrase in dict.fromkeys(" ".join(words_of(p)) for p in phrases):
        if not phrase:
            continue
        yield phrase.split(), PLAIN_WEIGHT
        for before in (*ENGLISH.openings, *ENGLISH.asking):
            yield [*words_of(before), *phrase.split()], WRAPPED_WEIGHT
        for after in ENGLISH.closings:
            yield [*phrase.split(), *words_of(after)], WRAPPED_WEIGHT
    for manner in ENGLISH.manners:
        yield words_of(manner), PLAIN_WEIGHT
    for first, second in itertools.product(ENGLISH.digits, ENGLISH.digits):
        yield [first, second], WRAPPED_WEIGHT
    for hour, clock in itertools.product(ENGLISH.hours, ENGLISH.clock):
        yield ["at", hour, *words_of(clock)], WRAPPED_WEIGHT
        yield [hour, *words_of(clock)], WRAPPED_WEIGHT


def pronounce(words: Iterable[str], dictionary: Iterable[str]) -> dict[str, list[str]]:
    """Cut out of ``dictionary`` (lines of CMUdict) the pronunciations of ``words``.

    A word it lacks is taken as two it has (``harbourside``) or, up to four letters, as its
    letters (``mri``); what remains has no entry in the result.
    """
    wanted = set(words)
    pieces = {part for w in wanted for part in (*_splits(w), *w)}
    sounds: dict[str, list[str]] = defaultdict(list)
    for line in dictionary:
        spelling, _, phones = line.rstrip().partition(" ")
        word = spelling.partition("(")[0]
        if word in wanted or word in pieces:
            sounds[word].append(phones)
    found: dict[str, list[str]] = {}
    for word in sorted(wanted):
        if word in sounds:
            found[word] = sounds[word]
        elif compound := [
            f"{sounds[word[:i]][0]} {sounds[word[i:]][0]}"
            for i in range(3, len(word) - 2)
            if word[:i] in sounds and word[i:] in sounds
        ]:
            found[word] = compound[:1]
        elif len(word) <= 4 and all(letter in sounds for letter in word):
            found[word] = [" ".join(sounds[letter][0] for letter in word)]
    return found


def _splits(word: str) -> Iterator[str]:
    for i in range(3, len(word) - 2):
        yield word[:i]
        yield word[i:]


def count(sentences: Iterable[tuple[list[str], float]], vocabulary: Container[str]) -> Followers:
    """Return what follows each history of up to ``ORDER - 1`` words, and how much of it.

    Words outside ``vocabulary`` break a sentence in two. The background words follow the
    empty history only, where they share ``BACKGROUND_MASS``.
    """
    followers: Followers = defaultdict(lambda: defaultdict(float))
    for sentence, weight in sentences:
        for known, run in itertools.groupby(sentence, vocabulary.__contains__):
            if not known:
                continue
            words = ("<s>", *run, "</s>")
            for end in range(1, len(words)):
                for start in range(max(0, end - ORDER + 1), end + 1):
                    followers[words[start:end]][words[end]] += weight
    background = [word for word in ENGLISH.background if word in vocabulary]
    share = sum(followers[()].values()) * BACKGROUND_MASS / (1 - BACKGROUND_MASS)
    for word in background:
        followers[()][word] += share / len(background)
    return dict(followers)


def arpa_model(followers: Followers) -> str:
    """Return an n-gram model with absolute discounting and back-off, as an ARPA file.

    Format: ``ngram-format(5)`` of SRILM.
    """
    total = sum(followers[()].values())
    p: dict[History, float] = {(word,): n / total for word, n in followers[()].items()}
    backoff: dict[History, float] = {}
    for history in sorted(followers, key=len)[1:]:  # shorter first: they back off to those
        row = followers[history]
        total = sum(row.values())
        for word, n in row.items():
            p[(*history, word)] = max(n - DISCOUNT, n / 2) / total
        left = 1.0 - sum(p[(*history, word)] for word in row)
        unseen = 1.0 - sum(p[(*history[1:], word)] for word in row)
        if unseen > SMALLEST:
            backoff[history] = left / unseen
        else:  # any word may follow, none is left to back off to
            for word in row:
                p[(*history, word)] /= 1.0 - left
    p["<s>",] = 1e-99  # never predicted, only backed off from
    return _arpa(p, backoff)


def fit(words: list[str], followers: Followers) -> float:
    """Return 0 to 1: how much of ``words`` is in the order in which the agent expects it.

    1: each word follows the two before it in some phrase; 0: no two follow each other.
    """
    line = ("<s>", *words, "</s>")
    seen = 0
    for end in range(1, len(line)):
        for start in range(max(0, end - ORDER + 1), end):
            if line[end] in followers.get(line[start:end], ()):
                seen += end - start
                break
    return seen / ((ORDER - 1) * (len(line) - 1) - 1)  # the first word has one before it


def _arpa(p: dict[History, float], backoff: dict[History, float]) -> str:
    by_order: list[list[str]] = [[] for _ in range(ORDER)]
    for gram in sorted(p):
        line = f"{log10(p[gram]):.4f} {' '.join(gram)}"
        if len(gram) < ORDER:
            line += f" {log10(backoff.get(gram, 1.0)):.4f}"
        by_order[len(gram) - 1].append(line)
    lines = ["\\data\\"]
    lines += [f"ngram {i}={len(grams)}" for i, grams in enumerate(by_order, 1)]
    for i, grams in enumerate(by_order, 1):
        lines += ["", f"\\{i}-grams:", *grams]
    return "\n".join([*lines, "", "\\end\\", ""])
