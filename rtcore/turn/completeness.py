"""How complete the caller's words are: 0 (clearly unfinished) to 1 (clearly complete).

0.5 says nothing either way. What the agent expects next decides first, the last words second.
The numbers are votes, not probabilities; ``endpointing`` turns their fusion into a delay.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rtcore.turn.language import Language
from rtcore.turn.questions import question

__all__ = ["FREE", "Expectation", "completeness", "fuse", "is_backchannel", "normal", "real_words"]

Kind = Literal["free", "yes_no", "digits", "date", "name", "spelled"]

UNSURE = 0.5
OPEN_NUMBER = 0.35  # groups of a number are parted by pauses of up to 1.2 s
WHOLE_NUMBER = 0.65  # a phone or a card number ends here, if it is one
STATEMENT = 0.7  # somebody does something; what for or when may follow
NUMBER_LENGTHS = (10, 11, 16)
_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_DIGITS = re.compile(r"\d")


class Expectation(msgspec.Struct, frozen=True):
    """What the agent has just asked for; ``count`` is the number of digits or letters, if known."""

    kind: Kind = "free"
    count: Annotated[int, Meta(ge=1, le=64)] | None = None

    @classmethod
    def digits(cls, count: int | None = None) -> Expectation:
        """A number of ``count`` digits, or of unknown length."""
        return cls("digits", count)

    @classmethod
    def spelled(cls, count: int | None = None) -> Expectation:
        """Letters one by one."""
        return cls("spelled", count)


FREE = Expectation()


def normal(text: str) -> str:
    """The words alone, lower-case, one space between: what must change to matter."""
    return " ".join(_WORD.findall(text.replace("’", "'").lower()))


def is_backchannel(text: str, table: Language | None) -> bool:
    """Whether these words only say "go on": "mhm", "okay yeah", "uh huh"."""
    return table is not None and bool(words := normal(text)) and not _real(words, table)


def real_words(text: str, table: Language | None) -> int:
    """How many words take the floor: fillers and backchannels do not, "stop" always does."""
    words = normal(text)
    if table is None:
        return len(words.split())
    return len(_real(words, table))


def _real(words: str, table: Language) -> list[str]:
    left = words.split()
    if any(f" {stop} " in f" {words} " for stop in table.stops):
        return left
    real: list[str] = []
    while left:
        for size in (3, 2, 1):
            if size <= len(left) and " ".join(left[:size]) in table.backchannels:
                del left[:size]
                break
        else:
            word = left.pop(0)
            if word not in table.fillers:
                real.append(word)
    return real


def fuse(*votes: float) -> float:
    """Independent votes into one: their log-odds add, 0.5 adds nothing."""
    total = 0.0
    for vote in votes:
        bounded = min(max(vote, 0.02), 0.98)
        total += math.log(bounded / (1.0 - bounded))
    return 1.0 / (1.0 + math.exp(-total))


def completeness(text: str, expected: Expectation, table: Language | None) -> float:
    """How complete ``text`` is as an answer to what was ``expected``; no text is unsure."""
    words = normal(text).split()
    if not words or table is None:
        return UNSURE
    answered = _as_answer(words, expected, table)
    return _as_sentence(text, words, table) if answered is None else answered


def _as_answer(words: list[str], expected: Expectation, table: Language) -> float | None:
    """The vote of what was asked; None leaves it to the sentence."""
    match expected.kind:
        case "yes_no":
            if words[-1] in table.dangling or words[-1] in table.fillers:
                return None
            return 0.97 if words[0] in table.yes_no or words[-1] in table.yes_no else None
        case "digits":
            heard = len(spoken_digits(words, table))
            if heard == 0:
                return None
            if expected.count is None:
                return WHOLE_NUMBER if heard in NUMBER_LENGTHS else OPEN_NUMBER
            return 0.98 if heard >= expected.count else 0.05
        case "spelled":
            heard = sum(len(w) == 1 or w in table.letters for w in words)
            if heard == 0:
                return None
            if expected.count is None:
                return OPEN_NUMBER
            return 0.98 if heard >= expected.count else 0.05
        case "date":
            return _as_date(words, table)
        case "name":
            if words[-1] in table.dangling or words[-1] in table.fillers:
                return None
            named = [w for w in words if w not in table.dangling and w not in ("name", "this")]
            return {0: 0.1, 1: 0.6}.get(len(named), 0.9)
        case _:
            return None


def _as_date(words: list[str], table: Language) -> float | None:
    if words[-1] in table.dangling:
        return None
    if words[-1] in table.dates:
        return 0.9
    has_month = any(w in table.months for w in words)
    has_day = any(
        w in table.ordinals or w in table.digits or w in table.number_words or w[0].isdigit()
        for w in words
    )
    if has_month and has_day:
        return 0.9
    return 0.2 if has_month or has_day else None


def _as_sentence(text: str, words: list[str], table: Language) -> float:
    """The vote of the last words."""
    joined, last, mark = " ".join(words), words[-1], text.rstrip()[-1:]
    if last in table.fillers:
        return 0.1 if len(words) > 1 or last not in table.backchannels else 0.4
    if joined in table.complete or mark == "?":
        return 0.95
    if any(" " in phrase and _ends(joined, phrase) for phrase in table.complete):
        return 0.92
    if (mark and mark in "…,-–:") or text.rstrip().endswith("..."):
        return 0.08 if last in table.dangling else 0.2
    if (asked := question(words, table)) is not None:
        return asked
    if last in table.dangling or any(_ends(joined, opener) for opener in table.openers):
        return 0.08
    if last in table.digits or last in table.number_words or last[0].isdigit():
        if len(words) > 1 and words[-2] in table.times_after:
            return STATEMENT
        length = len(spoken_digits(words, table))
        return WHOLE_NUMBER if length in NUMBER_LENGTHS else OPEN_NUMBER
    is_sentence = mark in (".", "!")  # recognisers like to add a full stop
    if last in table.trailing:
        return 0.6 if is_sentence else 0.35
    if is_sentence:
        return 0.88
    if len(words) >= 5 and any(word in table.subjects for word in words[:3]):
        return STATEMENT
    return 0.6 if len(words) >= 3 else UNSURE


def _ends(text: str, phrase: str) -> bool:
    return text == phrase or text.endswith(f" {phrase}")


def spoken_digits(words: list[str], table: Language) -> str:
    """The digits in ``words``: "07", "seven", "double five"."""
    found: list[str] = []
    times = 1
    for word in words:
        if word in table.repeats:
            times = table.repeats[word]
            continue
        if word in table.digits:
            found.append(table.digits[word] * times)
        else:
            found.extend(digit * times for digit in _DIGITS.findall(word))
        times = 1
    return "".join(found)
