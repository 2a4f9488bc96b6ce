"""Documents: uploaded, checked by content, indexed in the background, found."""

from __future__ import annotations

import io
from typing import Any

import pytest
import trio
from quart.datastructures import FileStorage

from api import extracting
from api.store import Actor, Store
from api.store.knowledge import add_document
from rtcore.agent.documents import DOCX, Passage, Unreadable
from tests.agent.test_office_documents import paragraph, pdf_of, word
from tests.api.client import Answer, Api

MENU = b"""# Menu

## Soups

Tomato soup, 5 euro.

## Opening hours

Tuesday to Sunday, 17:00 to 23:00.
"""
HTML = b"""<!doctype html><title>Roma</title><style>p{}</style><script>alert('soup')</script>
<h1>Parking</h1><p>Behind the <b>house</b>.</p><p>It&#39;s free.</p>"""
CSV = b"dish;price\nTiramisu;6\nPanna cotta;5\n"


async def upload(api: Api, base: str, name: str, content: bytes, field: str = "file") -> Answer:
    files = {field: FileStorage(io.BytesIO(content), filename=name)}
    return await api.ask("POST", f"/v1/knowledgebases/{base}/documents", files=files)


async def indexed(api: Api, base: str, name: str, content: bytes) -> Any:
    """Upload, and wait until the document is ready or has failed."""
    answer = await upload(api, base, name, content)
    assert answer.status == 202, answer.body
    with trio.fail_after(20):
        while True:
            document = (await api.ask("GET", answer.headers["Location"])).json
            if document["state"] in ("ready", "failed"):
                return document
            await trio.sleep(0.01)


async def search(api: Api, base: str, query: str) -> list[Any]:
    answer = await api.ask("POST", f"/v1/knowledgebases/{base}/search", {"query": query})
    assert answer.status == 200
    items: list[Any] = answer.json["items"]
    return items


async def test_what_is_uploaded_is_found(api: Api) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    menu = await indexed(api, base, "menu.md", MENU)
    assert (menu["state"], menu["progress_percent"], menu["passages"]) == ("ready", 100, 2)
    await indexed(api, base, "roma.html", HTML)
    await indexed(api, base, "desserts.csv", CSV)
    hours = await search(api, base, "when are you open on a sunday?")
    assert (hours[0]["document"], hours[0]["heading"]) == ("menu.md", "Opening hours")
    parking = await search(api, base, "parking")
    assert parking[0]["text"] == "Behind the house.\nIt's free."
    assert "price: 6" in (await search(api, base, "tiramisu"))[0]["text"]
    assert await search(api, base, "alert") == []
    assert (await api.ask("GET", f"/v1/knowledgebases/{base}/documents?state=ready")).json[
        "total"
    ] == 3
    path = f"/v1/knowledgebases/{base}/documents/{menu['id']}"
    assert (await api.ask("DELETE", path)).status == 204
    assert (await api.ask("GET", path)).status == 404
    assert await search(api, base, "soup") == []


async def test_office_documents_are_found(api: Api) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    menu = await indexed(api, base, "menu.docx", word(paragraph("Tomato soup, 5 euro.")))
    assert (menu["state"], menu["media_type"]) == ("ready", DOCX)
    handbook = await indexed(api, base, "Handbook.PDF", pdf_of(2))
    assert (handbook["state"], handbook["media_type"]) == ("ready", "application/pdf")
    assert (await search(api, base, "tomato"))[0]["document"] == "menu.docx"
    found = await search(api, base, "telephone")
    assert {each["heading"] for each in found} == {"1. Chapter of 1", "2. Chapter of 2"}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.pdf", pdf_of(1, owner_password="o", user_password="u"), "has a password"),
        ("a.pdf", b"%PDF-1.7 and no more", "is broken"),
        ("a.docx", word("<w:p>"), "is broken"),
    ],
    ids=["password", "broken pdf", "broken docx"],
)
async def test_an_office_document_that_cannot_be_read_says_why(
    api: Api, name: str, content: bytes, error: str
) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    document = await indexed(api, base, name, content)
    assert document["state"] == "failed"
    assert error in document["error"]


async def test_a_worker_that_takes_too_much_memory_fails_its_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = word(paragraph("Much of the same. ") * 300_000)
    assert len(await extracting.extract(DOCX, content)) > 1000
    monkeypatch.setattr(extracting, "MEMORY_MAX_BYTES", 80 << 20)  # it has 62 before it begins
    with pytest.raises(Unreadable, match="too much memory"):
        await extracting.extract(DOCX, content)


async def test_what_was_left_waiting_is_indexed_after_a_restart(api: Api, store: Store) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    await store.write(add_document, Actor("x"), base, "a.md", "text/markdown", MENU, 10)
    await indexed(api, base, "b.txt", b"anything")  # wakes the indexer, which takes the older first
    assert len(await search(api, base, "tomato")) == 1


async def test_a_document_without_text_fails_and_says_why(api: Api) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    document = await indexed(api, base, "x.html", b"<html><script>1</script></html>")
    assert (document["state"], document["error"]) == ("failed", "the file has no text in it")


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("menu.exe", b"text", 415),
        ("menu", b"text", 415),
        ("menu.txt", b"%PDF-1.7 ...", 415),
        ("menu.pdf", b"text", 415),
        ("menu.docx", b"text", 415),
        ("menu.docx", b"PK\x03\x04 xl/workbook.xml", 415),
        ("menu.csv", b"PK\x03\x04...", 415),
        ("menu.html", b"no tags at all", 415),
        ("menu.txt", b"a\0b", 415),
        ("menu.txt", b"\xff\xfe\xfd", 422),
        ("menu.txt", b"caf\xe9", 422),
        ("menu.txt", b" \n ", 422),
        ("", b"text", 422),
        ("x" * 300 + ".txt", b"text", 422),
        ("big.txt", b"a" * (65 << 10), 413),
        ("huge.txt", b"a" * (200 << 10), 413),
    ],
)
async def test_a_bad_upload_is_refused(api: Api, name: str, content: bytes, status: int) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    assert (await upload(api, base, name, content)).status == status
    assert (await api.ask("GET", f"/v1/knowledgebases/{base}/documents")).json["total"] == 0


async def test_an_upload_must_be_a_file_in_its_field(api: Api) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    path = f"/v1/knowledgebases/{base}/documents"
    assert (await upload(api, base, "a.txt", b"x", field="other")).fields == ["file"]
    assert (await api.ask("POST", path, {"file": "x"})).status == 415
    form = {"Content-Type": "multipart/form-data"}
    assert (await api.ask("POST", path, data=b"x", headers=form)).status == 400
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    for body in (b"", b"--b\r\n", b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n"):
        assert (await api.ask("POST", path, data=body, headers=form)).status in (400, 422)
    many = b"".join(
        b"--b\r\nContent-Disposition: form-data; name=x%d\r\n\r\nx\r\n" % n for n in range(9)
    )
    answer = await api.ask("POST", path, data=many + b"--b--\r\n", headers=form)
    assert (answer.status, "more than 4 parts" in answer.problem.detail) == (400, True)
    ghost = "kb_" + "0" * 24
    assert (await upload(api, ghost, "a.txt", b"text")).status == 404
    name = await upload(api, base, "..\\..\\etc/passwd.txt", b"text")
    assert name.json["name"] == "passwd.txt"


async def test_an_empty_question_is_refused(api: Api) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Roma"}))["id"]
    answer = await api.ask("POST", f"/v1/knowledgebases/{base}/search", {"query": ""})
    assert answer.fields == ["query"]


async def test_a_worker_that_takes_too_long_or_dies_fails_its_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await extracting.extract("text/plain", b"text") == (Passage("", "text"),)
    with pytest.raises(Unreadable, match="could not be read"):
        await extracting.extract("text/unknown", b"text")  # type: ignore[arg-type]
    monkeypatch.setattr(extracting, "LIMIT_S", 0.001)
    with pytest.raises(Unreadable, match="split it"):
        await extracting.extract("text/plain", b"text")


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/echo"])
async def test_a_worker_that_cannot_begin_or_talks_nonsense_fails_one_document_alone(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """Else it would end the node, and then the next one that takes the document up."""
    monkeypatch.setattr(extracting.sys, "executable", program)
    with pytest.raises(Unreadable):
        await extracting.extract("text/plain", b"text")
