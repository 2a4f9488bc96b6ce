"""Scripted transcripts: what an oracle recogniser would have said of a track, and when.

The recordings carry no texts, so all but the digits (whose file names say what is spoken) are
stand-ins that say one thing only: this stretch ends in mid-clause, that one ends a sentence.
Words appear 250 ms after they were spoken, as interim results; a stretch is final 250 ms after
its last sample, which is what fast streaming recognisers reach.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from bench.turns.labels import Span, ms
from bench.turns.sources import Split
from rtcore.turn.events import Transcript, Word

__all__ = ["BACKCHANNELS", "WORDS_LATE_SAMPLES", "Script", "digit_texts", "script_of", "turn_texts"]

WORDS_LATE_SAMPLES = ms(250)
WORD_SAMPLES = ms(320)  # about three words a second

# other sentences for either side of the split: tables of words can be tuned too
UNFINISHED: dict[Split, tuple[str, ...]] = {
    "dev": (
        "i would like to", "and then i need a", "my appointment is on the", "so it is about my",
        "what i wanted to ask is if", "well the reason is because", "it should be for the",
        "and the other thing is that my", "i was going to say that the", "could you put it on my",
    ),
    "heldout": (
        "we were hoping to", "so the car makes a", "i think it started with the", "and if you",
        "it happens whenever i", "she told me that we", "there is also an", "let me look for my",
        "the last time was in", "my husband and",
    ),
}  # fmt: skip
FINISHED: dict[Split, tuple[str, ...]] = {
    "dev": (
        "Can you help me with that?", "Yes, that is right.", "I need a new battery for my car.",
        "That is all, thank you.", "How much does it cost?", "Please book me in for Tuesday.",
        "No, I do not have the number.", "What time do you close today?",
        "I would like two tickets.",
    ),
    "heldout": (
        "When can I pick it up?", "The engine is making a strange noise.", "No, thank you.",
        "Could you check that for me?", "Tomorrow morning would be perfect.", "Yes, please.",
        "I already paid for it last week.", "Is there anything cheaper?", "My name is Anna Miller.",
    ),
}  # fmt: skip
BACKCHANNELS = ("mhm", "uh-huh", "yeah", "okay", "right", "mm-hmm")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Script = tuple[tuple[int, Transcript], ...]  # (sample at which it arrives, what arrives)


def turn_texts(stretches: int, rng: Generator, split: Split) -> list[str]:
    """A text for each stretch of a turn: unfinished clauses, then a finished sentence."""
    clauses, sentences = UNFINISHED[split], FINISHED[split]
    order = [clauses[int(i)] for i in rng.integers(len(clauses), size=stretches - 1)]
    return [*order, sentences[int(rng.integers(len(sentences)))]]


def digit_texts(groups: Sequence[Sequence[int]]) -> list[str]:
    """The spoken digits of each group: the one true transcript there is."""
    return [" ".join(DIGITS[digit] for digit in group) for group in groups]


def script_of(spans: Sequence[Span], texts: Sequence[str], first_segment: int) -> Script:
    """Interim and final transcripts of consecutive stretches, each its own segment."""
    arrivals: list[tuple[int, Transcript]] = []
    for segment, (span, text) in enumerate(zip(spans, texts, strict=True), first_segment):
        tokens = text.split()
        step = max(1, min(WORD_SAMPLES, (span.end - span.start) // len(tokens)))
        words = tuple(
            Word(text=token, start_sample=span.start + i * step, end_sample=end)
            for i, token in enumerate(tokens)
            for end in [span.end if i == len(tokens) - 1 else span.start + (i + 1) * step]
        )
        for known in range(1, len(words)):
            heard = " ".join(tokens[:known]).rstrip(".,?").lower()
            interim = Transcript(segment=segment, text=heard, is_final=False, words=words[:known])
            arrivals.append((words[known - 1].end_sample + WORDS_LATE_SAMPLES, interim))
        final = Transcript(segment=segment, text=text, is_final=True, words=words)
        arrivals.append((span.end + WORDS_LATE_SAMPLES, final))
    return tuple(sorted(arrivals, key=lambda arrival: arrival[0]))
