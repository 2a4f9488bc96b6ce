"""Providers that follow a script: they take exactly the time they are told, and fail on demand.

Each counts its open sessions, so that a test can show that none is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import msgspec
import trio

from rtcore.audio import RATE_HZ
from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    Delta,
    Finished,
    Hearing,
    ResponderRequest,
    Segment,
    SpeechAudio,
    TextDelta,
    ToolCall,
    UtteranceEnd,
)
from rtcore.testing.voice import DEFAULT_MS_PER_WORD, speak
from rtcore.turn.events import Transcript

__all__ = [
    "ProviderFault",
    "ScriptedResponder",
    "ScriptedSynthesizer",
    "ScriptedTranscriber",
    "Sessions",
]

BYTES_PER_MS = RATE_HZ * 2 // 1000


class ProviderFault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong in one session, once ``after_items`` results have been given.

    ``raise``: :class:`ProviderError`. ``stall``: no result any more, and no error. ``end``: the
    session returns as if all had been said. ``slow``: every wait is ``factor`` times as long.
    ``malformed``: a result that breaks the port's contract, then it goes on.
    """

    kind: Literal["raise", "stall", "end", "slow", "malformed"]
    after_items: int = 0
    retryable: bool = True
    factor: float = 10.0


class Sessions:
    """Counts the sessions of one provider; ``faults`` names by number those that go wrong."""

    def __init__(self, name: str, faults: Mapping[int, ProviderFault] | None = None) -> None:
        self.name = name
        self.opened = 0
        self.open = 0
        self._faults = faults or {}

    @contextmanager
    def session(self) -> Iterator[_Session]:
        """One session, counted as open for as long as the block runs."""
        fault = self._faults.get(self.opened)
        self.opened += 1
        self.open += 1
        try:
            yield _Session(self.name, fault)
        finally:
            self.open -= 1


class _Session:
    """One session's fault, met item by item."""

    def __init__(self, name: str, fault: ProviderFault | None) -> None:
        self._name = name
        self._fault = fault
        self._items = 0

    @property
    def is_fresh(self) -> bool:
        """Whether no result has been given yet."""
        return self._items == 0

    def seconds(self, ms: float) -> float:
        """How long a wait that should be ``ms`` takes in this session."""
        slow = self._fault is not None and self._fault.kind == "slow"
        return ms / 1000 * (self._fault.factor if slow and self._fault is not None else 1.0)

    async def next_item(self) -> Literal["good", "malformed", "end"]:
        """What the next result is; waits for ever in a stall.

        Raises:
            ProviderError: the fault of this session says so.
        """
        fault, number = self._fault, self._items
        self._items += 1
        if fault is None or number < fault.after_items:
            return "good"
        if fault.kind == "raise":
            raise ProviderError(self._name, "scripted failure", retryable=fault.retryable)
        if fault.kind == "stall":
            await trio.sleep_forever()
        if fault.kind == "end":
            return "end"
        if fault.kind == "malformed" and number == fault.after_items:
            return "malformed"
        return "good"


class ScriptedTranscriber:
    """Hears nothing and knows all: one transcript for each :class:`UtteranceEnd`.

    Args:
        transcripts: the words of each utterance of a call, over again when they are used up.
        stt_ms: from the time the caller fell silent (the utterance's end, not its
            announcement) to the final transcript; at once when that has passed already.
        partial_ms: emit one word more after each such stretch of audio; ``None``: no partials.
    """

    def __init__(
        self,
        transcripts: Sequence[str],
        stt_ms: float = 0,
        *,
        partial_ms: float | None = None,
        end_of_turn: float | None = None,
        wants_all_audio: bool = False,
        name: str = "scripted-stt",
        faults: Mapping[int, ProviderFault] | None = None,
    ) -> None:
        self.sessions = Sessions(name, faults)
        self.name = name
        self.wants_all_audio = wants_all_audio
        self._words = tuple(text.split() for text in transcripts)
        self._stt_ms = stt_ms
        self._partial_ms = partial_ms
        self._end_of_turn = end_of_turn

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        with self.sessions.session() as session:
            began_s = trio.current_time()  # when sample 0 was spoken, as far as is known
            segment, heard_ms, partial_words = 0, 0.0, 0
            async for heard in hearing:
                now_s = trio.current_time()
                words = self._words[segment % len(self._words)]
                if isinstance(heard, UtteranceEnd):
                    due_s = began_s + heard.at_sample / RATE_HZ + session.seconds(self._stt_ms)
                    await trio.sleep_until(max(due_s, now_s))
                    item = await session.next_item()
                    if item == "end":
                        return
                    emit(self._final(segment, " ".join(words), malformed=item == "malformed"))
                    segment, heard_ms, partial_words = segment + 1, 0.0, 0
                    continue
                samples = len(heard.pcm) // 2
                # the piece that came soonest after it was spoken tells when sample 0 was
                spoken_s = now_s - (heard.start_sample + samples) / RATE_HZ
                began_s = min(began_s, spoken_s) if heard.start_sample else spoken_s
                heard_ms += samples * 1000 / RATE_HZ
                if self._partial_ms is not None:
                    count = min(int(heard_ms / self._partial_ms), len(words))
                    if count > partial_words:
                        partial_words = count
                        text = " ".join(words[:count])
                        emit(Transcript(segment=segment, text=text, is_final=False))

    def _final(self, segment: int, text: str, *, malformed: bool) -> Transcript:
        if malformed:  # a final with nothing in it, for a segment that never was
            return Transcript(segment=segment + 1000, text="", is_final=True)
        return Transcript(segment=segment, text=text, is_final=True, end_of_turn=self._end_of_turn)


Reply = str | ToolCall


class ScriptedResponder:
    """Answers the caller's n-th message with the n-th reply, however often it is asked.

    Args:
        replies: a text, streamed word by word, or a tool call; over again when used up. Where
            the last message is a tool's result, ``after_tool`` is the reply.
        first_token_ms: from the request to the first token.
        per_token_ms: from each token to the next, counted from the first: no drift.
    """

    def __init__(
        self,
        replies: Sequence[Reply],
        first_token_ms: float = 0,
        per_token_ms: float = 0,
        *,
        after_tool: str = "That is done.",
        name: str = "scripted-llm",
        faults: Mapping[int, ProviderFault] | None = None,
    ) -> None:
        self.sessions = Sessions(name, faults)
        self.name = name
        self._replies = tuple(replies)
        self._first_token_ms = first_token_ms
        self._per_token_ms = per_token_ms
        self._after_tool = after_tool

    def reply_to(self, request: ResponderRequest) -> Reply:
        """The scripted reply to ``request``."""
        if request.messages and request.messages[-1].role == "tool":
            return self._after_tool
        asked = sum(message.role == "user" for message in request.messages)
        return self._replies[max(asked - 1, 0) % len(self._replies)]

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        with self.sessions.session() as session:
            began_s = trio.current_time()
            reply = self.reply_to(request)
            deltas: list[Delta] = (
                [reply]
                if isinstance(reply, ToolCall)
                else [TextDelta(text=t) for t in _tokens(reply)]
            )
            for number, delta in enumerate(deltas):
                if number == 0 or self._per_token_ms:
                    due_ms = self._first_token_ms + number * self._per_token_ms
                    await _until(began_s + session.seconds(due_ms))
                item = await session.next_item()
                if item == "end":
                    return
                if item == "malformed":  # arguments that are no JSON, of a function that is none
                    await put(out, ToolCall(id="", name="", arguments="{"))
                await put(out, delta)
            words_in = sum(len(message.text.split()) for message in request.messages)
            is_tool = isinstance(reply, ToolCall)
            await put(
                out,
                Finished(
                    stop_reason="tool_calls" if is_tool else "stop",
                    input_tokens=words_in,
                    output_tokens=len(deltas),
                ),
            )


class ScriptedSynthesizer:
    """Speaks in the voice of :mod:`rtcore.testing.voice`, so what was heard can be told exactly.

    Args:
        first_byte_ms: from a segment's arrival to its first sound, when the voice was waiting
            for it; a segment that was waiting for the voice follows without a break.
        ms_per_word: each word's length; ``reply_ms / number of words`` makes a reply that long.
        speed: how many times faster than real time sound comes after the first byte; ``None``:
            as fast as it is taken.
        chunk_ms: the length of each piece.
    """

    def __init__(
        self,
        first_byte_ms: float = 0,
        ms_per_word: float = DEFAULT_MS_PER_WORD,
        *,
        speed: float | None = None,
        chunk_ms: int = 100,
        name: str = "scripted-tts",
        faults: Mapping[int, ProviderFault] | None = None,
    ) -> None:
        self.sessions = Sessions(name, faults)
        self.name = name
        self._first_byte_ms = first_byte_ms
        self._ms_per_word = ms_per_word
        self._chunk_bytes = chunk_ms * BYTES_PER_MS
        self._chunk_ms = 0.0 if speed is None else chunk_ms / speed

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        with self.sessions.session() as session:
            while True:
                waited = False
                try:
                    segment = segments.receive_nowait()
                except trio.WouldBlock:
                    waited = True
                    try:
                        segment = await segments.receive()
                    except trio.EndOfChannel:
                        return
                except trio.EndOfChannel:
                    return
                first_s = trio.current_time()
                if waited or session.is_fresh:
                    first_s += session.seconds(self._first_byte_ms)
                if not await self._speak(session, segment, first_s, out):
                    return

    async def _speak(
        self,
        session: _Session,
        segment: Segment,
        first_s: float,
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> bool:
        """Say one segment, its first sound at ``first_s``; False: the session ends early."""
        spoken, told = speak(segment.text, self._ms_per_word), 0  # words so far
        for number, start in enumerate(range(0, len(spoken.pcm) or 1, self._chunk_bytes)):
            if number == 0 or self._chunk_ms:
                await _until(first_s + session.seconds(number * self._chunk_ms))
            item = await session.next_item()
            if item == "end":
                return False
            end = start + self._chunk_bytes
            pcm = spoken.pcm[start:end]
            first = told
            while told < len(spoken.words) and spoken.words[told].start_sample < end // 2:
                told += 1
            await put(
                out,
                SpeechAudio(
                    segment=segment.index,
                    pcm=pcm[:-1] if item == "malformed" else pcm,  # half a sample is missing
                    is_last=end >= len(spoken.pcm),
                    words=spoken.words[first:told],
                ),
            )
        return True


async def _until(due_s: float) -> None:
    """Sleep, if it is not past: what is late is not made later by other tasks' turns."""
    if due_s > trio.current_time():
        await trio.sleep_until(due_s)


def _tokens(text: str) -> Iterator[str]:
    """Each word with the space before it, as models stream them."""
    for number, word in enumerate(text.split()):
        yield f" {word}" if number else word
