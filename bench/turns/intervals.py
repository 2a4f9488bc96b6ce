"""95 % intervals without a statistics package, and the same on every run."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["per_minute", "quantiles", "share"]

Z = 1.959964  # 97.5 % point of the normal distribution
RESAMPLES = 1000


def share(hits: int, of: int) -> dict[str, Any]:
    """A proportion with Wilson's interval, in per cent."""
    if of == 0:
        return {"hits": 0, "of": 0, "percent": None, "ci95": None}
    rate, squared = hits / of, Z * Z
    centre = (rate + squared / (2 * of)) / (1 + squared / of)
    half = Z * math.sqrt(rate * (1 - rate) / of + squared / (4 * of * of)) / (1 + squared / of)
    # at the ends the closed form gives the end itself; rounding must not put it outside
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    high = 1.0 if hits == of else min(1.0, centre + half)
    interval = [round(100 * low, 1), round(100 * high, 1)]
    return {"hits": hits, "of": of, "percent": round(100 * rate, 1), "ci95": interval}


def per_minute(count: int, minutes: float) -> dict[str, Any]:
    """A rate of rare events with Byar's approximation of the Poisson interval."""
    if minutes <= 0:
        return {"count": count, "minutes": 0.0, "per_minute": None, "ci95": None}
    above = count + 1
    low = count * (1 - 1 / (9 * count) - Z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    high = above * (1 - 1 / (9 * above) + Z / (3 * math.sqrt(above))) ** 3
    return {
        "count": count,
        "minutes": round(minutes, 3),
        "per_minute": round(count / minutes, 3),
        "ci95": [round(low / minutes, 3), round(high / minutes, 3)],
    }


def quantiles(values: Sequence[float]) -> dict[str, Any]:
    """p50, p95, max and mean in ms; the intervals of the first two by bootstrap."""
    if not values:
        return {"n": 0, "p50": None, "p95": None, "max": None, "mean": None}
    data = np.asarray(values, float)
    # seeded by the data: the same numbers give the same interval, in whatever order
    rng = np.random.default_rng(zlib.crc32(np.sort(data).tobytes()))
    drawn = np.sort(data)[rng.integers(len(data), size=(RESAMPLES, len(data)))]
    result: dict[str, Any] = {"n": len(data)}
    for name, point in (("p50", 50), ("p95", 95)):
        result[name] = round(float(np.percentile(data, point)), 1)
        ends = np.percentile(np.percentile(drawn, point, axis=1), (2.5, 97.5))
        result[f"{name}_ci95"] = [round(float(end), 1) for end in ends]
    result["max"], result["mean"] = round(float(data.max()), 1), round(float(data.mean()), 1)
    return result
