"""Passages found by meaning: the vectors of a fake service, asked in batches, joined with words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

pytest.importorskip("numpy")

from rtcore.agent.knowledge import FusedIndex
from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Hit
from rtcore.providers.knowledge_sqlite import SqliteKnowledge
from rtcore.providers.openai_embeddings import EmbeddingIndex, EmbeddingSettings
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply

MEANINGS = ("car vehicle park", "food eat risotto", "dog pet animal")  # one number for each
HITS = (
    Hit(text="Leave your vehicle behind the house.", source="a"),
    Hit(text="We serve risotto.", source="b"),
    Hit(text="An animal may wait outside.", source="c"),
)


class FakeEmbeddings(FakeHttpServer):
    """Knows three meanings; ``lost`` vectors are left out of each answer."""

    lost = 0

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        texts = request.json()["input"]
        data = [{"index": n, "embedding": vector(text)} for n, text in enumerate(texts)]
        body = msgspec.json.encode({"data": data[::-1][self.lost :]})  # in no order
        await reply.whole(200, body, "application/json")


def vector(text: str) -> list[float]:
    said = text.lower()
    return [3.0 * sum(word in said for word in words.split()) + 0.01 for words in MEANINGS]


@asynccontextmanager
async def index(fake: FakeEmbeddings) -> AsyncIterator[EmbeddingIndex]:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(fake.serve)
        settings = EmbeddingSettings(model="small", base_url=f"{url}/v1", key_name=None)
        async with EmbeddingIndex(settings, {}) as made:
            yield made
        nursery.cancel_scope.cancel()


async def test_what_means_the_same_is_found() -> None:
    async with index(FakeEmbeddings()) as meaning:
        assert await meaning.search("where can I park", 2) == ()
        await meaning.fill(HITS)
        assert await meaning.search("where can I park my car", 2) == (HITS[0],)
        both = FusedIndex(SqliteKnowledge(HITS), meaning)
        assert (await both.search("may my dog wait", 1)) == (HITS[2],)


async def test_many_passages_are_asked_for_in_batches() -> None:
    fake = FakeEmbeddings()
    async with index(fake) as meaning:
        await meaning.fill(HITS * 100)
        assert len(fake.requests) == 3
        assert fake.requests[0].json()["model"] == "small"
        assert len(await meaning.search("eat", 5)) == 5


async def test_a_service_that_fails_leaves_the_index_as_it_was() -> None:
    fake = FakeEmbeddings()
    async with index(fake) as meaning:
        await meaning.fill(HITS)
        fake.faults.add(Fault(status=503))
        with pytest.raises(ProviderError):
            await meaning.fill(HITS[:1])
        fake.lost = 1
        with pytest.raises(ProviderError, match="2 vectors for 3 texts"):
            await meaning.fill(HITS)
        fake.lost = 0
        assert await meaning.search("an animal", 1) == (HITS[2],)


def test_a_missing_key_is_told_by_name() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        EmbeddingIndex(EmbeddingSettings(model="small"), {})
