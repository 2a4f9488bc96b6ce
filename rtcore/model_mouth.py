"""How the replies of a speech-to-speech model are played, and what of each was heard.

The sound comes faster than it can be heard; the ledger knows how far the caller got, the model
is told so in its own terms: the milliseconds of an item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from rtcore.agent.performing import Outcome
from rtcore.agent.thinking import Step
from rtcore.answering import Answers
from rtcore.audio import RATE_HZ
from rtcore.errors import ProviderError
from rtcore.ledger import Ledger, Span
from rtcore.model_reply import ModelReply
from rtcore.ports import SpeechAudio, ToolCall
from rtcore.reply import Mouth, Reply
from rtcore.speech_port import Truncate

__all__ = ["FellSilent", "ModelMouth", "first_sign_limit_s"]

AHEAD_S = 0.5  # of the guard over silence: who knows that a model is silent acts, and acts first


class FellSilent(ProviderError):
    """A model owes something, and says nothing for too long."""


def first_sign_limit_s(call: Answers) -> float:
    """How long a model may owe an answer and give no sign of it.

    Always less than the guard over silence waits, which can only say something about it.
    """
    guard_s = call.agent.definition.turn_config(call.config.turn).watchdog_ms / 1000
    return min(call.config.first_token_limit_s, max(guard_s - AHEAD_S, guard_s / 2))


class ModelMouth:
    """Plays what a model says; accounts for it step by step."""

    def __init__(self, call: Answers, mouth: Mouth, ledger: Ledger) -> None:
        self._call = call
        self._mouth = mouth
        self._ledger = ledger

    async def play(
        self,
        reply: ModelReply,
        goes_elsewhere: Callable[[ModelReply], bool],
        on_piece: Callable[[ModelReply], None],
    ) -> None:
        """Play ``reply`` until nothing more comes of it.

        Args:
            goes_elsewhere: asked when the model owes something and says nothing for too long:
                whether another one makes the reply instead.
            on_piece: told after each piece of sound.

        Raises:
            FellSilent: nothing comes, and nobody else makes it.

        Cancelled: nothing more is appended to the line.
        """
        with reply.sound_rx:
            while (piece := await self._next(reply, goes_elsewhere)) is not None:
                await self._play(reply, piece)
                if piece.pcm:
                    on_piece(reply)

    async def _next(
        self, reply: ModelReply, goes_elsewhere: Callable[[ModelReply], bool]
    ) -> SpeechAudio | None:
        """The next piece of sound, None at the end."""
        stall_s, waits_s = self._call.config.stall_limit_s, trio.current_time()
        while True:
            try:
                return reply.sound_rx.receive_nowait()  # the usual case: the model is ahead
            except trio.WouldBlock:
                limit_s = stall_s if reply.is_begun else first_sign_limit_s(self._call)
            except trio.EndOfChannel:
                return None
            if reply.owes_results:
                waits_s = trio.current_time()
            due_s = max(waits_s, reply.alive_s) + limit_s
            if trio.current_time() >= due_s:
                if goes_elsewhere(reply):
                    continue
                raise FellSilent("speech_model", f"nothing for {limit_s:g} s", retryable=True)
            with trio.move_on_at(due_s):
                try:
                    return await reply.sound_rx.receive()
                except trio.EndOfChannel:
                    return None

    async def _play(self, reply: ModelReply, piece: SpeechAudio) -> None:
        """Put a piece on the line once it may be heard; count what of it was left out."""
        sound = reply.sounds[piece.segment]
        await self._mouth.play(reply, (piece,))
        sound.played += len(piece.pcm) // 2
        span = self._span(reply, piece.segment)
        if span is not None and piece.is_last:
            span.is_complete = not sound.is_cut  # else all its words would count as heard
        elif span is not None:
            sound.skipped = sound.played - span.samples

    def reads(self, reply: ModelReply, number: int) -> None:
        """More of the words of a step is known."""
        if (span := self._span(reply, number)) is not None:
            span.text = reply.steps[number].text

    def said(self, reply: Reply) -> Iterator[tuple[str, tuple[ToolCall, ...], dict[str, Outcome]]]:
        """Of each step: what was heard, the functions that were begun, what came of them."""
        steps = reply.steps if isinstance(reply, ModelReply) else []
        for number, step in enumerate(steps or [Step()]):
            span = self._span(reply, number)
            if span is not None and not span.text:
                span.text = reply.text  # where nothing is transcribed: what it was told to say
            begun = {n: o for n, o in step.outcomes.items() if o.is_begun or o.result}
            text = self._ledger.heard_text((reply.number, number))
            calls = tuple(call for call in step.calls if call.id in begun)
            if text or calls:
                yield text, calls, begun

    def unheard(self, reply: ModelReply) -> Iterator[Truncate]:
        """For each step that was not heard whole, how much of it was."""
        for number, (step, sound) in enumerate(zip(reply.steps, reply.sounds, strict=True)):
            span = self._span(reply, number)
            heard = sound.of_model(span.heard_samples) if span is not None else 0
            if (sound.received or step.text) and not (sound.is_over and heard == sound.received):
                yield Truncate(
                    reply=reply.id,
                    step=number,
                    heard_ms=heard * 1000 // RATE_HZ,
                    heard_text=self._ledger.heard_text((reply.number, number)),
                )

    def _span(self, reply: Reply, step: int) -> Span | None:
        for span in self._ledger.spans:
            if span.group == (reply.number, step):
                return span
        return None
