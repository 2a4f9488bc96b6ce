"""Documents become passages with their headings; what is not what its name says is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.agent.documents import PASSAGE_CHARS, Passage, Unreadable, check_upload, passages

OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)


def read(name: str, text: str) -> tuple[Passage, ...]:
    content = text.encode()
    return passages(check_upload(name, content), content)


def test_each_kind_keeps_its_headings() -> None:
    assert read("a.txt", "One.\n\nTwo.") == (Passage("", "One.\nTwo."),)
    assert read("a.md", "# Hours\nNine to five.\n## Dogs\nMay wait.") == (
        Passage("Hours", "Nine to five."),
        Passage("Dogs", "May wait."),
    )
    page = "<h1>Hours</h1><p>Nine <b>to</b> five.</p><script>x()</script>"
    assert read("a.html", page) == (Passage("Hours", "Nine to five."),)
    assert read("a.csv", "question,answer\nOpen?,At nine.\n") == (
        Passage("", "question: Open?; answer: At nine."),
    )


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.xyz", b"text", "must end in one of"),
        ("a.txt", b"%PDF-1.7", "is a PDF"),
        ("a.pdf", b"text", "is not a PDF"),
        ("a.docx", b"text", "is not a Word document"),
        ("a.docx", b"%PDF-1.7", "is a PDF: name it .pdf"),
        ("a.pdf", b"PK\x03\x04 word/document.xml", "is a Word document: name it .docx"),
        ("a.docx", b"PK\x03\x04 xl/workbook.xml", "is an Excel workbook: export its sheets"),
        ("a.docx", b"PK\x03\x04 ppt/presentation.xml", "is a presentation: export it"),
        ("a.docx", OLD, "is an Office document of before 2007: save it as .docx"),
        ("a.docx", OLD + "EncryptedPackage".encode("utf-16-le"), "with a password: save it"),
        ("a.md", b"PK\x03\x04", "ZIP archive"),
        ("a.txt", b"\xff\xfa\xfb", "not text in UTF-8"),
        ("a.txt", b"a\0b", "NUL"),
        ("a.txt", b"  \n", "is empty"),
        ("a.html", b"no tags at all", "has no HTML"),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(name: str, content: bytes, fault: str) -> None:
    with pytest.raises(Unreadable, match=fault):
        check_upload(name, content)


@given(st.lists(st.sampled_from(["word", "long" * 40, ". ", "\n\n", "# "]), min_size=1))
def test_nothing_is_lost_and_no_passage_is_too_long(parts: list[str]) -> None:
    text = " ".join(["begin", *parts])
    found = read("a.txt", text)
    assert all(len(passage.text) <= PASSAGE_CHARS for passage in found)
    assert " ".join(p.text for p in found).split() == text.split()


def test_long_text_is_cut_after_sentences_and_nothing_is_lost() -> None:
    text = "One sentence that says something. " * 100
    found = passages("text/plain", text.encode())
    assert all(len(each.text) <= PASSAGE_CHARS for each in found)
    assert all(each.text.endswith(".") for each in found)
    assert " ".join(each.text for each in found).split() == text.split()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3000))
def test_plain_text_keeps_every_word(text: str) -> None:
    content = text.encode()
    try:
        check_upload("a.txt", content)
    except Unreadable:
        return
    found = passages("text/plain", content)
    kept = "".join("".join(each.text.split()) for each in found)
    assert kept == "".join(text.removeprefix("\ufeff").split())


@given(
    st.sampled_from(["a.md", "a.html", "a.csv", "a.pdf", "a.docx"]),
    st.one_of(
        st.binary(max_size=400), st.text("<>/h1p#,;\"' \n&!-[", max_size=400).map(str.encode)
    ),
)
def test_any_bytes_are_read_or_refused(name: str, content: bytes) -> None:
    with contextlib.suppress(Unreadable):
        assert passages(check_upload(name, content), content)
