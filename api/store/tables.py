"""The tables, for both databases. Times are integers: milliseconds since 1970, UTC.

What is searched by full text is not here: SQLite's FTS5 table and PostgreSQL's generated
``tsvector`` column are made by the migrations and asked by :mod:`api.store.passages`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = [
    "agent_versions",
    "agents",
    "analyses",
    "api_keys",
    "audit",
    "call_notes",
    "call_streams",
    "calls",
    "campaign_attempts",
    "campaign_targets",
    "campaigns",
    "chats",
    "commands",
    "deliveries",
    "do_not_call",
    "documents",
    "functions",
    "idempotency",
    "knowledge_bases",
    "messages",
    "metadata",
    "nodes",
    "numbers",
    "passage_vectors",
    "passages",
    "recordings",
    "secrets",
    "uses",
    "webhooks",
]

ID_CHARS = 40
SERIAL = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only an INTEGER key

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

agents = Table(
    "agents",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),  # of the latest version
    Column("revision", Integer, nullable=False),  # counts every change, publishing too
    Column("latest", Integer, nullable=False),
    Column("published", Integer),  # what calls get; null: nothing yet
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

agent_versions = Table(
    "agent_versions",
    metadata,
    Column("agent_id", ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Column("created_by", String(ID_CHARS), nullable=False),
)

functions = Table(
    "functions",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column(
        "knowledge_base_id",
        ForeignKey("knowledge_bases.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("name", Text, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("state", String(20), nullable=False),  # waiting, indexing, ready, failed
    Column("progress_percent", Integer, nullable=False),
    Column("passage_count", Integer, nullable=False),
    Column("error", Text),
    Column("claimed_until_ms", BigInteger, nullable=False),  # by the node that indexes it
    Column("created_at_ms", BigInteger, nullable=False),
    Index("ix_documents_state", "state"),
)

passages = Table(
    "passages",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column(
        "document_id",
        ForeignKey("documents.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("knowledge_base_id", String(ID_CHARS), nullable=False, index=True),
    Column("position", Integer, nullable=False),  # from 0 within the document
    Column("heading", Text, nullable=False),
    Column("text", Text, nullable=False),
)

passage_vectors = Table(  # what passages mean, where their knowledge base wants that
    "passage_vectors",
    metadata,
    Column("passage_id", ForeignKey("passages.id", ondelete="CASCADE"), primary_key=True),
    Column("knowledge_base_id", String(ID_CHARS), nullable=False, index=True),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian, of length one
)

uses = Table(  # who holds on to what: the reason why a deletion is refused
    "uses",
    metadata,
    Column("user_kind", String(20), primary_key=True),
    Column("user_id", String(ID_CHARS), primary_key=True),
    Column("used_kind", String(20), primary_key=True),
    Column("used_id", String(100), primary_key=True),
    Column("user_name", Text, nullable=False),
    Index("ix_uses_used_kind_used_id", "used_kind", "used_id"),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
)

audit = Table(
    "audit",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("actor", String(ID_CHARS), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("action", String(60), nullable=False),
    Column("resource_id", String(100), nullable=False, index=True),
    Column("fields", Text, nullable=False),  # JSON: the names of what changed, never a value
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("api_key_id", String(ID_CHARS), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", LargeBinary),  # null while the first request runs
    Column("created_at_ms", BigInteger, nullable=False, index=True),
)

chats = Table(
    "chats",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("agent_id", ForeignKey("agents.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("version", Integer, nullable=False),  # a chat keeps the version it began with
    Column("revision", Integer, nullable=False),
    Column("log", Text, nullable=False),  # JSON
    Column("variables", Text),  # JSON; null: none
    Column("colleague", Text),  # JSON: the names of those it was handed to; null: none
    Column("has_ended", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False, index=True),
)

calls = Table(  # what only the carrier and this call's own life decide; no agent holds on to it
    "calls",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("direction", String(10), nullable=False),
    Column("agent_id", String(ID_CHARS), nullable=False, index=True),
    Column("agent_version", Integer, nullable=False),  # a call keeps the version it began with
    Column("from_number", Text, nullable=False, index=True),
    Column("to_number", Text, nullable=False, index=True),
    Column("state", String(20), nullable=False),
    Column("carrier_id", String(64), unique=True),  # null until a callback names it
    Column("request_id", String(64)),  # what the carrier answered to our request
    Column("plan", Text, nullable=False),  # JSON: variables, what to do about a machine
    Column("is_machine", Integer, nullable=False),
    Column("transfer", Text),  # JSON: the last one that was asked for
    Column("media_nonce", String(64)),  # of the one token that may open the next stream
    Column("streams", Integer, nullable=False),  # opened so far
    Column("hangup", Text),  # JSON: what the carrier said of the end
    Column("created_at_ms", BigInteger, nullable=False, index=True),
    Column("answered_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger, index=True),
    Column("node_id", String(ID_CHARS), index=True),  # that holds a stream of it; null: none does
)

call_streams = Table(  # what we know of a call: a record for each of its media streams
    "call_streams",
    metadata,
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),  # JSON
    Column("is_final", Integer, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),  # of one that goes on: its pulse
    Column("has_words", Integer, nullable=False, server_default="1"),  # 0: they were erased
)

call_notes = Table(  # what happened in a stream that goes on; its final record has them all
    "call_notes",
    metadata,
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, primary_key=True, autoincrement=False),  # counts the notes before
    Column("notes", Text, nullable=False),  # JSON
)

recordings = Table(  # a row outlives its call until the file is gone, wherever that is
    "recordings",
    metadata,
    Column("call_id", String(ID_CHARS), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # of the stream
    Column("folder", String(ID_CHARS), nullable=False),  # its id: nodes may share one
    Column("name", Text, nullable=False),  # of the file, within the folder
    Column("state", String(20), nullable=False),  # running, kept, erasing
    Column("samples", BigInteger, nullable=False),  # at 8000 Hz; 0 while it runs
    Column("dropped_samples", BigInteger, nullable=False),  # of them, made silent for the disk
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_recordings_folder_state", "folder", "state"),
)

numbers = Table(
    "numbers",
    metadata,
    Column("number", String(ID_CHARS), primary_key=True),  # E.164, digits alone
    Column("agent_id", String(ID_CHARS), nullable=False, index=True),
    Column("app_id", String(64), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

analyses = Table(  # what is made of a call once it is over
    "analyses",
    metadata,
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("agent_id", String(ID_CHARS), nullable=False),
    Column("agent_version", Integer, nullable=False),  # whose wishes are followed
    Column("state", String(20), nullable=False),  # waiting, done, failed
    Column("attempts", Integer, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),  # while somebody is at it: until when
    Column("result", Text, nullable=False),  # JSON: what has been found so far
    Column("requested_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_analyses_state_due_at_ms", "state", "due_at_ms"),
)

webhooks = Table(  # who is told of what happens
    "webhooks",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("sealed", LargeBinary),  # the secret that signs; written right after the row
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
)

deliveries = Table(  # what one of them is to be told; written with what it tells of
    "deliveries",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", String(ID_CHARS), nullable=False),
    Column("event", String(40), nullable=False),
    Column("subject_id", String(ID_CHARS), nullable=False, index=True),  # the call, say
    Column("body", LargeBinary, nullable=False),
    Column("state", String(20), nullable=False),  # waiting, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("due_at_ms", BigInteger, nullable=False),  # while somebody is at it: until when
    Column("error", Text, nullable=False),  # of the last attempt; empty: none, or it went well
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_deliveries_state_due_at_ms", "state", "due_at_ms"),
    Index("ix_deliveries_webhook_id_created_at_ms", "webhook_id", "created_at_ms"),
)

messages = Table(  # what callers asked an agent to pass on
    "messages",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("agent_id", String(ID_CHARS), nullable=False, index=True),
    Column("call_id", String(ID_CHARS), nullable=False, index=True),  # or the conversation's
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("key", String(200), nullable=False, unique=True),  # the same however often it is kept
    Column("created_at_ms", BigInteger, nullable=False, index=True),
)

nodes = Table(  # those that are up; one that says nothing any more is taken out by another
    "nodes",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),  # of one process, never used again
    Column("url", Text, nullable=False),  # of its media; empty: only through the public URL
    Column("started_at_ms", BigInteger, nullable=False),
    Column("heartbeat_at_ms", BigInteger, nullable=False),  # by the database's clock
    Column("calls", Integer, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("has_room", Integer, nullable=False),
    Column("is_draining", Integer, nullable=False),
)

commands = Table(  # from node to node; a row lives for seconds
    "commands",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("node_id", String(ID_CHARS), nullable=False, index=True),
    Column("from_node_id", String(ID_CHARS), nullable=False),  # empty: no answer is wanted
    Column("body", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    Column("claimed_at_ms", BigInteger),  # null until the node has taken it, which it does once
    Column("expires_at_ms", BigInteger, nullable=False),  # nobody waits any more: not to be done
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("spec", Text, nullable=False),  # JSON
    Column("state", String(20), nullable=False, default="draft"),
    Column("reason", Text, nullable=False, default=""),  # why it paused by itself
    Column("dialled_at_ms", BigInteger, nullable=False, default=0),  # last; for its own pace
    Column("resumed_at_ms", BigInteger, nullable=False, default=0),  # older failures are forgiven
    Column("started_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Index("ix_campaigns_state", "state"),
)

campaign_targets = Table(
    "campaign_targets",
    metadata,
    Column("id", String(ID_CHARS), primary_key=True),
    Column("campaign_id", ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),  # from 0 within the campaign
    Column("number", String(ID_CHARS), nullable=False),  # E.164, digits alone
    Column("time_zone", String(64)),  # null: the campaign's
    Column("variables", Text, nullable=False),  # JSON
    Column("state", String(20), nullable=False),  # waiting, dialling, done
    Column("outcome", String(20)),  # of the newest attempt, or why there was none
    Column("attempts", Integer, nullable=False),  # made, that are over
    Column("not_before_ms", BigInteger, nullable=False),  # after the last attempt
    Column("due_at_ms", BigInteger, nullable=False),  # the same, or when its hours come next
    Column("updated_at_ms", BigInteger, nullable=False),
    UniqueConstraint("campaign_id", "number"),
    Index("ix_campaign_targets_due", "campaign_id", "state", "due_at_ms", "position"),
    Index("ix_campaign_targets_number_state", "number", "state"),
)

campaign_attempts = Table(  # one row for each time the carrier was, or may have been, asked
    "campaign_attempts",
    metadata,
    Column("call_id", String(ID_CHARS), primary_key=True),
    Column("campaign_id", ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("target_id", String(ID_CHARS), nullable=False),
    Column("ordinal", Integer, nullable=False),  # from 1 within the target
    Column("number", String(ID_CHARS), nullable=False),
    Column("node", String(ID_CHARS), nullable=False),  # the process that claimed it
    Column("is_open", Integer, nullable=False),
    Column("leased_until_ms", BigInteger, nullable=False),  # by whoever asks the carrier now
    Column("hang_up_at_ms", BigInteger),  # when to end it (again); null: nobody wants that
    Column("outcome", String(20)),  # not_made: known not to have been
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    UniqueConstraint("target_id", "ordinal"),  # no attempt is begun twice
    Index("ix_campaign_attempts_campaign_id_is_open", "campaign_id", "is_open"),
    Index("ix_campaign_attempts_is_open", "is_open"),
    Index(  # a number is in one attempt at a time, whatever the campaigns
        "ix_campaign_attempts_number",
        "number",
        unique=True,
        sqlite_where=text("is_open = 1"),
        postgresql_where=text("is_open = 1"),
    ),
)

do_not_call = Table(
    "do_not_call",
    metadata,
    Column("number", String(ID_CHARS), primary_key=True),  # E.164, digits alone
    Column("source", String(10), nullable=False),  # api, agent
    Column("note", Text, nullable=False),
    Column("call_id", String(ID_CHARS), index=True),  # in which it was asked for
    Column("created_at_ms", BigInteger, nullable=False, index=True),
    Column("created_by", String(ID_CHARS), nullable=False),
)
