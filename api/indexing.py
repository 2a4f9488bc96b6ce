"""Indexes documents in the background, one after the other, in small durable steps.

The work lies in the store: whatever node has room takes the next document, and if it dies
another begins that document again.
"""

from __future__ import annotations

import structlog
import trio

from api.extracting import extract
from api.meaning import Meanings
from api.store import Store
from api.store.errors import StoreUnavailable
from api.store.knowledge import Work, add_passages, claim_document, fail_document
from rtcore.agent.documents import Unreadable

__all__ = ["Indexer"]

BATCH_PASSAGES = 200  # some 20 ms of a thread, then others may write
PAUSE_S = 5.0  # a database that did not answer is asked again after it
LOOK_AGAIN_S = 30.0  # for what a node left behind that has died

log = structlog.get_logger()


class Indexer:
    """:meth:`run` is its one task, owned by the app's nursery; :meth:`wake` tells it of work."""

    def __init__(self, store: Store, meanings: Meanings) -> None:
        self._store = store
        self._meanings = meanings
        self._work = trio.Event()

    def wake(self) -> None:
        """A document waits."""
        self._work.set()

    async def run(self) -> None:
        """Index whatever waits, for ever.

        Cancelled: the step in hand is finished; what is left is taken up again later.
        """
        while True:
            self._work = trio.Event()
            try:
                while (work := await self._store.write(claim_document)) is not None:
                    await self._index(work)
                await self._meanings.fill()
            except StoreUnavailable as exc:
                log.warning("indexing_paused", reason=str(exc))
                await trio.sleep(PAUSE_S)
                continue
            with trio.move_on_after(LOOK_AGAIN_S):
                await self._work.wait()

    async def _index(self, work: Work) -> None:
        try:
            found = await extract(work.media_type, work.content)
        except Unreadable as exc:
            await self._store.write(fail_document, work.id, str(exc))
            return
        for first in range(0, len(found), BATCH_PASSAGES):
            batch = found[first : first + BATCH_PASSAGES]
            if not await self._store.write(add_passages, work.id, first, batch, len(found)):
                return  # deleted meanwhile
