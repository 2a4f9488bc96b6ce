"""The calls this node holds: who listens to them, and what of them is kept meanwhile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
import trio

from api.calls.recordings import finish_recordings
from api.calls.records import Stream, touch_streams, write_notes, write_streams
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
PULSE_EVERY_S = 2.0  # a stream without a pulse for five of them is taken for crashed
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

    def hears(self, call_id: str) -> bool:
        """Whether anybody listens."""
        return call_id in self._of

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
    waiting_for: str = ""  # the attempt that fetches a human, while one goes on
    _told_messages: int = 0
    _told_partials: dict[str, str] = field(default_factory=dict)
    _kept_notes: int = 0
    _seen: object = None  # when the record was last looked at
    _kept: object = None  # of it, when it was last written

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
        self.tell_partials()
        data = {"at_ms": noted.at_ms, "stream": self.number, **noted.fields}
        self.listeners.tell(self.call_id, CallEvent(event=noted.kind, data=data))

    def tell_partials(self) -> None:
        """Tell what either side is saying, as far as it is known: it is not history yet."""
        if not self.listeners.hears(self.call_id):
            return
        for role, text in (("user", self.call.hearing), ("assistant", self.call.saying)):
            if text != self._told_partials.get(role, "") and text:
                data = {"stream": self.number, "role": role, "text": text}
                self.listeners.tell(self.call_id, CallEvent(event="partial", data=data))
            self._told_partials[role] = text

    def said(self, first: int = 0) -> list[dict[str, Any]]:
        """What has been said and heard, from entry ``first`` on, as it is told to listeners."""
        spans = self.call.spans
        return [
            {"stream": self.number, "index": index, "role": message.role, "text": message.text}
            | (msgspec.structs.asdict(spans[index]) if index < len(spans) else {})
            for index, message in enumerate(self.call.conversation.log[first:], first)
        ]

    def grown(self, now_s: float) -> CallRecord | None:
        """The record as if the call ended now, without its journal; None: it is as it was."""
        journal = self.call.journal
        seen = len(journal) + journal.dropped_notes, self.call.conversation.log
        if seen == self._seen:
            return None
        self._seen = seen
        record = self.call.record(with_notes=False)
        kept = record.transcript, record.turns, record.barge_ins
        if kept == self._kept:
            return None
        self._kept = kept
        return msgspec.structs.replace(record, ended_by="", duration_s=now_s - self.began_s)

    def fresh_notes(self) -> tuple[int, tuple[Noted, ...]] | None:
        """What the journal has got since it was last asked, and how much it had before."""
        journal, first = self.call.journal, self._kept_notes
        if len(journal) == first:
            return None
        self._kept_notes = len(journal)
        return first, tuple(journal.since(first))


@dataclass
class _Batch:
    """What is to be written in one transaction, for all calls of the node."""

    records: OrderedDict[Stream, tuple[CallRecord, bool]] = field(default_factory=OrderedDict)
    notes: dict[Stream, list[tuple[int, tuple[Noted, ...]]]] = field(default_factory=dict)
    recordings: dict[Stream, tuple[int, int]] = field(default_factory=dict)
    pulses: tuple[Stream, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.records or self.notes or self.recordings or self.pulses)

    def after(self, older: _Batch) -> _Batch:
        """Both, where this one is the newer."""
        notes = {stream: list(pieces) for stream, pieces in older.notes.items()}
        for stream, pieces in self.notes.items():
            notes.setdefault(stream, []).extend(pieces)
        return _Batch(
            OrderedDict({**older.records, **self.records}),
            notes,
            {**older.recordings, **self.recordings},
            self.pulses,
        )

    def parts(self) -> Iterator[_Batch]:
        """The same, each stream by itself."""
        yield _Batch(recordings=self.recordings, pulses=self.pulses)
        for stream in {**self.records, **self.notes}:
            part = _Batch()
            if stream in self.records:
                part.records[stream] = self.records[stream]
            if stream in self.notes:
                part.notes[stream] = self.notes[stream]
            yield part

    def write(self, tx: Tx, node_id: str) -> None:
        write_notes(tx, self.notes)
        write_streams(tx, self.records)
        touch_streams(tx, self.pulses)
        finish_recordings(tx, self.recordings)
        release(tx, node_id, [each for each, (_, is_final) in self.records.items() if is_final])


class RecordKeeper:
    """Writes records into the store as they change, those of all calls in one transaction.

    Of a record the newest state is enough, of a journal what has come since. With the final
    record of a stream the node lets go of it.
    """

    def __init__(self, store: Store, node_id: str) -> None:
        self._store = store
        self._node_id = node_id
        self._unwritten = _Batch()
        self._pulse_s = 0.0
        self._work = trio.Event()
        self._idle = trio.Event()
        self._is_writing = False
        self.dropped = 0

    def put(self, call_id: str, number: int, record: CallRecord, *, is_final: bool) -> None:
        """Take a record without waiting."""
        records = self._unwritten.records
        records[call_id, number] = record, is_final
        if len(records) > UNWRITTEN_MAX:
            stream, _ = records.popitem(last=False)
            self._unwritten.notes.pop(stream, None)
            self.dropped += 1
            log.error("record_dropped", dropped=self.dropped)
        if is_final:
            self._unwritten.notes.pop((call_id, number), None)  # it has them all
            self._work.set()

    def put_recording(self, stream: Stream, samples: int, dropped_samples: int) -> None:
        """Take it that the recording of a stream is whole; one too many is found by a sweep."""
        if len(self._unwritten.recordings) < UNWRITTEN_MAX:
            self._unwritten.recordings[stream] = samples, dropped_samples

    async def flush(self) -> None:
        """Return when all that was put is written (or after a limit)."""
        with trio.move_on_after(FLUSH_LIMIT_S):
            while self._unwritten or self._is_writing:
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
            self._gather(live())
            if self._unwritten:
                await self._write()
            self._idle.set()
            self._idle = trio.Event()

    def _gather(self, live: Iterable[LiveCall]) -> None:
        now_s, going = trio.current_time(), []
        for each in live:
            stream = each.call_id, each.number
            going.append(stream)
            if (record := each.grown(now_s)) is not None:
                self.put(each.call_id, each.number, record, is_final=False)
            if (piece := each.fresh_notes()) is not None:
                self._unwritten.notes.setdefault(stream, []).append(piece)
        if now_s >= self._pulse_s:
            self._pulse_s = now_s + PULSE_EVERY_S
            self._unwritten.pulses = tuple(going)

    async def _write(self) -> None:
        batch, self._unwritten = self._unwritten, _Batch()
        self._is_writing, is_written = True, False
        try:
            await self._store.write(batch.write, self._node_id)
            is_written = True
        except StoreUnavailable as exc:
            log.warning("records_wait", reason=str(exc), waiting=len(batch.records))
        except Exception as exc:  # one that cannot be written must not take the others with it
            log.error("records_not_written", reason=type(exc).__name__)
            await self._write_each(batch)
            is_written = True
        finally:
            self._is_writing = False
            if not is_written:  # nothing of it is, whatever went wrong
                self._unwritten = self._unwritten.after(batch)
        if not is_written:
            await trio.sleep(KEEP_EVERY_S)

    async def _write_each(self, batch: _Batch) -> None:
        """Write what can be, stream by stream; drop and count what cannot."""
        for part in batch.parts():
            try:
                await self._store.write(part.write, self._node_id)
            except StoreUnavailable:
                self._unwritten = self._unwritten.after(part)
            except Exception as exc:
                self.dropped += 1
                log.error("record_dropped", dropped=self.dropped, reason=type(exc).__name__)
