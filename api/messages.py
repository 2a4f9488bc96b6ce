"""What callers ask an agent to pass on: taken down in a call or a chat, kept, and told of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api.outgoing.outbox import tell
from api.store import Store, Tx
from api.store.chats import is_chat
from api.store.errors import NotFound, StoreUnavailable
from api.store.records import Page, new_id, page_of
from api.store.tables import calls, messages
from rtcore.agent.builtins import leave_message
from rtcore.agent.tools import Tool, ToolError, ToolUse

__all__ = ["LEAVE_MESSAGE", "KeptMessage", "find_messages", "keep_message", "message_tool"]

LEAVE_MESSAGE = "leave_message"  # the function's name
COLUMNS = messages.c


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message, as it was confirmed by who left it."""

    id: str
    agent_id: str
    call_id: str  # or the conversation's
    name: str
    text: str
    created_at_ms: int


SHOWN = [COLUMNS[name] for name in KeptMessage.__slots__]


def keep_message(
    tx: Tx, agent_id: str, call_id: str, name: str, text: str, key: str
) -> KeptMessage:
    """Keep a message, once for each ``key``.

    ``call_id`` is the carrier's, or that of a conversation in text.

    Raises:
        NotFound: there is no such call any more: it was erased, and so is this.
    """
    query = sa.select(*SHOWN).where(COLUMNS.key == key)
    row = tx.conn.execute(query).one_or_none()
    if row is not None:
        return _message(row)
    if not is_chat(call_id):
        call_id = _held_call(tx, call_id)
    kept = KeptMessage(
        id=new_id("msg"),
        agent_id=agent_id,
        call_id=call_id,
        name=name,
        text=text,
        created_at_ms=tx.now_ms,
    )
    values = {column.name: getattr(kept, column.name) for column in SHOWN}
    tx.conn.execute(sa.insert(messages).values(key=key, **values))
    told = {"message_id": kept.id, "agent_id": agent_id, "call_id": kept.call_id}
    tell(tx, "message.left", kept.call_id, {**told, "name": name, "text": text})
    return kept


def _held_call(tx: Tx, carrier_id: str) -> str:
    """Our id of a call, which is not erased before this transaction ends."""
    query = sa.select(calls.c.id).where(calls.c.carrier_id == carrier_id)
    id = tx.conn.scalar(query.with_for_update(read=True, key_share=True))
    if id is None:
        raise NotFound("call", carrier_id)
    return str(id)


def find_messages(
    tx: Tx, limit: int, offset: int, agent_id: str | None = None, call_id: str | None = None
) -> Page[KeptMessage]:
    """A page of messages, the newest first."""
    query = sa.select(*SHOWN).order_by(COLUMNS.created_at_ms.desc(), COLUMNS.id)
    if agent_id is not None:
        query = query.where(COLUMNS.agent_id == agent_id)
    if call_id is not None:
        query = query.where(COLUMNS.call_id == call_id)
    return page_of(tx, query, limit, offset, _message)


def message_tool(store: Store, agent_id: str) -> Tool:
    """``leave_message``: what the caller confirmed is kept in the store."""

    async def keep(use: ToolUse) -> str:
        text, name = str(use.arguments["text"]), str(use.arguments.get("name", ""))
        # a later stream of a call counts its replies anew: the words tell its messages apart
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        key = f"{use.key[:150]}-{digest}"
        try:
            await store.write(keep_message, agent_id, use.call_id, name, text, key)
        except NotFound as exc:
            raise ToolError("the message could not be kept: the call has been erased") from exc
        except StoreUnavailable as exc:
            raise ToolError("the message could not be kept: ask the caller to try later") from exc
        return "the message is kept and will be passed on"

    return leave_message(keep)


def _message(row: sa.Row[Any]) -> KeptMessage:
    return KeptMessage(**row._asdict())
