"""How nodes on one store reach one another: commands with an answer, and events without.

A command is a row; PostgreSQL's notification only names it. The node it is for claims it, does
it, and answers the same way. What a lost notification leaves behind is found by looking, at every
new connection and every second. An event is the notification itself, heard or not.

SQLite notifies nobody: the processes that share it look often, once there are several.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable

import structlog
import trio
from prometheus_client import CollectorRegistry, Counter, Histogram

from api.nodes.channel import listen_for_ever
from api.nodes.records import (
    Command,
    answer_command,
    channel_of,
    claim_commands,
    get_node,
    has_commands,
    notify,
    other_nodes,
    put_command,
    take_answers,
    withdraw_command,
)
from api.store import Store, Tx
from api.store.errors import StoreUnavailable
from api.store.records import new_id
from rtcore.errors import RtcoreError

__all__ = ["ANSWER_LIMIT_S", "Bus", "NodeSilent"]

log = structlog.get_logger()

EVERYBODY = "rtcore_everybody"
ANSWER_LIMIT_S = 5.0  # a command takes some 10 ms; only one that asks a model takes longer
LOOK_EVERY_S = 1.0  # what a lost notification costs at most
LOOK_OFTEN_S = 0.02  # without notifications; one look is a read of 0.1 ms
WORKING_MAX = 64  # commands at a time; more wait as rows
TOLD_MAX = 2000  # events that wait to be sent; past it they are dropped and counted
TOLD_BATCH = 100  # in one transaction
EVENT_LIFE_MS = 5000  # of one that is a row
EVENT_MAX_BYTES = 7900  # PostgreSQL refuses a payload of 8000: what is longer is a row
SHORT_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

Perform = Callable[[bytes], Awaitable[bytes]]
Hear = Callable[[bytes], None]


class NodeSilent(RtcoreError):
    """A node gave no answer; ``may_have_happened``: it had taken the command."""

    def __init__(self, message: str, *, may_have_happened: bool) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened


class Bus:
    """One node's end of it.

    Args:
        perform: does a command and returns the answer; what it raises ends nothing but itself.
        hear: told of events; must not wait.
        is_alone: whether there is no other node now.
    """

    def __init__(
        self,
        store: Store,
        node_id: str,
        perform: Perform,
        hear: Hear,
        registry: CollectorRegistry,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._perform = perform
        self._hear_event = hear
        self._is_alone = is_alone
        self._is_notified = store.engine.dialect.name == "postgresql"
        self._waiting: dict[str, _Slot] = {}
        self._commands_came = trio.Event()
        self._answers_came = trio.Event()
        self._told_tx, self._told_rx = trio.open_memory_channel[tuple[str, bytes]](TOLD_MAX)
        self._working = trio.CapacityLimiter(WORKING_MAX)
        self.dropped = Counter(
            "rtcore_bus_dropped", "Events between nodes that were dropped", registry=registry
        )
        self.seconds = Histogram(
            "rtcore_bus_answer_seconds",
            "Time until another node had answered a command",
            buckets=SHORT_S,
            registry=registry,
        )

    async def run(self) -> None:
        """Carry what is said, until cancelled. Cancelled: commands being done are cut off."""
        channels = (channel_of(self._node_id), EVERYBODY)
        async with trio.open_nursery() as nursery:
            if self._is_notified:
                listen = (self._store.engine, channels, self._hear, self._look)
                nursery.start_soon(listen_for_ever, *listen)
            nursery.start_soon(self._tell_for_ever)
            nursery.start_soon(self._collect_for_ever)
            await self._work_for_ever(nursery)

    # --- asking -------------------------------------------------------------------------

    async def ask(self, node_id: str, body: bytes, limit_s: float = ANSWER_LIMIT_S) -> bytes:
        """Have another node do ``body``; return its answer.

        Raises:
            NodeSilent: it gave none in time, or is gone.
            StoreUnavailable: the database did not answer.

        Cancelled: the command may be done all the same.
        """
        id, slot = new_id("cmd"), _Slot()
        self._waiting[id] = slot
        began_s = trio.current_time()
        try:
            life_ms = int(limit_s * 1000)
            await self._store.write(put_command, id, node_id, self._node_id, body, life_ms)
            with trio.move_on_after(limit_s):
                await slot.came.wait()
        finally:
            del self._waiting[id]
        if slot.answer is None:
            raise await self._silent(node_id, id, limit_s)
        self.seconds.observe(trio.current_time() - began_s)
        return slot.answer

    async def _silent(self, node_id: str, id: str, limit_s: float) -> NodeSilent:
        is_undone = await self._store.write(withdraw_command, id)
        node = await self._store.read(get_node, node_id)
        what = "is gone" if node is None else f"gave no answer within {limit_s:g} s"
        return NodeSilent(
            f"the node that holds the call {what}"
            + ("; nothing was done" if is_undone else "; it may have been done"),
            may_have_happened=not is_undone,
        )

    # --- telling ------------------------------------------------------------------------

    def tell(self, node_id: str | None, event: bytes) -> bool:
        """Tell one node, or all others, without waiting; False if it was dropped."""
        channel = EVERYBODY if node_id is None else channel_of(node_id)
        try:
            self._told_tx.send_nowait((channel, event))
        except trio.WouldBlock:
            self.dropped.inc()
            return False
        return True

    async def _tell_for_ever(self) -> None:
        async for first in self._told_rx:
            batch = [first]
            while len(batch) < TOLD_BATCH:
                try:
                    batch.append(self._told_rx.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                await self._store.write(_tell, self._node_id, batch)
            except StoreUnavailable as exc:
                self.dropped.inc(len(batch))
                log.warning("events_dropped", reason=str(exc), events=len(batch))

    # --- hearing ------------------------------------------------------------------------

    def _hear(self, payload: str) -> None:
        kind, _, rest = payload.partition(" ")
        if kind == "command":
            self._commands_came.set()
        elif kind == "answer":
            self._answers_came.set()
        elif kind == "event":
            sender, _, event = rest.partition(" ")
            if sender != self._node_id:  # what is told to everybody comes back to its teller
                self._hear_event(event.encode())

    def _look(self) -> None:
        self._commands_came.set()
        self._answers_came.set()

    async def _work_for_ever(self, nursery: trio.Nursery) -> None:
        while True:
            with trio.move_on_after(self._look_every_s) as looking:
                await self._commands_came.wait()
            self._commands_came = trio.Event()
            try:
                is_told = not looking.cancelled_caught
                if not is_told and not await self._store.read(has_commands, self._node_id):
                    continue
                for command in await self._store.write(claim_commands, self._node_id):
                    await self._working.acquire_on_behalf_of(command)
                    nursery.start_soon(self._do, command)
            except StoreUnavailable as exc:
                log.warning("commands_wait", reason=str(exc))

    @property
    def _look_every_s(self) -> float:
        return LOOK_EVERY_S if self._is_notified or self._is_alone() else LOOK_OFTEN_S

    async def _do(self, command: Command) -> None:
        try:
            if not command.from_node_id:
                self._hear_event(command.body)
                return
            answer = await self._perform(command.body)
            await self._store.write(answer_command, command, answer)
        except StoreUnavailable as exc:
            log.warning("answer_lost", reason=str(exc))
        except Exception:  # a command must not end the node: who asked hears nothing, in time
            # as text: some renderers print a traceback with the words and keys in its variables
            log.error("command_failed", exception=traceback.format_exc())
        finally:
            self._working.release_on_behalf_of(command)

    async def _collect_for_ever(self) -> None:
        while True:
            with trio.move_on_after(self._look_every_s):
                await self._answers_came.wait()
            self._answers_came = trio.Event()
            if not self._waiting:
                continue
            try:
                found = await self._store.write(take_answers, tuple(self._waiting))
            except StoreUnavailable as exc:
                log.warning("answers_wait", reason=str(exc))
                continue
            for id, answer in found.items():
                if (slot := self._waiting.get(id)) is not None:
                    slot.answer = answer
                    slot.came.set()


class _Slot:
    """Where one answer is put."""

    def __init__(self) -> None:
        self.came = trio.Event()
        self.answer: bytes | None = None


def _tell(tx: Tx, node_id: str, batch: list[tuple[str, bytes]]) -> None:
    for channel, event in batch:
        if not tx.is_postgres:
            _put(tx, node_id, channel, event)
            continue
        payload = f"event {node_id} {event.decode()}"
        if len(payload.encode()) <= EVENT_MAX_BYTES:
            notify(tx, channel, payload)
        else:
            _put(tx, node_id, channel, event)


def _put(tx: Tx, node_id: str, channel: str, event: bytes) -> None:
    """Tell it as rows that nobody answers, one for each node of the channel but the teller."""
    for other in other_nodes(tx, node_id):
        if channel in (EVERYBODY, channel_of(other)):
            put_command(tx, new_id("cmd"), other, "", event, EVENT_LIFE_MS)
