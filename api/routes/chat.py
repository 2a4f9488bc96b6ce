"""``/v1/agents/{id}/chat``: talk to an agent in text, through the code that serves its calls."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response, g, request

from api.binding import BoundAgent, bind_agent
from api.chatting import ChatEvent, Emit, FunctionReturned, reply_to, resumed
from api.routes.agents import VERSION_MAX
from api.routes.knowledge import SourceView, source_view
from api.store.chats import ChatRecord, begin_chat, erase_chat, get_chat, save_chat
from api.store.errors import Conflict
from api.store.passages import Hit
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import STORE_ERRORS, ApiError, as_problem, from_store
from api.web.services import Services, services
from api.web.streams import Send, event_stream
from rtcore.agent.absent import ABSENT
from rtcore.agent.agent import Agent
from rtcore.errors import ProviderError

__all__ = ["blueprint"]

VariableName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
blueprint = Blueprint("chat", __name__, url_prefix="/v1/agents")


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user says; ``conversation_id`` goes on with a conversation."""

    message: Annotated[str, Meta(min_length=1, max_length=4000)]
    conversation_id: (
        Annotated[str, Meta(pattern=r"^cht_[0-9a-f]{24}\Z", description="Left out: a new one.")]
        | None
    ) = None
    variables: Annotated[
        dict[VariableName, Annotated[str, Meta(max_length=2000)]],
        Meta(
            max_length=50,
            description="For prompt and greeting: `{name}`. The conversation keeps them.",
        ),
    ] = {}
    version: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=VERSION_MAX,
                description="Of the agent, for a new conversation; left out: the published one.",
            ),
        ]
        | None
    ) = None


class ChatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent says, what it called, and what it looked up."""

    conversation_id: str
    version: int
    response: str
    functions: list[FunctionReturned]
    sources: list[SourceView]
    handed_to: Annotated[str, Meta(description="The colleague who goes on, if that changed.")] = ""
    has_ended: Annotated[bool, Meta(description="The agent said goodbye: begin a new one.")]
    input_tokens: int
    output_tokens: int


@operation(
    blueprint,
    "POST",
    "/<id:agent_id>/chat",
    Operation(
        summary="Say something to an agent; answers as JSON, or as events when asked for them",
        scope="calls",
        body=ChatRequest,
        returns={200: ChatAnswer},
        problems=(409, 502, 504),
        streams=True,
    ),
)
async def chat(agent_id: str, body: ChatRequest) -> Answer | Response:
    own, found = services(), list[Hit]()
    chat, bound = await _begin(own, agent_id, body, found)
    if request.accept_mimetypes.best == "text/event-stream":
        request_id = g.request_id

        async def work(send: Send) -> None:
            async def emit(event: ChatEvent) -> None:
                await send(str(event.__struct_config__.tag), event)

            try:
                await send("answer", await _answer(own, chat, bound, body.message, found, emit))
            except ApiError as exc:
                await send("problem", as_problem(exc, request_id))
            except STORE_ERRORS as exc:
                await send("problem", as_problem(from_store(exc), request_id))

        return event_stream(work)
    return Answer(await _answer(own, chat, bound, body.message, found, _nowhere))


@operation(
    blueprint,
    "DELETE",
    "/<id:agent_id>/chat/<id:conversation_id>",
    Operation(summary="Erase a conversation", scope="calls", returns={204: None}),
)
async def erase(agent_id: str, conversation_id: str) -> Answer:
    store = services().store
    await store.write(erase_chat, actor(), agent_id, conversation_id)
    await store.settle()
    return Answer(status=204)


async def _nowhere(event: ChatEvent) -> None:
    """An answer in one piece needs no events."""


async def _begin(
    own: Services, agent_id: str, body: ChatRequest, found: list[Hit]
) -> tuple[ChatRecord, BoundAgent]:
    """The conversation and the agent at the version that conversation keeps."""
    chat, version = None, body.version
    if body.conversation_id is not None:
        keep_ms = int(own.settings.chat_idle_limit_s * 1000)
        chat = await own.store.read(get_chat, agent_id, body.conversation_id, keep_ms)
        if chat.has_ended:
            raise Conflict("the agent has ended this conversation: begin a new one")
        if sum(each.role == "user" for each in chat.log) >= own.settings.chat_turns_max:
            raise Conflict("this conversation is too long: begin a new one")
        version = chat.version
    bound = await bind_agent(
        own.store, own.webhooks, own.agent_for, agent_id, version, found.extend, own.meanings
    )
    if bound.agent.responder is ABSENT:
        raise Conflict("the agent has a speech model and no llm: give it one to chat with")
    if chat is None:
        return begin_chat(agent_id, bound.version, body.variables), bound
    return dataclasses.replace(chat, variables={**chat.variables, **body.variables}), bound


async def _answer(
    own: Services,
    chat: ChatRecord,
    bound: BoundAgent,
    message: str,
    found: list[Hit],
    emit: Emit,
) -> ChatAnswer:
    """
    Raises:
        ApiError: 502 the model failed, 504 it took too long.
        Conflict: another message was answered meanwhile.
    """
    variables = {"call_id": chat.id, "direction": "chat", **chat.variables}
    agent = _who_goes_on(bound.agent.for_call(variables), chat.handed_to)
    conversation = resumed(agent.definition.prompt, chat.log)
    try:
        reply = await reply_to(agent, own.call_config, conversation, message, chat.id, emit)
    except* ProviderError as group:
        raise ApiError(HTTPStatus.BAD_GATEWAY, _reason(group)) from None
    except* trio.TooSlowError:
        raise ApiError(HTTPStatus.GATEWAY_TIMEOUT, "the agent took too long: try again") from None
    handed_to, said = chat.handed_to, reply.text
    if reply.handed_to:
        welcome = agent.colleagues[reply.handed_to].agent.definition.welcome_message
        conversation.assistant(welcome)
        handed_to, said = (*handed_to, reply.handed_to), f"{said} {welcome}".strip()
    after = dataclasses.replace(
        chat, log=conversation.log, has_ended=reply.has_ended, handed_to=handed_to
    )
    await own.store.write(save_chat, after, int(own.settings.chat_idle_limit_s * 1000))
    return ChatAnswer(
        conversation_id=chat.id,
        version=bound.version,
        response=said,
        functions=reply.functions,
        sources=[source_view(hit) for hit in _once(found)],
        handed_to=reply.handed_to,
        has_ended=reply.has_ended,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
    )


def _who_goes_on(agent: Agent, handed_to: tuple[str, ...]) -> Agent:
    """Who has the conversation by now; a colleague that is gone leaves it with the one before."""
    for name in handed_to:
        if name in agent.colleagues:
            agent = agent.colleagues[name].agent
    return agent


def _once(found: list[Hit]) -> list[Hit]:
    """Each passage once: it may have been looked up and asked for."""
    return list({(hit.document_id, hit.position): hit for hit in found}.values())


def _reason(group: BaseExceptionGroup[ProviderError]) -> str:
    """Which service failed, without its words: they may quote a key or a prompt."""
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, ProviderError)
    hope = "try again" if first.retryable else "check its settings"
    return f"{first.provider} did not answer: {hope}"
