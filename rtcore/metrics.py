"""What a call took: numbers that add up.

A turn's parts are on one monotonic clock, anchored at the caller's last voiced sample, and sum
to ``response_ms``. Where things overlapped (the model thought while the endpoint was awaited)
each instant belongs to one owner: the one that everything else was waiting for.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = ["BargeIn", "CallStats", "TurnClock", "TurnTiming"]


class TurnTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Speech end to first audible frame written, in ms, by owner."""

    endpointing_ms: float  # deciding that the caller is done
    stt_final_ms: float  # the words were not there yet
    llm_first_token_ms: float
    first_sentence_ms: float
    tts_first_audio_ms: float
    playout_ms: float  # from sound in hand to the first frame written
    is_speculative: bool = False  # the answer was begun before the turn was certain

    @property
    def response_ms(self) -> float:
        return (
            self.endpointing_ms
            + self.stt_final_ms
            + self.llm_first_token_ms
            + self.first_sentence_ms
            + self.tts_first_audio_ms
            + self.playout_ms
        )


@dataclass(slots=True)
class TurnClock:
    """The milestones of one reply, each the time on Trio's clock when it was reached.

    ``decided_s`` is the endpoint decision that let the thought begin (eager or commit),
    ``asked_s`` when the model was asked (words and decision both there), ``committed_s`` when
    the sound might be heard.
    """

    speech_end_s: float
    decided_s: float | None = None
    asked_s: float | None = None
    committed_s: float | None = None
    first_token_s: float | None = None
    first_sentence_s: float | None = None
    first_audio_s: float | None = None
    first_frame_s: float | None = None

    def timing(self) -> TurnTiming | None:
        """The parts, or None while the first frame is not written."""
        if self.first_frame_s is None:
            return None
        end = self.first_frame_s
        at = self.speech_end_s

        def until(milestone: float | None) -> float:
            nonlocal at
            reached = min(max(at, milestone if milestone is not None else at), end)
            took, at = reached - at, reached
            return took * 1000

        endpointing = until(self.decided_s)
        stt = until(self.asked_s)
        token = until(self.first_token_s)
        sentence = until(self.first_sentence_s)
        audio = until(self.first_audio_s)
        endpointing += until(self.committed_s)  # the answer was ready, the turn not yet certain
        playout = until(end)
        return TurnTiming(
            endpointing_ms=endpointing,
            stt_final_ms=stt,
            llm_first_token_ms=token,
            first_sentence_ms=sentence,
            tts_first_audio_ms=audio,
            playout_ms=playout,
            is_speculative=(
                self.asked_s is not None
                and self.committed_s is not None
                and self.asked_s < self.committed_s
            ),
        )


class BargeIn(msgspec.Struct, frozen=True, kw_only=True):
    """One interruption, from the first voiced sample, in ms."""

    pause_ms: float  # playout held
    clear_ms: float  # clearAudio written
    heard_ms: float  # of the reply, by then


class CallStats(msgspec.Struct, kw_only=True):
    """The counts of one call; plain integers that the call adds to."""

    turns: int = 0
    wordless_turns: int = 0  # a voice, and not one word of it understood
    replies: int = 0
    barge_ins: int = 0
    dismissed: int = 0  # suspected barge-ins that were none
    speculations: int = 0
    discarded: int = 0  # speculative replies that came to nothing
    dropped_heard_chunks: int = 0  # recogniser too far behind
    transcripts: int = 0
    tool_calls: int = 0
    lookups: int = 0  # searches in what the agent knows
    skipped_lookups: int = 0  # turns answered without, because it took too long
    provider_errors: int = 0
    floor_lost: int = 0  # silences the watchdog had to break
    dropped_messages: int = 0
    lost_frames: int = 0
    late_frames: int = 0
    inserted_frames: int = 0
    underruns: int = 0
    heard_frames: int = 0
    ignored_messages: int = 0
