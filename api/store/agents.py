"""Agents and their versions: every change makes one, one of them is what calls get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from api.specs import AgentSpec
from api.store import tables
from api.store.database import Actor, Tx
from api.store.errors import InUse, InvalidReference, NotFound, User
from api.store.records import (
    Page,
    check_revision,
    hold,
    new_id,
    note,
    page_of,
    set_uses,
    users_of,
)
from api.store.stored import changed_fields, read_stored, rewritten

__all__ = [
    "AgentRecord",
    "VersionRecord",
    "create_agent",
    "delete_agent",
    "find_agents",
    "find_versions",
    "get_agent",
    "get_published",
    "get_version",
    "publish_agent",
    "update_agent",
]

RESERVED = {"hang_up", "search_knowledge"}  # functions every agent may have already
AGENTS, VERSIONS = tables.agents.c, tables.agent_versions.c


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent at one of its versions (the latest, unless another was asked for)."""

    id: str
    revision: int
    version: int
    latest_version: int
    published_version: int | None
    created_at_ms: int
    updated_at_ms: int
    spec: AgentSpec


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version, without its content."""

    number: int
    created_at_ms: int
    created_by: str
    is_published: bool


def create_agent(tx: Tx, actor: Actor, spec: AgentSpec) -> AgentRecord:
    """Version 1, published at once: calls can come in.

    Raises:
        InvalidReference: it names something that does not exist, or two functions of one name.
    """
    agent = AgentRecord(new_id("agt"), 1, 1, 1, 1, tx.now_ms, tx.now_ms, spec)
    tx.conn.execute(
        sa.insert(tables.agents).values(
            id=agent.id,
            name=spec.name,
            revision=1,
            latest=1,
            published=1,
            created_at_ms=tx.now_ms,
            updated_at_ms=tx.now_ms,
        )
    )
    _add_version(tx, actor, agent.id, 1, msgspec.json.encode(spec).decode())
    _hold_parts(tx, agent.id, spec.name, [spec])
    note(tx, actor, "agent.created", agent.id)
    return agent


def get_agent(tx: Tx, id: str, version: int | None = None, *, lock: bool = False) -> AgentRecord:
    """An agent at ``version``, by default its latest.

    Raises:
        NotFound: there is no such agent, or no such version of it.
    """
    row = _row(tx, id, lock=lock)
    number = row.latest if version is None else version
    return _record(row, number, _spec(tx, id, number))


def get_published(tx: Tx, id: str) -> AgentRecord:
    """What a new call gets: it keeps this version, whatever is published later.

    Raises:
        NotFound: there is no such agent.
    """
    agent = get_agent(tx, id)
    if agent.published_version in (agent.version, None):
        return agent
    return get_agent(tx, id, agent.published_version)


def get_version(tx: Tx, id: str, number: int) -> tuple[VersionRecord, AgentSpec]:
    """
    Raises:
        NotFound: there is no such agent, or no such version of it.
    """
    agent = get_agent(tx, id, number)
    row = tx.conn.execute(
        sa.select(tables.agent_versions).where(VERSIONS.agent_id == id, VERSIONS.number == number)
    ).one()
    return _version(row, agent.published_version), agent.spec


def find_agents(
    tx: Tx, limit: int, offset: int, name: str | None = None, uses: str | None = None
) -> Page[AgentRecord]:
    """A page of agents whose name contains ``name`` and which use the resource ``uses``."""
    query = (
        sa.select(tables.agents, VERSIONS.spec)
        .join(
            tables.agent_versions,
            sa.and_(VERSIONS.agent_id == AGENTS.id, VERSIONS.number == AGENTS.latest),
        )
        .order_by(AGENTS.created_at_ms.desc(), AGENTS.id)
    )
    if name is not None:
        query = query.where(AGENTS.name.icontains(name, autoescape=True))
    if uses is not None:
        held = tables.uses.c
        users = sa.select(held.user_id).where(held.user_kind == "agent", held.used_id == uses)
        query = query.where(AGENTS.id.in_(users))

    def make(row: sa.Row[Any]) -> AgentRecord:
        return _record(row, row.latest, read_stored(row.spec, AgentSpec, row.id))

    return page_of(tx, query, limit, offset, make)


def find_versions(tx: Tx, id: str, limit: int, offset: int) -> Page[VersionRecord]:
    """A page of one agent's versions, the newest first.

    Raises:
        NotFound: there is no such agent.
    """
    published = get_agent(tx, id).published_version
    query = (
        sa.select(tables.agent_versions)
        .where(VERSIONS.agent_id == id)
        .order_by(VERSIONS.number.desc())
    )
    return page_of(tx, query, limit, offset, lambda row: _version(row, published))


def update_agent(
    tx: Tx,
    actor: Actor,
    id: str,
    revision: int | None,
    change: Callable[[AgentSpec], AgentSpec],
    *,
    publish: bool,
) -> AgentRecord:
    """Make a version of what ``change`` makes of the latest; none if that is the same.

    What this node does not know of the latest is in the new one too.

    Raises:
        NotFound, RevisionChanged, InvalidReference; what ``change`` raises.
    """
    old = get_agent(tx, id, lock=True)
    check_revision(old.revision, revision)
    spec = change(old.spec)
    number = old.latest_version
    if changed := changed_fields(old.spec, spec):
        text = rewritten(_text(tx, id, number), spec, changed)
        number += 1
        _add_version(tx, actor, id, number, text)
        note(tx, actor, "agent.updated", id, changed)
    published = number if publish else old.published_version
    if (number, published) == (old.latest_version, old.published_version):
        return old
    return _move(tx, actor, old, number, published)


def publish_agent(
    tx: Tx, actor: Actor, id: str, revision: int | None, version: int | None
) -> AgentRecord:
    """Let new calls get ``version``, by default the latest: forward, or back.

    Raises:
        NotFound, RevisionChanged.
        InvalidReference: that version names something that no longer exists.
    """
    old = get_agent(tx, id, lock=True)
    check_revision(old.revision, revision)
    version = old.latest_version if version is None else version
    if version == old.published_version:
        return old
    return _move(tx, actor, old, old.latest_version, version)


def delete_agent(tx: Tx, actor: Actor, id: str, revision: int | None = None) -> None:
    """
    Raises:
        NotFound, RevisionChanged.
        InUse: something holds on to it.
    """
    check_revision(_row(tx, id, lock=True).revision, revision)
    if users := users_of(tx, "agent", id):
        raise InUse("agent", id, users)
    tx.conn.execute(sa.delete(tables.agents).where(AGENTS.id == id))
    set_uses(tx, User(kind="agent", id=id, name=""), ())
    note(tx, actor, "agent.deleted", id)


def _move(
    tx: Tx, actor: Actor, old: AgentRecord, latest: int, published: int | None
) -> AgentRecord:
    """Set which versions are the latest and the published one."""
    spec = _spec(tx, old.id, latest)
    held = [spec]
    if published is not None and published != latest:
        held.append(_spec(tx, old.id, published))
    _hold_parts(tx, old.id, spec.name, held)
    tx.conn.execute(
        sa.update(tables.agents)
        .where(AGENTS.id == old.id)
        .values(
            name=spec.name,
            revision=old.revision + 1,
            latest=latest,
            published=published,
            updated_at_ms=tx.now_ms,
        )
    )
    if published != old.published_version:
        note(tx, actor, "agent.published", old.id, [f"version {published}"])
    return AgentRecord(
        old.id, old.revision + 1, latest, latest, published, old.created_at_ms, tx.now_ms, spec
    )


def _add_version(tx: Tx, actor: Actor, id: str, number: int, spec: str) -> None:
    tx.conn.execute(
        sa.insert(tables.agent_versions).values(
            agent_id=id,
            number=number,
            spec=spec,
            created_at_ms=tx.now_ms,
            created_by=actor.id,
        )
    )


def _hold_parts(tx: Tx, id: str, name: str, specs: list[AgentSpec]) -> None:
    """Hold on to all that ``specs`` (the latest version, then the published one) name."""
    used: list[tuple[str, str]] = []
    for spec in specs:
        functions = {id: f"function_ids[{n}]" for n, id in enumerate(spec.function_ids)}
        bases = {id: f"knowledgebase_ids[{n}]" for n, id in enumerate(spec.knowledgebase_ids)}
        keys = {
            choice.secret: f"{role}[{n}].secret"
            for role in ("stt", "llm", "tts")
            for n, choice in enumerate(getattr(spec, role))
            if choice.secret is not None
        }
        is_list = isinstance(spec.speech_model, tuple)
        for n, choice in enumerate(spec.speech_models):
            if choice.secret is not None:
                place = f"[{n}]" if is_list else ""
                keys.setdefault(choice.secret, f"speech_model{place}.secret")
        if spec.analysis is not None:
            for n, choice in enumerate(spec.analysis.llm):
                if choice.secret is not None:
                    keys.setdefault(choice.secret, f"analysis.llm[{n}].secret")
        colleagues = {
            each.agent_id: f"colleagues.{name}.agent_id"
            for name, each in spec.colleagues.items()
            if each.agent_id != id  # one's own other self goes with it
        }
        hold(tx, tables.agents.c.id, colleagues)
        hold(tx, tables.functions.c.id, functions)
        hold(tx, tables.knowledge_bases.c.id, bases)
        hold(tx, tables.secrets.c.name, keys)
        _check_names(tx, spec)
        used += [("function", each) for each in functions]
        used += [("knowledgebase", each) for each in bases]
        used += [("secret", each) for each in keys]
        used += [("agent", each) for each in colleagues]
    set_uses(tx, User(kind="agent", id=id, name=name), used)


def _check_names(tx: Tx, spec: AgentSpec) -> None:
    """A model calls a function by its name: one agent cannot have two of the same."""
    columns = tables.functions.c
    query = sa.select(columns.id, columns.name).where(columns.id.in_(spec.function_ids))
    names = {row.id: row.name for row in tx.conn.execute(query)}
    seen = set(RESERVED)
    for number, id in enumerate(spec.function_ids):
        if names[id] in seen:
            raise InvalidReference(
                f"function_ids[{number}]", f"the agent has a function {names[id]} already"
            )
        seen.add(names[id])


def _row(tx: Tx, id: str, *, lock: bool) -> sa.Row[Any]:
    query = sa.select(tables.agents).where(AGENTS.id == id)
    row = tx.conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("agent", id)
    return row


def _spec(tx: Tx, id: str, number: int) -> AgentSpec:
    return read_stored(_text(tx, id, number), AgentSpec, id)


def _text(tx: Tx, id: str, number: int) -> str:
    query = sa.select(VERSIONS.spec).where(VERSIONS.agent_id == id, VERSIONS.number == number)
    text: str | None = tx.conn.scalar(query)
    if text is None:
        raise NotFound(f"agent {id} version", str(number))
    return text


def _record(row: sa.Row[Any], version: int, spec: AgentSpec) -> AgentRecord:
    return AgentRecord(
        row.id,
        row.revision,
        version,
        row.latest,
        row.published,
        row.created_at_ms,
        row.updated_at_ms,
        spec,
    )


def _version(row: sa.Row[Any], published: int | None) -> VersionRecord:
    return VersionRecord(row.number, row.created_at_ms, row.created_by, row.number == published)
