"""The text of PDF files, by pypdf (the extra ``rtcore[pdf]``).

A PDF has no paragraphs, only places: lines are joined to paragraphs again, what each page repeats
at its top and foot is left out, and a line that is an entry of the file's outline is a heading.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rtcore.agent.blocks import TEXT_MAX_CHARS, Block, Unreadable

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["has_pdf", "pdf_blocks"]

PAGES_MAX = 5000
OUTLINE_MAX = 5000
SENTENCE_END = re.compile(r"[.!?:;)\]\"'”’]$")
SHORT_LINE = 0.7  # of the longest of its page: a shorter one may end a paragraph
PAGE_NUMBER = re.compile(r"^\W*\d+\W*|\W*\d+(\W+(\w+\W+)?\d+)?\W*$")  # 3, - 3 -, page 3 of 10
REPEATED_MIN_PAGES = 3
REPEATED_SHARE = 0.6  # of the pages: headers and footers may differ on a few
# pypdf's own errors, and what it stumbles over in broken files: it promises no kind
STUMBLES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def has_pdf() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("pypdf") is not None


def pdf_blocks(content: bytes) -> Iterator[Block]:
    """The text of a PDF, page by page.

    Raises:
        Unreadable: it is broken, has a password, is too long, or has no text: a scan.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("the PDF has a password: save it without one", is_type=False)
        if len(reader.pages) > PAGES_MAX:
            raise Unreadable(f"the PDF has more than {PAGES_MAX} pages: split it", is_type=False)
        headings = _outline(reader)
        pages = [_lines(page) for page in _texts(reader)]
    except DependencyError as exc:
        raise Unreadable(
            "the PDF is encrypted: pip install '.[pdf]' in the checkout, or save it without",
            is_type=False,
        ) from exc
    except LimitReachedError as exc:
        raise Unreadable("the PDF unpacks to too much: split it", is_type=False) from exc
    except (PyPdfError, *STUMBLES) as exc:
        raise Unreadable("the PDF is broken: print it to a new PDF", is_type=False) from exc
    if not any(pages):
        raise Unreadable(
            "the PDF has no text: is it a scan? Have its text recognised (OCR) first",
            is_type=False,
        )
    return _blocks(_without_repeated(pages), headings)


def _texts(reader: PdfReader) -> Iterator[str]:
    chars = 0
    for page in reader.pages:
        text = page.extract_text()
        chars += len(text)
        if chars > TEXT_MAX_CHARS:
            raise Unreadable("the PDF has too much text: split it", is_type=False)
        yield text


def _outline(reader: PdfReader) -> frozenset[str]:
    """The entries of the outline, as lines are compared."""
    found: set[str] = set()
    waiting: list[object] = [reader.outline]
    while waiting and len(found) < OUTLINE_MAX:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += entry
        elif isinstance(title := getattr(entry, "title", None), str):
            found.add(_plain(title))
    return frozenset(found - {""})


def _plain(line: str) -> str:
    """A line without what differs between an outline and the text: numbering, spaces, case."""
    return " ".join(re.sub(r"^[\d.]+\s+", "", line.strip()).split()).casefold()


def _lines(text: str) -> list[str]:
    lines = (line.replace("\0", "").strip() for line in text.splitlines())
    return [line for line in lines if line]


def _without_repeated(pages: list[list[str]]) -> list[list[str]]:
    """Pages without their headers and footers, all but the first: it may say what is nowhere else.

    Page numbers, at a line's beginning or end, make no difference.
    """
    edges = Counter(edge for lines in pages for edge in {*map(_shape, lines[:1] + lines[-1:])})
    least = max(REPEATED_MIN_PAGES, REPEATED_SHARE * len(pages))
    repeated = {edge for edge, count in edges.items() if count >= least}
    seen: set[str] = set()
    found: list[list[str]] = []
    for lines in pages:
        dropped = {
            at for at in (0, len(lines) - 1) if lines and _shape(lines[at]) in repeated & seen
        }
        seen.update(map(_shape, lines[:1] + lines[-1:]))
        found.append([line for at, line in enumerate(lines) if at not in dropped])
    return found


def _shape(line: str) -> str:
    return PAGE_NUMBER.sub("", line)


def _blocks(pages: Iterable[list[str]], headings: frozenset[str]) -> Iterator[Block]:
    """Paragraphs, which may go on over the end of a page."""
    heading, text = "", ""
    for lines in pages:
        longest = max(map(len, lines), default=0)
        for line in lines:
            if _plain(line) in headings:
                yield heading, text
                heading, text = line, ""
                continue
            text = _joined(text, line)
            if SENTENCE_END.search(line) and len(line) < SHORT_LINE * longest:
                yield heading, text
                text = ""
    yield heading, text


def _joined(text: str, line: str) -> str:
    if not text:
        return line
    if re.search(r"\w-$", text):  # a word divided at the line's end, or one with a hyphen
        is_divided = text[-2].islower() and line[0].islower()
        return (text[:-1] if is_divided else text) + line
    return f"{text} {line}"
