"""One reply of a speech-to-speech model: its steps, their sound, and what is known of each."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from rtcore.agent.thinking import Step
from rtcore.ports import SpeechAudio, ToolCall, WordTime
from rtcore.reply import Reply

__all__ = ["ModelReply", "RecalledLine", "Sound"]

SOUND_MAX = 4096  # pieces a model may be ahead of the line: 80 s of 20 ms, and it streams fast
CALLS_MAX = 16  # functions that wait; what a model wants beyond, it is refused


@dataclass(slots=True)
class Sound:
    """The sound of one step, in samples."""

    received: int = 0
    played: int = 0  # handed to the mouth
    skipped: int = 0  # of these, the silence it began with: the line never had it
    words: tuple[WordTime, ...] = ()  # not yet handed on
    is_over: bool = False
    is_cut: bool = False  # more was to come, and never did: its words may go beyond it

    def of_model(self, heard: int) -> int:
        """``heard`` samples of the line, as samples of what the model gave."""
        return min(heard + self.skipped, self.received) if heard else 0


@dataclass(slots=True, eq=False)
class RecalledLine(Reply):
    """A fixed line that a model has said before: its sound is known, by the name of its voice."""

    voice: str = ""


@dataclass(slots=True, eq=False)
class ModelReply(Reply):
    """What the model is saying, or may be. ``text`` is what it was told to say, if anything."""

    id: str = ""
    is_asked_for: bool = True  # by us; else the model began it
    voice: str = ""  # of the model that makes it
    steps: list[Step] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)  # one for each step
    spoken: list[SpeechAudio] = field(default_factory=list)  # of a fixed line, its sound
    told: set[str] = field(default_factory=set)  # functions whose result the model has
    alive_s: float = 0.0  # when it last gave a sign of life
    is_begun: bool = False
    is_done: bool = False  # nothing more comes of it
    has_filled: bool = False
    fault: str = ""  # why it could not be made
    sound: trio.MemorySendChannel[SpeechAudio] = field(init=False)
    sound_rx: trio.MemoryReceiveChannel[SpeechAudio] = field(init=False)
    calls: trio.MemorySendChannel[tuple[int, ToolCall]] = field(init=False)
    calls_rx: trio.MemoryReceiveChannel[tuple[int, ToolCall]] = field(init=False)

    def __post_init__(self) -> None:
        self.sound, self.sound_rx = trio.open_memory_channel[SpeechAudio](SOUND_MAX)
        self.calls, self.calls_rx = trio.open_memory_channel[tuple[int, ToolCall]](CALLS_MAX)
        self.alive_s = trio.current_time()

    @property
    def wanted_segments(self) -> int:
        return sum(sound.received > 0 for sound in self.sounds)

    @property
    def owes_results(self) -> bool:
        """Whether a function of it is running: it is our move, not the model's."""
        return any(call.id not in self.told for step in self.steps for call in step.calls)

    @property
    def has_acted(self) -> bool:
        """Whether the caller, or the world, may have noticed something of it."""
        return self.is_audible or any(step.calls for step in self.steps)

    @property
    def is_in_hand(self) -> bool:
        """Whether sound of it is here that has not gone to the line."""
        return any(sound.played < sound.received for sound in self.sounds)

    def segment(self, index: int) -> tuple[int, str]:
        return index, self.steps[index].text

    def step(self, number: int) -> tuple[Step, Sound]:
        """Step ``number`` and its sound; a new one ends the sound of those before it.

        Raises:
            trio.WouldBlock: as :meth:`hear`.
        """
        while len(self.steps) <= number:
            self.end_sound()
            self.steps.append(Step())
            self.sounds.append(Sound())
        return self.steps[number], self.sounds[number]

    def hear(self, number: int, pcm: bytes) -> None:
        """Take the next piece of the sound of a step.

        Raises:
            trio.WouldBlock: the model is too far ahead of the line.
        """
        _, sound = self.step(number)
        if pcm and not sound.is_over:
            words, sound.words = sound.words, ()
            piece = SpeechAudio(segment=number, pcm=pcm, words=words)
            self._hand_on(piece)
            sound.received += len(pcm) // 2
            if self.text:
                self.spoken.append(piece)

    def end_sound(self) -> None:
        """No more sound belongs to the last step. Raises: as :meth:`hear`."""
        if self.sounds and self.sounds[-1].received and not self.sounds[-1].is_over:
            sound, number = self.sounds[-1], len(self.sounds) - 1
            sound.is_over = True
            last = SpeechAudio(segment=number, pcm=b"", is_last=True, words=sound.words)
            self._hand_on(last)

    def _hand_on(self, piece: SpeechAudio) -> None:
        with suppress(trio.BrokenResourceError):  # nobody plays it any more
            self.sound.send_nowait(piece)

    @property
    def line(self) -> tuple[SpeechAudio, ...]:
        """The sound of a fixed line, if the model said it whole and as it was told; else ()."""
        if self.fault or len(self.steps) != 1:
            return ()
        if not self.sounds[0].is_over or self.sounds[0].is_cut:
            return ()
        said = self.steps[0].text
        if said and re.findall(r"\w+", said.lower()) != re.findall(r"\w+", self.text.lower()):
            return ()
        return (*self.spoken, SpeechAudio(segment=0, pcm=b"", is_last=True))

    def close(self, fault: str = "", *, is_cut: bool = False) -> None:
        """Nothing more comes: what is there may be played to its end.

        ``is_cut``: it ended early, without a fault; with one it always did.
        """
        if not self.is_done:
            if self.sounds and not self.sounds[-1].is_over:
                self.sounds[-1].is_cut = is_cut or bool(fault)
            try:
                self.end_sound()
            except trio.WouldBlock:
                fault = fault or "too far ahead of the line"
            self.is_done, self.fault = True, fault
            self.sound.close()
            self.calls.close()

    def begin_again(self) -> None:
        """It is asked for once more, of another session; nobody has noticed anything of it."""
        self.steps.clear()
        self.sounds.clear()
        self.spoken.clear()
        self.is_begun = False
        self.alive_s = trio.current_time()
