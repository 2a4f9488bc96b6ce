"""One session with a speech-to-speech model, driven by a test: commands in, events out."""

from __future__ import annotations

import array
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio

from rtcore.errors import ProviderError, first_error
from rtcore.ports import Message
from rtcore.speech_port import (
    CallerSaid,
    ReplyAudio,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    SpeechCommand,
    SpeechEvent,
    SpeechModel,
    SpeechSession,
)
from tests.fakes import _voice
from tests.providers._harness import CONTEXT, KEY, LOOKUP

E = TypeVar("E")
LIMIT_S = 10.0


class Talk:
    """What was said and what came of it; :meth:`until` waits for it."""

    def __init__(self) -> None:
        self.events: list[SpeechEvent] = []
        self._tx, self.commands = trio.open_memory_channel[SpeechCommand](10_000)
        self._news = trio.Event()

    def tell(self, *commands: SpeechCommand) -> None:
        for command in commands:
            self._tx.send_nowait(command)

    def emit(self, event: SpeechEvent) -> None:
        self.events.append(event)
        self._news.set()

    def end(self) -> None:
        self._tx.close()

    async def until(self, is_so: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
        with trio.fail_after(limit_s):
            while not is_so():
                self._news = trio.Event()
                await self._news.wait()

    async def done(self, reply: str) -> ReplyDone:
        """Wait until ``reply`` is over; how it ended."""
        await self.until(lambda: any(each.reply == reply for each in self.of(ReplyDone)))
        (found,) = [each for each in self.of(ReplyDone) if each.reply == reply]
        return found

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def text(self, reply: str, step: int = 0) -> str:
        found = [each for each in self.of(ReplyText) if (each.reply, each.step) == (reply, step)]
        return "".join(each.text for each in found)

    def pcm(self, reply: str, step: int = 0) -> bytes:
        found = [each for each in self.of(ReplyAudio) if (each.reply, each.step) == (reply, step)]
        return b"".join(each.pcm for each in found)

    def calls(self, reply: str) -> list[ReplyToolCall]:
        return [each for each in self.of(ReplyToolCall) if each.reply == reply]

    def said(self, turn: str) -> CallerSaid:
        """The newest of what the caller said."""
        return [each for each in self.of(CallerSaid) if each.turn == turn][-1]


def sounds_like(pcm: bytes, text: str) -> bool:
    """Whether ``pcm`` is the sound of ``text``, near it if it was resampled."""
    found, wanted = array.array("h", pcm), array.array("h", _voice.pcm_of(text))
    middles = range(_voice.CHAR_SAMPLES // 2, min(len(found), len(wanted)), _voice.CHAR_SAMPLES)
    is_near = all(abs(found[at] - wanted[at]) <= 600 + abs(wanted[at]) // 8 for at in middles)
    return is_near and abs(len(found) - len(wanted)) <= 40


def session_of(*messages: Message) -> SpeechSession:
    return SpeechSession(
        context=CONTEXT, instructions="Be brief.", tools=(LOOKUP,), messages=messages
    )


@asynccontextmanager
async def talking(model: SpeechModel, *messages: Message) -> AsyncIterator[Talk]:
    """Hold a session beside the block; it must end by itself once its commands do."""
    talk = Talk()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(model.converse, session_of(*messages), talk.commands, talk.emit)
            yield talk
            talk.end()


async def one_error(talk: Callable[[], Awaitable[None]]) -> None:
    """Run ``talk``; the error that ends it is raised bare."""
    try:
        await talk()
    except ExceptionGroup as group:
        raise first_error(group) from None


async def fault_that_ends(model: SpeechModel, *commands: SpeechCommand) -> ProviderError:
    """The one plain error that ends a session which was told ``commands``; it keeps secrets."""

    async def converse() -> None:
        async with talking(model) as talk:
            talk.tell(*commands)
            await trio.sleep_forever()

    with pytest.raises(ProviderError) as caught:
        await one_error(converse)
    assert KEY not in str(caught.value)
    return caught.value


async def hang_up_at_any_instant(model: SpeechModel, *commands: SpeechCommand) -> None:
    """Sessions that are told ``commands`` and cancelled, each a little later."""
    for number in range(20):
        with trio.move_on_after(number * 0.001):
            async with talking(model) as talk:
                talk.tell(*commands)
                await trio.sleep_forever()
