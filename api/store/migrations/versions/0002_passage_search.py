"""Full text search over passages: FTS5 on SQLite, a generated tsvector on PostgreSQL."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

SQLITE = (
    "CREATE VIRTUAL TABLE passages_fts USING fts5("
    " heading, text, content='passages', content_rowid='id', tokenize='porter unicode61')",
    "CREATE TRIGGER passages_after_insert AFTER INSERT ON passages BEGIN"
    " INSERT INTO passages_fts(rowid, heading, text) VALUES (new.id, new.heading, new.text);"
    " END",
    # FTS5 needs the old words to forget a row (SQLite manual, FTS5, 4.4.3)
    "CREATE TRIGGER passages_after_delete AFTER DELETE ON passages BEGIN"
    " INSERT INTO passages_fts(passages_fts, rowid, heading, text)"
    " VALUES ('delete', old.id, old.heading, old.text);"
    " END",
    "INSERT INTO passages_fts(passages_fts) VALUES ('rebuild')",
)
POSTGRES = (
    "ALTER TABLE passages ADD COLUMN words tsvector GENERATED ALWAYS AS ("
    " setweight(to_tsvector('english', heading), 'A') ||"
    " setweight(to_tsvector('english', text), 'B')) STORED",
    "CREATE INDEX ix_passages_words ON passages USING gin (words)",
)


def upgrade() -> None:
    for statement in POSTGRES if op.get_bind().dialect.name == "postgresql" else SQLITE:
        op.execute(statement)
