"""What a model writes, as it is to be spoken: no markup, no emoji, numbers in words.

It lies between the sentence splitter and the voice. What the conversation keeps is the text as
it was written; only the voice is given this.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import date

from rtcore.agent.speech_tables import SpeechTable, table_for

__all__ = ["speakable"]

# Most of what is said is words with the marks of a sentence: there is nothing to take out of it
# and no number in it, which two dozen searches would find out one by one.
WORD = "[A-Za-zÀ-ÖØ-öø-ſ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ſ]+)*"
PLAIN = re.compile(rf"{WORD}(?:[,;:]? {WORD})*[.!?]?")

# --- what cannot be spoken ----------------------------------------------------------------

MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), by)
    for pattern, by in (
        (r"```\w*", " "),
        (r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1"),  # links and pictures: their text
        (r"</?[a-zA-Z][^<>]{0,200}>", " "),
        (r"^\s{0,3}(?:#{1,6}|>+|[-*+•])\s+", ""),  # headings, quotes, bullets
        (r"^\s*\|?[\s:|-]*-{3,}[\s:|-]*$", ""),  # rules, the line under a table's head
        (r"\s*\|\s*", ", "),  # cells
        (r"(?<!\w)(\*{1,3}|_{1,3}|~~|`)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
        (r"\*{2,3}|~~|`", ""),  # opened in one segment, closed in another
    )
)
KEPT_SYMBOLS = "°€£₹$+=<>|^~`"  # of Unicode's symbols, those that have a meaning in text
UNSPOKEN_CATEGORIES = frozenset({"So", "Sk", "Cf", "Cs", "Co", "Cc"})


def _stripped(text: str) -> str:
    for pattern, by in MARKUP:
        text = pattern.sub(by, text)
    kept = (c if c in KEPT_SYMBOLS or c.isspace() or not _is_unspoken(c) else " " for c in text)
    text = re.sub(r"\s+", " ", "".join(kept))
    text = re.sub(r"\s+(?=[.,;:!?](?:\s|$))", "", text)
    text = re.sub(r",(?:\s*,)+", ",", text)
    return re.sub(r"^[\s,]+|[\s,]+$", "", text) if any(c.isalnum() for c in text) else ""


def _is_unspoken(char: str) -> bool:
    # variation selectors and keycap marks are Mn, like the accents that must stay
    return unicodedata.category(char) in UNSPOKEN_CATEGORIES or char in "\ufe0f\u20e3"


CODE_MIN_DIGITS = 6  # longer without commas, it is an account or an order, not a quantity
NUMBER_MAX_DIGITS = 15  # the largest scale a table has names for

# --- numbers ------------------------------------------------------------------------------


def _cardinal(n: int, t: SpeechTable) -> str:
    if n < 20:
        return t.small[n]
    if n < 100:
        return t.tens[n // 10] + (f"-{t.small[n % 10]}" if n % 10 else "")
    if n < 1000:
        rest = f" {_cardinal(n % 100, t)}" if n % 100 else ""
        return f"{t.small[n // 100]} {t.hundred}{rest}"
    for scale, name in t.scales:
        if n >= scale:
            rest = f" {_cardinal(n % scale, t)}" if n % scale else ""
            return f"{_cardinal(n // scale, t)} {name}{rest}"
    raise AssertionError("the smallest scale is 1000")


def _ordinal(n: int, t: SpeechTable) -> str:
    words = _cardinal(n, t)
    last = re.split(r"[ -]", words)[-1]
    return words.removesuffix(last) + t.ordinals.get(last, last + t.ordinal_ending)


def _year(n: int, t: SpeechTable) -> str:
    if n % 1000 < 10 or not 1100 <= n <= 2099:
        return _cardinal(n, t)
    high, low = divmod(n, 100)
    if low == 0:
        return f"{_cardinal(high, t)} {t.hundred}"
    tens = f"{t.zero_minutes} {t.small[low]}" if low < 10 else _cardinal(low, t)
    return f"{_cardinal(high, t)} {tens}"


def _digits(text: str, t: SpeechTable) -> str:
    return " ".join(t.small[int(c)] for c in text if c.isdecimal())


def _number(text: str, t: SpeechTable) -> str:
    """``1,234.5`` in words; what reads as a code (leading zero, very long) digit by digit."""
    whole, _, part = text.replace(",", "").partition(".")
    is_code = len(whole) > CODE_MIN_DIGITS and "," not in text
    if is_code or len(whole) > NUMBER_MAX_DIGITS or (whole[0] == "0" and whole != "0"):
        words = _digits(whole, t)
    elif len(whole) == 4 and "," not in text and not part and 1900 <= int(whole) <= 2099:
        words = _year(int(whole), t)
    else:
        words = _cardinal(int(whole), t)
    return f"{words} {t.point} {_digits(part, t)}" if part else words


# --- what numbers are part of -------------------------------------------------------------

Match = re.Match[str]


def _address(text: str, t: SpeechTable) -> str:
    words = (t.marks.get(piece, piece) for piece in re.split(r"([^\w]|_)", text) if piece.strip())
    spoken = " ".join(re.sub(r"\d", lambda m: f" {t.small[int(m[0])]} ", word) for word in words)
    return " ".join(spoken.split())


def _web(m: Match, t: SpeechTable) -> str:
    bare = re.sub(r"^(?:https?://)?(?:www\.)?", "", m[0], flags=re.IGNORECASE)
    return _address(re.split(r"[?#]", bare)[0].rstrip("/"), t)


def _email(m: Match, t: SpeechTable) -> str:
    return _address(m[0], t)


def _phone(m: Match, t: SpeechTable) -> str:
    groups = re.findall(r"\+?\d+", m[0])
    plus = {True: f"{t.plus} ", False: ""}
    return ", ".join(plus[group[0] == "+"] + _digits(group, t) for group in groups)


def _day(year: int, month: int, day: int, t: SpeechTable) -> str | None:
    try:
        date(year, month, day)
    except ValueError:
        return None
    return f"{t.months[month - 1]} {_ordinal(day, t)}, {_year(year, t)}"


def _iso_date(m: Match, t: SpeechTable) -> str:
    year, month, day = (int(part) for part in m[0].split("-"))
    return _day(year, month, day, t) or m[0]


def _slash_date(m: Match, t: SpeechTable) -> str:
    first, second, year = (int(part) for part in re.split(r"[/.]", m[0]))
    month, day = (first, second) if t.is_month_first else (second, first)
    return _day(year, month, day, t) or _day(year, day, month, t) or m[0]


def _month_day(m: Match, t: SpeechTable) -> str:
    said = f"{m['month']} {_ordinal(int(m['day']), t)}"
    return f"{said}, {_year(int(m['year']), t)}" if m["year"] else said


def _time(m: Match, t: SpeechTable) -> str:
    hour, minute, half = int(m["hour"]), int(m["minute"]), m["half"] or ""
    words = _cardinal(hour, t)
    if minute:
        words += (f" {t.zero_minutes} " if minute < 10 else " ") + _cardinal(minute, t)
    elif not half:
        words += f" {t.full_hour}" if 1 <= hour <= 12 else f" {t.hundred}"
    return f"{words} {half.strip()}".rstrip()


def _money(m: Match, t: SpeechTable) -> str:
    currency, amount = t.currencies[m["currency"]], m["amount"]
    if m["magnitude"]:
        return f"{_number(amount, t)} {t.magnitudes[m['magnitude']]} {currency.many}"
    whole, _, part = amount.replace(",", "").partition(".")
    if len(part) > 2 or len(whole) > NUMBER_MAX_DIGITS:
        return f"{_number(amount, t)} {currency.many}"
    units, cents = int(whole), int(part.ljust(2, "0"))
    said = []
    if units or not cents:
        said.append(f"{_cardinal(units, t)} {currency.one if units == 1 else currency.many}")
    if cents:
        said.append(f"{_cardinal(cents, t)} {currency.cent if cents == 1 else currency.cents}")
    return f" {t.joined} ".join(said)


def _percent(m: Match, t: SpeechTable) -> str:
    return f"{_number(m['amount'], t)} {t.percent}"


def _unit(m: Match, t: SpeechTable) -> str:
    return f"{_number(m['amount'], t)} {t.units[m['unit']][m['amount'] != '1']}"


def _nth(m: Match, t: SpeechTable) -> str:
    return _ordinal(int(m["nth"]), t)


def _range(m: Match, t: SpeechTable) -> str:
    return f"{_number(m['low'], t)} {t.to} {_number(m['high'], t)}"


def _plain(m: Match, t: SpeechTable) -> str:
    sign = {"+": f"{t.plus} ", "#": f"{t.number} "}.get(m["sign"], "")
    return sign + _number(m["amount"], t)


def _minus(m: Match, t: SpeechTable) -> str:
    return f"{t.minus} "


def _phrase(m: Match, t: SpeechTable) -> str:
    return t.phrases[m[0]]


# --- all together -------------------------------------------------------------------------

Rule = tuple[re.Pattern[str], Callable[[Match, SpeechTable], str]]
DOMAINS = "com|org|net|edu|gov|io|ai|app|dev|info|co|uk|us|in|de|fr|eu|me|shop"
AMOUNT = r"(?P<amount>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
BEFORE = r"(?<![\w.,])"  # not within a word, a code or a longer number
AFTER = r"(?!\w|[.,]\d)"


@functools.lru_cache(maxsize=64)  # languages of a node
def _rules(language: str) -> tuple[SpeechTable, tuple[Rule, ...]] | None:
    """What is replaced, in this order: what is longer and more certain first."""
    t = table_for(language)
    if t is None:
        return None

    def any_of(words: Iterable[str]) -> str:
        return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))

    money = any_of(t.currencies)
    rules: tuple[tuple[str, Callable[[Match, SpeechTable], str]], ...] = (
        (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", _email),
        (r"(?:https?://|www\.)[^\s<>\"')]*[\w/]", _web),
        (rf"{BEFORE}[\w-]+(?:\.[\w-]+)*\.(?:{DOMAINS})\b(?:/[\w./-]*\w)?", _web),
        (rf"{BEFORE}\d{{4}}-\d\d-\d\d{AFTER}", _iso_date),
        (rf"{BEFORE}\d\d?([/.])\d\d?\1\d{{4}}{AFTER}", _slash_date),
        (rf"{BEFORE}(?P<low>(?:19|20)\d\d)\s?[-–]\s?(?P<high>(?:19|20)\d\d){AFTER}", _range),
        (rf"{BEFORE}(?:\+\d|\(\d{{2,5}}\))[\d\s().-]{{4,18}}\d{AFTER}", _phone),
        (rf"{BEFORE}\d{{3,5}}(?:[ .-]\d{{3,4}}){{1,2}}{AFTER}", _phone),
        (rf"(?<![\w/])(?:{any_of(t.phrases)})(?![\w/])", _phrase),
        (r"(?<![\w.,)])[-−](?=\d)", _minus),
        (
            rf"{BEFORE}(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)"
            r"(?P<half>\s?(?:[ap]\.m\.|[apAP][mM](?!\w)))?(?![:\d])",
            _time,
        ),
        (
            rf"(?P<currency>{money})\s?{AMOUNT}(?:\s?(?P<magnitude>{any_of(t.magnitudes)})\b)?"
            rf"{AFTER}",
            _money,
        ),
        (rf"{BEFORE}{AMOUNT}\s?(?P<magnitude>)(?P<currency>{money}){AFTER}", _money),
        (rf"{BEFORE}{AMOUNT}\s?%", _percent),
        (rf"{BEFORE}{AMOUNT}\s?(?P<unit>{any_of(t.units)})(?![\w/])", _unit),
        (rf"{BEFORE}(?P<nth>\d{{1,4}})(?:st|nd|rd|th)\b", _nth),
        (
            rf"\b(?P<month>{any_of(t.months)}) (?P<day>[0-3]?\d)(?:,? (?P<year>\d{{4}}))?"
            r"(?![:\d]|[.,]\d)",
            _month_day,
        ),
        (rf"{BEFORE}(?P<low>\d{{1,4}})\s?[-–]\s?(?P<high>\d{{1,4}}){AFTER}(?!-)", _range),
        (rf"{BEFORE}(?P<sign>[+#])?{AMOUNT}{AFTER}", _plain),
    )
    return t, tuple((re.compile(pattern), speak) for pattern, speak in rules)


def speakable(text: str, language: str = "en") -> str:
    """``text`` for a voice; "" where nothing in it can be spoken.

    Without a table for ``language`` only markup and emoji are taken out.
    """
    found = _rules(language)
    if PLAIN.fullmatch(text) and (found is None or not _ends_with_phrase(text, found[0])):
        return text
    text = _stripped(text)
    if found is not None:
        table, rules = found
        for pattern, speak in rules:
            text = pattern.sub(functools.partial(_spoken, speak, table), text)
    return text


def _ends_with_phrase(text: str, table: SpeechTable) -> bool:
    """Whether a plain text ends with a phrase, which may be a word and a full stop: "vs."."""
    return text[text.rfind(" ") + 1 :] in table.phrases


def _spoken(speak: Callable[[Match, SpeechTable], str], table: SpeechTable, m: Match) -> str:
    return speak(m, table)
