"""One reply on its way out: thought → voice → line, inside one scope.

Cancelling :attr:`Reply.scope` is the whole of an interruption on this side: the model's and
the voice's sessions close, nothing more is appended. What the line still holds is cut by
:meth:`Mouth.cut`, in the same tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import trio

from rtcore._far_end import FarEnd
from rtcore.agent.agent import Agent
from rtcore.agent.speech_text import speakable
from rtcore.agent.thinking import Thought
from rtcore.audio import FRAME_MS, RATE_HZ, frame_power
from rtcore.channels import put
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ledger import Ledger, Span, TimedWord
from rtcore.media.line import Line
from rtcore.metrics import TurnClock
from rtcore.ports import CallContext, Segment, SpeechAudio, WordTime
from rtcore.usage import Tally, Usage

__all__ = ["Mouth", "Reply", "speak"]

YIELD_MAX_S = 0.24  # longer than it takes a voice to void an answer (`TurnConfig.thinking_ms`)
SEGMENTS_MAX = 4  # sentences a model may be ahead of the voice
SOUND_MAX = 32  # pieces a voice may be ahead of the line, beside what the line holds
TOGETHER_MAX_BYTES = RATE_HZ * 2  # 1 s, which the line may hold beyond its limit
AUDIBLE_POWER = 100.0**2  # mean square of -50 dBFS: below it, a lead-in is only delay
TRIM_BYTES = 160  # 10 ms: the grain in which a lead-in is trimmed
TRIM_MAX_BYTES = RATE_HZ  # 500 ms


@dataclass(slots=True, eq=False, weakref_slot=True)
class Reply:
    """What is being said, or may be. ``thought`` is None for a fixed line."""

    number: int
    text: str = ""  # of a fixed line
    thought: Thought | None = None
    answers: str = ""  # the caller's words, as committed or as guessed at the eager end
    clock: TurnClock | None = None
    is_interruptible: bool = True
    ends_call: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    committed: trio.Event = field(default_factory=trio.Event)
    spoken_segments: int = 0  # of those, all audio has been appended
    is_audible: bool = False  # its first frame has been written
    usage: Usage = field(default_factory=Usage)  # the call's, once it is known what became of it

    @property
    def wanted_segments(self) -> int:
        return len(self.thought.segments) if self.thought is not None else 1

    def segment(self, index: int) -> tuple[int, str]:
        """The step and the text of one segment."""
        return self.thought.segments[index] if self.thought is not None else (0, self.text)


async def speak(
    reply: Reply, mouth: Mouth, agent: Agent, context: CallContext, config: CallConfig
) -> None:
    """Think and say ``reply`` until it has been heard; sound is held until it is committed.

    Raises:
        ProviderError: the mind or the voice failed (in an exception group).

    Cancelled through ``reply.scope``: returns, with every provider session closed.
    """
    reply.scope.deadline = trio.current_time() + config.reply_limit_s
    with reply.scope:
        async with trio.open_nursery() as nursery:
            sound_tx, sound_rx = trio.open_memory_channel[SpeechAudio](SOUND_MAX)
            nursery.start_soon(_play, reply, mouth, agent, context, config, sound_rx)
            if reply.thought is not None:
                segments_tx, segments_rx = trio.open_memory_channel[Segment](SEGMENTS_MAX)
                said = reply.thought.said_chars
                nursery.start_soon(_voice, agent, context, segments_rx, sound_tx, said)
                # not in a task of its own: the model is asked a turn of the scheduler sooner
                await reply.thought.run(segments_tx)
            else:
                await _fixed_line(agent, context, reply.text, sound_tx)


async def _play(
    reply: Reply,
    mouth: Mouth,
    agent: Agent,
    context: CallContext,
    config: CallConfig,
    sound: trio.MemoryReceiveChannel[SpeechAudio],
) -> None:
    """Play what comes of ``sound`` until all of it has been heard."""
    # a fixed line counts for itself: what comes from the cache costs nothing
    used = context.usage.alone("tts", agent.synthesizer) if reply.thought else Tally()
    with sound:
        while (piece := await _next(sound, reply, agent, config)) is not None:
            pieces = _with_ready(piece, sound)
            _count(used, pieces)
            await mouth.play(reply, pieces)
    await mouth.heard()


async def _next(
    sound: trio.MemoryReceiveChannel[SpeechAudio], reply: Reply, agent: Agent, config: CallConfig
) -> SpeechAudio | None:
    """The next piece of sound, None at the end; a voice that owes one must not be silent."""
    while True:
        try:
            return sound.receive_nowait()  # the usual case: the voice is ahead
        except trio.WouldBlock:
            owed = reply.spoken_segments < reply.wanted_segments
        except trio.EndOfChannel:
            return None
        with trio.move_on_after(config.first_audio_limit_s):
            try:
                return await sound.receive()
            except trio.EndOfChannel:
                return None
        if owed:
            message = f"no sound for {config.first_audio_limit_s:g} s"
            raise ProviderError(agent.synthesizer.name, message, retryable=True)


def _with_ready(
    piece: SpeechAudio, sound: trio.MemoryReceiveChannel[SpeechAudio]
) -> list[SpeechAudio]:
    """``piece`` and what is there behind it, up to a bound: one turn at the line for all."""
    pieces, octets = [piece], len(piece.pcm)
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while octets < TOGETHER_MAX_BYTES:
            pieces.append(sound.receive_nowait())
            octets += len(pieces[-1].pcm)
    return pieces


def _joined(pieces: Iterable[SpeechAudio]) -> Iterator[SpeechAudio]:
    """``pieces``, those of a segment as one."""
    for segment, group in groupby(pieces, attrgetter("segment")):
        some = list(group)
        if len(some) == 1:
            yield some[0]
            continue
        yield SpeechAudio(
            segment=segment,
            pcm=b"".join([piece.pcm[: len(piece.pcm) & ~1] for piece in some]),
            is_last=any(piece.is_last for piece in some),
            words=tuple(word for piece in some for word in piece.words),
        )


async def _voice(
    agent: Agent,
    context: CallContext,
    segments: trio.MemoryReceiveChannel[Segment],
    sound: trio.MemorySendChannel[SpeechAudio],
    said_chars: Sequence[int],
) -> None:
    """Have ``segments`` spoken; a voice that ends before them has failed, whatever it says.

    ``said_chars``: how long each segment is that was sent so far.
    """
    used = context.usage.alone("tts", agent.synthesizer)
    used.requests += 1
    with sound:  # not `async with`: its checkpoint could hide an error
        try:
            # a clone: closing it, the voice does not break what the thought is sending
            await agent.synthesizer.synthesize(context, segments.clone(), sound)
            left = segments.statistics()
            if left.current_buffer_used or left.open_send_channels:
                message = "ended before it had said everything"
                raise ProviderError(agent.synthesizer.name, message, retryable=True)
        except ProviderError:
            used.failures += 1
            raise
        finally:
            unasked = segments.statistics().current_buffer_used
            used.characters += sum(said_chars[: len(said_chars) - unasked])


def _count(used: Tally, pieces: Sequence[SpeechAudio]) -> None:
    """Count what came of the one session that a reply has with its voice."""
    for piece in pieces:
        used.speech_samples += len(piece.pcm) // 2
    used.answered = int(used.speech_samples > 0)


async def _fixed_line(
    agent: Agent, context: CallContext, text: str, sound: trio.MemorySendChannel[SpeechAudio]
) -> None:
    """Say ``text`` from the cache; the first time, from the voice and into the cache."""
    with sound:
        voice = agent.synthesizer.name
        cached = agent.lines.get(voice, text)
        if cached is not None:
            for piece in cached:
                await put(sound, piece)
            return
        pieces: list[SpeechAudio] = []
        segments_tx, segments_rx = trio.open_memory_channel[Segment](1)
        made_tx, made_rx = trio.open_memory_channel[SpeechAudio](0)
        spoken = speakable(text, context.language) or text
        used = context.usage.alone("tts", agent.synthesizer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_voice, agent, context, segments_rx, made_tx, (len(spoken),))
            with segments_tx, made_rx:
                await segments_tx.send(Segment(index=0, text=spoken))
                segments_tx.close()
                async for piece in made_rx:
                    _count(used, [piece])
                    pieces.append(piece)
                    await put(sound, piece)
        if pieces and pieces[-1].is_last:
            agent.lines.put(voice, text, tuple(pieces))


class Mouth(FarEnd):
    """The speaking side of a call: the line and the ledger, kept in step.

    What the caller hears of it, frame by frame, is :mod:`rtcore._far_end`.
    """

    _ledger: Ledger

    def __init__(
        self,
        line: Line,
        ledger: Ledger,
        config: CallConfig,
        on_audible: Callable[[Reply], None],
        is_caller_audible: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            on_audible: called in the tick that writes the first frame of a reply.
            is_caller_audible: an answer does not begin while it says so, for a moment.
        """
        self._is_caller_audible = is_caller_audible
        self._line = line
        self._ledger = ledger
        self._playout = line.playout
        self._rewind_max = config.rewind_max_ms * RATE_HZ // 1000
        self._grace_s = config.checkpoint_grace_s
        self._on_audible = on_audible
        self._span: tuple[int, int, Span] | None = None  # (reply, segment, its span)
        self._trimmed_bytes = 0
        self._changed = trio.Event()

    @property
    def is_silent(self) -> bool:
        """Whether nothing of ours is on the line, being heard or still to be heard."""
        return self._ledger.is_drained

    def _on_drained(self) -> None:
        self._changed.set()

    async def play(self, reply: Reply, pieces: Sequence[SpeechAudio]) -> None:
        """Append ``pieces`` of ``reply``, in order, once it is committed and the line has room.

        Cancelled: none of them is appended.
        """
        clock = reply.clock
        if clock is not None and clock.first_audio_s is None:
            clock.first_audio_s = trio.current_time()
        if not reply.committed.is_set():
            await reply.committed.wait()
        if not reply.is_audible:
            self._line.catch_up()
            if clock is not None:
                await self._yield_to_caller()
        await self._line.room()
        # woken and cancelled in one tick, the line is cleared already: nothing may follow that
        await trio.lowlevel.checkpoint_if_cancelled()
        was_audible = reply.is_audible
        if not was_audible:
            self._line.playout.start_anew()
        left = iter(pieces)
        while not reply.is_audible and (piece := next(left, None)) is not None:
            self._append(reply, piece)  # one by one: it is led by silence
        for piece in _joined(left):
            self._append(reply, piece)
        now_s = trio.current_time()
        self._line.write_due(now_s)
        self._ledger.note_sent(self._line.playout.sent)
        if reply.is_audible and not was_audible:
            if clock is not None:
                clock.first_frame_s = now_s
            self._on_audible(reply)

    def _append(self, reply: Reply, piece: SpeechAudio) -> None:
        """Put one piece behind what the line has to say, and into the account of it."""
        span = self._span_for(reply, piece)
        pcm = piece.pcm[: len(piece.pcm) & ~1]  # half a sample would turn all that follows to noise
        if not reply.is_audible:
            pcm = self._without_lead_in(pcm)
        self._note_words(span, piece.words)
        if pcm:
            self._ledger.append(span, len(pcm) // 2)
            self._line.append(pcm)
            reply.is_audible = True
        if piece.is_last:
            name = f"r{reply.number}.{piece.segment}"
            self._ledger.append(span, self._line.checkpoint(name))
            self._ledger.checkpoint(name)
            span.is_complete = True
            reply.spoken_segments += 1
            self._changed.set()

    async def _yield_to_caller(self) -> None:
        """Wait for what the turn machine makes of a caller who is heard to go on.

        It voids the answer, or the voice was a noise and is over; neither takes long.
        """
        until_s = trio.current_time() + YIELD_MAX_S
        # asked, not told: an event for each frame would cost all calls what one needs for once
        while self._is_caller_audible() and trio.current_time() < until_s:  # noqa: ASYNC110
            await trio.sleep(FRAME_MS / 1000)

    async def heard(self) -> None:
        """Wait until all that was appended has been heard, by our own count."""
        await self._until(lambda: self._ledger.is_drained)

    async def heard_for_sure(self, reply: Reply) -> None:
        """Wait until all that ``reply`` has asked for was heard, by the carrier's word.

        The carrier's word has a limit: what our own count calls heard is so past a grace.
        """
        await self._until(lambda: reply.spoken_segments >= reply.wanted_segments)
        await self.heard()
        with trio.move_on_after(self._grace_s):
            await self._until(lambda: not self._ledger.has_checkpoints)

    def acknowledge(self, name: str) -> None:
        """The carrier played checkpoint ``name``."""
        self._ledger.acknowledge(name)
        self._changed.set()

    def hold(self) -> None:
        """Stop feeding the line: within its lead the agent is silent."""
        self._line.pause()

    def resume(self) -> None:
        """Go on after :meth:`hold`, from the last pause before it if the line ran dry."""
        repeated = self._line.resume(trio.current_time(), self._rewind_max)
        if repeated:
            self._ledger.repeat(repeated)
        self._ledger.note_sent(self._line.playout.sent)

    def cut(self) -> bool:
        """Drop what was not heard, here and at the carrier; False if there was nothing."""
        self._ledger.note_sent(self._line.playout.sent)
        was_speaking = not self._ledger.is_drained
        if was_speaking:
            self._line.clear(self._ledger.heard)
        else:  # it may have been held while the voice had nothing to give
            self._line.resume(trio.current_time(), 0)
        self._ledger.cut()
        self._span = None
        self._changed.set()
        return was_speaking

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._changed.is_set():
                self._changed = trio.Event()
            await self._changed.wait()

    def _span_for(self, reply: Reply, piece: SpeechAudio) -> Span:
        if self._span is None or self._span[:2] != (reply.number, piece.segment):
            step, text = reply.segment(piece.segment)
            span = self._ledger.begin((reply.number, step), text)
            self._span = (reply.number, piece.segment, span)
            self._trimmed_bytes = 0
        return self._span[2]

    def _note_words(self, span: Span, words: tuple[WordTime, ...]) -> None:
        at = span.words[-1].text_end if span.words else 0
        for word in words:
            found = span.text.find(word.text, at)
            if found >= 0:  # a voice may normalise the text: what is not found is not placed
                at = found + len(word.text)
                end = word.end_sample - self._trimmed_bytes // 2
                span.words.append(TimedWord(text_end=at, end_sample=max(0, end)))

    def _without_lead_in(self, pcm: bytes) -> bytes:
        """``pcm`` without the silence it begins with: a caller only hears that as delay."""
        at = 0
        while at < len(pcm) and self._trimmed_bytes < TRIM_MAX_BYTES:
            if frame_power(pcm[at : at + TRIM_BYTES]) >= AUDIBLE_POWER:
                break
            step = min(TRIM_BYTES, len(pcm) - at)
            at += step
            self._trimmed_bytes += step
        return pcm[at:]
