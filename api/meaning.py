"""Searches knowledge bases by words and, where they want it, by meaning; both as one ranking.

The vectors lie in the store; each node keeps those of the bases it searches in memory, and looks
before each search whether they are still the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from api.kept import Kept
from api.specs import EmbeddingChoice, KnowledgeBaseSpec
from api.store import Store
from api.store.errors import VaultLocked
from api.store.meanings import add_vectors, find_meaningless, load_vectors, vectors_marker
from api.store.passages import Hit, search
from api.store.records import Record
from api.store.secrets import open_secrets
from rtcore.errors import ConfigError, ProviderError
from rtcore.providers.functions import Deadlines, checked_url

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from rtcore.providers.openai_embeddings import EmbeddingIndex

__all__ = ["Meanings", "fused"]

KEPT_MAX = 20  # knowledge bases whose vectors are in memory: 5,000 of 1,536 numbers are 30 MB
FUSION_RANK = 60  # as rtcore.agent.knowledge has it
BATCH_MAX = 100  # passages of one request
CLIENTS_MAX = 20  # services whose connections are kept

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    marker: tuple[int, int]
    embedding: EmbeddingChoice
    hits: list[Hit]
    vectors: npt.NDArray[np.float32]


class Meanings:
    """One for each app; keeps connections and vectors.

    ``allow_private``: services may be on this machine and its networks.
    """

    def __init__(self, store: Store, *, allow_private: bool = False) -> None:
        self._store = store
        self._allow_private = allow_private
        self._clients: Kept[tuple[EmbeddingChoice, str], EmbeddingIndex] = Kept(CLIENTS_MAX)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._limiter = trio.CapacityLimiter(1)  # some ms each: not on the loop, not many at once

    async def find(
        self, bases: Sequence[Record[KnowledgeBaseSpec]], question: str, limit: int
    ) -> tuple[Hit, ...]:
        """The passages of ``bases`` that fit best. A service that fails is done without.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        ids = [base.id for base in bases]
        meaningful = [base for base in bases if base.spec.embedding is not None]
        if not meaningful:
            return await self._store.read(search, ids, question, limit)
        rankings = [await self._store.read(search, ids, question, limit * 2)]
        for base in meaningful:
            try:
                rankings.append(await self._by_meaning(base, question, limit * 2))
            except (ProviderError, ConfigError, VaultLocked) as exc:
                # which fault, not its words: they may quote a key
                log.warning("meaning_unknown", reason=type(exc).__name__)
        return fused(rankings)[:limit]

    async def _by_meaning(
        self, base: Record[KnowledgeBaseSpec], question: str, limit: int
    ) -> tuple[Hit, ...]:
        choice = base.spec.embedding
        assert choice is not None
        kept = await self._vectors(base.id, choice)
        if not kept.hits:
            return ()
        async with self._client(choice) as client:
            (asked,) = await client.embed([question])
        return await trio.to_thread.run_sync(_best, kept, asked, limit, limiter=self._limiter)

    async def _vectors(self, base_id: str, choice: EmbeddingChoice) -> _Kept:
        marker = await self._store.read(vectors_marker, base_id)
        kept = self._kept.pop(base_id, None)
        if kept is None or (kept.marker, kept.embedding) != (marker, choice):
            kept = _decoded(marker, choice, *await self._store.read(load_vectors, base_id))
        self._kept[base_id] = kept
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return kept

    async def fill(self) -> None:
        """Give all passages that have none their vector.

        Where the service of a knowledge base fails, its passages are found by their words
        meanwhile, and the others get theirs.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        failed: set[str] = set()
        while asked := await self._store.read(find_meaningless, BATCH_MAX, failed):
            try:
                async with self._client(asked.embedding) as client:
                    vectors = await client.embed(list(asked.texts.values()))
            except (ProviderError, ConfigError, VaultLocked) as exc:
                failed.add(asked.knowledgebase_id)
                log.warning("meanings_wait", reason=type(exc).__name__)
                continue
            octets = [vector.astype("<f4").tobytes() for vector in vectors]
            await self._store.write(add_vectors, asked, dict(zip(asked.texts, octets, strict=True)))

    @asynccontextmanager
    async def _client(self, choice: EmbeddingChoice) -> AsyncIterator[EmbeddingIndex]:
        try:
            from rtcore.providers import openai_embeddings as embeddings
        except ImportError as exc:
            raise ConfigError("embedding", "needs NumPy: pip install numpy") from exc
        secrets: Mapping[str, str] = {}
        if choice.secret is not None:
            secrets = await self._store.read(open_secrets, [choice.secret])
        checked_url(choice.base_url, "embedding.base_url", allow_private=self._allow_private)
        settings = embeddings.EmbeddingSettings(
            model=choice.model,
            base_url=choice.base_url,
            key_name=choice.secret,
            deadlines=Deadlines(public_only=not self._allow_private),
        )
        key = choice, secrets.get(choice.secret or "", "")
        make = partial(embeddings.EmbeddingIndex, settings, secrets)
        async with self._clients.use(key, make) as client:
            yield client

    async def aclose(self) -> None:
        """Close all connections; nobody searches any more."""
        await self._clients.aclose()


def fused(rankings: Sequence[Sequence[Hit]]) -> tuple[Hit, ...]:
    """One ranking of several, by the sum of reciprocal ranks, which become the scores."""
    scores: dict[tuple[str, int], float] = {}
    hits: dict[tuple[str, int], Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            key = hit.document_id, hit.position
            hits.setdefault(key, hit)
            scores[key] = scores.get(key, 0.0) + 1 / (FUSION_RANK + rank)
    best = sorted(scores, key=lambda key: (-scores[key], key))
    return tuple(replace(hits[key], score=scores[key]) for key in best)


def _decoded(
    marker: tuple[int, int], choice: EmbeddingChoice, hits: list[Hit], octets: bytes
) -> _Kept:
    import numpy as np

    length = len(octets) // 4 // len(hits) if hits else 0
    return _Kept(marker, choice, hits, np.frombuffer(octets, "<f4").reshape(len(hits), length))


def _best(kept: _Kept, asked: npt.NDArray[np.float32], limit: int) -> tuple[Hit, ...]:
    import numpy as np

    from rtcore.providers.openai_embeddings import SIMILARITY_MIN

    if asked.size != kept.vectors.shape[1]:
        return ()  # of another model: they are being asked for anew
    scores = kept.vectors @ asked  # all have length one: their cosines
    best = np.argsort(-scores)[:limit]
    return tuple(
        replace(kept.hits[at], score=float(scores[at]))
        for at in best
        if scores[at] >= SIMILARITY_MIN
    )
