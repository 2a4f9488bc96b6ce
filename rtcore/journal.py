"""What happened in one call, in order: small events with their time, never audio.

Times are ms since the call's start on Trio's clock, to a tenth: on a simulated clock the same
call writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["Journal", "Noted"]

NOTES_MAX = 20_000  # some 200 an hour of talk are usual; past it the oldest are not kept


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """One event: ``kind`` is a fixed snake_case word, ``fields`` its values with units."""

    at_ms: float
    kind: str
    fields: dict[str, Any]


ENCODER = msgspec.json.Encoder()
NOTED = msgspec.json.Decoder(Noted)


class Journal:
    """An append-only list of events; ``listen`` is told of each as it is written.

    They are kept as text: a call of half an hour notes some thousands, and as objects each
    would take three times the memory.
    """

    def __init__(self, listen: Callable[[Noted], None] | None = None) -> None:
        self.dropped_notes = 0
        self.listen = listen
        self._lines: list[bytes] = []
        self._zero_s = 0.0

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._lines)

    @property
    def notes(self) -> list[Noted]:
        """All that are kept."""
        return self.since(0)

    def since(self, first: int) -> list[Noted]:
        """Those from number ``first`` on, counted from 0."""
        return [NOTED.decode(line) for line in self._lines[first:]]

    def start(self, now_s: float) -> None:
        """Times count from ``now_s``."""
        self._zero_s = now_s

    def note(self, now_s: float, kind: str, /, **fields: Any) -> None:
        noted = Noted(at_ms=round((now_s - self._zero_s) * 1000, 1), kind=kind, fields=fields)
        if len(self._lines) < NOTES_MAX:
            self._lines.append(ENCODER.encode(noted))
        else:
            self.dropped_notes += 1
        if self.listen is not None:
            self.listen(noted)

    def to_jsonl(self) -> bytes:
        """One JSON object a line, keys in the order they were written."""
        return b"".join(
            msgspec.json.encode({"at_ms": n.at_ms, "kind": n.kind, **n.fields}) + b"\n"
            for n in self.notes
        )
