"""What documents are, and the passages of text in them. Plain functions; run in a thread.

A type is believed only if the content agrees with it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Literal, NamedTuple

from rtcore.agent.blocks import Block, Unreadable
from rtcore.agent.docx import docx_blocks
from rtcore.agent.pdf import has_pdf, pdf_blocks

__all__ = ["MediaType", "Passage", "Unreadable", "check_upload", "passages"]

MediaType = Literal[
    "text/plain",
    "text/markdown",
    "text/html",
    "text/csv",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
]
PDF: MediaType = "application/pdf"
DOCX: MediaType = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
BY_SUFFIX: dict[str, MediaType] = {
    "txt": "text/plain",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "csv": "text/csv",
    "pdf": PDF,
    "docx": DOCX,
}
# what a file is by its content; in an archive, the names of its files stand as they are
PDF_MARK = b"%PDF-"
LEADING = b"\xef\xbb\xbf\0\t\n\f\r "  # what careless programs put before it
ARCHIVE_MARK = b"PK\x03\x04"
ARCHIVES = {
    b"word/": "a Word document",
    b"xl/workbook": "an Excel workbook",
    b"ppt/presentation": "a presentation",
}
COMPOUND_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # MS-CFB
ENCRYPTED_MARK = "EncryptedPackage".encode("utf-16-le")  # MS-OFFCRYPTO
KINDS: dict[MediaType, str] = {PDF: "a PDF", DOCX: "a Word document"}
ADVICE = {
    "a PDF": ": name it .pdf",
    "a Word document": ": name it .docx",
    "an Excel workbook": ": export its sheets as .csv",
    "a presentation": ": export it as .pdf",
    "an Office document with a password": ": save it without one",
    "an Office document of before 2007": ": save it as .docx",
}
BLOCK_TAGS = (  # text on either side of one of these is not one sentence
    "address article blockquote br dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li"
    " main nav ol p pre section table td th title tr ul"
)
PASSAGE_CHARS = 800  # some six sentences: one answer, small beside a model's context
HEADING_MAX_CHARS = 200
FIELD_MAX_CHARS = 1 << 20  # of one CSV cell; the module's own limit is 128 KiB


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
    kind = _kind(content)
    if kind != KINDS.get(media_type, ""):
        expected = KINDS.get(media_type, "text")
        raise Unreadable(
            f"{name} is {kind or 'not ' + expected}{ADVICE.get(kind, '')}", is_type=True
        )
    if media_type == PDF and not has_pdf():
        raise Unreadable("PDF is not read here: pip install '.[pdf]' in the checkout", is_type=True)
    if kind:
        return media_type
    text = decode(content)
    if not text.strip():
        raise Unreadable("the file is empty", is_type=False)
    if media_type == "text/html" and not re.search(r"<\s*[a-zA-Z!/]", text):
        raise Unreadable(f"{name} has no HTML in it", is_type=True)
    return media_type


def _kind(content: bytes) -> str:
    """What a file that is not text is; empty for what may be text. Quick, whatever is in it."""
    if content[:1024].lstrip(LEADING).startswith(PDF_MARK):
        return "a PDF"
    if content.startswith(COMPOUND_MARK):
        if ENCRYPTED_MARK in content:
            return "an Office document with a password"
        return "an Office document of before 2007"
    if content.startswith(ARCHIVE_MARK):
        found = (kind for folder, kind in ARCHIVES.items() if folder in content)
        return next(found, "a ZIP archive")
    return ""


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
    if media_type == PDF:
        blocks = pdf_blocks(content)
    elif media_type == DOCX:
        blocks = docx_blocks(content)
    else:
        blocks = TEXT_READERS[media_type](decode(content))
    found = tuple(_packed(blocks))
    if not found:
        raise Unreadable("the file has no text in it", is_type=False)
    return found


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


TEXT_READERS = {
    "text/plain": _plain,
    "text/markdown": _markdown,
    "text/html": _html,
    "text/csv": _csv,
}


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
        at = 0  # what is before it is cut off already: a long block is not copied for each cut
        while len(text) - at > PASSAGE_CHARS:
            cut = at + _cut(text[at : at + PASSAGE_CHARS])
            yield Passage(heading, text[at:cut].strip())
            at = cut
            while text[at : at + 1].isspace():
                at += 1
        text = text[at:]
    if text:
        yield Passage(heading, text)


def _cut(text: str) -> int:
    """Where to cut ``text``, PASSAGE_CHARS of it: after a sentence, else at a space."""
    ends = [match.end() for match in re.finditer(r"[.!?]\s", text)]
    if ends and ends[-1] > PASSAGE_CHARS // 2:
        return ends[-1]
    space = text.rfind(" ", 1)
    return space if space > 0 else PASSAGE_CHARS
