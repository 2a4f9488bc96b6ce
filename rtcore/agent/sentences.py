"""Cuts a stream of text into what is spoken in one breath: the first piece early, then sentences.

The sooner the first piece goes to the voice, the sooner the caller hears something; later
pieces are whole sentences, because a voice needs them for its melody.
"""

from __future__ import annotations

import re

__all__ = ["SentenceSplitter"]

# a mark, what closes with it, then white space: only then is it known not to be 3.5
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[。！？]|\n+")
CLAUSE_END = re.compile(r"[,;:–—]+(?=\s)|[，；：]")
# what a piece of text and the character before it hold where it makes a place to cut certain
MAY_CUT = re.compile(r"\A\s|[.!?…,;:–—\n。！？，；：\"'”’)\]*_]")
# what ends in a full stop without ending a sentence, lower case
ABBREVIATIONS = frozenset(
    {"dr", "mr", "mrs", "ms", "prof", "st", "ave", "vs", "etc", "e.g", "i.e", "approx", "dept"}
    | {"ext", "inc", "ltd", "fig", "jr", "sr"}
)
FIRST_CLAUSE_MIN_CHARS = 16  # shorter, a voice makes a word with a gap of it
SEGMENT_MAX_CHARS = 280  # a sentence longer than this is cut at a space


class SentenceSplitter:
    """Push text as it comes; whole pieces come out, in order, nothing lost."""

    def __init__(self) -> None:
        self._text = ""
        self._is_first = True

    def push(self, text: str) -> list[str]:
        """Take the next piece of text; return the segments that are complete now."""
        changes = MAY_CUT.search(self._text[-1:] + text)
        self._text += text
        out: list[str] = []
        if not changes and len(self._text) <= SEGMENT_MAX_CHARS:
            return out  # a word, as nearly always
        while (cut := self._cut()) is not None:
            self._take(cut, out)
        return out

    def flush(self) -> list[str]:
        """The text is over: return what is left, if it says anything."""
        out: list[str] = []
        self._take(len(self._text), out)
        self._is_first = True
        return out

    def _take(self, cut: int, out: list[str]) -> None:
        segment, self._text = self._text[:cut].strip(), self._text[cut:]
        if any(c.isalnum() for c in segment):
            out.append(segment)
            self._is_first = False

    def _cut(self) -> int | None:
        """Where the next piece ends, if that is known; the same however the text came."""
        end = next((m.end() for m in SENTENCE_END.finditer(self._text) if self._ends(m)), None)
        if self._is_first:
            for match in CLAUSE_END.finditer(self._text):
                if match.end() >= FIRST_CLAUSE_MIN_CHARS:
                    end = min(end or match.end(), match.end())
                    break
        if end is not None and end <= SEGMENT_MAX_CHARS:
            return end
        if len(self._text) > SEGMENT_MAX_CHARS:
            space = self._text.rfind(" ", 0, SEGMENT_MAX_CHARS)
            return space if space > 0 else SEGMENT_MAX_CHARS
        return None

    def _ends(self, match: re.Match[str]) -> bool:
        """Whether the mark ends a sentence: not the full stop of an abbreviation."""
        return match.group() != "." or not self._is_abbreviation(match)

    def _is_abbreviation(self, match: re.Match[str]) -> bool:
        word = re.search(r"[\w.]+$", self._text[: match.start()])
        if word is None:
            return False
        token = word.group().lower()
        if token in ("a.m", "p.m"):  # ends a sentence when the next word begins with a capital
            after = self._text[match.end() :].lstrip()
            return not after[:1].isupper()
        return token in ABBREVIATIONS or (len(token) == 1 and token.isalpha() and token != "i")
