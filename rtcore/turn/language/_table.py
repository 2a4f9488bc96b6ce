"""What turn-taking must know of a language."""

from __future__ import annotations

import msgspec

__all__ = ["Language"]


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """Tables of lower-case words and phrases; a phrase is words joined by one space."""

    backchannels: frozenset[str]  # "go on, I am listening"
    stops: frozenset[str]  # one of these always takes the floor
    complete: frozenset[str]  # whole answers by themselves
    yes_no: frozenset[str]  # answers to a yes/no question
    fillers: frozenset[str]  # sounds of somebody looking for words
    dangling: frozenset[str]  # last words that ask for more: conjunctions, articles, ...
    trailing: frozenset[str]  # last words that often do, and often do not
    openers: tuple[str, ...]  # an utterance that ends with one of these has only begun
    leads: frozenset[str]  # what may come before a question: "so", "hello"
    courtesies: frozenset[str]  # what may come after one: "please"
    question_words: frozenset[str]
    asks_no_object: frozenset[str]  # those of them that cannot be what a verb wants
    asked_being: frozenset[str]  # question words that hold their "to be": "what's"
    auxiliaries: frozenset[str]  # verbs that change place with their subject
    being: frozenset[str]  # those of them that are forms of "to be"
    subjects: frozenset[str]  # what follows them in a question
    speakers: frozenset[str]  # those of them that are a party of the call
    pronouns: frozenset[str]  # what can stand for a whole noun phrase
    determiners: frozenset[str]  # a noun must follow
    stranded: frozenset[str]  # prepositions that end a question
    wanting: frozenset[str]  # verbs that ask for an object
    receivers: frozenset[str]  # who gets it: "tell me"
    times_after: frozenset[str]  # a number after one of these is a time: "at ten"
    digits: dict[str, str]  # a spoken digit
    repeats: dict[str, int]  # "double", "triple"
    number_words: frozenset[str]  # words of larger numbers
    months: frozenset[str]
    ordinals: frozenset[str]  # days of a month
    dates: frozenset[str]  # dates by themselves: "tomorrow"
    letters: frozenset[str]  # spelled letters as recognisers write them, beside a..z
