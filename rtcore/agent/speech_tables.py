"""What a language calls numbers, money, dates and marks: data for :mod:`speech_text`.

A language is one :class:`SpeechTable`; where there is none, text is only stripped of what
cannot be spoken at all and left to the voice.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["SpeechTable", "table_for"]


class Currency(msgspec.Struct, frozen=True):
    """Names of an amount of one, of many, and of its hundredths."""

    one: str
    many: str
    cent: str
    cents: str


class SpeechTable(msgspec.Struct, frozen=True, kw_only=True):
    """The words of one language whose numbers are built as in English."""

    small: tuple[str, ...]  # 0 to 19
    tens: tuple[str, ...]  # 0, 10 to 90
    hundred: str
    scales: tuple[tuple[int, str], ...]  # largest first
    minus: str
    plus: str
    point: str
    zero_minutes: str  # "oh" in "nine oh five"
    full_hour: str
    ordinals: Mapping[str, str]  # last word of a number -> as an ordinal; else + ordinal_ending
    ordinal_ending: str
    months: tuple[str, ...]
    is_month_first: bool  # of 3/4/2026
    to: str  # of a range
    percent: str
    number: str  # of #5
    joined: str  # of dollars and cents
    currencies: Mapping[str, Currency]
    magnitudes: Mapping[str, str]  # of $5m
    units: Mapping[str, tuple[str, str]]  # after a number: of one, of many
    marks: Mapping[str, str]  # in addresses
    phrases: Mapping[str, str]  # as they stand


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DOLLARS = Currency("dollar", "dollars", "cent", "cents")
EUROS = Currency("euro", "euros", "cent", "cents")
POUNDS = Currency("pound", "pounds", "penny", "pence")
RUPEES = Currency("rupee", "rupees", "paisa", "paise")

ENGLISH = SpeechTable(
    small=_words(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen"
    ),
    tens=_words("zero ten twenty thirty forty fifty sixty seventy eighty ninety"),
    hundred="hundred",
    scales=((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand")),
    minus="minus",
    plus="plus",
    point="point",
    zero_minutes="oh",
    full_hour="o'clock",
    ordinals={
        "one": "first",
        "two": "second",
        "three": "third",
        "five": "fifth",
        "eight": "eighth",
        "nine": "ninth",
        "twelve": "twelfth",
        **{f"{ten}ty": f"{ten}tieth" for ten in _words("twen thir for fif six seven eigh nine")},
    },
    ordinal_ending="th",
    months=_words(
        "January February March April May June July August September October November "
        "December"
    ),
    is_month_first=True,
    to="to",
    percent="percent",
    number="number",
    joined="and",
    currencies={
        "$": DOLLARS, "USD": DOLLARS, "€": EUROS, "EUR": EUROS, "£": POUNDS, "GBP": POUNDS,
        "₹": RUPEES, "INR": RUPEES,
    },
    magnitudes={
        "k": "thousand", "m": "million", "bn": "billion", "thousand": "thousand",
        "million": "million", "billion": "billion", "trillion": "trillion",
    },
    units={
        "km": ("kilometer", "kilometers"), "m": ("meter", "meters"),
        "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"),
        "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
        "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "ft": ("foot", "feet"),
        "km/h": ("kilometer per hour", "kilometers per hour"),
        "mph": ("mile per hour", "miles per hour"), "h": ("hour", "hours"),
        "hrs": ("hour", "hours"), "min": ("minute", "minutes"), "mins": ("minute", "minutes"),
        "GB": ("gigabyte", "gigabytes"), "MB": ("megabyte", "megabytes"),
        "°": ("degree", "degrees"), "°C": ("degree Celsius", "degrees Celsius"),
        "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    },
    marks={
        "@": "at", ".": "dot", "-": "dash", "_": "underscore", "/": "slash", "+": "plus",
        "#": "hash", "~": "tilde", ":": "colon", "%": "percent",
    },
    phrases={
        "24/7": "twenty-four seven", "1/2": "one half", "1/3": "one third", "1/4": "one quarter",
        "3/4": "three quarters", "½": "one half", "¼": "one quarter", "¾": "three quarters",
        "&": "and", "e.g.": "for example", "i.e.": "that is", "vs.": "versus", "approx.": "about",
        "w/o": "without", "=": "equals",
    },
)  # fmt: skip

TABLES = {
    "en": ENGLISH,
    "en-gb": msgspec.structs.replace(ENGLISH, is_month_first=False),
    "en-in": msgspec.structs.replace(ENGLISH, is_month_first=False),
    "en-au": msgspec.structs.replace(ENGLISH, is_month_first=False),
}


def table_for(language: str) -> SpeechTable | None:
    """The table of a language tag (``en``, ``en-GB``), its language's if it has none itself."""
    tag = language.lower().replace("_", "-")
    return TABLES.get(tag) or TABLES.get(tag.partition("-")[0])
