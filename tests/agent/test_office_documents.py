"""PDF and Word documents, written by programs that are not ours; and by none, with intent."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtcore.agent import docx, pdf
from rtcore.agent.documents import Passage, Unreadable, check_upload, passages

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
CONTENT_TYPES = f"""<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="xml" ContentType="application/xml"/>
<Override PartName="/word/document.xml" ContentType="{docx.MAIN}"/></Types>"""
RELATIONS = """<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Target="word/document.xml"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/>
</Relationships>"""


def word(body: str, *, namespace: str = W, **parts: str | bytes) -> bytes:
    """A Word document by hand: ``body`` is what stands in ``w:body``."""
    files: dict[str, str | bytes] = {
        "[Content_Types].xml": CONTENT_TYPES,
        "_rels/.rels": RELATIONS,
        "word/document.xml": f'<w:document xmlns:w="{namespace}"'
        ' xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<w:body>{body}</w:body></w:document>",
        **parts,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def read(name: str, content: bytes) -> tuple[Passage, ...]:
    return passages(check_upload(name, content), content)


# --- Word -------------------------------------------------------------------------------


def test_word_keeps_headings_and_tables() -> None:
    """As python-docx writes it, with Word's own template."""
    python_docx: Any = pytest.importorskip("docx")
    document = python_docx.Document()
    document.add_heading("Opening hours", 1)
    document.add_paragraph("We are open every day.")
    _table(document, [("Monday", "9 to 5"), ("Tuesday", "10 to 6")])
    document.add_heading("Prices", 2)
    _table(document, [("Dish", "Price", "Vegan"), ("Soup", "5 €", "yes"), ("Steak", "20 €", "no")])
    document.add_paragraph("With VAT.", style="List Bullet")
    out = io.BytesIO()
    document.save(out)
    assert read("menu.docx", out.getvalue()) == (
        Passage("Opening hours", "We are open every day.\nMonday: 9 to 5\nTuesday: 10 to 6"),
        Passage(
            "Prices",
            "Dish: Soup; Price: 5 €; Vegan: yes\nDish: Steak; Price: 20 €; Vegan: no\nWith VAT.",
        ),
    )


def _table(document: Any, rows: list[tuple[str, ...]]) -> None:
    table = document.add_table(rows=0, cols=len(rows[0]))
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text


@pytest.mark.parametrize("namespace", [W, STRICT])
def test_headings_are_known_by_the_names_of_their_styles(namespace: str) -> None:
    styles = f"""<w:styles xmlns:w="{namespace}">
<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift1"/></w:style>
<w:style w:styleId="Outlined"><w:name w:val="X"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>
<w:style w:styleId="Plain"><w:name w:val="Y"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
<w:style w:styleId="Round"><w:name w:val="Z"/><w:basedOn w:val="Round"/></w:style></w:styles>"""
    body = "".join(
        paragraph(f"Of {style}", style) + paragraph(f"Under {style}.")
        for style in ("berschrift1", "Mine", "Outlined", "Plain", "Round", "Unknown")
    )
    found = read("a.docx", word(body, namespace=namespace, **{"word/styles.xml": styles}))
    assert [each.heading for each in found] == ["Of berschrift1", "Of Mine", "Of Outlined"]
    assert "Of Plain\nUnder Plain.\nOf Round" in found[-1].text


def test_what_word_does_not_show_is_not_read() -> None:
    body = (
        "<w:p><w:r><w:t>Kept</w:t><w:tab/><w:t>here</w:t><w:br/><w:t>and</w:t>"
        "<w:noBreakHyphen/><w:t>there.</w:t></w:r>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        "<w:p><mc:AlternateContent><mc:Choice><w:r><w:txbxContent><w:p><w:r><w:t>Boxed."
        "</w:t></w:r></w:p></w:txbxContent></w:r></mc:Choice><mc:Fallback><w:r><w:t>Boxed."
        "</w:t></w:r></mc:Fallback></mc:AlternateContent></w:p>"
    )
    assert read("a.docx", word(body)) == (Passage("", "Kept here\nand-there.\nBoxed."),)


def _cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def _rows(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


def test_joined_cells_are_in_each_of_their_columns_and_rows() -> None:
    above, below = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    table = _rows(
        _cell("Day") + _cell("Open", '<w:gridSpan w:val="2"/>'),
        _cell("Weekend", above) + _cell("9") + _cell("5"),
        _cell("", below) + _cell("10") + _cell("4"),
    )
    assert read("a.docx", word(table))[0].text == (
        "Day: Weekend; Open: 9; Open: 5\nDay: Weekend; Open: 10; Open: 4"
    )


def test_tables_of_two_columns_one_and_within_others() -> None:
    header = "<w:trPr><w:tblHeader/></w:trPr>"
    marked = _rows(header + _cell("Dish") + _cell("Price"), _cell("Soup") + _cell("5"))
    assert read("a.docx", word(marked))[0].text == "Dish: Soup; Price: 5"
    inner = _rows(_cell("a") + _cell("b"))
    nested = _rows(f"<w:tc>{paragraph('Outer')}{inner}</w:tc>" + _cell("c"))
    assert read("a.docx", word(nested))[0].text == "Outer a: b: c"
    assert read("a.docx", word(_rows(_cell("Only"), _cell("one"))))[0].text == "Only\none"


BOMB = """<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>&b;</w:t></w:r></w:p></w:body></w:document>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>&a;</w:t></w:r></w:p></w:body></w:document>"""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (word("", **{"word/document.xml": BOMB}), "declares a document type"),
        (word("", **{"word/document.xml": OUTSIDE}), "declares a document type"),
        (word("", **{"word/styles.xml": BOMB}), "declares a document type"),
        (word("<w:p>" * 300 + "</w:p>" * 300), "nested too deeply"),
        (word("<w:p><w:r>"), "is broken: mismatched tag"),
        (word(paragraph("")), "has no text in it"),
        (word(paragraph("x"))[:-30], "is broken: File is not a zip file"),
        (word("", **{"_rels/.rels": "<a/>"}), "is no Word document"),
        (word("", **{"[Content_Types].xml": "<a/>"}), "is no Word document"),
        (
            word("", **{"[Content_Types].xml": CONTENT_TYPES.replace(docx.MAIN, "text/xml")}),
            "is no Word document",
        ),
    ],
)
def test_a_hostile_or_broken_word_document_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(Unreadable, match=fault):
        read("a.docx", content)


def test_a_word_document_that_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spaces = word(paragraph("x") + " " * (8 << 20))
    assert len(spaces) < 32 << 10
    monkeypatch.setattr(docx, "XML_MAX_BYTES", 4 << 20)
    with pytest.raises(Unreadable, match="is too long"):
        read("a.docx", spaces)


def test_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docx, "TEXT_MAX_CHARS", 1000)
    with pytest.raises(Unreadable, match="too much text"):
        read("a.docx", word(paragraph("x" * 500) * 3))
    header = _rows(_cell("h" * 200) * 3, *[_cell("a") * 3] * 3)
    with pytest.raises(Unreadable, match="too much text"):
        read("a.docx", word(header))  # said again in each row
    monkeypatch.setattr(docx, "PARTS_MAX", 2)
    with pytest.raises(Unreadable, match="too many files"):
        read("a.docx", word(paragraph("x")))


def test_a_size_that_is_a_lie_is_not_believed() -> None:
    """The directory says ten octets; more come."""
    content = bytearray(word(paragraph("x" * 5000)))
    at = content.index(b"PK\x01\x02", content.rindex(b"word/document.xml") - 60)
    content[at + 24 : at + 28] = (10).to_bytes(4, "little")
    with pytest.raises(Unreadable, match="is broken"):
        read("a.docx", bytes(content))


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_word_document_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(word(paragraph("Some text.", "Heading1") + _rows(_cell("a") + _cell("b"))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable):
        assert read("a.docx", bytes(content))


# --- PDF --------------------------------------------------------------------------------

PARAGRAPH = (
    "The house is open from nine to five on every day of the week but Sunday, when it is closed "
    "and nobody answers the telephone. "
)


def pdf_of(pages: int, *, outline: bool = True, **protection: Any) -> bytes:
    """As fpdf2 writes it: a header, a heading, two paragraphs, a page number."""
    fpdf: Any = pytest.importorskip("fpdf")
    out = fpdf.FPDF()
    down = {"new_x": "LMARGIN", "new_y": "NEXT"}
    if protection:
        out.set_encryption(**protection)
    for number in range(1, pages + 1):
        out.add_page()
        out.set_font("helvetica", size=8)
        out.cell(0, 5, "Handbook, call 030 1234 for help", **down)
        out.set_font("helvetica", size=16)
        if outline:
            out.start_section(f"{number}. Chapter of {number}")
        out.cell(0, 10, f"{number}. Chapter of {number}", **down)
        out.set_font("helvetica", size=11)
        out.multi_cell(0, 6, PARAGRAPH * 3 + f"\n\nA note for case {number} follows.", **down)
        out.cell(0, 5, f"Page {number} of {pages}", **down)
    return bytes(out.output())


def test_pdf_keeps_headings_and_joins_lines() -> None:
    found = read("a.pdf", pdf_of(4))
    chapters = [each for each in found if each.heading]
    assert [each.heading for each in chapters] == [f"{n}. Chapter of {n}" for n in range(1, 5)]
    for number, chapter in enumerate(chapters, start=1):
        assert chapter.text.startswith((PARAGRAPH * 3).strip())
        assert f"A note for case {number} follows." in chapter.text


def test_pdf_headers_and_page_numbers_are_said_once() -> None:
    text = "\n".join(each.text for each in read("a.pdf", pdf_of(4)))
    assert text.count("call 030 1234 for help") == 1
    assert text.count("of 4") == 1
    assert read("a.pdf", pdf_of(1, outline=False))[0].text.count("Page 1 of 1") == 1


def test_pdf_divided_words_are_joined() -> None:
    lines = [["A divi-", "ded word, and UTF-", "8 as it is."]]
    blocks_found = [text for _, text in pdf._blocks(lines, frozenset()) if text]
    assert blocks_found == ["A divided word, and UTF-8 as it is."]


def test_a_pdf_that_may_be_opened_is_read_though_encrypted() -> None:
    found = read("a.pdf", pdf_of(1, owner_password="owner"))
    assert PARAGRAPH.strip() in found[-1].text


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (lambda: pdf_of(1, owner_password="o", user_password="u"), "has a password"),
        (lambda: _scan(), "is it a scan"),
        (lambda: b"%PDF-1.7\nnothing more", "is broken"),
        (lambda: pdf_of(2)[:700], "is broken|has no text"),
    ],
    ids=["password", "scan", "nothing", "cut"],
)
def test_a_pdf_without_text_says_why(content: Any, fault: str) -> None:
    with pytest.raises(Unreadable, match=fault):
        read("a.pdf", content())


def _scan() -> bytes:
    fpdf: Any = pytest.importorskip("fpdf")
    out = fpdf.FPDF()
    out.add_page()
    out.rect(10, 10, 50, 50)
    return bytes(out.output())


def _by_hand(contents: bytes, pages: int = 1) -> bytes:
    """A PDF that shows the same contents on each of ``pages``."""
    packed = zlib.compress(contents, 9)
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (b"3 0 R " * pages, pages),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out = bytearray(b"%PDF-1.4\n")
    starts = []
    for number, each in enumerate(objects, start=1):
        starts.append(len(out))
        out += b"%d 0 obj%s endobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    end = b"trailer<</Root 1 0 R/Size 6>>\nstartxref\n%d\n%%%%EOF\n" % len(out)
    return bytes(out + b"xref\n0 6\n0000000000 65535 f \n" + table + end)


def test_a_pdf_that_unpacks_to_too_much_is_refused() -> None:
    assert read("a.pdf", _by_hand(b"BT /F 9 Tf (Few words.) Tj ET"))[0].text == "Few words."
    bomb = _by_hand(b"BT /F 9 Tf (a) Tj ET " * 5_000_000)
    assert len(bomb) < 512 << 10
    with pytest.raises(Unreadable, match="unpacks to too much"):
        read("a.pdf", bomb)


def test_too_long_a_pdf_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pdf_of(3)
    monkeypatch.setattr(pdf, "TEXT_MAX_CHARS", 1000)
    with pytest.raises(Unreadable, match="too much text"):
        read("a.pdf", content)
    monkeypatch.setattr(pdf, "PAGES_MAX", 2)
    with pytest.raises(Unreadable, match="more than 2 pages"):
        read("a.pdf", content)


def test_without_the_extra_a_pdf_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtcore.agent.documents.has_pdf", lambda: False)
    with pytest.raises(Unreadable, match=r"pip install '.\[pdf\]'") as caught:
        check_upload("a.pdf", b"%PDF-1.7")
    assert caught.value.is_type


@pytest.fixture(scope="module")
def intact_pdf() -> bytes:
    return pdf_of(2)


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_pdf_is_read_or_refused(data: st.DataObject, intact_pdf: bytes) -> None:
    content = bytearray(intact_pdf)
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable):
        assert read("a.pdf", bytes(content))
