"""Plots as SVG text, small enough to sit in a page and sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from bench.report.run import Plot

__all__ = ["draw"]

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e6bbf", "#b08900", "#4a4e69", "#d16ba5", "#5fa8d3")
WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
BINS = 40
BAR_HEIGHT = 26


def draw(plot: Plot) -> str:
    """``plot`` as one ``<svg>`` element."""
    if plot.kind == "lines":
        return _lines(plot)
    if plot.kind == "bars":
        return _bars(plot)
    return _histogram(plot)


def _lines(plot: Plot) -> str:
    points = [(x, y) for curve in plot.data.values() for x, y in curve if y is not None]
    if not points:
        return ""
    scale = _Scale(max(x for x, _ in points), max(y for _, y in points))
    parts = list(scale.axes(plot.x_label, plot.y_label))
    for number, (name, curve) in enumerate(plot.data.items()):
        colour = COLOURS[number % len(COLOURS)]
        known = [scale.at(x, y) for x, y in curve if y is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in known]
        parts.append(_legend(number, name))
    return _svg(HEIGHT + 18 * len(plot.data), parts)


def _histogram(plot: Plot) -> str:
    samples = [value for values in plot.data.values() for value in values]
    if not samples:
        return ""
    top = max(samples) or 1.0
    counts = {name: _binned(values, top) for name, values in plot.data.items()}
    # what is rare is what matters: the axis is of the logarithm
    tall = max(max(binned) for binned in counts.values())
    scale = _Scale(top, math.log10(tall + 1))
    parts = list(scale.axes(plot.x_label, "count, log", y_power=True))
    for number, (name, binned) in enumerate(counts.items()):
        colour = COLOURS[number % len(COLOURS)]
        width = (WIDTH - LEFT - RIGHT) / BINS / len(counts)
        for place, count in enumerate(binned):
            if count:
                x, y = scale.at(place * top / BINS, math.log10(count + 1))
                x += number * width
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width - 0.5, 0.5):.1f}" '
                    f'height="{HEIGHT - BOTTOM - y:.1f}" fill="{colour}"/>'
                )
        parts.append(_legend(number, name))
    return _svg(HEIGHT + 18 * len(counts), parts)


def _binned(values: Sequence[float], top: float) -> list[int]:
    binned = [0] * BINS
    for value in values:
        binned[min(int(value / top * BINS), BINS - 1)] += 1
    return binned


def _bars(plot: Plot) -> str:
    longest = max((sum(length for _, length in row) for row in plot.data.values()), default=0)
    if not longest:
        return ""
    labels = list(dict.fromkeys(label for row in plot.data.values() for label, _ in row))
    label_width = 150
    unit = (WIDTH - label_width - 80) / longest
    parts = []
    for number, (name, row) in enumerate(plot.data.items()):
        x, y = float(label_width), TOP + number * (BAR_HEIGHT + 6)
        parts.append(_text(label_width - 8, y + 17, name, anchor="end"))
        for label, length in row:
            colour = COLOURS[labels.index(label) % len(COLOURS)]
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{max(length * unit, 0):.1f}" '
                f'height="{BAR_HEIGHT}" fill="{colour}"><title>{escape(label)}: {length:.1f}'
                "</title></rect>"
            )
            x += length * unit
        total = sum(length for _, length in row)
        parts.append(_text(x + 6, y + 17, f"{total:.4g} {plot.x_label}"))
    below = TOP + len(plot.data) * (BAR_HEIGHT + 6) + 12
    parts += [_legend(number, name, below) for number, name in enumerate(labels)]
    return _svg(below + 18 * len(labels), parts)


class _Scale:
    """From figures to places, both axes from zero."""

    def __init__(self, x_max: float, y_max: float) -> None:
        self._x_max, self._y_max = x_max or 1.0, y_max * 1.05 or 1.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / self._x_max * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / self._y_max * (HEIGHT - TOP - BOTTOM),
        )

    def axes(self, x_label: str, y_label: str, *, y_power: bool = False) -> Iterator[str]:
        for tick in _ticks(self._y_max):
            _, y = self.at(0, tick)
            yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            shown = f"{10**tick - 1:.0f}" if y_power else f"{tick:g}"
            yield _text(LEFT - 6, y + 4, shown, anchor="end")
        for tick in _ticks(self._x_max):
            x, _ = self.at(tick, 0)
            yield _text(x, HEIGHT - BOTTOM + 16, f"{tick:g}", anchor="middle")
        corner = f"M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"
        yield f'<path d="{corner}" stroke="#666" fill="none"/>'
        yield _text((LEFT + WIDTH) / 2, HEIGHT - 10, x_label, anchor="middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield _text(
            14, middle, y_label, anchor="middle", more=f'transform="rotate(-90 14 {middle})"'
        )


def _ticks(top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top))
    for finer in (1, 2, 5):
        if top / (step / finer) >= 4:
            step /= finer
            break
    return [round(n * step, 10) for n in range(int(top / step) + 1)]


def _legend(number: int, name: str, top: float = HEIGHT) -> str:
    y, colour = top + 18 * number, COLOURS[number % len(COLOURS)]
    box = f'<rect x="{LEFT}" y="{y}" width="12" height="12" fill="{colour}"/>'
    return box + _text(LEFT + 18, y + 11, name)


def _text(x: float, y: float, text: Any, *, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(str(text))}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'font-family="sans-serif" font-size="11" fill="#222">{"".join(parts)}</svg>'
    )
