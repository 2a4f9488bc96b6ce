"""Brings a database to the newest shape; safe to run by every node at its start."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import InterfaceError, OperationalError

from api.store.database import make_engine
from api.store.errors import StoreUnavailable

__all__ = ["upgrade"]

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x72746373746F7265  # "rtcstore": any number all nodes share


def upgrade(url: str, revision: str = "head") -> None:
    """Run every migration ``url`` still lacks, in one transaction, one node at a time.

    A database that a newer node has brought further is left as it is: migrations only add, so
    that nodes of two ages can share it.

    Raises:
        ConfigError: ``url`` is no address of a database.
        StoreUnavailable: the database does not answer, or its file cannot be opened.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = make_engine(url)
    try:
        with engine.begin() as conn:  # on SQLite this takes the write lock
            if conn.dialect.name == "postgresql":
                conn.execute(sa.text("SET LOCAL statement_timeout = 0"))
                conn.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            if newer := _unknown_revisions(config, conn):
                log.warning("database_is_newer", revision=newer)
                return
            config.attributes["connection"] = conn
            command.upgrade(config, revision)
    except (OperationalError, InterfaceError) as exc:
        raise StoreUnavailable(f"the database did not answer: {exc.orig}") from exc
    finally:
        engine.dispose()


def _unknown_revisions(config: Config, conn: sa.Connection) -> str:
    """Where the database stands, if no migration of ours leads there."""
    ours = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
    return ", ".join(set(MigrationContext.configure(conn).get_current_heads()) - ours)
