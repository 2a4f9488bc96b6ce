"""Listening to a call that another node holds.

A node asks the one that holds the call to be told what happens in it, and asks again every few
seconds for as long as somebody listens: a lease, so that a node that dies is told nothing for
long. When the call moves (its stream broke, another node opened the next) the new one is asked.
What was said before comes with each answer; who has heard it already skips it by its index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from api.calls.commands import Follow, ask
from api.calls.live import CallEvent
from api.calls.records import get_call
from api.store.errors import Conflict, NotFound, StoreUnavailable
from api.web.problems import ApiError

if TYPE_CHECKING:
    from api.calls.telephony import Telephony

__all__ = ["Followers", "Told"]

log = structlog.get_logger()

LEASE_S = 15.0
RENEW_EVERY_S = 5.0
LOOK_EVERY_S = 1.0  # where the call is: one row by its key


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What one node tells another of a call."""

    call_id: str
    event: CallEvent
    ends: bool = False  # the call is over


class Followers:
    """Both sides of it, on one node: :meth:`follow` hears, :meth:`relay` tells."""

    def __init__(self, line: Telephony) -> None:
        self._line = line
        self._relays: dict[tuple[str, str], trio.CancelScope] = {}  # by call and listening node
        self._listening: dict[str, int] = {}
        self._refresh: dict[str, trio.Event] = {}

    # --- the node that listens ------------------------------------------------------------

    @asynccontextmanager
    async def follow(self, call_id: str) -> AsyncIterator[None]:
        """Have the listeners here told of a call, wherever it is, for as long as the block runs.

        Returns at once where no other node is; the events then come by themselves.
        """
        self._listening[call_id] = self._listening.get(call_id, 0) + 1
        if self._listening[call_id] == 1:
            self._refresh[call_id] = trio.Event()
            self._line.start(self._ask_for_ever, call_id)
        else:
            self._refresh[call_id].set()  # another one listens: tell what was said once more
        try:
            yield
        finally:
            self._listening[call_id] -= 1
            if not self._listening[call_id]:
                del self._listening[call_id]
                self._refresh.pop(call_id).set()

    async def _ask_for_ever(self, call_id: str) -> None:
        asked: tuple[str, int] | None = None  # the node, and the number of the stream
        renew_s = 0.0
        refresh = self._refresh[call_id]
        while self._refresh.get(call_id) is refresh:
            if self._line.presence.nodes > 1:
                try:
                    asked, renew_s = await self._look(call_id, asked, renew_s)
                except NotFound:  # erased: there is nothing more to hear
                    self._line.listeners.end(call_id)
                except (ApiError, Conflict, StoreUnavailable) as exc:
                    asked = None
                    log.info("not_followed", reason=type(exc).__name__)
            with trio.move_on_after(LOOK_EVERY_S):
                await refresh.wait()
            if refresh.is_set() and self._refresh.get(call_id) is refresh:
                refresh = self._refresh[call_id] = trio.Event()
                asked = None

    async def _look(
        self, call_id: str, asked: tuple[str, int] | None, renew_s: float
    ) -> tuple[tuple[str, int] | None, float]:
        """See where the call is, and ask that node (again) to be told of it."""
        call = await self._line.store.read(get_call, call_id)
        if call.ended_at_ms is not None:  # whoever told of the end was not heard
            state = CallEvent(event="state", data={"state": call.state})
            self._line.listeners.tell(call_id, state)
            self._line.listeners.end(call_id)
            return None, renew_s
        if call.node_id in (None, self._line.node_id):
            return None, renew_s
        assert call.node_id is not None
        at = call.node_id, call.streams
        now_s = trio.current_time()
        if at != asked or now_s >= renew_s:
            told = await ask(self._line, call, Follow(call_id=call_id, node_id=self._line.node_id))
            if at != asked:
                for each in told.get("said", ()):
                    event = CallEvent(event="transcript", data=each)
                    self._line.listeners.tell(call_id, event)
            return at, now_s + RENEW_EVERY_S
        return asked, renew_s

    # --- the node that holds the call -----------------------------------------------------

    def relay(self, call_id: str, node_id: str) -> dict[str, Any]:
        """Tell ``node_id`` of the call until its lease ends; return what was said so far."""
        deadline_s = trio.current_time() + LEASE_S
        scope = self._relays.get((call_id, node_id))
        if scope is not None:
            scope.deadline = deadline_s
        elif call_id in self._line.live:
            scope = self._relays[call_id, node_id] = trio.CancelScope(deadline=deadline_s)
            self._line.start(self._relay, call_id, node_id, scope)
        held = self._line.live.get(call_id)
        return {"said": held.said() if held is not None else []}

    async def _relay(self, call_id: str, node_id: str, scope: trio.CancelScope) -> None:
        try:
            with scope, self._line.listeners.listen(call_id, is_relay=True) as heard:
                if heard is None:
                    return
                async for event in heard:
                    told = Told(call_id=call_id, event=event)
                    self._line.bus.tell(node_id, msgspec.json.encode(told))
        finally:
            del self._relays[call_id, node_id]
