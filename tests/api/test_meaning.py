"""Knowledge bases that are searched by meaning too: vectors in the store, both rankings as one."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
import trio

pytest.importorskip("numpy")

from api.meaning import Meanings, fused
from api.settings import ApiSettings
from api.specs import EmbeddingChoice, KnowledgeBaseSpec
from api.store import Actor, Store, Tx
from api.store.knowledge import KNOWLEDGE_BASES, add_document, add_passages, delete_document
from api.store.meanings import add_vectors, find_meaningless, vectors_marker
from api.store.passages import Hit
from rtcore.agent.documents import Passage
from tests.api.client import Api
from tests.api.test_knowledge import indexed
from tests.fakes._faults import Fault
from tests.providers.test_knowledge_embeddings import FakeEmbeddings

ME = Actor("rtk_test")
DOCUMENT = (
    b"# Arriving\n\nLeave your vehicle behind the house.\n\n# Kitchen\n\nWe serve risotto.\n\n"
    b"# Guests\n\nAn animal may wait outside.\n"
)


def hit(position: int, document: str = "doc_1") -> Hit:
    return Hit(document, "a.md", "kb_1", position, "", f"text {position}", 1.0)


def test_what_both_rankings_have_comes_first() -> None:
    found = fused([[hit(1), hit(2), hit(3)], [hit(9), hit(2)]])
    assert [each.position for each in found] == [2, 1, 9, 3]
    assert found[0].score > found[1].score
    assert fused([[], []]) == ()


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return msgspec.structs.replace(settings, allow_private_urls=True)


@pytest.fixture
async def service(nursery: trio.Nursery) -> FakeEmbeddings:
    fake = FakeEmbeddings()
    fake.url = await nursery.start(fake.serve)  # type: ignore[attr-defined]
    return fake


async def base_of(api: Api, service: Any, **choice: Any) -> str:
    embedding = {"model": "small", "base_url": f"{service.url}/v1", **choice}
    made = await api.create("/v1/knowledgebases", {"name": "house", "embedding": embedding})
    return str(made["id"])


async def filled(store: Store, base: str, number: int = 3) -> None:
    with trio.fail_after(10):
        while store.run(vectors_marker, False, base)[0] != number:
            await trio.sleep(0.01)


async def test_what_means_the_same_is_found(
    api: Api, service: FakeEmbeddings, store: Store
) -> None:
    base = await base_of(api, service)
    await indexed(api, base, "house.md", DOCUMENT)
    await filled(store, base)
    path = f"/v1/knowledgebases/{base}"
    answer = await api.ask("POST", f"{path}/search", {"query": "where can I park my car"})
    assert answer.json["items"][0]["text"] == "Leave your vehicle behind the house."
    by_words = await api.ask("POST", f"{path}/search", {"query": "risotto"})
    assert by_words.json["items"][0]["heading"] == "Kitchen"
    # a service that fails is done without
    service.faults.add(Fault(status=503))
    words = await api.ask("POST", f"{path}/search", {"query": "an animal"})
    assert [each["heading"] for each in words.json["items"]] == ["Guests"]
    # another model: all are asked for anew
    asked = len(service.requests)
    other = {"embedding": {"model": "large", "base_url": f"{service.url}/v1"}}  # type: ignore[attr-defined]
    changed = await api.ask("PATCH", path, other, headers={"If-Match": "*"})
    assert changed.status == 200
    with trio.fail_after(10):
        while len(service.requests) == asked:
            await trio.sleep(0.01)
    await filled(store, base)
    assert service.requests[asked].json()["model"] == "large"
    # none at all: words alone
    await api.ask("PATCH", path, {"embedding": None}, headers={"If-Match": "*"})
    alone = await api.ask("POST", f"{path}/search", {"query": "where can I park my car"})
    assert alone.json["items"] == []


async def test_its_secret_must_exist_and_stays_while_it_is_used(
    api: Api, service: FakeEmbeddings
) -> None:
    embedding = {"model": "small", "secret": "meaning-key"}
    refused = await api.ask("POST", "/v1/knowledgebases", {"name": "house", "embedding": embedding})
    assert (refused.status, refused.fields) == (422, ["embedding.secret"])
    await api.ask("PUT", "/v1/secrets/meaning-key", {"value": "sk-1"})
    base = await base_of(api, service, secret="meaning-key")
    assert (await api.ask("DELETE", "/v1/secrets/meaning-key")).status == 409
    assert (await api.ask("DELETE", f"/v1/knowledgebases/{base}")).status == 204
    assert (await api.ask("DELETE", "/v1/secrets/meaning-key")).status == 204


async def test_a_deleted_document_takes_its_vectors_along(
    api: Api, service: FakeEmbeddings, store: Store
) -> None:
    base = await base_of(api, service)
    document = await indexed(api, base, "house.md", DOCUMENT)
    await filled(store, base)
    path = f"/v1/knowledgebases/{base}"
    assert (await api.ask("DELETE", f"{path}/documents/{document['id']}")).status == 204
    assert store.run(vectors_marker, False, base) == (0, 0)
    found = await api.ask("POST", f"{path}/search", {"query": "where can I park my car"})
    assert found.json["items"] == []


async def test_a_key_that_is_missing_hinders_nothing(store: Store) -> None:
    choice = EmbeddingChoice(model="small", secret="gone")
    spec = KnowledgeBaseSpec(name="house", embedding=choice)
    base = store.run(KNOWLEDGE_BASES.create, True, ME, spec)
    meanings = Meanings(store)
    assert await meanings.find((base,), "anything", 3) == ()
    await meanings.fill()
    await meanings.aclose()


@pytest.mark.parametrize("what", ["another node adds them", "the document is deleted"])
def test_vectors_come_once_and_only_while_there_are_passages(store: Store, what: str) -> None:
    """Else the indexer would end, and its node with it."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    choice = EmbeddingChoice(model="small")

    def fill(tx: Tx) -> tuple[str, str]:
        base = KNOWLEDGE_BASES.create(tx, ME, KnowledgeBaseSpec(name="x", embedding=choice)).id
        document = add_document(tx, ME, base, "a.md", "text/markdown", b"text", 10).id
        add_passages(tx, document, 0, [Passage("", "text")], 1)
        return base, document

    base, document = store.run(fill, True)
    asked = store.run(find_meaningless, False, 10)
    assert asked is not None
    vectors = dict.fromkeys(asked.texts, b"\0" * 4)
    errors: list[BaseException] = []

    def add() -> None:
        try:
            store.run(add_vectors, True, asked, vectors)
        except BaseException as exc:
            errors.append(exc)

    other = threading.Thread(target=add)

    def change(tx: Tx) -> None:
        if what == "another node adds them":
            add_vectors(tx, asked, vectors)
        else:
            delete_document(tx, ME, base, document)
        other.start()
        other.join(0.3)  # it waits for us

    store.run(change, True)
    other.join(5)
    assert errors == []
    expected = 1 if what == "another node adds them" else 0
    assert store.run(vectors_marker, False, base)[0] == expected


async def test_a_service_that_was_stored_before_it_is_forbidden_is_not_asked(
    api: Api, service: FakeEmbeddings, store: Store
) -> None:
    base = await base_of(api, service)
    await indexed(api, base, "house.md", DOCUMENT)
    await filled(store, base)
    asked = len(service.requests)
    record = store.run(KNOWLEDGE_BASES.get, False, base)
    meanings = Meanings(store, allow_private=False)
    (found,) = await meanings.find((record,), "risotto", 3)
    assert found.heading == "Kitchen"  # by its words
    assert len(service.requests) == asked
    await meanings.aclose()


async def test_a_service_that_fails_keeps_no_other_base_waiting(
    api: Api, service: FakeEmbeddings, store: Store
) -> None:
    nobody = EmbeddingChoice(model="small", base_url="http://127.0.0.1:1/v1")
    spec = KnowledgeBaseSpec(name="down", embedding=nobody)
    made = [store.run(KNOWLEDGE_BASES.create, True, ME, spec).id for _ in range(2)]
    first, last = sorted(made)  # in which order they are looked at
    up = {"embedding": {"model": "small", "base_url": f"{service.url}/v1"}}  # type: ignore[attr-defined]
    changed = await api.ask("PATCH", f"/v1/knowledgebases/{last}", up, headers={"If-Match": "*"})
    assert changed.status == 200
    for base in (first, last):
        await indexed(api, base, "house.md", DOCUMENT)
    await filled(store, last)
    assert store.run(vectors_marker, False, first) == (0, 0)
