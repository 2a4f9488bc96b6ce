"""Text conversations with an agent: each keeps the version it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound
from api.store.records import new_id, note
from api.store.tables import chats, deliveries, messages
from rtcore.ports import Message

__all__ = [
    "ChatRecord",
    "begin_chat",
    "erase_chat",
    "erase_chats_with",
    "get_chat",
    "is_chat",
    "save_chat",
]

PREFIX = "cht"


@dataclass(frozen=True, slots=True)
class ChatRecord:
    """A conversation up to now; ``revision`` is 0 before it is saved for the first time."""

    id: str
    agent_id: str
    version: int
    revision: int
    log: tuple[Message, ...]
    has_ended: bool
    variables: Mapping[str, str] = field(default_factory=dict)
    handed_to: tuple[str, ...] = ()  # names, each a colleague of the one before


def is_chat(id: str) -> bool:
    """Whether ``id`` is that of a conversation, not of a call."""
    return id.startswith(f"{PREFIX}_")


def begin_chat(agent_id: str, version: int, variables: Mapping[str, str]) -> ChatRecord:
    """A new conversation; nothing is stored until its first answer."""
    return ChatRecord(new_id(PREFIX), agent_id, version, 0, (), False, dict(variables))


def get_chat(tx: Tx, agent_id: str, id: str, keep_ms: int) -> ChatRecord:
    """
    Raises:
        NotFound: there is none with this agent, or nothing was said for ``keep_ms``.
    """
    query = sa.select(chats).where(chats.c.id == id, chats.c.agent_id == agent_id)
    row = tx.conn.execute(query).one_or_none()
    if row is None or row.updated_at_ms < tx.now_ms - keep_ms:
        raise NotFound("conversation", id)
    log = msgspec.json.decode(row.log, type=tuple[Message, ...])
    variables = msgspec.json.decode(row.variables or "{}", type=dict[str, str])
    handed_to = msgspec.json.decode(row.colleague or "[]", type=tuple[str, ...])
    return ChatRecord(
        id, agent_id, row.version, row.revision, log, bool(row.has_ended), variables, handed_to
    )


def erase_chat(tx: Tx, actor: Actor, agent_id: str, id: str) -> None:
    """Erase a conversation, and what its user asked the agent to pass on.

    Raises:
        NotFound: there is none with this agent.
    """
    gone = sa.delete(chats).where(chats.c.id == id, chats.c.agent_id == agent_id)
    if not tx.conn.execute(gone).rowcount:
        raise NotFound("conversation", id)
    _forget_told(tx, [id])
    note(tx, actor, "chat.erased", id)


def erase_chats_with(tx: Tx, actor: Actor, text: str) -> None:
    """Erase the conversations in which ``text`` is: in what was said, or among the variables."""
    has_it = sa.or_(
        chats.c.log.contains(text, autoescape=True),
        chats.c.variables.contains(text, autoescape=True),
    )
    ids = tx.conn.scalars(sa.delete(chats).where(has_it).returning(chats.c.id)).all()
    _forget_told(tx, ids)
    for id in ids:
        note(tx, actor, "chat.erased", id)


def _forget_told(tx: Tx, ids: Sequence[str]) -> None:
    """What these asked an agent to pass on, and what others were to be told of that."""
    tx.conn.execute(sa.delete(messages).where(messages.c.call_id.in_(ids)))
    tx.conn.execute(sa.delete(deliveries).where(deliveries.c.subject_id.in_(ids)))


def save_chat(tx: Tx, chat: ChatRecord, keep_ms: int) -> None:
    """Store ``chat`` as it is after an answer, and forget those that nobody has gone on with.

    Raises:
        Conflict: another message of the same conversation was answered meanwhile.
        NotFound: its agent has been deleted meanwhile.
    """
    tx.conn.execute(sa.delete(chats).where(chats.c.updated_at_ms < tx.now_ms - keep_ms))
    row = {
        "revision": chat.revision + 1,
        "log": msgspec.json.encode(chat.log).decode(),
        "has_ended": int(chat.has_ended),
        "variables": msgspec.json.encode(chat.variables).decode(),
        "colleague": msgspec.json.encode(chat.handed_to).decode(),
        "updated_at_ms": tx.now_ms,
    }
    if chat.revision:
        updated = tx.conn.execute(
            sa.update(chats)
            .where(chats.c.id == chat.id, chats.c.revision == chat.revision)
            .values(**row)
        )
        if not updated.rowcount:
            raise Conflict("another message of this conversation was answered first: ask again")
        return
    try:
        tx.conn.execute(
            sa.insert(chats).values(
                id=chat.id,
                agent_id=chat.agent_id,
                version=chat.version,
                created_at_ms=tx.now_ms,
                **row,
            )
        )
    except IntegrityError as exc:
        raise NotFound("agent", chat.agent_id) from exc
