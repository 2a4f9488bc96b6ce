"""Functions that come with rtcore: what an agent can do to its own call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from rtcore.agent.knowledge import HITS_MAX, told
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool, ToolError, ToolUse
from rtcore.errors import ProviderError
from rtcore.ports import CallControl, KnowledgeIndex, ToolSpec

__all__ = [
    "hand_over",
    "hang_up",
    "leave_message",
    "look_up",
    "send_dtmf",
    "transfer",
    "wait_for_caller",
]

DTMF_MAX_KEYS = 32  # 8 s of tones
WAIT_MAX_S = 300
MESSAGE_MAX_CHARS = 2000
QUESTION_MAX_CHARS = 300


def hang_up() -> Tool:
    """Ends the call once the goodbye has been heard; the call sees to the end itself."""
    return HANG_UP_TOOL


def hand_over(colleagues: Mapping[str, str]) -> Tool:
    """Has another agent go on with the call: its name -> what it is for.

    The call sees to it once what was said before has been heard.
    """

    async def run(use: ToolUse) -> str:
        return f"{use.arguments['to']} goes on with the call"

    who = "; ".join(f"{name}: {what}" for name, what in colleagues.items())
    to = {"type": "string", "enum": list(colleagues)}
    told = f"Have a colleague go on with this call, after telling the caller so. {who}"
    return Tool(spec=_spec(HAND_OVER, told, {"to": to}), effect="terminal", run=run)


def look_up(index: KnowledgeIndex) -> Tool:
    """Searches what the agent knows: for a speech model, which no turn's words are there for."""

    async def run(use: ToolUse) -> str:
        try:
            hits = await index.search(use.arguments["question"], HITS_MAX)
        except ProviderError as exc:
            raise ToolError("the documents cannot be searched now") from exc
        return told(hits).text if hits else "the documents say nothing about it"

    question = {"type": "string", "minLength": 1, "maxLength": QUESTION_MAX_CHARS}
    what = "Search the documents before answering what you were not told: in the caller's words."
    return Tool(spec=_spec("look_up", what, {"question": question}), effect="read", run=run)


def transfer(targets: Mapping[str, str], *, description: str = "") -> Tool:
    """Hands the caller over to one of ``targets``: what the model calls it -> number or SIP.

    The model picks a name and never a number, so that no caller can talk it into dialling.
    """

    async def run(use: ToolUse) -> str:
        await _control(use).transfer(targets[use.arguments["to"]])
        return "the caller is being put through"

    told = description or "Put the caller through to a person, after telling the caller so."
    to = {"type": "string", "enum": list(targets)}
    return Tool(spec=_spec("transfer", told, {"to": to}), effect="terminal", run=run)


def send_dtmf() -> Tool:
    """Presses keys: for a menu that answered the call, or a gate that opens at a tone."""

    async def run(use: ToolUse) -> str:
        _control(use).send_dtmf(use.arguments["keys"])
        return "pressed"

    keys = {"type": "string", "pattern": f"^[0-9A-D*#]{{1,{DTMF_MAX_KEYS}}}$"}
    spec = _spec("send_dtmf", "Press keys of the telephone: 0-9, *, #, A-D.", {"keys": keys})
    return Tool(spec=spec, effect="write", run=run)


def wait_for_caller() -> Tool:
    """Gives the caller time to look something up before the silence is taken for absence."""

    async def run(use: ToolUse) -> str:
        _control(use).wait_for_caller(use.arguments["seconds"])
        return "waiting; tell the caller to take the time"

    seconds = {"type": "number", "minimum": 5, "maximum": WAIT_MAX_S}
    told = "The caller asks for a moment: wait so long before asking whether they are there."
    spec = _spec("wait_for_caller", told, {"seconds": seconds})
    return Tool(spec=spec, effect="write", run=run)


def leave_message(keep: Callable[[ToolUse], Awaitable[str]]) -> Tool:
    """Takes a message down; ``keep`` stores or sends it (the ``run`` of a webhook fits)."""
    text = {"type": "string", "minLength": 1, "maxLength": MESSAGE_MAX_CHARS}
    name = {"type": "string", "maxLength": 200, "description": "Who it is from, if told."}
    told = "Take a message. Read it back and have it confirmed first."
    spec = _spec("leave_message", told, {"text": text, "name": name}, required=("text",))
    return Tool(spec=spec, effect="write", run=keep)


def _spec(
    name: str,
    description: str,
    properties: Mapping[str, object],
    required: tuple[str, ...] | None = None,
) -> ToolSpec:
    parameters = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }
    return ToolSpec(name=name, description=description, parameters=parameters)


def _control(use: ToolUse) -> CallControl:
    if use.control is None:
        raise ToolError("this is a chat: there is no call to do that to")
    return use.control


async def _say_goodbye(use: ToolUse) -> str:
    return "the call is ending"


HANG_UP_TOOL = Tool(spec=HANG_UP, effect="terminal", run=_say_goodbye)
