"""What a call needs of others: its socket, its ears, its mind, its voice.

Each provider port is one async function that runs for as long as what it serves (a call's
recognition, one reply's thought, one reply's voice, a call's session with a model that is all
three), owned by the nursery that started it and ended by cancelling it. Audio here is int16
little-endian mono at 8000 Hz.
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
    "CallerBegan",
    "CallerEnded",
    "CallerSaid",
    "CancelReply",
    "Delta",
    "Finished",
    "Forget",
    "Hearing",
    "Hit",
    "Instruct",
    "KnowledgeIndex",
    "MediaSocket",
    "Message",
    "ReplyAudio",
    "ReplyBegun",
    "ReplyDone",
    "ReplyText",
    "ReplyToolCall",
    "Respond",
    "Responder",
    "ResponderRequest",
    "Say",
    "Segment",
    "SpeechAudio",
    "SpeechCommand",
    "SpeechEvent",
    "SpeechModel",
    "SpeechSession",
    "SpeechUsage",
    "Synthesizer",
    "Tell",
    "TextDelta",
    "ToolCall",
    "ToolCallDropped",
    "ToolResult",
    "ToolSpec",
    "ToolUse",
    "Transcriber",
    "Transcript",
    "Truncate",
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


Hearing = trio.MemoryReceiveChannel[CallerAudio | UtteranceEnd]


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


# --- one mind that hears and speaks -----------------------------------------------------


class SpeechSession(msgspec.Struct, frozen=True, kw_only=True):
    """What a session with a speech-to-speech model begins with.

    ``messages`` is what was said before: empty when a call begins, the conversation so far
    when its session had to be opened anew (a summary in it has the role ``system``).
    """

    context: CallContext
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    messages: tuple[Message, ...] = ()


class Respond(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's turn is over: answer what was heard and told since the last one.

    Only under our turn-taking. ``reply`` names the answer, and the turn, in all events.
    """

    reply: str


class Say(msgspec.Struct, frozen=True, kw_only=True):
    """Say ``text`` word for word (as nearly as the service can), as the reply ``reply``."""

    reply: str
    text: str


class CancelReply(msgspec.Struct, frozen=True, kw_only=True):
    """Stop making ``reply``, functions included; nothing if it is over or was never asked for."""

    reply: str


class Truncate(msgspec.Struct, frozen=True, kw_only=True):
    """Of a step the caller heard ``heard_ms`` of its sound, no more: the model must know.

    Sent for each step of a reply that was not heard whole, the first one first, after its
    :class:`CancelReply`. 0: nothing of it was heard. ``heard_text`` says the same in words,
    for a service that takes no milliseconds. ``heard_ms`` never exceeds the sound given.
    """

    reply: str
    step: int
    heard_ms: int
    heard_text: str = ""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one function call; exactly one for each :class:`ReplyToolCall`.

    Once all calls of a step have theirs, the model goes on with the same reply, in its next
    step. A result that comes after the reply was cancelled is only told: nothing follows it.
    """

    reply: str
    call_id: str
    text: str


class Tell(msgspec.Struct, frozen=True, kw_only=True):
    """Something to know beside what is heard: keys the caller pressed, a note for the agent.

    ``is_turn``: it is a turn of the caller and is answered; only under the service's own
    turn-taking (under ours :class:`Respond` follows where an answer is wanted). ``is_note``: it
    is not from the caller; where a service knows but one kind of message, the text says so.
    """

    text: str
    is_turn: bool = False
    is_note: bool = False


class Forget(msgspec.Struct, frozen=True):
    """What was heard since the last turn was a noise: leave it out of the next, if possible."""


class Instruct(msgspec.Struct, frozen=True, kw_only=True):
    """From the next reply on these are the instructions and the functions."""

    instructions: str
    tools: tuple[ToolSpec, ...] = ()


SpeechCommand = (
    CallerAudio | Respond | Say | CancelReply | Truncate | ToolResult | Tell | Forget | Instruct
)


class CallerBegan(msgspec.Struct, frozen=True, kw_only=True):
    """The service hears the caller begin turn ``turn``. Only under its turn-taking.

    It has stopped the reply it was making, if any; what the line holds is ours to stop.
    ``at_sample``: where in the caller's audio the voice began, if it says so.
    """

    turn: str
    at_sample: int | None = None


class CallerEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The service takes turn ``turn`` to be over and will answer. Only under its turn-taking."""

    turn: str


class CallerSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller said in ``turn``: ``text`` replaces what was known of it before.

    Under our turn-taking ``turn`` is the ``reply`` of the :class:`Respond` that ended it. May
    come long after the answer has begun.
    """

    turn: str
    text: str
    is_final: bool


class ReplyBegun(msgspec.Struct, frozen=True, kw_only=True):
    """The service works on ``reply``: one we asked for, or (its turn-taking) one of its own.

    A name of its own is of its choosing, and no other's.
    """

    reply: str


class ReplyText(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of what step ``step`` of ``reply`` says.

    Spaces are the service's: pieces are joined as they are. ``words``: where its words lie in
    the step's sound, if known. May run ahead of the sound or behind it.
    """

    reply: str
    step: int
    text: str
    words: tuple[WordTime, ...] = ()


class ReplyAudio(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of the sound of step ``step``; steps come in order.

    ``is_last`` ends the step's sound, as soon as that is known (its pcm may be empty); at the
    latest :class:`ReplyDone` does.
    """

    reply: str
    step: int
    pcm: bytes
    is_last: bool = False


class ReplyToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """Step ``step`` ends by asking for a function; the sound of the step is over."""

    reply: str
    step: int
    call: ToolCall


class ToolCallDropped(msgspec.Struct, frozen=True, kw_only=True):
    """The service does not want this function any more: no result is due."""

    reply: str
    call_id: str


class SpeechUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply cost, as the service counts; 0 where it does not say."""

    input_tokens: int = 0  # of all kinds
    output_tokens: int = 0
    input_audio_tokens: int = 0  # among them
    output_audio_tokens: int = 0
    cached_tokens: int = 0  # among the input tokens

    def __add__(self, other: SpeechUsage) -> SpeechUsage:
        names = self.__struct_fields__
        return SpeechUsage(**{name: getattr(self, name) + getattr(other, name) for name in names})


class ReplyDone(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing of ``reply`` comes any more: exactly one for each that was asked for or begun.

    ``whole``: all was said, no function is owed a result. ``cancelled``: by us, or by the
    service when the caller spoke. ``cut``: the service ended it early (length, filter).
    ``failed``: it could not be made; the session goes on.
    """

    reply: str
    status: Literal["whole", "cancelled", "cut", "failed"] = "whole"
    usage: SpeechUsage = SpeechUsage()
    detail: str = ""  # the service's word for why; no speech


SpeechEvent = (
    CallerBegan
    | CallerEnded
    | CallerSaid
    | ReplyBegun
    | ReplyText
    | ReplyAudio
    | ReplyToolCall
    | ToolCallDropped
    | ReplyDone
)


@runtime_checkable
class SpeechModel(Protocol):
    """One model that hears, thinks and speaks: :meth:`converse` is one call's session with it.

    A reply has steps: each is something said (or nothing) and the functions then called; the
    next step begins when their results are there. ``(reply, step)`` names its text and sound.
    """

    @property
    def name(self) -> str: ...

    @property
    def turns(self) -> Literal["ours", "theirs"]:
        """Who decides when the caller's turn is over, and when they interrupt.

        ``ours``: the service only hears; it answers at :class:`Respond`, and nothing the
        caller says stops a reply, only :class:`CancelReply` does. It gets speech with some
        pre-roll; ``start_sample`` jumps where silence was withheld. ``theirs``: it gets all
        audio, begins replies by itself and stops them when the caller speaks.
        """
        ...

    @property
    def can_be_instructed(self) -> bool:
        """Whether a running session takes :class:`Instruct`; if not, a new one is opened."""
        ...

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        """Hold one session until ``commands`` ends.

        Commands are carried out in order; audio among them is 60 to 100 ms a piece, longer
        where a lost session is made good. :class:`Say` for a reply that waits for results is
        its next step; a result of a call this session never made is told as a note. ``emit`` is
        called in the same tick an event is known and never waits. Events of a reply that
        was cancelled may still come, and are dropped by who hears them. A reply is asked for
        while another is not over only after that one's :class:`CancelReply`.

        Raises:
            ProviderError: no session, a lost one, or one the service ended (its time limit);
                ``retryable`` says whether a new one may be had.

        Cancelled: the service's session is closed.
        """
        ...
