"""Takes digits, an e-mail address or a date from a caller, and has it confirmed.

Speech loses digits: what was understood is read back before it counts. While the caller is
asked, the turn machine knows what kind of answer is due, so a pause between two groups of
digits does not end the turn.
"""

from __future__ import annotations

import datetime
import re
from typing import Literal

from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.ports import ToolSpec
from rtcore.turn.completeness import Expectation

__all__ = ["collect"]

Kind = Literal["digits", "email", "date"]
SPOKEN_DIGITS = {
    "zero": "0", "oh": "0", "o": "0", "one": "1", "two": "2", "three": "3", "four": "4",
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "plus": "+",
}  # fmt: skip
REPEATS = {"double": 2, "triple": 3}
SPOKEN_MARKS = {"at": "@", "dot": ".", "point": ".", "dash": "-", "hyphen": "-", "underscore": "_"}
EMAIL = re.compile(r"[a-z0-9._%+-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}")
AS_SAID = {
    "digits": "the caller's words for it, or its digits",
    "email": "the caller's words for it, or the address",
    "date": "the date as YYYY-MM-DD",
}


def collect(name: str, what: str, kind: Kind, *, count: int | None = None) -> Tool:
    """A function called ``collect_<name>`` that takes ``what`` ("your account number") down.

    ``count`` is the number of digits, if it is known. The model calls it before it asks, with
    what it ``heard``, and with ``confirmed`` once the caller has agreed to what was read back;
    only then does it return the value.
    """
    expected = Expectation(kind="free" if kind == "email" else kind, count=count)

    async def run(use: ToolUse) -> str:
        expect = use.control.expect if use.control is not None else _nothing_expected
        heard = use.arguments.get("heard")
        if heard is None:
            expect(expected)
            return f"ask the caller for {what} now"
        try:
            value = _parse(kind, heard, count)
        except ValueError as exc:
            expect(expected)
            raise ToolError(f"{exc}; ask the caller for {what} again") from exc
        if not use.arguments.get("confirmed", False):
            expect(Expectation(kind="yes_no"))
            return f'not confirmed yet: say "{_read_back(kind, value)}" and ask if that is right'
        return f"confirmed: {value}"

    parameters = {
        "type": "object",
        "properties": {
            "heard": {"type": "string", "maxLength": 200, "description": AS_SAID[kind]},
            "confirmed": {"type": "boolean", "description": "The caller agreed to the read-back."},
        },
        "additionalProperties": False,
    }
    told = (
        f"Take down {what}. Call it first with nothing, then ask the caller; then with what was "
        "heard, and read that back; then with the same and confirmed=true."
    )
    spec = ToolSpec(name=f"collect_{name}", description=told, parameters=parameters)
    # changes what the call listens for, so a discarded thought must not run it
    return Tool(spec=spec, effect="write", run=run)


def _nothing_expected(expectation: Expectation) -> None:
    """A chat has no turn machine."""


def _parse(kind: Kind, heard: str, count: int | None) -> str:
    """
    Raises:
        ValueError: ``heard`` holds no such thing; the text says what it holds.
    """
    if kind == "digits":
        return _digits(heard, count)
    if kind == "email":
        return _email(heard)
    try:
        return datetime.date.fromisoformat(heard.strip()).isoformat()
    except ValueError as exc:
        raise ValueError(f"{heard!r} is no date of the form YYYY-MM-DD") from exc


def _digits(heard: str, count: int | None) -> str:
    found, times = "", 1
    for word in re.findall(r"\+|\d+|[a-z]+", heard.lower()):
        if word in REPEATS:
            times = REPEATS[word]
            continue
        found += SPOKEN_DIGITS.get(word, word if word.isdigit() or word == "+" else "") * times
        times = 1
    number = found[:1] + found[1:].replace("+", "")
    got = sum(c.isdigit() for c in number)
    if got == 0 or (count is not None and got != count):
        wanted = "a number" if count is None else f"{count} digits"
        raise ValueError(f"{got} digits were heard, not {wanted}")
    return number


def _email(heard: str) -> str:
    words = heard.lower().split()
    address = "".join(SPOKEN_MARKS.get(word, SPOKEN_DIGITS.get(word, word)) for word in words)
    if not EMAIL.fullmatch(address):
        raise ValueError(f"{address!r} is no e-mail address")
    return address


def _read_back(kind: Kind, value: str) -> str:
    if kind == "digits":
        return ", ".join(value)
    if kind == "email":
        return value.replace("@", " at ").replace(".", " dot ")
    day = datetime.date.fromisoformat(value)
    return f"{day:%A}, {day:%B} {day.day}, {day.year}"
