"""The calls this node holds: who listens to them, and what of them is kept meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import trio

from api.calls.records import write_streams
from api.nodes.records import release
from api.store import Store, Tx
from api.store.errors import StoreUnavailable
from rtcore.call import Call, CallRecord
from rtcore.journal import Noted

__all__ = ["CallEvent", "Listeners", "LiveCall", "RecordKeeper", "Said"]

log = structlog.get_logger()

EVENTS_MAX = 256  # that wait for one listener; a slower one is let go and told so
LISTENERS_MAX = 20  # of one call
KEEP_EVERY_S = 0.5  # a crash loses no more of a record than this and one write
UNWRITTEN_MAX = 10_000  # streams, while the database does not answer
FLUSH_LIMIT_S = 5.0


class CallEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a call; ``data`` depends on ``event``."""

    event: str
    data: dict[str, Any] = {}


class Listeners:
    """Tells whoever listens to a call what happens in it; telling never waits."""

    def __init__(self) -> None:
        self._of: dict[str, set[trio.MemorySendChannel[CallEvent]]] = {}
        self._relays: set[trio.MemorySendChannel[CallEvent]] = set()

    @contextmanager
    def listen(
        self, call_id: str, *, is_relay: bool = False
    ) -> Iterator[trio.MemoryReceiveChannel[CallEvent] | None]:
        """Hear a call for as long as the block runs; None: too many do already.

        ``is_relay``: for another node, which is told by itself what all nodes are.
        """
        heard = self._of.setdefault(call_id, set())
        if len(heard) >= LISTENERS_MAX:
            yield None
            return
        tx, rx = trio.open_memory_channel[CallEvent](EVENTS_MAX)
        heard.add(tx)
        if is_relay:
            self._relays.add(tx)
        try:
            with rx:
                yield rx
        finally:
            heard.discard(tx)
            self._relays.discard(tx)
            tx.close()
            if not heard and self._of.get(call_id) is heard:
                del self._of[call_id]

    def tell(self, call_id: str, event: CallEvent, *, relays: bool = True) -> None:
        """Tell all (or all but the relays); who is too slow hears no more."""
        for tx in tuple(self._of.get(call_id, ())):
            if tx in self._relays and not relays:
                continue
            try:
                tx.send_nowait(event)
            except trio.WouldBlock:
                self._of[call_id].discard(tx)
                tx.close()

    def end(self, call_id: str) -> None:
        """The call is over: whoever listens hears what waits, then the end."""
        for tx in self._of.pop(call_id, ()):
            tx.close()


class Said:
    """What one listener has heard said: what was said before it came may be told twice."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}  # by stream: the index of the next entry

    def is_new(self, words: dict[str, Any]) -> bool:
        """Whether ``words`` were not heard yet; now they are."""
        if words["index"] < self._next.get(words["stream"], 0):
            return False
        self._next[words["stream"]] = words["index"] + 1
        return True


@dataclass(eq=False)
class LiveCall:
    """A media stream of a call on this node."""

    call_id: str  # ours
    number: int  # of the stream
    call: Call
    listeners: Listeners
    began_s: float
    _told_messages: int = 0
    _kept_messages: int = 0

    def begin(self) -> None:
        """Pass on what happens in the call from here on."""
        before = self.call.journal.listen

        def listen(noted: Noted) -> None:
            if before is not None:
                before(noted)
            self.hear(noted)

        self.call.journal.listen = listen

    def hear(self, noted: Noted) -> None:
        """One entry of the journal, and with it what has been said since the last."""
        said = self.said(self._told_messages)
        for words in said:
            self.listeners.tell(self.call_id, CallEvent(event="transcript", data=words))
        self._told_messages += len(said)
        data = {"at_ms": noted.at_ms, "stream": self.number, **noted.fields}
        self.listeners.tell(self.call_id, CallEvent(event=noted.kind, data=data))

    def said(self, first: int = 0) -> list[dict[str, Any]]:
        """What has been said and heard, from entry ``first`` on, as it is told to listeners."""
        return [
            {"stream": self.number, "index": index, "role": message.role, "text": message.text}
            for index, message in enumerate(self.call.conversation.log[first:], first)
        ]

    def grown(self, now_s: float) -> CallRecord | None:
        """The record as if the call ended now, without its journal; None: nothing was said."""
        said = len(self.call.conversation.log)
        if said == self._kept_messages:
            return None
        self._kept_messages = said
        record = self.call.record()
        return msgspec.structs.replace(
            record, ended_by="", duration_s=now_s - self.began_s, notes=()
        )


class RecordKeeper:
    """Writes records into the store as they change; the newest of each stream is enough.

    With the final record of a stream the node lets go of it.
    """

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._unwritten: OrderedDict[tuple[str, int], tuple[CallRecord, bool]] = OrderedDict()
        self._work = trio.Event()
        self._idle = trio.Event()
        self._is_writing = False
        self.dropped = 0

    def put(self, call_id: str, number: int, record: CallRecord, *, is_final: bool) -> None:
        """Take a record without waiting."""
        self._unwritten[call_id, number] = record, is_final
        if len(self._unwritten) > UNWRITTEN_MAX:
            self._unwritten.popitem(last=False)
            self.dropped += 1
            log.error("record_dropped", dropped=self.dropped)
        if is_final:
            self._work.set()

    async def flush(self) -> None:
        """Return when all that was put is written (or after a limit)."""
        with trio.move_on_after(FLUSH_LIMIT_S):
            while self._unwritten or self._is_writing:
                self._idle = trio.Event()
                self._work.set()
                await self._idle.wait()

    async def run(self, live: Callable[[], Iterable[LiveCall]]) -> None:
        """Write for ever: final records at once, those of ``live`` calls as they grow.

        Cancelled: what waits is written first (or given up after a limit).
        """
        try:
            await self._keep(live)
        finally:
            with trio.move_on_after(FLUSH_LIMIT_S, shield=True):
                while self._unwritten:
                    await self._write()

    async def _keep(self, live: Callable[[], Iterable[LiveCall]]) -> None:
        while True:
            with trio.move_on_after(KEEP_EVERY_S):
                await self._work.wait()
            self._work = trio.Event()
            for each in live():
                if (record := each.grown(trio.current_time())) is not None:
                    self.put(each.call_id, each.number, record, is_final=False)
            if self._unwritten:
                await self._write()
            self._idle.set()

    async def _write(self) -> None:
        batch, self._unwritten = self._unwritten, OrderedDict()
        self._is_writing, is_written = True, False
        try:
            await self._store.write(_keep, self._node_id, batch)
            is_written = True
        except StoreUnavailable as exc:
            log.warning("records_wait", reason=str(exc), waiting=len(batch))
        finally:
            self._is_writing = False
            if not is_written:  # nothing of it is, whatever went wrong
                batch.update(self._unwritten)
                self._unwritten = batch
        if not is_written:
            await trio.sleep(KEEP_EVERY_S)


def _keep(tx: Tx, node_id: str, records: Mapping[tuple[str, int], tuple[CallRecord, bool]]) -> None:
    write_streams(tx, records)
    release(tx, node_id, [stream for stream, (_, is_final) in records.items() if is_final])
