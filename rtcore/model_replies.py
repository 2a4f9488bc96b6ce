"""The replies of a speech-to-speech model by their names: what it says of each, and its cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from rtcore.agent.performing import CANCELLED
from rtcore.answering import Answers
from rtcore.metrics import TurnClock
from rtcore.model_hands import ModelHands
from rtcore.model_mouth import ModelMouth
from rtcore.model_reply import ModelReply
from rtcore.reply import Reply
from rtcore.speech_link import SpeechLink
from rtcore.speech_port import (
    CancelReply,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Respond,
    Say,
    SpeechEvent,
    ToolCallDropped,
)
from rtcore.usage import Tally

__all__ = ["ModelReplies"]

GONE_MAX = 64  # a service is never that far behind


class ModelReplies:
    """Those of one call of which something may come."""

    def __init__(
        self,
        call: Answers,
        link: SpeechLink,
        voice: ModelMouth,
        hands: ModelHands,
        used: Callable[[], Tally],
        goes_elsewhere: Callable[[ModelReply], bool],
    ) -> None:
        """
        Args:
            used: gives what the call used of the model.
            goes_elsewhere: asked of one that failed: whether another model makes it instead.
        """
        self._call = call
        self._link = link
        self._voice = voice
        self._hands = hands
        self._get_used = used
        self._goes_elsewhere = goes_elsewhere
        self._made: dict[str, ModelReply] = {}  # those of which something may come, by their ids
        self._gone: deque[str] = deque(maxlen=GONE_MAX)  # of which something may still be told
        self._discarded: set[str] = set()  # replies thrown away, whose cost is not known yet
        self._numbers = 0

    @property
    def _used(self) -> Tally:
        return self._get_used()

    # --- their lives ------------------------------------------------------------------------

    def next_number(self) -> int:
        """The number of a new reply, whoever says it."""
        self._numbers += 1
        return self._numbers

    def new(
        self,
        id: str = "",
        *,
        text: str = "",
        clock: TurnClock | None = None,
        is_interruptible: bool = True,
        ends_call: bool = False,
    ) -> ModelReply:
        """A reply that the model makes: ``id`` is its own name for it, if it began it."""
        number = self.next_number()
        reply = ModelReply(
            number=number,
            id=id or f"r{number}",
            text=text,
            clock=clock,
            is_interruptible=is_interruptible,
            ends_call=ends_call,
        )
        self._made[reply.id] = reply
        return reply

    def ask(self, reply: ModelReply, command: Respond | Say) -> None:
        """Have ``reply`` made; without a session, the next one is asked."""
        if self._link.is_open:
            self.asked(reply)
            self._link.tell(command)

    def asked(self, reply: ModelReply) -> None:
        """A session is asked for ``reply``, or has begun it unasked."""
        self._made[reply.id] = reply
        reply.voice = self._link.voice_name
        self._used.requests += 1

    def is_known(self, id: str) -> bool:
        """Whether ``id`` is the name of a reply that was begun or dropped in this session."""
        return id in self._made or id in self._gone

    def is_of_session(self, reply: Reply) -> bool:
        """Whether the present session makes ``reply``, and so knows what it says."""
        return isinstance(reply, ModelReply) and self._made.get(reply.id) is reply

    def drop(self, reply: ModelReply) -> None:
        """What the model still says of ``reply`` is not heard any more."""
        if self._made.pop(reply.id, None) is not None:
            self._gone.append(reply.id)
        reply.close()

    def discard(self, reply: ModelReply) -> None:
        """``reply`` was thrown away before it was heard: all of it is waste."""
        if not reply.is_done:
            self._discarded.add(reply.id)
        self._used.wasted_speech_samples += sum(sound.received for sound in reply.sounds)
        self.drop(reply)

    def begin_session(self) -> None:
        """Another session knows none of these, and may use their names."""
        self._made.clear()
        self._gone.clear()
        self._discarded.clear()

    # --- what the model says of them --------------------------------------------------------

    def hear(self, event: SpeechEvent) -> None:
        """Take an event of a reply, in the tick it is known."""
        if isinstance(event, ReplyAudio):
            self._used.speech_samples += len(event.pcm) // 2
        match event:
            case ReplyDone():
                self._count(event)
                if (reply := self._made.get(event.reply)) is not None:
                    self._over(reply, event)
            case ReplyBegun() | ReplyText() | ReplyAudio() | ReplyToolCall() | ToolCallDropped():
                if (reply := self._made.get(event.reply)) is not None and not reply.is_done:
                    reply.alive_s = trio.current_time()
                    self._hear(reply, event)
                elif isinstance(event, ReplyToolCall):
                    self._hands.refuse(event, CANCELLED)

    def _over(self, reply: ModelReply, done: ReplyDone) -> None:
        """Nothing more of ``reply`` comes from this session."""
        if done.status == "failed" and self._goes_elsewhere(reply):
            return
        fault = "it failed" if done.status in ("failed", "refused") else ""
        reply.close(fault, is_cut=done.status != "whole")

    def _hear(self, reply: ModelReply, event: SpeechEvent) -> None:
        """Something of a reply that is wanted."""
        try:
            self._take(reply, event)
        except trio.WouldBlock:
            self._link.tell(CancelReply(reply=reply.id))
            if isinstance(event, ReplyToolCall):
                self._hands.refuse(event, CANCELLED)
            reply.close("too far ahead of the line")

    def _take(self, reply: ModelReply, event: SpeechEvent) -> None:
        """Raises trio.WouldBlock: the model is too far ahead of the line."""
        match event:
            case ReplyText(step=number, text=text, words=words):
                step, sound = reply.step(number)
                step.text += text
                sound.words += words
                self._voice.reads(reply, number)
                self._reached(reply)
            case ReplyAudio(step=number, pcm=pcm):
                self._reached(reply, is_sound=True)
                reply.hear(number, pcm)
                if event.is_last:
                    reply.end_sound()
            case ReplyToolCall():
                self._reached(reply)
                self._hands.want(reply, event)
            case ToolCallDropped(call_id=call_id):
                reply.told.add(call_id)

    def _reached(self, reply: ModelReply, *, is_sound: bool = False) -> None:
        """The model's first sign is its first token and sentence; its first sound, the voice's."""
        if not reply.is_begun:
            reply.is_begun = True
            self._used.answered += 1
        clock, now_s = reply.clock, trio.current_time()
        if clock is not None and clock.first_token_s is None:
            clock.first_token_s = clock.first_sentence_s = now_s
        if clock is not None and clock.first_audio_s is None and is_sound:
            clock.first_audio_s = now_s

    def _count(self, done: ReplyDone) -> None:
        """What a reply cost counts whether or not anybody heard it."""
        usage, used = done.usage, self._used
        used.input_tokens += usage.input_tokens
        used.output_tokens += usage.output_tokens
        used.audio_tokens += usage.input_audio_tokens + usage.output_audio_tokens
        used.cached_tokens += usage.cached_tokens
        if done.reply in self._discarded:
            self._discarded.remove(done.reply)
            used.wasted_tokens += usage.input_tokens + usage.output_tokens
        if done.status in ("cut", "failed", "refused"):
            self._call.note("reply_cut_short", status=done.status, detail=done.detail[:64])
