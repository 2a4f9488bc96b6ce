"""What was said in a call, as a model is given it: numbered, and cut to what it can read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rtcore.call import CallRecord

__all__ = ["Line", "Shown", "cut", "find_quote", "lines_of"]

FUNCTION = "Function"
SPEAKERS = {"user": "Caller", "assistant": "Agent", "tool": FUNCTION}
CHARS_PER_TOKEN = 4  # of English, for the tokenisers of all three large services
RESULT_MAX_CHARS = 400  # of what a function answered: the agent has said what mattered of it
HEAD_SHARE = 0.3  # a call's beginning says what it is about, its end what came of it
GAP = "[{} turns are left out here]"


class Line(NamedTuple):
    """One entry of a transcript; ``turn`` is its place in all of it, from 0."""

    turn: int
    speaker: str
    text: str


def lines_of(records: Sequence[CallRecord]) -> tuple[Line, ...]:
    """What was said in all streams of a call, numbered as its transcript is shown."""
    said = [message for record in records for message in record.transcript]
    return tuple(
        Line(turn, SPEAKERS[message.role], message.text)
        for turn, message in enumerate(said)
        if message.role in SPEAKERS and message.text.strip()
    )


class Shown(NamedTuple):
    """What of a transcript a model is given; ``left_out`` turns are missing in between."""

    head: tuple[Line, ...]
    tail: tuple[Line, ...] = ()
    left_out: int = 0

    @property
    def text(self) -> str:
        lines = [f"[{line.turn}] {line.speaker}: {line.text}" for line in self.head]
        if self.left_out:
            lines.append(GAP.format(self.left_out))
        lines += [f"[{line.turn}] {line.speaker}: {line.text}" for line in self.tail]
        return "\n".join(lines)


def cut(lines: Sequence[Line], max_tokens: int) -> Shown:
    """As many of ``lines`` as ``max_tokens`` hold.

    What functions answered is shortened first. Then the middle goes: a third of the room is for
    the beginning, the rest for the end, and one line takes no more than a quarter of it.
    """
    room = max_tokens * CHARS_PER_TOKEN
    short = [
        _shortened(line, RESULT_MAX_CHARS) if line.speaker == FUNCTION else line for line in lines
    ]
    if sum(map(_chars, short)) <= room:
        return Shown(tuple(short))
    short = [_shortened(line, room // 4) for line in short]
    head = _that_fit(short, int(room * HEAD_SHARE))
    left = room - sum(map(_chars, head)) - len(GAP)
    tail = _that_fit(short[: len(head) - 1 : -1] if head else short[::-1], left)[::-1]
    return Shown(tuple(head), tuple(tail), len(short) - len(head) - len(tail))


def _shortened(line: Line, max_chars: int) -> Line:
    if len(line.text) <= max_chars:
        return line
    return line._replace(text=f"{line.text[:max_chars]} [cut]")


def _that_fit(lines: Sequence[Line], room: int) -> list[Line]:
    """The first of ``lines``, as many as ``room`` characters hold."""
    found: list[Line] = []
    for line in lines:
        room -= _chars(line)
        if room < 0:
            break
        found.append(line)
    return found


def find_quote(lines: Sequence[Line], quote: str, turn: int | None) -> int | None:
    """The turn in which ``quote`` was said: ``turn`` if it was there, else the first; None: none.

    Capitals, marks and spaces do not count; words do, in their order.
    """
    words = _bare(quote)
    if not words:
        return None
    found = [
        line.turn for line in lines if line.speaker != "Function" and words in _bare(line.text)
    ]
    if turn in found:
        return turn
    return found[0] if found else None


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _chars(line: Line) -> int:
    return len(line.text) + len(line.speaker) + 10  # the number, the marks
