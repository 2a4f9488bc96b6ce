"""Our own node as the server under load, and what it says of itself beside the calls."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.certificate import write_certificate
from bench.load.results import Heard
from bench.load.server import Server, serving
from bench.probe import Stat
from rtcore.metrics import TurnTiming
from rtcore.testing.loopback import free_port

__all__ = ["NodeOptions", "OurNode", "Record", "decision_to_clear_ms", "our_node"]

SAME_MS = 5.0  # how far off the first guess of a call's start may be
LIMIT_MS = 2000.0  # what came later than this after a note is of another: none is so close


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``python -m bench.node``'s options."""

    stt_ms: float = 150
    llm_ms: float = 350
    tts_ms: float = 120
    reply_ms: float = 3000
    partial_ms: float | None = None  # of speech for each word of a partial; 0: no partials
    commit_ms: int | None = None
    socket: str = "fast"
    voice: str = "webrtc"
    record: bool = False  # each call into a file
    tls: bool = False
    drawn_seed: int | None = None
    live: Path | None = None  # specs of real providers, instead of all times above
    stages: bool = False
    no_speculation: bool = False  # an answer is begun when its turn is certain, not before

    @property
    def is_scripted(self) -> bool:
        """Whether how long each provider takes is known beforehand."""
        return self.drawn_seed is None and self.live is None

    def arguments(self, folder: Path) -> Iterator[str]:
        """On the command line; what files they need are in ``folder``.

        Raises:
            ServerError: they cannot be made.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name == "record":
                if value:
                    yield f"--recordings={folder / 'recordings'}"
            elif name == "tls":
                if value:
                    chain, key = write_certificate(folder)
                    yield from (f"--tls-cert={chain}", f"--tls-key={key}")
            elif value is True:
                yield f"--{name.replace('_', '-')}"
            elif value is not None and value is not False:
                yield f"--{name.replace('_', '-')}={value}"


class Note(msgspec.Struct, frozen=True):
    at_ms: float
    kind: str


class Record(msgspec.Struct, frozen=True):
    """What a bench reads of a call's record."""

    call_id: str
    ended_by: str
    turns: list[TurnTiming]
    notes: list[Note]

    @property
    def number(self) -> int:
        """Of the caller, from 0."""
        return int(self.call_id.rpartition("-")[2])

    def times_ms(self, kind: str) -> list[float]:
        return [note.at_ms for note in self.notes if note.kind == kind]


class OurNode(msgspec.Struct, frozen=True):
    """A node that runs, or ran."""

    url: str
    server: Server
    folder: Path

    def records(self) -> list[Record]:
        """Of the calls that are over."""
        lines = (self.folder / "records.jsonl").read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Record) for line in lines]

    def stats(self, since_s: float, until_s: float) -> list[Stat]:
        """What the node said of itself between two times of ``time.perf_counter``."""
        lines = (self.folder / "stats.jsonl").read_bytes().splitlines(keepends=True)
        found = (msgspec.json.decode(line, type=Stat) for line in lines if line.endswith(b"\n"))
        return [stat for stat in found if since_s <= stat.at_s <= until_s]


@contextmanager
def our_node(
    options: NodeOptions, core: int, folder: Path, *, tells: bool = True
) -> Iterator[OurNode]:
    """Serve on ``core`` until the block ends; ``folder`` takes what the node writes.

    ``tells``: it writes records and, ten times a second, stats. A nearly idle process feels
    that: waking up for it costs as much as a call.

    Raises:
        ServerError: it did not come up.
    """
    port = free_port()
    command = [sys.executable, "-m", "bench.node", "--port", str(port)]
    if tells:
        command += [f"--records={folder / 'records.jsonl'}", f"--stats={folder / 'stats.jsonl'}"]
    root = Path(__file__).parents[2]
    with serving(
        [*command, *options.arguments(folder)], port, core, log=folder / "node.log", cwd=root
    ) as server:
        scheme = "wss" if options.tls else "ws"
        yield OurNode(f"{scheme}://127.0.0.1:{port}/bench", server, folder)


def decision_to_clear_ms(
    records: Sequence[Record], opened_s: Mapping[int, float], heard: Iterable[Heard]
) -> list[float]:
    """From the node's decision that it was interrupted to ``clearAudio`` at the caller.

    Both clocks run alike, but each record counts from its call's start. ``opened_s`` says when
    each call was begun here, which tells that start but for the node's lag; the quickest of all
    messages that both sides have timed tells it to its own way, 0.1 ms or so.
    """
    onsets_ms: dict[int, list[float]] = defaultdict(list)
    clears_ms: dict[int, list[float]] = defaultdict(list)
    for part in heard:
        for call, ended_s, wait_ms in part.turns:
            onsets_ms[call].append(ended_s * 1000 + wait_ms)
        for call, at_s in part.cleared:
            clears_ms[call].append(at_s * 1000)
    found: list[float] = []
    for record in records:
        number = record.number
        begun_ms = opened_s[number] * 1000 - record.times_ms("call_started")[0]
        pairs = [
            *_followed(record.times_ms("response"), onsets_ms[number], begun_ms),
            *_followed(record.times_ms("cleared"), clears_ms[number], begun_ms),
        ]
        if not pairs:
            continue
        apart_ms = begun_ms + min(seen - noted for noted, seen in pairs)
        decided = record.times_ms("barge_in_confirmed")
        found += [seen - noted for noted, seen in _followed(decided, clears_ms[number], apart_ms)]
    return found


def _followed(
    noted_ms: Sequence[float], seen_ms: Sequence[float], apart_ms: float
) -> Iterator[tuple[float, float]]:
    """Each of ``noted_ms`` with the first of ``seen_ms`` at or after it, on one clock."""
    for noted in noted_ms:
        seen = [at - apart_ms for at in seen_ms if at - apart_ms >= noted - SAME_MS]
        if seen and min(seen) - noted < LIMIT_MS:
            yield noted, min(seen)
