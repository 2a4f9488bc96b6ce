"""A call as a picture: both voices, who had the floor, and where each response's time went.

Plain SVG, complete in one file: it opens in any browser and needs nothing to be drawn.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Literal

import msgspec

from rtcore.audio import RATE_HZ, peak
from rtcore.testing import CarrierReport

__all__ = ["CallPicture", "Mark", "Response", "Span", "draw", "picture_of", "save"]

Party = Literal["caller", "agent"]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the call that belongs to one party: a turn, a reply, a pause."""

    party: Party
    kind: str  # turn, reply, held, tool; others are drawn too, in grey
    start_ms: float
    end_ms: float
    label: str = ""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A moment, in the colour of its kind (``MARK_COLOUR``); unknown kinds are drawn in grey."""

    kind: str
    at_ms: float


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: its parts follow one another from the caller's last voiced sample on."""

    start_ms: float
    parts: tuple[tuple[str, float], ...]  # name and ms, in order; they sum to the response
    label: str = ""  # what was said, if it may be shown

    @property
    def total_ms(self) -> float:
        return sum(ms for _, ms in self.parts)


class CallPicture(msgspec.Struct, frozen=True, kw_only=True):
    """All that is drawn; sound is int16 at 8000 Hz, times count from its first sample."""

    caller: bytes
    agent: bytes
    title: str = "call"
    spans: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    responses: tuple[Response, ...] = ()

    @property
    def duration_ms(self) -> float:
        samples = max(len(self.caller), len(self.agent)) // 2
        ends = [span.end_ms for span in self.spans] + [mark.at_ms for mark in self.marks]
        return max([samples * 1000 / RATE_HZ, *ends, 1.0])


def picture_of(report: CarrierReport, caller: bytes, agent: bytes) -> CallPicture:
    """What a carrier alone knows of a call: who was heard when, clears, gaps, whole responses."""
    turns = (
        Span(
            party="caller",
            kind="turn",
            start_ms=_ms(turn.start_sample),
            end_ms=_ms(turn.end_sample),
        )
        for turn in report.turns
    )
    replies = (
        Span(party="agent", kind="reply", start_ms=_ms(start), end_ms=_ms(end))
        for start, end in report.agent_runs
    )
    marks = [Mark(kind="barge_in", at_ms=_ms(b.start_sample)) for b in report.barge_ins]
    marks += [Mark(kind="gap", at_ms=_ms(gap.start_sample)) for gap in report.gaps]
    marks += [
        Mark(kind="cut_in", at_ms=_ms(turn.cut_in_sample))
        for turn in report.turns
        if turn.cut_in_sample is not None
    ]
    marks += [
        Mark(kind="clear", at_ms=_ms(event.at_sample))
        for event in report.events
        if event.kind == "clearAudio"
    ]
    return CallPicture(
        caller=caller,
        agent=agent,
        title=report.call_id,
        spans=(*turns, *replies),
        marks=tuple(marks),
        responses=tuple(
            Response(start_ms=_ms(turn.end_sample), parts=(("response", turn.response_ms),))
            for turn in report.turns
            if turn.response_ms is not None
        ),
    )


def _ms(samples: int) -> float:
    return samples * 1000 / RATE_HZ


# --- the drawing ------------------------------------------------------------------------

MARGIN, LABELS = 24, 76  # px; the lanes' names stand left of them
WAVE, BAR, AXIS, ROW = 84, 18, 22, 22  # heights in px
WIDTH_MIN, WIDTH_MAX, PX_PER_S = 760, 6000, 32  # 45 s fill a wide screen
QUIETEST_FULL = 1000  # int16; a call softer than this is drawn small: it is noise
CHAR_PX = 5.8  # of 11 px type, on average
LABEL_CHARS = 40

PARTY_COLOUR = {"caller": "#2b6cb0", "agent": "#2f855a"}
SPAN_COLOUR = {"turn": "#bee3f8", "reply": "#c6f6d5", "held": "#feebc8", "tool": "#e9d8fd"}
MARK_COLOUR = {
    "suspected": "#dd6b20",
    "barge_in": "#c53030",
    "dismissed": "#718096",
    "clear": "#9b2c2c",
    "gap": "#d53f8c",
    "cut_in": "#6b46c1",
    "hang_up": "#1a202c",
}
PART_COLOUR = {
    "endpointing": "#a0aec0",
    "stt_final": "#4299e1",
    "llm_first_token": "#9f7aea",
    "first_sentence": "#d6bcfa",
    "tts_first_audio": "#48bb78",
    "playout": "#ecc94b",
    "unattributed": "#f56565",
}
OTHER_COLOUR = "#cbd5e0"
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#2d3748}"
    ".title{font-size:15px;font-weight:600}.lane{font-weight:600}.dim{fill:#718096}"
)


def save(picture: CallPicture, path: Path) -> None:
    """Write ``picture`` as SVG. Raises OSError if it cannot be written."""
    path.write_text(draw(picture), encoding="utf-8")


def draw(picture: CallPicture) -> str:
    """``picture`` as the text of an SVG file."""
    return _Drawing(picture).svg()


class _Drawing:
    """From the top: title, time, caller, agent, marks' legend, then a row for each response."""

    def __init__(self, picture: CallPicture) -> None:
        self._picture = picture
        seconds = picture.duration_ms / 1000
        self._wide = min(max(seconds * PX_PER_S, WIDTH_MIN), WIDTH_MAX)
        self._px_per_ms = self._wide / picture.duration_ms
        loudest = max(peak(picture.caller), peak(picture.agent), QUIETEST_FULL)
        self._px_per_level = WAVE / 2 / loudest  # one scale: both parties can be compared
        self._axis_y = MARGIN + 30
        self._caller_y = self._axis_y + AXIS
        self._agent_y = self._caller_y + WAVE + BAR + 14
        self._marks_end = self._agent_y + WAVE + BAR
        self._legend_y = self._marks_end + 26
        self._rows_y = self._legend_y + 34

    def svg(self) -> str:
        picture = self._picture
        responses = len(picture.responses)
        height = self._rows_y + (responses + 2) * ROW * (responses > 0) + MARGIN
        width = LABELS + self._wide + 2 * MARGIN
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{escape(picture.title)}</title><style>{STYLE}</style>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(MARGIN, MARGIN + 8, picture.title, "title"),
            *self._axis(),
            *self._lane("caller", picture.caller, self._caller_y),
            *self._lane("agent", picture.agent, self._agent_y),
            *self._response_strips(),
            *self._marks(),
            *self._responses(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _x(self, ms: float) -> float:
        return MARGIN + LABELS + ms * self._px_per_ms

    def _axis(self) -> Iterator[str]:
        """A line each second, a number as often as there is room."""
        seconds = int(self._picture.duration_ms / 1000)
        every = next(
            n
            for n in (1, 2, 5, 10, 30, 60, 300, 3600)
            if n * 1000 * self._px_per_ms >= 30 or n == 3600
        )
        for second in range(0, seconds + 1, every):
            x = self._x(second * 1000)
            yield _line(x, self._axis_y + 6, x, self._marks_end, "#edf2f7")
            yield _text(x, self._axis_y, f"{second} s", "dim", anchor="middle")

    def _lane(self, party: Party, pcm: bytes, top: float) -> Iterator[str]:
        middle = top + WAVE / 2
        yield _text(MARGIN, middle + 4, party, "lane")
        yield _line(self._x(0), middle, self._x(self._picture.duration_ms), middle, "#e2e8f0")
        yield (
            f'<path d="{self._outline(pcm, middle)}" fill="{PARTY_COLOUR[party]}" '
            'fill-opacity="0.85"/>'
        )
        for span in self._picture.spans:
            if span.party != party:
                continue
            x, wide = self._x(span.start_ms), (span.end_ms - span.start_ms) * self._px_per_ms
            said = f"{span.kind} {span.start_ms / 1000:.2f}–{span.end_ms / 1000:.2f} s {span.label}"
            colour = SPAN_COLOUR.get(span.kind, OTHER_COLOUR)
            yield _box(x, top + WAVE, wide, BAR, colour, said.rstrip())
            if label := _fitted(span.label, wide):
                yield _text(x + 3, top + WAVE + 13, label)

    def _outline(self, pcm: bytes, middle: float) -> str:
        """The highest and lowest sample under each pixel, as one closed shape."""
        samples = array("h", pcm)
        step = max(round(RATE_HZ / 1000 / self._px_per_ms), 1)  # samples to a pixel
        upper, lower = [], []
        for at in range(0, len(samples), step):
            piece, x = samples[at : at + step], self._x(_ms(at))
            upper.append(f"{x:.1f} {middle - max(piece) * self._px_per_level - 0.25:.1f}")
            lower.append(f"{x:.1f} {middle - min(piece) * self._px_per_level + 0.25:.1f}")
        return f"M{'L'.join(upper + lower[::-1])}Z" if upper else ""

    def _response_strips(self) -> Iterator[str]:
        """Each response's parts at their time, between the two voices."""
        top = self._agent_y - 11
        for response in self._picture.responses:
            yield from self._stacked(response, self._x(response.start_ms), top, 8, self._px_per_ms)

    def _marks(self) -> Iterator[str]:
        for mark in self._picture.marks:
            colour = MARK_COLOUR.get(mark.kind, OTHER_COLOUR)
            x = self._x(mark.at_ms)
            line = _line(x, self._caller_y - 4, x, self._marks_end, colour, 1.5)
            yield f"<g><title>{escape(mark.kind)} {mark.at_ms / 1000:.3f} s</title>{line}</g>"
        used = dict.fromkeys(mark.kind for mark in self._picture.marks)
        yield from self._legend(
            [(kind, MARK_COLOUR.get(kind, OTHER_COLOUR)) for kind in used]
            + [
                (kind, SPAN_COLOUR.get(kind, OTHER_COLOUR))
                for kind in dict.fromkeys(span.kind for span in self._picture.spans)
            ],
            self._legend_y,
        )

    def _responses(self) -> Iterator[str]:
        """All responses from zero, to one scale, with their parts written out."""
        responses = self._picture.responses
        if not responses:
            return
        kinds = dict.fromkeys(name for response in responses for name, _ in response.parts)
        yield _text(MARGIN, self._rows_y, "responses", "lane")
        yield from self._legend(
            [(kind, PART_COLOUR.get(kind, OTHER_COLOUR)) for kind in kinds], self._rows_y
        )
        longest = max(response.total_ms for response in responses)
        room = min(self._wide * 0.5, 600)  # the rest of the row is for words
        scale = room / longest if longest > 0 else 0.0
        for number, response in enumerate(responses, start=1):
            y = self._rows_y + number * ROW
            yield _text(MARGIN, y + 12, f"{response.start_ms / 1000:.2f} s", "dim")
            yield from self._stacked(response, self._x(0), y, 15, scale)
            words = f"{response.total_ms:.0f} ms  {_shortened(response.label, LABEL_CHARS)}"
            yield _text(self._x(0) + response.total_ms * scale + 6, y + 12, words.rstrip())

    def _stacked(
        self, response: Response, x: float, y: float, high: float, scale: float
    ) -> Iterator[str]:
        for name, ms in response.parts:
            wide = ms * scale
            yield _box(x, y, wide, high, PART_COLOUR.get(name, OTHER_COLOUR), f"{name} {ms:.1f} ms")
            x += wide

    def _legend(self, entries: Sequence[tuple[str, str]], y: float) -> Iterator[str]:
        x = self._x(0)
        for name, colour in entries:
            yield _box(x, y - 9, 10, 10, colour, name)
            yield _text(x + 14, y, name)
            x += 30 + len(name) * CHAR_PX


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    shown = f' class="{style}"' if style else ""
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{shown}{where}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _box(x: float, y: float, wide: float, high: float, colour: str, title: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0):.1f}" height="{high}" rx="2" '
        f'fill="{colour}"><title>{escape(title)}</title></rect>'
    )


def _fitted(label: str, wide: float) -> str:
    """As much of ``label`` as fits into ``wide`` px."""
    return _shortened(label, int((wide - 6) / CHAR_PX))


def _shortened(label: str, chars: int) -> str:
    if len(label) <= chars:
        return label
    return f"{label[: chars - 1]}…" if chars >= 4 else ""
