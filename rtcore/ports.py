"""What a call needs of others: its socket, its ears, its mind, its voice.

Each provider port is one async function that runs for as long as what it serves (a call's
recognition, one reply's thought, one reply's voice), owned by the nursery that started it and
ended by cancelling it. A model that is all three has a port of its own,
:mod:`rtcore.speech_port`. Audio here is int16 little-endian mono at 8000 Hz.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, Protocol, runtime_checkable

import msgspec
import trio

from rtcore.turn.completeness import Expectation
from rtcore.turn.events import Transcript, Word
from rtcore.usage import Usage

__all__ = [
    "CallContext",
    "CallControl",
    "CallerAudio",
    "Delta",
    "Finished",
    "Hearing",
    "Hit",
    "KnowledgeIndex",
    "MediaSocket",
    "Message",
    "Responder",
    "ResponderRequest",
    "Segment",
    "SpeechAudio",
    "Synthesizer",
    "TextDelta",
    "ToolCall",
    "ToolSpec",
    "ToolUse",
    "Transcriber",
    "Transcript",
    "UtteranceEnd",
    "Word",
    "WordTime",
]


# --- the carrier's socket ---------------------------------------------------------------


class MediaSocket(Protocol):
    """One carrier connection: whole messages both ways, sends that never wait."""

    @property
    def dropped_messages(self) -> int:
        """Messages refused by :meth:`send` because the peer was not reading."""
        ...

    async def receive(self) -> list[bytes]:
        """Wait for the next message; return all that have arrived (at least one).

        Text and binary messages alike are returned as octets. Pings are answered inside.

        Raises:
            SocketClosed: the connection is over; raised again by every later call.
            RemoteProtocolError: the peer broke RFC 6455 or a limit; the close that says so
                has been sent.

        Cancelled: nothing is lost, the next call returns what this one would have.
        """
        ...

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """Give each batch of messages to ``handle`` as it arrives, until the connection is over.

        The same as calling ``handle(await self.receive())`` for ever, but a filling may read
        for many sockets in one task and call ``handle`` from there. ``handle`` must not wait;
        what it raises is raised here, and ends the delivery.

        Raises: as :meth:`receive`. Cancelled: nothing is lost.
        """
        ...

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        """Send one text message in order, without waiting; say whether it was taken.

        What the kernel does not take at once is kept, up to a bound; past it the message is
        refused and counted (live audio that late is useless). ``flush`` first discards all
        that has not begun to be written, then takes the message whatever the backlog: for
        ``clearAudio``, which must not queue behind what it clears. A closed socket refuses.
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close with ``code``; returns within a bound even if the peer never answers."""
        ...


class Recorder(Protocol):
    """Takes what is said and heard in one call, as it comes; nothing of it may wait."""

    def push(self, caller: bytes, agent: bytes | None) -> None:
        """The next 20 ms of both sides, on the caller's clock, int16 at 8000 Hz.

        ``agent`` is what the caller is estimated to have heard meanwhile, None where that was
        nothing: what was cleared before it was heard never comes.
        """
        ...

    def close(self) -> None:
        """The call is over."""
        ...


# --- the caller's words -----------------------------------------------------------------


class CallContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider may know of the call it serves."""

    call_id: str
    language: str = "en"
    phrases: tuple[str, ...] = ()  # words to expect: names, products, the agent's own phrases
    usage: Usage = msgspec.field(default_factory=Usage)  # where what it costs is counted


class CallerAudio(msgspec.Struct, frozen=True, kw_only=True):
    """60 to 100 ms of the caller; ``start_sample`` jumps where silence was withheld."""

    pcm: bytes
    start_sample: int


class UtteranceEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The caller fell silent at ``at_sample``: say what is final as soon as you can."""

    at_sample: int


Hearing = trio.abc.ReceiveChannel[CallerAudio | UtteranceEnd]


class Transcriber(Protocol):
    """A recogniser: :meth:`transcribe` is one call's session with it."""

    @property
    def name(self) -> str: ...

    @property
    def wants_all_audio(self) -> bool:
        """Whether silence must be sent too (a recogniser that finds turns by itself)."""
        ...

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        """Turn what arrives on ``hearing`` into transcripts until it ends.

        ``emit`` is called in the same tick the words are known and never waits.

        Raises:
            ProviderError: the session is lost and cannot be had again.

        Cancelled: the provider's session is closed.
        """
        ...


# --- the agent's thoughts ---------------------------------------------------------------


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """The model asks for a function; ``arguments`` is JSON text, not yet validated.

    ``opaque`` means something to the service alone, which wants it back unchanged with the
    conversation (Gemini's thought signature): keep the call as it came.
    """

    id: str
    name: str
    arguments: str
    opaque: str | None = None

    @property
    def chars(self) -> int:
        """How much a model wrote, or reads, of it."""
        return len(self.name) + len(self.arguments)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation, as every chat model knows it."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()  # assistant only
    tool_call_id: str | None = None  # tool only: the call this answers


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A function as the model sees it; ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any] = {}


class ResponderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """All a model needs for one answer; the last message is the caller's (or a tool's)."""

    context: CallContext
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()

    @property
    def chars(self) -> int:
        """How much there is to read: what it costs, where nobody tells the tokens."""
        said = sum(
            len(message.text) + sum(call.chars for call in message.tool_calls)
            for message in self.messages
        )
        return said + sum(len(t.name) + len(t.description) for t in self.tools)


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of the answer; a token or more."""

    text: str

    @property
    def chars(self) -> int:
        return len(self.text)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The answer is whole; ``stop_reason`` is one of stop, length, tool_calls, filtered."""

    stop_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  # of the input, those the service had cached


Delta = TextDelta | ToolCall | Finished


@runtime_checkable
class Responder(Protocol):
    """A mind: :meth:`respond` is one answer, streamed."""

    @property
    def name(self) -> str: ...

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer into ``out``, ``Finished`` last; ``out`` stays open.

        Raises:
            ProviderError: the answer failed; what was sent before stands.

        Cancelled: the request is closed, so the service stops working on it.
        """
        ...


# --- what the agent can look up ---------------------------------------------------------


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A passage of a document: what it says, under which heading, where it is from."""

    text: str
    title: str = ""
    source: str = ""


class KnowledgeIndex(Protocol):
    """Documents that can be searched."""

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        """The passages that fit ``question`` best, at most ``limit``, the best first.

        Raises:
            ProviderError: the search failed.

        Cancelled: nothing is left but a thread that ends by itself.
        """
        ...


# --- the agent's hands ------------------------------------------------------------------


class CallControl(Protocol):
    """The call, as its functions see it. Nothing here waits for the caller."""

    async def transfer(self, to: str, summary: str = "") -> None:
        """Hand the caller over to ``to``: a number in E.164, a SIP address, or the name of a
        target where whoever redirects calls knows some. ``summary`` is for who takes the call.

        Raises:
            ToolError: the carrier refused; the call goes on.
        """
        ...

    def send_dtmf(self, digits: str) -> None:
        """Play ``digits`` (0-9, *, #, A-D) to the far end, as key tones."""
        ...

    def wait_for_caller(self, seconds: float) -> None:
        """Let the caller be silent for so long before reminding, once."""
        ...

    def expect(self, expectation: Expectation) -> None:
        """The caller's next turn is the answer to this: it is over when that is complete."""
        ...


class ToolUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the handler of a function is given.

    ``key`` is the same for every attempt at the same call and for no other call.
    ``control`` is the call itself; None in a text chat.
    """

    arguments: Mapping[str, Any]
    key: str
    call_id: str
    control: CallControl | None = None


@runtime_checkable
class Warmable(Protocol):
    """A provider whose connections can be opened before they are needed."""

    async def warm(self) -> None:
        """See that the next use finds an open connection; cheap when it would anyway.

        Raises:
            ProviderError: it cannot be reached; so will the use itself find.
        """
        ...


# --- the agent's voice ------------------------------------------------------------------


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A clause or sentence to be spoken; ``index`` counts from 0 within the reply."""

    index: int
    text: str


class WordTime(msgspec.Struct, frozen=True, kw_only=True):
    """Where a word of a segment begins and ends, in samples from the segment's start."""

    text: str
    start_sample: int
    end_sample: int


class SpeechAudio(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a segment's sound; ``is_last`` ends the segment (its pcm may be empty)."""

    segment: int
    pcm: bytes
    is_last: bool = False
    words: tuple[WordTime, ...] = ()


class Synthesizer(Protocol):
    """A voice: :meth:`synthesize` is one reply, spoken segment by segment."""

    @property
    def name(self) -> str: ...

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak each segment in order until ``segments`` ends; ``out`` stays open.

        Raises:
            ProviderError: the voice failed; what was sent before stands.

        Cancelled: the service is told to stop, and its late audio is dropped.
        """
        ...
