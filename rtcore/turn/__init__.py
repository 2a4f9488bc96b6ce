"""Who has the floor, sans-I/O: frames, words and facts in, decisions out."""

from __future__ import annotations

from rtcore.turn.completeness import FREE, Expectation
from rtcore.turn.config import TurnConfig
from rtcore.turn.detector import TurnDetector

__all__ = ["FREE", "Expectation", "TurnConfig", "TurnDetector"]
