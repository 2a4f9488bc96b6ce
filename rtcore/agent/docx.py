"""The text of Word documents: WordprocessingML in a ZIP archive, read as a stream.

Source: ECMA-376, part 1 (5th edition), 17.3 paragraphs and runs, 17.4 tables, 17.7 styles; part 2,
packages; part 3, alternate content. Nothing in a file is believed: what is unpacked is counted as
it comes, a document type (which entities need) is refused, and no other file or address is read.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Protocol
from xml.parsers import expat

from rtcore.agent.blocks import TEXT_MAX_CHARS, Block, Unreadable

__all__ = ["docx_blocks"]

XML_MAX_BYTES = 64 << 20  # unpacked, of one part; a thousand pages of text have 20 MiB
PARTS_MAX = 20_000  # files in the archive
READ_BYTES = 1 << 16
DEPTH_MAX = 256  # elements within elements; Word writes some 30
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
OFFICE_DOCUMENT = "/officeDocument"  # how the type of the relation ends, in both dialects
NAMESPACES = (  # of the transitional and of the strict dialect
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main ",
    "http://purl.oclc.org/ooxml/wordprocessingml/main ",
)
FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
HEADING_STYLE = re.compile(r"(heading [1-9]|title)", re.IGNORECASE)  # not translated, as ids are
OUTLINE_LEVELS = frozenset("012345678")  # 9 is the text under them
REMOVED = frozenset(("del", "moveFrom"))  # by changes that are tracked
MARKS = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": " "}
OFF = ("0", "false", "off")
COLUMNS_MAX = 63  # Word's own bound
Attributes = dict[str, str]


def docx_blocks(content: bytes) -> Iterator[Block]:
    """The text of a ``.docx`` file: its paragraphs, its headings, the rows of its tables.

    Raises:
        Unreadable: it is broken, too large or not one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if len(archive.infolist()) > PARTS_MAX:
                raise Unreadable("the document holds too many files", is_type=False)
            main = _main_part(archive)
            styles = _Styles()
            path = str(PurePosixPath(main).parent / "styles.xml")
            if path in archive.NameToInfo:
                _parse(archive, path, styles)
            body = _Body(styles.headings())
            _parse(archive, main, body)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        # RuntimeError: a part is encrypted; NotImplementedError: packed in an unknown way
        raise Unreadable(f"the Word document is broken: {exc}", is_type=False) from exc
    except expat.ExpatError as exc:
        raise Unreadable(f"the Word document is broken: {exc}", is_type=False) from exc
    return iter(body.blocks)


class _Reader(Protocol):
    """Takes the elements of one part, in order."""

    def start(self, name: str, attributes: Attributes) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


def _main_part(archive: zipfile.ZipFile) -> str:
    """The part that holds the text, checked to be what a Word document has there."""
    relations = _Relations()
    types = _ContentTypes()
    for path, reader in (("_rels/.rels", relations), ("[Content_Types].xml", types)):
        if path not in archive.NameToInfo:
            raise Unreadable("the file is no Word document", is_type=True)
        _parse(archive, path, reader)
    if relations.main not in archive.NameToInfo or types.of(relations.main) != MAIN:
        raise Unreadable("the file is no Word document", is_type=True)
    return relations.main


def _parse(archive: zipfile.ZipFile, path: str, reader: _Reader) -> None:
    """Hand the elements of ``path`` to ``reader``, each with its namespace before a space."""
    depth = 0

    def start(name: str, attributes: Attributes) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise Unreadable("the Word document is nested too deeply", is_type=False)
        reader.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(name)

    def refuse(*_: object) -> None:
        raise Unreadable("the Word document declares a document type", is_type=False)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = refuse  # without one there are no entities
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.text
    parser.buffer_text = True
    unpacked = 0
    with archive.open(path) as part:
        while octets := part.read(READ_BYTES):
            unpacked += len(octets)
            if unpacked > XML_MAX_BYTES:
                raise Unreadable("the Word document is too long: split it", is_type=False)
            parser.Parse(octets, False)
    parser.Parse(b"", True)


class _Relations:
    """``_rels/.rels``: where the document itself is."""

    def __init__(self) -> None:
        self.main = ""

    def start(self, name: str, attributes: Attributes) -> None:
        if name.endswith(" Relationship") and attributes.get("Type", "").endswith(OFFICE_DOCUMENT):
            self.main = attributes.get("Target", "").lstrip("/")

    def end(self, name: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class _ContentTypes:
    """``[Content_Types].xml``: what the parts are."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}
        self._by_suffix: dict[str, str] = {}

    def of(self, path: str) -> str:
        return self._parts.get(path) or self._by_suffix.get(path.rpartition(".")[2].lower(), "")

    def start(self, name: str, attributes: Attributes) -> None:
        kind = attributes.get("ContentType", "")
        if name.endswith(" Override"):
            self._parts[attributes.get("PartName", "").lstrip("/")] = kind
        elif name.endswith(" Default"):
            self._by_suffix[attributes.get("Extension", "").lower()] = kind

    def end(self, name: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


def _local(name: str) -> str:
    """The name of a WordprocessingML element; empty for those of others."""
    namespace, _, local = name.rpartition(" ")
    return local if f"{namespace} " in NAMESPACES else ""


def _value(attributes: Attributes, name: str = "val") -> str:
    """An attribute of WordprocessingML."""
    return next((attributes[ns + name] for ns in NAMESPACES if ns + name in attributes), "")


def _is_heading(local: str, value: str) -> bool:
    """Whether an element says that a style, or the paragraph it is in, is a heading."""
    if local == "outlineLvl":
        return value in OUTLINE_LEVELS
    return local == "name" and HEADING_STYLE.fullmatch(value) is not None


class _Styles:
    """``styles.xml``: which styles are headings. Their ids are the user's, their names are not."""

    def __init__(self) -> None:
        self._style = ""
        self._based_on: dict[str, str] = {}
        self._headings: set[str] = set()

    def headings(self) -> frozenset[str]:
        """The ids of heading styles, those made of them included."""
        found = set(self._headings)
        while more := {id for id, base in self._based_on.items() if base in found} - found:
            found |= more
        return frozenset(found)

    def start(self, name: str, attributes: Attributes) -> None:
        local = _local(name)
        if local == "style":
            self._style = _value(attributes, "styleId")
        elif _is_heading(local, _value(attributes)):
            self._headings.add(self._style)
        elif local == "basedOn":
            self._based_on[self._style] = _value(attributes)

    def end(self, name: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class _Paragraph:
    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.is_heading = False


class _Body:
    """``document.xml``: paragraphs in order; a table within another is text of its cell."""

    def __init__(self, headings: frozenset[str]) -> None:
        self.blocks: list[Block] = []
        self._headings = headings
        self._heading = ""
        self._paragraphs: list[_Paragraph] = []  # open: a text box lies in a paragraph of another
        self._tables: list[_Table] = []  # open
        self._is_text = False
        self._skipping = 0  # elements open in what is not read
        self._chars = 0

    def start(self, name: str, attributes: Attributes) -> None:
        local = _local(name)
        # a fallback is the same content again, for old programs
        if self._skipping or name == FALLBACK or local in REMOVED:
            self._skipping += 1
            return
        self._is_text = local == "t"
        if local == "p":
            self._paragraphs.append(_Paragraph())
        elif local == "tbl":
            self._tables.append(_Table())
        elif local in MARKS:
            self._add(MARKS[local])
        elif self._paragraphs and local in ("pStyle", "outlineLvl"):
            value = _value(attributes)
            is_heading = value in self._headings or _is_heading(local, value)
            self._paragraphs[-1].is_heading |= is_heading
        elif self._tables:
            self._tables[-1].start(local, attributes)

    def end(self, name: str) -> None:
        if self._skipping:
            self._skipping -= 1
            return
        local = _local(name)
        self._is_text = False
        if local == "p" and self._paragraphs:
            self._paragraph_ended(self._paragraphs.pop())
        elif local == "tbl" and self._tables:
            self._table_ended(self._tables.pop())
        elif self._tables:
            self._tables[-1].end(local)

    def text(self, text: str) -> None:
        if self._is_text and not self._skipping:
            self._add(text)

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > TEXT_MAX_CHARS:
            raise Unreadable("the Word document has too much text: split it", is_type=False)

    def _add(self, text: str) -> None:
        self._count(len(text))
        if self._paragraphs:
            self._paragraphs[-1].pieces.append(text)

    def _paragraph_ended(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.pieces).strip()
        if self._tables:
            self._tables[-1].add(text)
        elif paragraph.is_heading and text:
            self._heading = text
        elif text:
            self.blocks.append((self._heading, text))

    def _table_ended(self, table: _Table) -> None:
        rows: list[str] = []
        for row in table.lines():  # each repeats the header, and what reaches over its cells
            self._count(len(row))
            rows.append(row)
        if self._tables:
            self._tables[-1].add("; ".join(rows))
        else:
            self.blocks += [(self._heading, row) for row in rows]


class _Table:
    """Rows of cells; a cell that reaches over several columns or rows is in each of them."""

    def __init__(self) -> None:
        self._rows: list[list[str]] = []
        self._has_header = False
        self._cell: list[str] = []
        self._columns = 1  # that the open cell reaches over
        self._continues = False  # the cell above, in this row

    def start(self, local: str, attributes: Attributes) -> None:
        if local == "tr":
            self._rows.append([])
        elif local == "tblHeader" and len(self._rows) == 1 and _value(attributes) not in OFF:
            self._has_header = True
        elif local == "tc":
            self._cell, self._columns, self._continues = [], 1, False
        elif local == "gridSpan" and _value(attributes).isdecimal():
            self._columns = min(int(_value(attributes)), COLUMNS_MAX)
        elif local == "vMerge":
            self._continues = _value(attributes) != "restart"

    def end(self, local: str) -> None:
        if local != "tc" or not self._rows:
            return
        row = self._rows[-1]
        text = " ".join(self._cell)
        if self._continues and len(self._rows) > 1 and len(row) < len(self._rows[-2]):
            text = self._rows[-2][len(row)]
        row += [text] * self._columns
        del row[COLUMNS_MAX:]

    def add(self, text: str) -> None:
        """Text of the open cell."""
        if text:
            self._cell.append(" ".join(text.split()))

    def lines(self) -> Iterator[str]:
        """Each row as a line that says what it is.

        With a header, marked or (from three columns on) taken to be one, ``column: value``;
        two columns are ``name: value``.
        """
        rows = [row for row in self._rows if any(row)]
        width = max(map(len, rows), default=0)
        if len(rows) > 1 and (self._has_header or width > 2):
            header, *rows = rows
            for row in rows:
                named = zip(header, row, strict=False)
                yield "; ".join(f"{key}: {cell}" if key else cell for key, cell in named if cell)
            return
        for row in rows:
            yield ": ".join(dict.fromkeys(cell for cell in row if cell))
