"""What the callers of one load found out, and how many of it there were."""

from __future__ import annotations

import msgspec

__all__ = ["Counts", "Heard", "Step"]


class Heard(msgspec.Struct):
    """Samples of all calls since they were last taken; ms unless the name says otherwise.

    ``turns`` and ``interruptions`` keep what belongs together: (call, when it was spoken in s,
    ms). A gap of 0 is a piece of audio that came in time.
    """

    response_ms: list[float] = []
    gap_ms: list[float] = []  # one a piece of audio that follows another
    worst_gap_ms: list[float] = []  # one a reply: the longest hole in it
    clear_ms: list[float] = []  # caller's first voiced sample to clearAudio
    silence_ms: list[float] = []  # the same to the agent's last audible sample
    lateness_ms: list[float] = []  # the generator's own: one each 0.2 ms
    turns: list[tuple[int, float, float]] = []
    interruptions: list[tuple[int, float, float]] = []
    cleared: list[tuple[int, float]] = []  # (call, when clearAudio came)


class Counts(msgspec.Struct):
    """What is only counted, since the load began."""

    frames: int = 0
    refused_frames: int = 0  # the server took so little that the socket was full
    pieces: int = 0
    turns: int = 0
    paused_turns: int = 0  # with a pause inside, in which nobody should answer
    unanswered: int = 0
    interruptions: int = 0
    uninterrupted: int = 0  # the agent went on over the caller
    cut_offs: int = 0  # it answered while the caller was still speaking
    stale_pieces: int = 0  # audio of the old reply after its clear
    lost_calls: int = 0  # closed by the server, or never begun


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One measured window."""

    calls: int
    seconds: float
    heard: Heard
    counts: Counts  # within the window
