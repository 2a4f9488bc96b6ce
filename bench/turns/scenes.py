"""The conditions: how each kind of track is laid out, and how much of it there is.

Every condition draws from its own generator, seeded by (seed, split, condition), so adding one
changes no other; conditions that differ only in the line share their scene.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.random import Generator

from bench.turns.calls import LAPSE_SAMPLES, NO_LAPSE_SAMPLES, label_call, merge
from bench.turns.labels import Samples, Span, levels_dbfs, ms, speech_spans
from bench.turns.sounds import EVENT_KINDS, at_level, event_sound
from bench.turns.sources import SPLITS, Library
from bench.turns.tracks import PAUSE_SAMPLES, Line, Timeline, Track
from bench.turns.words import BACKCHANNELS, digit_texts, turn_texts
from rtcore.turn.completeness import Expectation

__all__ = ["CONDITIONS", "build"]

MARGIN_SAMPLES = ms(50)  # kept around labelled speech, so that no onset is clipped
WATCHED_MS = 2500  # silence after a turn in which a commit may come
OVERLAP_SAMPLES = ms(1500)  # the agent talks on that long into a barge-in, whatever is detected
MONOLOGUE_SAMPLES = ms(6000)
VOCAL_BIT_SAMPLES = (ms(150), ms(600))  # of speech: "mhm", "yeah", "okay"
SPOKEN_DBFS = (-30.0, -18.0)  # active level of who speaks up; prompts are recorded at some -17
QUICK = 5  # --quick builds a fifth


@dataclass(frozen=True)
class Condition:
    scene: Callable[[Timeline, Library, int], None]
    line: Line
    amount: int  # turns, prompts, events or backchannels, as the scene counts
    seeded_as: str = ""  # another condition whose scene this one repeats on another line
    tracks: int = (
        1  # each a call of its own: what a detector has learnt of a line it starts without
    )


class Deck:
    """Draws clips without repeating one before all were drawn."""

    def __init__(self, count: int, rng: Generator) -> None:
        self._count, self._rng = count, rng
        self._left: list[int] = []

    def draw(self) -> int:
        if not self._left:
            self._left = [int(i) for i in self._rng.permutation(self._count)]
        return self._left.pop()


# --- what a turn is made of -------------------------------------------------------------


def utterance(pcm: Samples) -> tuple[Samples, list[Span]]:
    """A recording trimmed to its speech, and that speech, positions in the trimmed one."""
    spans = speech_spans(pcm)
    if not spans:
        return pcm[:0], []
    start = max(0, spans[0].start - MARGIN_SAMPLES)
    cut = pcm[start : spans[-1].end + MARGIN_SAMPLES].copy()
    fade = np.linspace(0.0, 1.0, min(ms(5), len(cut)))
    cut[: len(fade)] *= fade
    cut[-len(fade) :] *= fade[::-1]
    return cut, [span.shifted(-start) for span in spans]


def with_pauses(pcm: Samples, rng: Generator, pauses: int) -> Samples:
    """``pcm`` with silences of 0.3 to 1.2 s put where it is quietest, 0.5 s from its ends."""
    for _ in range(pauses):
        levels = levels_dbfs(pcm)
        edge = ms(500) // 80
        if len(levels) <= 2 * edge + 1:
            return pcm
        middle = levels[edge:-edge] + rng.uniform(0, 6, len(levels) - 2 * edge)
        at = (edge + int(np.argmin(middle))) * 80
        pause = np.zeros(ms(rng.uniform(300, 1200)))
        # the quiet spot is now behind speech again: the next pause goes elsewhere
        left, right = pcm[:at].copy(), pcm[at:].copy()
        left[-40:] *= np.linspace(1, 0, 40)
        right[:40] *= np.linspace(0, 1, 40)
        noise = rng.standard_normal(len(pause)) * 10.0  # -70 dBFS: not the quietest any more
        pcm = np.concatenate((left, pause + noise, right))
    return pcm


def stretches(spans: list[Span]) -> list[Span]:
    """Speech with what is too short to be a pause closed: what one transcript covers."""
    return merge(spans, PAUSE_SAMPLES)


def say_turn(line: Timeline, pcm: Samples, texts: list[str] | None = None) -> Span:
    """Lay a turn at the cursor, labelled; the agent answers when it has been watched."""
    at = line.cursor
    spans = stretches([span.shifted(at) for span in speech_spans(pcm)])
    line.caller(pcm, at)
    if texts is None or len(texts) != len(spans):
        texts = turn_texts(len(spans), line.rng, line.split)
    line.says(spans, texts)
    line.cursor = spans[-1].end
    line.wait(WATCHED_MS)
    line.turn(spans, line.cursor)
    return Span(spans[0].start, spans[-1].end)


def answer(line: Timeline, prompt: Samples, longest_ms: float) -> None:
    line.agent(prompt[: ms(longest_ms)], line.cursor)
    line.wait(700, 1500)


def monologue(library: Library, prompts: Deck) -> Samples:
    """One prompt, or several short ones, so long that a barge-in fits into it."""
    parts = [library.prompts[prompts.draw()].pcm]
    while sum(len(part) for part in parts) < MONOLOGUE_SAMPLES:
        parts += [np.zeros(ms(150)), library.prompts[prompts.draw()].pcm]
    return np.concatenate(parts)


# --- scenes -----------------------------------------------------------------------------


def turns_scene(line: Timeline, library: Library, amount: int) -> None:
    """Utterances, half of them with one or two pauses inside, each briefly answered."""
    voices, prompts = Deck(len(library.utterances), line.rng), Deck(len(library.prompts), line.rng)
    line.wait(1500)
    for _ in range(amount):
        pcm, _ = utterance(library.utterances[voices.draw()].pcm)
        pcm = at_level(pcm, line.rng.uniform(*SPOKEN_DBFS))
        pauses = int(line.rng.choice([0, 0, 1, 2]))
        say_turn(line, with_pauses(pcm, line.rng, pauses))
        answer(line, library.prompts[prompts.draw()].pcm, 1800)


def digits_scene(line: Timeline, library: Library, amount: int) -> None:
    """Ten digits in groups of three, three and four, 0.3 to 1.2 s between the groups."""
    speakers = sorted(library.digits)
    line.expected = Expectation.digits(10)
    prompts = Deck(len(library.prompts), line.rng)
    line.wait(1500)
    for turn in range(amount if speakers else 0):
        takes = library.digits[speakers[turn % len(speakers)]]
        parts: list[Samples] = []
        groups: list[list[int]] = []
        for size in (3, 3, 4):
            picked = [takes[int(i)] for i in line.rng.integers(len(takes), size=size)]
            groups.append([digit for digit, _ in picked])
            for _, clip in picked:
                spoken, _ = utterance(clip.pcm)
                parts += [at_level(spoken, -22.0), np.zeros(ms(line.rng.uniform(0, 60)))]
            parts.append(np.zeros(ms(line.rng.uniform(300, 1200))))
        say_turn(line, np.concatenate(parts[:-1]), digit_texts(groups))
        answer(line, library.prompts[prompts.draw()].pcm, 1800)


def echo_scene(
    line: Timeline, library: Library, amount: int, caller_dbfs: tuple[float, float] = SPOKEN_DBFS
) -> None:
    """The agent speaks; two of five prompts are barged into, 1 to 3 s after their start."""
    voices, prompts = Deck(len(library.utterances), line.rng), Deck(len(library.prompts), line.rng)
    line.wait(1000)
    for turn in range(amount):
        prompt = monologue(library, prompts)[: ms(9000)]
        if turn % 5 in (1, 3):
            talk_over(line, library, prompt, voices, caller_dbfs, (1000, 3000))
            continue
        line.agent(prompt, line.cursor)
        line.wait(800, 1500)


def greeting_scene(line: Timeline, library: Library, _: int) -> None:
    """The caller talks into the first words of the call: of the line nothing is known yet."""
    voices, prompts = Deck(len(library.utterances), line.rng), Deck(len(library.prompts), line.rng)
    line.wait(300, 800)
    talk_over(line, library, monologue(library, prompts), voices, SPOKEN_DBFS, (500, 2500))


def talk_over(
    line: Timeline,
    library: Library,
    prompt: Samples,
    voices: Deck,
    caller_dbfs: tuple[float, float],
    after_ms: tuple[float, float],
) -> None:
    """A prompt at the cursor, barged into some time after its start."""
    at = line.cursor
    pcm, _ = utterance(library.utterances[voices.draw()].pcm)
    pcm = at_level(pcm, line.rng.uniform(*caller_dbfs))
    line.cursor += ms(line.rng.uniform(*after_ms))
    said = say_turn(line, pcm)
    line.barge_in(said)
    line.agent(prompt[: said.start + OVERLAP_SAMPLES - at], at)
    line.wait(300, 800)


def over_prompts(
    line: Timeline, library: Library, amount: int, place: Callable[[int, int], None]
) -> None:
    """Let ``place(index, at)`` put something over the agent's speech, about every 3 s."""
    prompts = Deck(len(library.prompts), line.rng)
    line.wait(1000)
    index = 0
    while index < amount:
        spoken = line.agent(monologue(library, prompts), line.cursor)
        at = spoken.start + ms(line.rng.uniform(800, 1500))
        while index < amount and at + ms(1500) < spoken.end:
            place(index, at)
            index += 1
            at += ms(line.rng.uniform(2500, 3500))
        line.cursor = spoken.end
        line.wait(500, 1000)


def events_scene(line: Timeline, library: Library, amount: int) -> None:
    """Noises that are not words, each kind in turn, over the agent's speech."""

    def place(index: int, at: int) -> None:
        kind = EVENT_KINDS[index % len(EVENT_KINDS)]
        line.event(event_sound(kind, line.rng, library), at, kind)

    over_prompts(line, library, amount, place)


def backchannels_scene(line: Timeline, library: Library, amount: int) -> None:
    """Short vocal bits over the agent's speech: from the real call, then single digits.

    The digits stand in for "yeah" and "okay", which no recording holds apart: only their
    length and voice count, their scripted word is a backchannel's.
    """
    bits = [bit for call in library.calls for bit in vocal_bits(call.caller)]
    spoken = [utterance(clip.pcm)[0] for takes in library.digits.values() for _, clip in takes]
    longest = VOCAL_BIT_SAMPLES[1] + 2 * MARGIN_SAMPLES
    digits = [bit for bit in spoken if len(bit) <= longest]
    bits += digits[: max(0, amount - len(bits))]
    if not bits:
        return

    def place(index: int, at: int) -> None:
        pcm = at_level(bits[index % len(bits)], line.rng.uniform(-32, -22))
        line.caller(pcm, at)
        span = Span(at + MARGIN_SAMPLES, at + len(pcm) - MARGIN_SAMPLES)
        line.says([span], [BACKCHANNELS[index % len(BACKCHANNELS)]])
        line.backchannel(span)

    over_prompts(line, library, amount, place)


def vocal_bits(pcm: Samples) -> list[Samples]:
    """Stretches of speech of the length of a backchannel, on their own in a recording."""
    shortest, longest = VOCAL_BIT_SAMPLES
    return [
        pcm[span.start - MARGIN_SAMPLES : span.end + MARGIN_SAMPLES]
        for span in speech_spans(pcm)
        if shortest <= span.end - span.start <= longest and span.start > MARGIN_SAMPLES
    ]


def call_scene(
    line: Timeline, library: Library, _: int, lapse_samples: int = LAPSE_SAMPLES
) -> None:
    """The real call's turns with their own pauses, breath and line noise.

    Real people answer within 200 ms, before any detector has decided: the answer is moved to
    2.5 s after the turn's end, and the time until then filled from the caller's own silence.
    """
    for call in library.calls:
        heard = label_call(call, lapse_samples)
        line.wait(500)
        for turn, following in zip(heard.turns, [*heard.turns[1:], None], strict=True):
            spans = stretches(turn)
            first = spans[0].start - MARGIN_SAMPLES
            silence_end = following[0].start if following else len(call.caller)
            tail_end = min(silence_end - MARGIN_SAMPLES, spans[-1].end + ms(WATCHED_MS))
            at = line.cursor - first
            line.caller(call.caller[first:tail_end], line.cursor)
            moved = [span.shifted(at) for span in spans]
            line.says(moved, turn_texts(len(moved), line.rng, library.split))
            answered = moved[-1].end + ms(WATCHED_MS)
            room = call.caller[spans[-1].end + ms(150) : tail_end]
            if line.cursor < answered and len(room) > ms(100):
                line.caller(np.resize(room, answered - line.cursor), line.cursor)
            line.cursor = answered
            line.turn(moved, answered)
            replies = [span for span in heard.other if span.start > spans[-1].end - ms(500)]
            if replies:
                reply = replies[0]
                line.agent(
                    call.other[reply.start : min(reply.end, reply.start + ms(1800))], answered
                )
            line.wait(700, 1500)


def live_scene(line: Timeline, library: Library, _: int) -> None:
    """The real call untouched: overlaps, answers and backchannels where they happened."""
    for call in library.calls:
        heard = label_call(call)
        start = line.cursor
        line.caller(call.caller, start)
        for span in heard.other:
            line.agent(call.other[span.start : span.end], start + span.start)
        labelled = [
            (span, turn_texts(1, line.rng, library.split)[0])
            for turn in heard.turns
            for span in stretches(turn)
        ]
        labelled += [(span, BACKCHANNELS[0]) for span in heard.backchannels]
        labelled.sort()
        line.says([span.shifted(start) for span, _ in labelled], [text for _, text in labelled])
        for span in heard.backchannels:
            line.backchannel(span.shifted(start))
        line.cursor = start + len(call.caller)


ECHO = Line(echo_loss_db=(20.0, 30.0))
LOW_LOSS = Line(echo_loss_db=(15.0, 25.0))
HARD = Line(echo_loss_db=(10.0, 20.0), echo_delay_ms=(200.0, 500.0), echo_clipped=True)
CONDITIONS: dict[str, Condition] = {
    "quiet": Condition(turns_scene, Line(), 24),
    "noise20": Condition(turns_scene, Line(noise_dbfs=-44.0), 12),
    "noise10": Condition(turns_scene, Line(noise_dbfs=-34.0), 12),
    "digits": Condition(digits_scene, Line(), 14),
    "call": Condition(call_scene, Line(floor_dbfs=-75.0), 1),
    "call-long": Condition(
        partial(call_scene, lapse_samples=NO_LAPSE_SAMPLES), Line(floor_dbfs=-75.0), 1, "call"
    ),
    "call-live": Condition(live_scene, Line(floor_dbfs=-75.0), 1),
    "echo": Condition(echo_scene, ECHO, 60),
    "echo-300": Condition(echo_scene, replace(ECHO, reference_ahead_ms=300.0), 30, "echo"),
    "echo-600": Condition(echo_scene, replace(ECHO, reference_ahead_ms=600.0), 30, "echo"),
    "hardecho": Condition(echo_scene, HARD, 60),
    "softly": Condition(partial(echo_scene, caller_dbfs=(-38.0, -28.0)), LOW_LOSS, 40),
    "greeting": Condition(greeting_scene, Line(), 1, tracks=24),
    "greeting-echo": Condition(greeting_scene, ECHO, 1, "greeting", tracks=24),
    "events": Condition(events_scene, Line(), 60),
    "backchannels": Condition(backchannels_scene, Line(), 30),
}


def build(library: Library, seed: int, *, quick: bool = False) -> Iterator[Track]:
    """The tracks of each condition the recordings allow, the same for the same seed."""
    for name, condition in CONDITIONS.items():
        key = zlib.crc32((condition.seeded_as or name).encode())
        few = QUICK if quick else 1
        amount = max(4, condition.amount // few) if quick else condition.amount
        for number in range(max(1, condition.tracks // few)):
            calls = [number] if condition.tracks > 1 else []
            rng = np.random.default_rng([seed, SPLITS.index(library.split), key, *calls])
            line = Timeline(library.split, rng)
            condition.scene(line, library, amount)
            if not line.cursor or (name == "digits" and not library.digits):
                continue
            noise = None
            if condition.line.noise_dbfs is not None and library.noises:
                noise = np.concatenate([at_level(clip.pcm, -30.0) for clip in library.noises])
            yield line.finish(name, condition.line, noise)
