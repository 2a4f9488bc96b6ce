"""Brings a database to the newest shape; safe to run by every node at its start."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import InterfaceError, OperationalError

from api.store.database import make_engine
from api.store.errors import StoreUnavailable

__all__ = ["upgrade"]

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x72746373746F7265  # "rtcstore": any number all nodes share


def upgrade(url: str, revision: str = "head") -> None:
    """Run every migration ``url`` still lacks, in one transaction, one node at a time.

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
            config.attributes["connection"] = conn
            command.upgrade(config, revision)
    except (OperationalError, InterfaceError) as exc:
        raise StoreUnavailable(f"the database did not answer: {exc.orig}") from exc
    finally:
        engine.dispose()
