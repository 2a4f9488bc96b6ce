"""What of a conversation a model is given: as much as its budget holds, what matters first.

Long results of functions go first (they were read already), then the oldest turns; what the
agent is told about itself, and the turn being answered, always stay. A summary can stand for
what was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import trio

from rtcore.agent.conversation import Conversation
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, Delta, Message, Responder, ResponderRequest, TextDelta

__all__ = ["Summariser", "briefing", "fit", "tokens_of"]

CHARS_PER_TOKEN = 4  # of English, for the tokenisers of all three large services
MESSAGE_TOKENS = 4  # a message's own marks
OLD_RESULT_MAX_CHARS = 200  # what is kept of a result that was read in an earlier step
SUMMARISE_AT = 0.7  # of the budget: well before turns must go
KEPT_TURNS = 4  # the newest are never summarised: the caller may refer to their words
SUMMARY_LIMIT_S = 20.0
DELTAS_MAX = 8
BRIEFING_LIMIT_S = 4.0  # the caller waits meanwhile
BRIEFING = (
    "A human colleague is about to take this telephone call over. In two or three short sentences "
    "to be heard, tell them who calls, what they want and what was done. No greeting."
)
INSTRUCTION = (
    "Summarise this telephone conversation for the agent who goes on with it: what the caller "
    "wants, every name, number, date and decision, what was done and what is open. Be brief."
)


def tokens_of(messages: Iterable[Message]) -> int:
    """About how many tokens ``messages`` are; within a fifth for English."""
    chars = tokens = 0
    for message in messages:
        tokens += MESSAGE_TOKENS
        chars += len(message.text)
        chars += sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return tokens + chars // CHARS_PER_TOKEN


def fit(messages: Sequence[Message], max_tokens: int) -> tuple[Message, ...]:
    """``messages``, cut until they are within ``max_tokens``, or nothing more may go."""
    left = tokens_of(messages) - max_tokens
    if left <= 0:
        return tuple(messages)
    head, turns = _turns(messages)
    for turn in turns[:-1]:
        for at, message in enumerate(turn):
            if left > 0 and message.role == "tool" and len(message.text) > OLD_RESULT_MAX_CHARS:
                text = f"{message.text[:OLD_RESULT_MAX_CHARS]} [cut]"
                turn[at] = msgspec.structs.replace(message, text=text)
                left -= tokens_of([message]) - tokens_of([turn[at]])
    while left > 0 and len(turns) > 1:
        left -= tokens_of(m for m in turns[0] if m.role != "system")
        head += [m for m in turns.pop(0) if m.role == "system"]
    return tuple(head + [message for turn in turns for message in turn])


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """What stands before the first turn, and the turns: each from a caller's words to the next.

    A call and its results are always in one turn, so no result loses its call.
    """
    head: list[Message] = []
    turns: list[list[Message]] = []
    for message in messages:
        if not turns and message.role == "system":
            head.append(message)
        elif message.role == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return head, turns


class Summariser:
    """Keeps a conversation short by summing up its beginning; a task of the call at a time."""

    def __init__(
        self,
        conversation: Conversation,
        responder: Responder,
        context: CallContext,
        max_tokens: int,
    ) -> None:
        self._conversation = conversation
        self._responder = responder
        self._context = context
        self._max_tokens = max_tokens
        self._is_running = False

    @property
    def is_due(self) -> bool:
        """Whether :meth:`run` has something to do, and nobody does it."""
        if self._is_running or self._conversation.turns_left < 2 * KEPT_TURNS:
            return False
        return tokens_of(self._conversation.messages()) > SUMMARISE_AT * self._max_tokens

    async def run(self) -> None:
        """Sum up all but the newest turns. A model that fails leaves all as it was.

        Cancelled: nothing has changed.
        """
        until = self._conversation.turn_start(KEPT_TURNS)
        old = fit(self._conversation.messages_until(until), self._max_tokens)
        instruction = Message(role="system", text=INSTRUCTION)
        ask = Message(role="user", text="Write the summary now.")
        request = ResponderRequest(context=self._context, messages=(instruction, *old, ask))
        self._is_running = True
        try:
            with trio.move_on_after(SUMMARY_LIMIT_S) as limit:
                text = await _answer(self._responder, request)
            if not limit.cancelled_caught and text:
                self._conversation.summarise(until, text)
        except* ProviderError:
            pass  # the budget is kept all the same: fit() leaves the oldest turns out
        finally:
            self._is_running = False


async def briefing(
    conversation: Conversation, responder: Responder, context: CallContext, max_tokens: int
) -> str:
    """What a colleague should know who takes the caller over, in a few sentences to be heard.

    Empty where there is nothing to tell, or the model did not answer within some seconds.
    """
    if not any(message.role == "user" for message in conversation.log):
        return ""
    said = fit(conversation.messages_until(len(conversation.log)), max_tokens)
    instruction = Message(role="system", text=BRIEFING)
    ask = Message(role="user", text="Write what the colleague hears now.")
    request = ResponderRequest(context=context, messages=(instruction, *said, ask))
    try:
        with trio.move_on_after(BRIEFING_LIMIT_S):
            return await _answer(responder, request)
    except* ProviderError:
        pass  # the colleague hears that somebody calls, and no more
    return ""


async def _answer(responder: Responder, request: ResponderRequest) -> str:
    pieces: list[str] = []
    tx, rx = trio.open_memory_channel[Delta](DELTAS_MAX)

    async def respond() -> None:
        with tx:
            await responder.respond(request, tx)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond)
        async for delta in rx:
            if isinstance(delta, TextDelta):
                pieces.append(delta.text)
    return "".join(pieces).strip()
