"""Who is not there: fills the ports of an agent that one speech-to-speech model serves alone."""

from __future__ import annotations

from collections.abc import Callable

import trio

from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    Delta,
    Hearing,
    ResponderRequest,
    Segment,
    SpeechAudio,
    Transcript,
)

__all__ = ["ABSENT", "Absent"]


class Absent:
    """A recogniser, a mind and a voice that nobody gave the agent: asked, each says so."""

    wants_all_audio = False

    def __init__(self, name: str = "absent") -> None:
        self.name = name

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        raise ProviderError(self.name, "the agent has no transcriber", retryable=False)

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        raise ProviderError(self.name, "the agent has no responder", retryable=False)

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        raise ProviderError(self.name, "the agent has no synthesizer", retryable=False)


ABSENT = Absent()
