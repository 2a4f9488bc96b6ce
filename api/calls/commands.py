"""What is asked of the node that holds a call: small structs, and the one place that does them.

:func:`ask` does one here, if the call is here, or has the other node do it and tells what came
of it. Each either is done or refused with a reason; none waits for the caller.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from api.calls.records import StoredCall, get_call
from api.nodes.bus import ANSWER_LIMIT_S, NodeSilent
from api.store.errors import AgentUnusable, Conflict, NotFound, VaultLocked
from api.web.problems import ApiError
from rtcore.agent.context import briefing

if TYPE_CHECKING:
    from api.calls.live import LiveCall
    from api.calls.telephony import Telephony
    from rtcore.call import Call

__all__ = [
    "Become",
    "Brief",
    "Command",
    "Done",
    "End",
    "Ending",
    "Follow",
    "Hold",
    "Machine",
    "Mute",
    "Release",
    "Say",
    "Whisper",
    "ask",
    "perform",
]

WAITING = (
    "The telephone of a colleague rings, who is told first what the caller wants. Until they are"
    " connected, keep the caller company and promise nothing."
)
NOBODY_CAME = "The colleague did not take the call. The caller is yours again."
NOT_HELD = "the agent is not talking with anybody in this call"
OTHER_KIND = "only one of the two agents has a speech-to-speech model: transfer the call instead"
TOO_MANY = "too many lines wait to be said already: try again in a moment"


class _Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    call_id: str


class Say(_Command, frozen=True, kw_only=True):
    """Let the agent say something as soon as it has the floor."""

    text: str
    is_interruptible: bool = True
    ends_call: bool = False


class Mute(_Command, frozen=True, kw_only=True):
    """Let the agent only listen, or answer again."""

    is_muted: bool


class Whisper(_Command, frozen=True, kw_only=True):
    """Tell the agent's model what the caller does not hear."""

    text: str


class Become(_Command, frozen=True, kw_only=True):
    """Let that agent go on with the call, with ``prompt`` in place of its own if given."""

    agent_id: str
    version: int
    prompt: str | None = None
    says_welcome: bool = False


class Hold(_Command, frozen=True, kw_only=True):
    """A human is fetched for the caller, who waits with the agent, ``limit_s`` at most."""

    attempt: str
    line: str  # said now, unless the agent has said so itself, and to a caller who is silent
    says_line: bool
    limit_s: float


class Release(_Command, frozen=True, kw_only=True):
    """No human came: the agent goes on with the caller, and begins with ``line``."""

    attempt: str
    line: str


class Brief(_Command, frozen=True, kw_only=True):
    """What a human should know who takes the caller over, in a few sentences."""


class End(_Command, frozen=True, kw_only=True):
    """The stream is over, because of ``reason``; where it is over already, nothing is."""

    reason: str


class Ending(_Command, frozen=True, kw_only=True):
    """Why the stream of that number ended, or empty: nobody knows."""

    number: int


class Machine(_Command, frozen=True, kw_only=True):
    """A machine has answered: leave the message, if one was given for that."""


class Follow(_Command, frozen=True, kw_only=True):
    """Tell that node what happens in the call, for some seconds; what was said comes back."""

    node_id: str


Steer = Say | Mute | Whisper | Become | Hold | Release | Brief
Command = Steer | End | Ending | Machine | Follow


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It was done; ``data`` depends on the command."""

    data: dict[str, Any] = {}


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It was not, and why."""

    reason: str


COMMANDS: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
ANSWERS: msgspec.json.Decoder[Done | Refused] = msgspec.json.Decoder(Done | Refused)


async def ask(
    line: Telephony, call: StoredCall, command: Command, limit_s: float = ANSWER_LIMIT_S
) -> dict[str, Any]:
    """Have ``command`` done, wherever ``call`` is; return what came of it.

    Raises:
        Conflict: it was refused; the text says why.
        ApiError: 504, the node that holds the call gave no answer.
        StoreUnavailable: the database did not answer.
    """
    elsewhere = call.node_id if call.id not in line.live else None
    if elsewhere is None or elsewhere == line.node_id:
        answer = await _do(line, command)
    else:
        body = msgspec.json.encode(command)
        try:
            answer = ANSWERS.decode(await line.bus.ask(elsewhere, body, limit_s))
        except NodeSilent as exc:
            raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, str(exc)) from exc
    if isinstance(answer, Refused):
        raise Conflict(answer.reason)
    return answer.data


async def perform(line: Telephony, body: bytes) -> bytes:
    """Do what another node asks."""
    return msgspec.json.encode(await _do(line, COMMANDS.decode(body)))


async def _do(line: Telephony, command: Command) -> Done | Refused:
    held = line.live.get(command.call_id)
    if held is not None and held.call.is_over:  # it is let go of in a moment
        held = None
    match command:
        case Ending():
            return Done(data={"ended_by": line.ended_here(command.call_id, command.number)})
        case Follow():
            return Done(data=line.followers.relay(command.call_id, command.node_id))
        case Machine():
            line.meet_machine(await line.store.read(get_call, command.call_id))
            return Done()
        case End():
            if held is not None:
                held.call.end(command.reason)
            return Done()
        case _:
            if held is None:
                return Refused(reason=NOT_HELD)
            return await _steer(line, held, command)


async def _steer(line: Telephony, held: LiveCall, command: Steer) -> Done | Refused:
    call = held.call
    match command:
        case Say():
            is_taken = call.say(
                command.text,
                is_interruptible=command.is_interruptible,
                ends_call=command.ends_call,
            )
            return Done() if is_taken else Refused(reason=TOO_MANY)
        case Mute(is_muted=True):
            call.mute()
        case Mute():
            call.unmute()
        case Whisper():
            call.whisper(command.text)
        case Become():
            return await _become(line, call, command)
        case Hold():
            _hold(line, held, command)
        case Release():
            _release(held, command)
        case Brief():
            return Done(data={"summary": await _briefing(call)})
    return Done()


def _hold(line: Telephony, held: LiveCall, command: Hold) -> None:
    call = held.call
    held.waiting_for = command.attempt
    call.waiting_line = command.line
    call.whisper(WAITING)
    if command.says_line:
        call.say(command.line)
    call.start(line.give_up_waiting, held, command.attempt, command.limit_s)


def _release(held: LiveCall, command: Release) -> None:
    if held.waiting_for == command.attempt:
        held.waiting_for = held.call.waiting_line = ""
        held.call.whisper(NOBODY_CAME)
        held.call.say(command.line)


async def _become(line: Telephony, call: Call, command: Become) -> Done | Refused:
    stored = await line.store.read(get_call, command.call_id)
    try:
        agent = await line.agent_at(stored, command)
    except (NotFound, AgentUnusable, VaultLocked) as exc:
        return Refused(reason=str(exc))
    if (agent.speech_model is None) != (call.agent.speech_model is None):
        return Refused(reason=OTHER_KIND)
    if call.is_over:  # meanwhile
        return Refused(reason=NOT_HELD)
    call.become(agent)
    if command.says_welcome and agent.definition.welcome_message:
        call.say(agent.definition.welcome_message)
    return Done()


async def _briefing(call: Call) -> str:
    agent = call.agent
    if agent.speech_model is not None:  # it answers the caller alone
        return ""
    limit = agent.definition.context_max_tokens
    return await briefing(call.conversation, agent.responder, call.context, limit)
