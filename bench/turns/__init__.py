"""Turn-taking on labelled 8 kHz µ-law tracks: ``python -m bench turns``."""

from __future__ import annotations

from bench.turns.command import main

__all__ = ["main"]
