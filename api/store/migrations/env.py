"""Run by Alembic: migrates over the connection that :func:`api.store.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from api.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite too: the transaction is ours and already begun
)
context.run_migrations()
