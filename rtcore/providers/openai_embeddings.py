"""Passages found by their meaning, through an OpenAI-compatible ``/embeddings`` endpoint.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import trio

from rtcore.errors import ProviderError
from rtcore.ports import Hit
from rtcore.providers._http_service import HttpService, bearer_client
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._wire import decode

__all__ = ["BATCH_MAX", "SIMILARITY_MIN", "EmbeddingIndex", "EmbeddingSettings"]

BATCH_MAX = 100  # texts of one request; the service takes 2,048, a local one less
ANSWER_MAX_BYTES = 64 << 20  # 100 vectors of 3,072 numbers in decimal are 7 MB
SIMILARITY_MIN = 0.2  # below it two texts have nothing to do with one another

Vectors = npt.NDArray[np.float32]


class EmbeddingSettings(Settings, frozen=True):
    """Which model, and where it is; ``key_name`` None for a local one without a key."""

    model: str
    base_url: str = "https://api.openai.com/v1"
    key_name: str | None = "OPENAI_API_KEY"
    deadlines: Deadlines = Deadlines()


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]


ANSWER = msgspec.json.Decoder(_Answer)


class EmbeddingIndex(HttpService):
    """Fills :class:`rtcore.ports.KnowledgeIndex`; held in memory, shared by all calls."""

    def __init__(
        self,
        settings: EmbeddingSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "knowledge.embeddings",
    ) -> None:
        """
        Raises:
            ConfigError: the key is missing.
        """
        super().__init__(
            bearer_client(name, settings.base_url, secrets, settings.key_name, settings.deadlines)
        )
        self._model = settings.model
        self._limiter = trio.CapacityLimiter(1)  # some ms each: not on the loop, not many at once
        self._hits: list[Hit] = []
        self._vectors: Vectors = np.zeros((0, 0), np.float32)

    async def fill(self, passages: Sequence[Hit]) -> None:
        """Ask for the vectors of all passages and keep them in place of those before.

        Raises:
            ProviderError: the service failed; the index is as it was.
        """
        texts = [f"{hit.title}\n{hit.text}" if hit.title else hit.text for hit in passages]
        parts = [
            await self.embed(texts[start : start + BATCH_MAX])
            for start in range(0, len(texts), BATCH_MAX)
        ]
        self._hits = list(passages)
        self._vectors = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        """See :class:`rtcore.ports.KnowledgeIndex`."""
        if not self._hits:
            return ()
        (asked,) = await self.embed([question])
        if asked.size != self._vectors.shape[1]:
            raise ProviderError(self.name, "vectors of another length", retryable=False)
        return await trio.to_thread.run_sync(
            self._best, asked, limit, limiter=self._limiter, abandon_on_cancel=True
        )

    def _best(self, asked: Vectors, limit: int) -> tuple[Hit, ...]:
        scores = self._vectors @ asked  # all have length one: their cosines
        best = np.argsort(-scores)[:limit]
        return tuple(self._hits[at] for at in best if scores[at] >= SIMILARITY_MIN)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One vector of length one for each text, of which there are at most 100.

        Raises:
            ProviderError: the service failed.
        """
        body = {"model": self._model, "input": texts, "encoding_format": "float"}
        async with await self._client.post("embeddings", body) as answer:
            found = decode(self.name, ANSWER, await answer.read(ANSWER_MAX_BYTES)).data
        found.sort(key=lambda each: each.index)
        if len({len(each.embedding) for each in found}) != 1 or len(found) != len(texts):
            message = f"{len(found)} vectors for {len(texts)} texts, or of several lengths"
            raise ProviderError(self.name, message, retryable=False)
        vectors = np.array([each.embedding for each in found], np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
