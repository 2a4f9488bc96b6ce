"""Play one track to one detector, as a call would, and write down what it decided when."""

from __future__ import annotations

from dataclasses import dataclass

from bench.turns.labels import ms
from bench.turns.peers import Detector
from bench.turns.tracks import Track
from rtcore.audio import FRAME_SAMPLES
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    Event,
    SpeechStarted,
    TurnEnded,
)

__all__ = ["Decision", "drive"]

NEXT_REPLY_SAMPLES = ms(500)  # after a barge-in the agent is quiet that long, then speaks again


@dataclass(frozen=True)
class Decision:
    """An event and when it was emitted: the samples the detector had heard by then."""

    emitted: int
    event: Event


def drive(detector: Detector, track: Track, *, words: bool) -> list[Decision]:
    """All decisions of ``detector`` on ``track``; with ``words``, the scripted transcripts too.

    The agent's state is the script's, with what a call adds: a committed turn makes it think,
    a caller who speaks then makes it listen, a confirmed barge-in makes it listen for 500 ms.
    """
    decisions: list[Decision] = []
    caller, far = track.caller.tobytes(), track.far.tobytes()
    script = list(track.script) if words else []
    spans = list(track.speaking)
    state, quiet_until = AgentState.LISTENING, 0
    if words:  # an agent that reads no words expects none either
        detector.expect(track.expected)
    for frame in range(track.frames):
        start = frame * FRAME_SAMPLES
        events: list[Event] = []
        while spans and spans[0].end <= start:
            spans.pop(0)
        playing = bool(spans) and spans[0].start <= start
        wanted = state
        if playing and start >= quiet_until:
            wanted = AgentState.SPEAKING
        elif state is AgentState.SPEAKING:
            wanted = AgentState.LISTENING
        if wanted is not state:
            if state is AgentState.SPEAKING and words:
                events += detector.expect(track.expected)
            state = wanted
            events += detector.agent(state)
        while script and script[0][0] <= start:
            events += detector.transcript(script.pop(0)[1])
        octets = slice(2 * start, 2 * (start + FRAME_SAMPLES))
        events += detector.push(caller[octets], far[octets] if playing else None)
        for event in events:
            decisions.append(Decision(start + FRAME_SAMPLES, event))
        wanted = state
        for event in events:
            if isinstance(event, BargeInConfirmed) and state is AgentState.SPEAKING:
                quiet_until = start + NEXT_REPLY_SAMPLES
                wanted = AgentState.LISTENING
            elif isinstance(event, TurnEnded) and wanted is AgentState.LISTENING:
                wanted = AgentState.THINKING
            elif isinstance(event, SpeechStarted) and wanted is AgentState.THINKING:
                wanted = AgentState.LISTENING
        if wanted is not state:
            state = wanted
            decisions += [Decision(start + FRAME_SAMPLES, e) for e in detector.agent(state)]
    return decisions
