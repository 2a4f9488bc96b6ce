"""From what is stored to an agent that talks: the way every call and every chat begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from api.specs import AgentPlan, AgentSpec, FunctionSpec, KnowledgeBaseSpec, definition_of
from api.store import Store, Tx
from api.store.agents import AgentRecord, get_agent, get_published
from api.store.functions import FUNCTIONS
from api.store.knowledge import KNOWLEDGE_BASES
from api.store.passages import Hit
from api.store.records import Record
from api.store.secrets import open_secrets
from api.tools import TRANSFER, function_tool, knowledge_tool, transfer_tool
from api.webhooks import Webhooks
from rtcore.agent.absent import ABSENT
from rtcore.agent.agent import Agent
from rtcore.errors import ConfigError
from rtcore.ports import Responder

__all__ = ["AgentFactory", "BoundAgent", "bind_agent", "bind_responder"]

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


def _load(tx: Tx, id: str, version: int | None) -> _Parts:
    record = get_published(tx, id) if version is None else get_agent(tx, id, version)
    spec = record.spec
    functions = FUNCTIONS.get_all(tx, spec.function_ids)
    speech = (spec.speech_model,) if spec.speech_model is not None else ()
    wanted = [choice.secret for choice in (*spec.stt, *spec.llm, *spec.tts, *speech)]
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
) -> BoundAgent:
    """The agent ``id`` at ``version``, by default the published one, ready to talk.

    ``found`` is told what the agent looks up.

    Raises:
        NotFound: there is no such agent or version.
        VaultLocked: a secret of it cannot be opened.
        StoreUnavailable: the database did not answer.
    """
    parts = await store.read(_load, id, version)
    spec = parts.record.spec
    plan = AgentPlan(
        definition=definition_of(spec),
        stt=spec.stt,
        llm=spec.llm,
        tts=spec.tts,
        speech_model=spec.speech_model,
        secrets=parts.secrets,
    )
    agent = agent_for(plan)
    tools = [
        function_tool(each.spec, parts.secrets.get(each.spec.secret or ""), webhooks)
        for each in parts.functions
    ]
    if parts.bases:
        tools.append(knowledge_tool(store, parts.bases, found))
    if spec.transfer_targets and TRANSFER not in [tool.name for tool in tools]:
        tools.append(transfer_tool(spec.transfer_targets))
    bound = dataclasses.replace(agent, tools=(*agent.tools, *tools))
    return BoundAgent(bound, id, parts.record.version)


async def bind_responder(store: Store, agent_for: AgentFactory, spec: AgentSpec) -> Responder:
    """The model that analyses the calls of an agent: the one its analysis names, or its own.

    Raises:
        ConfigError: it cannot be used, or there is none.
        VaultLocked: a secret of it cannot be opened.
        StoreUnavailable: the database did not answer.
    """
    own = spec.analysis.llm if spec.analysis is not None else ()
    minds = own or spec.llm
    speech = (spec.speech_model,) if spec.speech_model is not None else ()
    names = {choice.secret for choice in (*spec.stt, *minds, *spec.tts, *speech)} - {None}
    secrets = await store.read(open_secrets, [name for name in names if name is not None])
    plan = AgentPlan(
        definition=definition_of(spec),
        stt=spec.stt,
        llm=minds,
        tts=spec.tts,
        speech_model=spec.speech_model,
        secrets=secrets,
    )
    responder = agent_for(plan).responder
    if responder is ABSENT:
        raise ConfigError("analysis.llm", "names no provider, and the agent has none itself")
    return responder
