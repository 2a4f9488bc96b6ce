"""What a call needs of one model that hears, thinks and speaks: a session, in commands and events.

It is filled as those of :mod:`rtcore.ports` are: :meth:`SpeechModel.converse` runs for as long as
the session, owned by the nursery that started it and ended by cancelling it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec
import trio

from rtcore.ports import CallContext, CallerAudio, Message, ToolCall, ToolSpec, WordTime
from rtcore.rotation import Health

__all__ = [
    "CallerBegan",
    "CallerEnded",
    "CallerSaid",
    "CancelReply",
    "Forget",
    "Instruct",
    "ReplyAudio",
    "ReplyBegun",
    "ReplyDone",
    "ReplyText",
    "ReplyToolCall",
    "Respond",
    "Say",
    "SpeechCommand",
    "SpeechEvent",
    "SpeechModel",
    "SpeechModels",
    "SpeechSession",
    "SpeechUsage",
    "Tell",
    "ToolCallDropped",
    "ToolResult",
    "Truncate",
]


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
    ``failed``: it could not be made; the session goes on. ``refused``: not at this moment, for
    somebody was speaking.
    """

    reply: str
    status: Literal["whole", "cancelled", "cut", "failed", "refused"] = "whole"
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
            ProviderError: no session, or a lost one; ``retryable`` says whether a new one may be
                had.
            SessionOver: one the service ended at its time limit.

        Cancelled: the service's session is closed.
        """
        ...


class SpeechModels(Protocol):
    """Several in order, that take over from one another in the midst of a call."""

    @property
    def turns(self) -> Literal["ours", "theirs"]:
        """Whose turns all of them go by."""
        ...

    @property
    def members(self) -> Sequence[SpeechModel]: ...

    @property
    def breakers(self) -> Sequence[Health]:
        """One for each member."""
        ...
