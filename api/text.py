"""What uploads are, and the passages of text in them. Plain functions.

A type is believed only if the content agrees with it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Literal, NamedTuple

__all__ = ["MediaType", "Passage", "Unreadable", "check_upload", "passages"]

MediaType = Literal["text/plain", "text/markdown", "text/html", "text/csv"]
BY_SUFFIX: dict[str, MediaType] = {
    "txt": "text/plain",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "csv": "text/csv",
}
BINARY = {b"%PDF-": "a PDF", b"PK\x03\x04": "a ZIP archive (or an Office document)"}
BLOCK_TAGS = (  # text on either side of one of these is not one sentence
    "address article blockquote br dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li"
    " main nav ol p pre section table td th title tr ul"
)
PASSAGE_CHARS = 800  # some six sentences: one answer, small beside a model's context
HEADING_MAX_CHARS = 200
FIELD_MAX_CHARS = 1 << 20  # of one CSV cell; the module's own limit is 128 KiB


class Unreadable(Exception):
    """The upload cannot be used; ``is_type`` says that another kind of file could."""

    def __init__(self, message: str, *, is_type: bool) -> None:
        super().__init__(message)
        self.is_type = is_type


class Passage(NamedTuple):
    """A piece of a document that stands for itself, and the heading it is under."""

    heading: str
    text: str


def check_upload(name: str, content: bytes) -> MediaType:
    """The type of an upload, by its name and its content.

    Raises:
        Unreadable: no type we read, or the content is not what the name says.
    """
    suffix = name.rpartition(".")[2].lower()
    media_type = BY_SUFFIX.get(suffix)
    if media_type is None:
        accepted = ", ".join(f".{each}" for each in BY_SUFFIX)
        raise Unreadable(f"the file name must end in one of {accepted}", is_type=True)
    for magic, kind in BINARY.items():
        if content.startswith(magic):
            raise Unreadable(f"{name} is {kind}, not .{suffix}: export it as text", is_type=True)
    text = decode(content)
    if not text.strip():
        raise Unreadable("the file is empty", is_type=False)
    if media_type == "text/html" and not re.search(r"<\s*[a-zA-Z!/]", text):
        raise Unreadable(f"{name} has no HTML in it", is_type=True)
    return media_type


def decode(content: bytes) -> str:
    """
    Raises:
        Unreadable: not text in UTF-8 (or UTF-16 with a mark).
    """
    is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Unreadable("the file is not text in UTF-8: convert it first", is_type=False) from exc
    if "\0" in text:
        raise Unreadable("the file has NUL characters: it is not text", is_type=True)
    return text


def passages(media_type: MediaType, content: bytes) -> tuple[Passage, ...]:
    """All passages of a document, in order; at least one.

    Raises:
        Unreadable: there is no text in it.
    """
    text = decode(content)
    readers = {
        "text/plain": _plain,
        "text/markdown": _markdown,
        "text/html": _html,
        "text/csv": _csv,
    }
    found = tuple(_packed(readers[media_type](text)))
    if not found:
        raise Unreadable("the file has no text in it", is_type=False)
    return found


Block = tuple[str, str]  # its heading, its text


def _plain(text: str) -> Iterator[Block]:
    for block in re.split(r"\n\s*\n", text):
        yield "", block


def _markdown(text: str) -> Iterator[Block]:
    heading, lines = "", list[str]()
    for line in [*text.splitlines(), ""]:
        mark = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if mark is None and line.strip():
            lines.append(line)
            continue
        yield heading, "\n".join(lines)
        lines.clear()
        if mark is not None:
            heading = mark[1]
    yield heading, "\n".join(lines)


def _csv(text: str) -> Iterator[Block]:
    """Each row as ``column: value``, so that it says what it is without its header."""
    first_line = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    csv.field_size_limit(FIELD_MAX_CHARS)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        header = next(rows, [])
        for row in rows:
            named = zip(header, row, strict=False)
            yield "", "; ".join(f"{key.strip()}: {cell.strip()}" for key, cell in named if cell)
    except csv.Error as exc:
        raise Unreadable(f"not CSV: {exc}", is_type=False) from exc


def _html(text: str) -> Iterator[Block]:
    reader = _HtmlReader()
    reader.feed(text)
    reader.close()
    return iter([*reader.blocks, (reader.heading, reader.line)])


class _HtmlReader(HTMLParser):
    """Text between block elements; scripts and styles are no text."""

    BLOCKS = frozenset(BLOCK_TAGS.split())
    HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "title"))
    SILENT = frozenset(("script", "style", "template", "noscript"))

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.heading = ""
        self.line = ""
        self._silent = 0

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.SILENT
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.SILENT:
            self._silent = max(0, self._silent - 1)
        if tag in self.HEADINGS:
            self.heading, self.line = self.line.strip(), ""
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.line += data

    def _break(self, tag: str) -> None:
        if tag in self.BLOCKS and self.line.strip():
            self.blocks.append((self.heading, self.line))
            self.line = ""


def _packed(blocks: Iterable[Block]) -> Iterator[Passage]:
    """Join short blocks under one heading, cut long ones, both at about PASSAGE_CHARS."""
    heading, text = "", ""
    for block_heading, block in blocks:
        block = re.sub(r"[ \t\r\f\v\u00a0]+", " ", block).strip()
        if not block:
            continue
        block_heading = " ".join(block_heading.split())[:HEADING_MAX_CHARS]
        if text and (block_heading != heading or len(text) + len(block) > PASSAGE_CHARS):
            yield Passage(heading, text)
            text = ""
        heading = block_heading
        text = f"{text}\n{block}" if text else block
        while len(text) > PASSAGE_CHARS:
            cut = _cut(text)
            yield Passage(heading, text[:cut].strip())
            text = text[cut:].strip()
    if text:
        yield Passage(heading, text)


def _cut(text: str) -> int:
    """Where to cut ``text`` before PASSAGE_CHARS: after a sentence, else at a space."""
    ends = [match.end() for match in re.finditer(r"[.!?]\s", text[:PASSAGE_CHARS])]
    if ends and ends[-1] > PASSAGE_CHARS // 2:
        return ends[-1]
    space = text.rfind(" ", 1, PASSAGE_CHARS)
    return space if space > 0 else PASSAGE_CHARS
