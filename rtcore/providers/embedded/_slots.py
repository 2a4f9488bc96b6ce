"""What an appointment needs, found in the caller's words. Plain functions of text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rtcore.providers.embedded._language import ENGLISH, words_of

__all__ = ["find_day", "find_name", "find_time"]

HOUR = "|".join(ENGLISH.hours)
PART = r"a m|p m|in the morning|in the afternoon|in the evening"
SPOKEN_TIME = re.compile(
    rf"\b(?P<lead>at |around |half past |quarter past |quarter to )?(?P<hour>{HOUR})\b"
    rf"(?P<minutes> o'clock| fifteen| thirty| forty five)?(?P<part> (?:{PART}))?"
)
WRITTEN_TIME = re.compile(r"\b(\d{1,2})(?::(\d\d))? ?([ap])\.?m\b|\b(\d{1,2}):(\d\d)\b", re.I)
NAMED = re.compile(
    r"\b(?:my name is|my name's|this is|i am|it is|it's|name of) ([a-z']+(?: [a-z']+)?)"
)


def find_day(text: str, days: Iterable[str]) -> str | None:
    """Return the first of ``days`` that is said."""
    said = words_of(text)
    return next(
        (
            day.capitalize() if day.endswith("day") and day != "today" else day
            for day in days
            if day in said
        ),
        None,
    )


def find_time(text: str) -> str | None:
    """Return a time of day as it is to be said again: ``three thirty``, ``10:30``.

    A bare number is a time only after "at" and its like, or when nothing else is said.
    """
    if written := WRITTEN_TIME.search(text):
        return written.group().strip()
    said = " ".join(words_of(text))
    for match in SPOKEN_TIME.finditer(said):
        if match["lead"] or match["minutes"] or match["part"] or match.group() == said:
            return match.group().removeprefix("at ").removeprefix("around ").strip()
    return None


def find_name(text: str, names: Iterable[str], *, is_asked: bool) -> str | None:
    """Return the caller's name: announced ("my name is"), one of ``names``, or the whole answer.

    ``is_asked``: the name was just asked for, so a short answer of other words is a name too.
    """
    said = words_of(text)
    known = [word for word in said if word in set(names)]
    if known:
        return " ".join(known).title()
    if not is_asked:
        return None
    if announced := NAMED.search(" ".join(said)):
        return announced.group(1).title()
    topic = [word for word in said if word not in ENGLISH.stop_words]
    return " ".join(topic).title() if 0 < len(topic) <= 2 else None
