"""A node among others: it says that it is up, and takes out those that say nothing any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import structlog
import trio
from msgspec import Meta

from api.calls.records import StoredCall
from api.nodes.records import NodeState, beat, bury, count_nodes, leave
from api.store import Store, Tx
from api.store.errors import StoreUnavailable

__all__ = ["Presence", "PresenceConfig"]

log = structlog.get_logger()

SILENT_BEATS = 4  # missed in a row: three are a slow database, four are nobody
LEAVE_LIMIT_S = 5.0


class PresenceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How soon a dead node is noticed: after five beats at the latest.

    It is taken for dead once it has been silent for four, and each of the others looks with
    every beat of its own: 4 x 5 s + 5 s = 25 s by default.
    """

    heartbeat_s: Annotated[float, Meta(ge=0.05, le=60)] = 5.0

    @property
    def silent_ms(self) -> int:
        return int(self.heartbeat_s * SILENT_BEATS * 1000)


class Presence:
    """Keeps the row of this node.

    Args:
        state: what there is to tell of the node now.
        lost: given the calls a dead node held, once they are marked as ended.
    """

    def __init__(
        self,
        store: Store,
        node_id: str,
        config: PresenceConfig,
        state: Callable[[], NodeState],
        lost: Callable[[tuple[StoredCall, ...]], Awaitable[None]],
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._state = state
        self._lost = lost
        self.config = config
        self.nodes = 1  # that are up, this one among them, as of the last beat

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled; ready after the first. Cancelled: the row goes (within a limit)."""
        try:
            await self._beat()
            task_status.started()
            while True:
                await trio.sleep(self.config.heartbeat_s)
                await self._beat()
        finally:
            with trio.move_on_after(LEAVE_LIMIT_S, shield=True):
                await self._leave()

    async def _beat(self) -> None:
        try:
            lost, self.nodes = await self._store.write(
                _beat, self._node_id, self._state(), self.config.silent_ms
            )
        except StoreUnavailable as exc:
            log.warning("heartbeat_missed", reason=str(exc))
            return
        if lost:
            log.error("node_lost", calls=len(lost))
            await self._lost(lost)

    async def _leave(self) -> None:
        try:
            await self._store.write(leave, self._node_id)
        except StoreUnavailable as exc:
            log.warning("not_signed_off", reason=str(exc))


def _beat(
    tx: Tx, node_id: str, state: NodeState, silent_ms: int
) -> tuple[tuple[StoredCall, ...], int]:
    beat(tx, node_id, state)
    return bury(tx, silent_ms), count_nodes(tx)
