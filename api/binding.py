"""From what is stored to an agent that talks: the way every call and every chat begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from api.meaning import Meanings
from api.messages import LEAVE_MESSAGE, message_tool
from api.specs import AgentPlan, AgentSpec, FunctionSpec, KnowledgeBaseSpec, definition_of
from api.store import Store, Tx
from api.store.agents import AgentRecord, get_agent, get_published
from api.store.errors import AgentUnusable
from api.store.functions import FUNCTIONS
from api.store.knowledge import KNOWLEDGE_BASES
from api.store.passages import Hit
from api.store.records import Record
from api.store.secrets import open_secrets
from api.tools import (
    TRANSFER,
    StoreKnowledge,
    function_tool,
    knowledge_tool,
    transfer_tool,
)
from api.webhooks import Webhooks
from rtcore.agent.absent import ABSENT
from rtcore.agent.agent import Agent, Colleague
from rtcore.errors import ConfigError
from rtcore.ports import Responder

__all__ = ["AgentFactory", "BoundAgent", "bind_agent", "bind_responder"]

COLLEAGUES_MAX = 20  # that one call can be handed on to, all in all

log = structlog.get_logger()

AgentFactory = Callable[[AgentPlan], Agent]
"""Fills an agent's ports for one call or chat; shares its clients between them, and is quick."""


@dataclass(frozen=True, slots=True)
class BoundAgent:
    """An agent with its functions and knowledge, and the version of it that was bound."""

    agent: Agent
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class _Parts:
    record: AgentRecord
    functions: tuple[Record[FunctionSpec], ...]
    bases: tuple[Record[KnowledgeBaseSpec], ...]
    secrets: dict[str, str]


def _load(tx: Tx, id: str, version: int | None) -> dict[str, _Parts]:
    """The agent, first, and all that a call of it can be handed to, at what is published."""
    found = {
        id: _parts(tx, get_published(tx, id) if version is None else get_agent(tx, id, version))
    }
    waiting = [id]
    while waiting:
        for each in found[waiting.pop(0)].record.spec.colleagues.values():
            if each.agent_id not in found and len(found) < COLLEAGUES_MAX:
                found[each.agent_id] = _parts(tx, get_published(tx, each.agent_id))
                waiting.append(each.agent_id)
    return found


def _parts(tx: Tx, record: AgentRecord) -> _Parts:
    spec = record.spec
    functions = FUNCTIONS.get_all(tx, spec.function_ids)
    wanted = [choice.secret for choice in (*spec.stt, *spec.llm, *spec.tts, *spec.speech_models)]
    wanted += [each.spec.secret for each in functions]
    names = {name for name in wanted if name is not None}
    return _Parts(
        record,
        functions,
        KNOWLEDGE_BASES.get_all(tx, spec.knowledgebase_ids),
        open_secrets(tx, names) if names else {},
    )


def _nobody(hits: tuple[Hit, ...]) -> None:
    """A call does not show its sources."""


async def bind_agent(
    store: Store,
    webhooks: Webhooks,
    agent_for: AgentFactory,
    id: str,
    version: int | None = None,
    found: Callable[[tuple[Hit, ...]], None] = _nobody,
    meanings: Meanings | None = None,
) -> BoundAgent:
    """The agent ``id`` at ``version``, by default the published one, ready to talk.

    Its colleagues are bound with it. ``found`` is told what the agent looks up; ``meanings``
    are the app's.

    Raises:
        NotFound: there is no such agent or version.
        AgentUnusable: a provider of it cannot be used. A colleague like that is left out.
        VaultLocked: a secret of it cannot be opened.
        StoreUnavailable: the database did not answer.
    """
    meanings = meanings or Meanings(store)
    all_parts = await store.read(_load, id, version)
    links: dict[str, dict[str, Colleague]] = {each: {} for each in all_parts}
    agents: dict[str, Agent] = {}
    for each, parts in all_parts.items():
        try:
            agents[each] = _bind(store, webhooks, agent_for, parts, links[each], found, meanings)
        except AgentUnusable:
            if each == id:
                raise
    for each, agent in agents.items():  # who may be each other's: joined once all are there
        for name, colleague in all_parts[each].record.spec.colleagues.items():
            other = agents.get(colleague.agent_id)
            if other is None or not _may_take_over(agent, other):
                log.warning("colleague_left_out", agent_id=each, colleague=name)
                continue
            links[each][name] = Colleague(other, colleague.what_for)
    return BoundAgent(agents[id], id, all_parts[id].record.version)


def _may_take_over(agent: Agent, other: Agent) -> bool:
    """Whether ``other`` can go on with a call of ``agent``; it may have changed since."""
    ours, theirs = agent.speech_model, other.speech_model
    is_alike = (ours and ours.turns) == (theirs and theirs.turns)
    return is_alike and bool(other.definition.welcome_message)


def _bind(
    store: Store,
    webhooks: Webhooks,
    agent_for: AgentFactory,
    parts: _Parts,
    colleagues: dict[str, Colleague],
    found: Callable[[tuple[Hit, ...]], None],
    meanings: Meanings,
) -> Agent:
    """One agent with its functions and its knowledge; ``colleagues`` is filled in later.

    Raises:
        AgentUnusable: a provider of it cannot be used.
    """
    spec = parts.record.spec
    plan = AgentPlan(
        definition=definition_of(spec),
        stt=spec.stt,
        llm=spec.llm,
        tts=spec.tts,
        speech_model=spec.speech_models,
        secrets=parts.secrets,
    )
    try:
        agent = agent_for(plan)
    except ConfigError as exc:
        raise AgentUnusable(parts.record.id, str(exc)) from exc
    tools = [
        function_tool(each.spec, parts.secrets.get(each.spec.secret or ""), webhooks)
        for each in parts.functions
    ]
    knowledge = agent.knowledge
    if parts.bases:
        tools.append(knowledge_tool(meanings, parts.bases, found))
        if agent.speech_model is None:  # such a model has only the function
            knowledge = StoreKnowledge(meanings, parts.bases, found)
    names = {tool.name for tool in tools}
    if spec.transfer_targets and TRANSFER not in names:
        tools.append(transfer_tool(spec.transfer_targets))
    if spec.takes_messages and LEAVE_MESSAGE not in names:
        tools.append(message_tool(store, parts.record.id))
    return dataclasses.replace(
        agent, tools=(*agent.tools, *tools), knowledge=knowledge, colleagues=colleagues
    )


async def bind_responder(store: Store, agent_for: AgentFactory, spec: AgentSpec) -> Responder:
    """The model that analyses the calls of an agent: the one its analysis names, or its own.

    Raises:
        ConfigError: it cannot be used, or there is none.
        VaultLocked: a secret of it cannot be opened.
        StoreUnavailable: the database did not answer.
    """
    own = spec.analysis.llm if spec.analysis is not None else ()
    minds = own or spec.llm
    names = {choice.secret for choice in (*spec.stt, *minds, *spec.tts, *spec.speech_models)} - {
        None
    }
    secrets = await store.read(open_secrets, [name for name in names if name is not None])
    plan = AgentPlan(
        definition=definition_of(spec),
        stt=spec.stt,
        llm=minds,
        tts=spec.tts,
        speech_model=spec.speech_models,
        secrets=secrets,
    )
    responder = agent_for(plan).responder
    if responder is ABSENT:
        raise ConfigError("analysis.llm", "names no provider, and the agent has none itself")
    return responder
