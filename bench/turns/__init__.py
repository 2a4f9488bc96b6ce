"""Turn-taking on labelled 8 kHz µ-law tracks: ``python -m bench turns``.

Recordings (``sources``) get energy labels (``labels``) and become tracks (``tracks``, ``scenes``)
on lines with noise and echo (``sounds``); a detector (``detectors``, ``peers``) is driven over each
as a call would (``drive``), with or without scripted words (``words``), and what it decided is
counted against the labels (``scoring``, ``intervals``).

What is real: the voices, the pauses of the two-party call, the prompts, most noises, a dog, the
DTMF. What is not: coughs, keys, breath, knocks and music are synthesised; pauses on built tracks
are put in, 0.3 to 1.2 s, harsher than life; echo is one path, linear or clipped; a backchannel is
a short vocal bit of the call or a single digit; texts are stand-ins but for the digits.
"""

from __future__ import annotations

from bench.turns.command import main

__all__ = ["main"]
