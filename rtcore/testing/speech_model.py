"""A speech-to-speech model that follows a script, and remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import trio

from rtcore.agent.performing import CANCELLED
from rtcore.audio import RATE_HZ, frame_power
from rtcore.ports import CallerAudio, ToolCall
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    CancelReply,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Respond,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechSession,
    SpeechUsage,
    Tell,
    ToolResult,
    Truncate,
)
from rtcore.testing.providers import ProviderFault, Sessions, _Session
from rtcore.testing.voice import DEFAULT_MS_PER_WORD, speak

__all__ = ["ScriptedSpeechModel"]

BYTES_PER_MS = RATE_HZ * 2 // 1000
SAMPLES_PER_INPUT_TOKEN = 800  # OpenAI's count: 10 tokens a second of the caller,
SAMPLES_PER_OUTPUT_TOKEN = 400  # 20 of the model
VOICED_POWER = 300.0**2  # mean square of a piece that holds a voice
Part = str | ToolCall
Said = Part | tuple[Part, ...]


class ScriptedSpeechModel:
    """Answers the caller's n-th turn with the n-th reply.

    Fills :class:`rtcore.speech_port.SpeechModel`.

    A reply none of which was heard is given again: the turn it answered had gone on.

    Args:
        replies: each a text, a function call, or several of these in order; over again when
            used up. Calls in a row are made at once; once they have their results, what follows
            is said, or ``after_tool``.
        transcripts: the caller's words, turn by turn; none: no transcription.
        first_audio_ms: from the request to the first sound, after results of functions too.
        words_ms: from the end of a turn to its transcript.
        ms_per_word: the length of each word it says.
        speed: how many times faster than real time its sound comes.
        turns: who finds the caller's turns; ``theirs``: it does, by their loudness.
        silence_ms: what ends a turn then.
        faults: by the number of the session; results are pieces of sound and function calls.
    """

    def __init__(
        self,
        replies: Sequence[Said],
        transcripts: Sequence[str] = (),
        *,
        first_audio_ms: float = 0,
        words_ms: float = 300,
        ms_per_word: float = DEFAULT_MS_PER_WORD,
        speed: float = 10,
        chunk_ms: int = 100,
        after_tool: str = "That is done.",
        turns: Literal["ours", "theirs"] = "ours",
        silence_ms: float = 500,
        can_be_instructed: bool = True,
        name: str = "scripted-model",
        faults: Mapping[int, ProviderFault] | None = None,
    ) -> None:
        self.sessions = Sessions(name, faults)
        self.begun: list[SpeechSession] = []
        self.told: list[SpeechCommand] = []  # of all sessions, audio left out
        self.heard_samples = 0
        self.name = name
        self.turns: Literal["ours", "theirs"] = turns
        self.can_be_instructed = can_be_instructed
        self.replies = tuple(each if isinstance(each, tuple) else (each,) for each in replies)
        self.transcripts = tuple(transcripts)
        self.after_tool = after_tool
        self.silence_ms = silence_ms
        self.words_s = words_ms / 1000
        self.first_audio_ms = first_audio_ms
        self.ms_per_word = ms_per_word
        self.chunk_bytes = chunk_ms * BYTES_PER_MS
        self.chunk_ms = chunk_ms / speed

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        self.begun.append(session)
        with self.sessions.session() as one:
            async with trio.open_nursery() as nursery:
                scripted = _Conversation(self, session, one, nursery, emit)
                async for command in commands:
                    scripted.take(command)
                nursery.cancel_scope.cancel(reason="session over")


@dataclass
class _Made:
    """A reply as the model sees it."""

    id: str
    parts: tuple[Part, ...]
    is_answer: bool
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    nursery: trio.Nursery | None = None  # while it is being made
    step: int = 0
    has_spoken: bool = False  # in this step
    is_unheard: bool = False
    output_samples: int = 0
    results: dict[str, trio.Event] = field(default_factory=dict)
    calls_dropped: int = 0
    voice: trio.Lock = field(default_factory=trio.Lock)

    @property
    def has_answered(self) -> bool:
        """Whether the caller, or the world, noticed anything of it."""
        return self.is_answer and (not self.is_unheard or len(self.results) > self.calls_dropped)


class _Conversation:
    """One session."""

    def __init__(
        self,
        model: ScriptedSpeechModel,
        session: SpeechSession,
        faults: _Session,
        nursery: trio.Nursery,
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        self._model = model
        self._faults = faults
        self._nursery = nursery
        self._emit = emit
        self._first_turn = sum(message.role == "user" for message in session.messages)
        self._made: dict[str, _Made] = {}
        self._transcribed: set[int] = set()
        self._turn: str | None = None  # open, under its own turn-taking
        self._turns = 0
        self._silent_ms = 0.0
        self._heard_samples = 0

    def take(self, command: SpeechCommand) -> None:
        """Do what one command says."""
        if isinstance(command, CallerAudio):
            samples = len(command.pcm) // 2
            self._model.heard_samples += samples
            self._heard_samples += samples
            if self._model.turns == "theirs":
                self._listen(command.pcm, command.start_sample)
            return
        self._model.told.append(command)
        match command:
            case Respond(reply=id):
                self._answer(id, id)
            case Tell(is_turn=True):
                self._answer(f"m{len(self._made)}", "")
            case Say(reply=id, text=text):
                made = self._made.get(id)
                if made is None:
                    self._begin(id, (text,), is_answer=False)
                elif made.nursery is not None:
                    made.nursery.start_soon(self._say, made, text)
            case CancelReply(reply=id) if id in self._made:
                self._cancel(self._made[id])
            case Truncate(reply=id, heard_ms=heard_ms) if id in self._made:
                self._made[id].is_unheard = heard_ms == 0 and command.step == 0
            case ToolResult(reply=id, call_id=call_id, text=text) if id in self._made:
                self._made[id].calls_dropped += text == CANCELLED
                self._made[id].results[call_id].set()
            case _:
                pass

    # --- the caller -------------------------------------------------------------------------

    def _listen(self, pcm: bytes, start_sample: int) -> None:
        """Find the caller's turns by their loudness."""
        if frame_power(pcm) > VOICED_POWER:
            self._silent_ms = 0.0
            if self._turn is None:
                self._turn = f"t{self._turns}"
                self._turns += 1
                self._emit(CallerBegan(turn=self._turn, at_sample=start_sample))
                for made in self._made.values():
                    self._cancel(made)
        elif self._turn is not None:
            self._silent_ms += len(pcm) / BYTES_PER_MS
            if self._silent_ms >= self._model.silence_ms:
                turn, self._turn = self._turn, None
                self._emit(CallerEnded(turn=turn))
                self._answer(f"m{len(self._made)}", turn)

    async def _transcribe(self, turn: str, made: _Made, number: int) -> None:
        """Tell the caller's words: once, however many parts their turn came in."""
        await trio.sleep(self._model.words_s)
        text = ""
        if number not in self._transcribed and not (made.is_unheard and made.id == turn):
            self._transcribed.add(number)
            text = self._model.transcripts[number % len(self._model.transcripts)]
        self._emit(CallerSaid(turn=turn, text=text, is_final=True))

    # --- replies ----------------------------------------------------------------------------

    def _answer(self, id: str, turn: str) -> None:
        number = self._first_turn + sum(made.has_answered for made in self._made.values())
        made = self._begin(id, self._model.replies[number % len(self._model.replies)])
        if self._model.transcripts and turn:
            self._nursery.start_soon(self._transcribe, turn, made, number)

    def _begin(self, id: str, parts: tuple[Part, ...], *, is_answer: bool = True) -> _Made:
        made = self._made[id] = _Made(id, parts, is_answer)
        self._nursery.start_soon(self._reply, made)
        return made

    def _cancel(self, made: _Made) -> None:
        if made.nursery is not None:
            made.is_unheard = True  # until we are told otherwise
            made.scope.cancel(reason="cancelled")

    async def _reply(self, made: _Made) -> None:
        self._emit(ReplyBegun(reply=made.id))
        with made.scope:
            async with trio.open_nursery() as made.nursery:
                wanted: list[ToolCall] = []  # functions asked for in one step
                for part in made.parts:
                    if isinstance(part, ToolCall):
                        wanted.append(part)
                        continue
                    await self._call(made, wanted)
                    await self._say(made, part)
                if wanted:
                    await self._call(made, wanted)
                    await self._say(made, self._model.after_tool)
        made.nursery = None
        usage = SpeechUsage(
            input_tokens=self._heard_samples // SAMPLES_PER_INPUT_TOKEN,
            input_audio_tokens=self._heard_samples // SAMPLES_PER_INPUT_TOKEN,
            output_tokens=made.output_samples // SAMPLES_PER_OUTPUT_TOKEN,
            output_audio_tokens=made.output_samples // SAMPLES_PER_OUTPUT_TOKEN,
        )
        status: Literal["whole", "cancelled"] = (
            "cancelled" if made.scope.cancelled_caught else "whole"
        )
        self._emit(ReplyDone(reply=made.id, status=status, usage=usage))

    async def _next_item(self) -> bool:
        """Whether the next result is good; meets the fault of the session."""
        item = await self._faults.next_item()
        if item == "end":
            self._nursery.cancel_scope.cancel(reason="scripted end")
            await trio.lowlevel.checkpoint()
        return item == "good"

    async def _call(self, made: _Made, wanted: list[ToolCall]) -> None:
        """Ask for functions, at the end of what was said before, and await their results."""
        step = made.step - 1 if made.has_spoken else made.step
        results: list[trio.Event] = []
        for call in wanted:
            await self._next_item()
            call = msgspec.structs.replace(call, id=f"{call.id}-{made.id}-{len(made.results)}")
            made.results[call.id] = trio.Event()
            results.append(made.results[call.id])
            made.step, made.has_spoken = step + 1, False
            self._emit(ReplyToolCall(reply=made.id, step=step, call=call))
        for result in results:
            await result.wait()
        wanted.clear()

    async def _say(self, made: _Made, text: str) -> None:
        """Say ``text`` as the next step: its words ahead of its sound, both ahead of time."""
        async with made.voice:
            step, made.step, made.has_spoken = made.step, made.step + 1, True
            first_s = trio.current_time() + self._faults.seconds(self._model.first_audio_ms)
            spoken = speak(text, self._model.ms_per_word)
            size = self._model.chunk_bytes
            for number, start in enumerate(range(0, len(spoken.pcm) or 1, size)):
                due_ms = number * self._model.chunk_ms
                await trio.sleep_until(first_s + self._faults.seconds(due_ms))
                is_good = await self._next_item()
                if number == 0:
                    self._emit(ReplyText(reply=made.id, step=step, text=text))
                pcm = spoken.pcm[start : start + size]
                made.output_samples += len(pcm) // 2
                self._emit(
                    ReplyAudio(
                        reply=made.id,
                        step=step,
                        pcm=pcm if is_good else pcm[:-1],  # half a sample is missing
                        is_last=start + size >= len(spoken.pcm),
                    )
                )
