"""The database, from Trio: SQL runs in a bounded number of threads, one transaction a call.

What is run is a plain function of a :class:`Tx` and its arguments; it either returns, and what
it wrote is durable, or raises, and nothing of it stays.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
import trio
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.store.errors import StoreUnavailable
from api.store.vault import Vault
from rtcore.errors import ConfigError

__all__ = ["Actor", "Store", "Tx", "make_engine"]

P = ParamSpec("P")
T = TypeVar("T")

THREADS_MAX = 8  # one small transaction is about 0.2 ms: enough for thousands a second
BUSY_LIMIT_S = 5  # SQLite: another process may hold the write lock for so long
WAL_RETRY_S = 0.02
CONNECT_LIMIT_S = 5
FORMS = "must be sqlite:///path/to/file.db or postgresql://user@host/name"
STATEMENT_LIMIT_MS = 10_000  # PostgreSQL: none of ours takes a tenth of it


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: the id of an API key (or ``cli``), and in which request."""

    id: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Tx:
    """One transaction; ``now_ms`` is the one time of all it writes."""

    conn: Connection
    now_ms: int
    vault: Vault

    @property
    def is_postgres(self) -> bool:
        return self.conn.dialect.name == "postgresql"


def make_engine(url: str) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql://…`` with our rules of both.

    Raises:
        ConfigError: ``url`` is neither.
    """
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise ConfigError("database", FORMS) from None  # it may hold a password
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise ConfigError("database", FORMS)
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=THREADS_MAX,
            max_overflow=0,
            pool_timeout=CONNECT_LIMIT_S,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_LIMIT_S,
                "tcp_user_timeout": STATEMENT_LIMIT_MS,  # a server that vanished
                "options": f"-c statement_timeout={STATEMENT_LIMIT_MS} -c timezone=UTC",
            },
        )
    engine = sa.create_engine(
        parsed,
        pool_size=THREADS_MAX + 1,  # and the writer
        max_overflow=0,
        pool_timeout=CONNECT_LIMIT_S,
        connect_args={"timeout": BUSY_LIMIT_S},
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(raw: object, _record: object) -> None:
    assert isinstance(raw, sqlite3.Connection)
    raw.isolation_level = None  # we say BEGIN ourselves: the driver's own is only DEFERRED
    _write_ahead(raw)
    raw.execute("PRAGMA synchronous=FULL")  # what was answered survives a power cut
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA secure_delete=ON")  # what was erased is not left in the file


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Readers do not wait for the writer. A new file is switched by one connection at a time:

    SQLite refuses the others at once, however long they are ready to wait, so we wait for it.
    """
    deadline_s = time.monotonic() + BUSY_LIMIT_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(WAL_RETRY_S)
        else:
            return


def _begin_sqlite(conn: Connection) -> None:
    writes = conn.get_execution_options().get("rtcore_writes", True)
    # a transaction that reads first and then writes may not get the lock any more: take it now
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class Store:
    """The database of one process."""

    def __init__(
        self,
        engine: Engine,
        vault: Vault | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.vault = vault or Vault(())
        self.now_s = now_s
        self.is_settled = True
        self._readers = trio.CapacityLimiter(THREADS_MAX)
        # SQLite has one writer, and those that wait for it poll: let them queue here, in turn
        is_sqlite = engine.dialect.name == "sqlite"
        self._writers = trio.CapacityLimiter(1) if is_sqlite else self._readers

    @classmethod
    def open(cls, url: str, *, secret_keys: tuple[str, ...] = ()) -> Store:
        """The store at ``url``, its secrets under ``secret_keys`` (the first seals).

        Raises:
            ConfigError: a key is not a Fernet key.
        """
        return cls(make_engine(url), Vault(secret_keys))

    async def read(self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kw: P.kwargs) -> T:
        """Run ``work`` in a transaction that only reads.

        Raises:
            StoreUnavailable: the database did not answer.

        Cancelled: waits for the thread, which its own limits end.
        """
        return await trio.to_thread.run_sync(
            lambda: self.run(work, False, *args, **kw), limiter=self._readers
        )

    async def write(
        self, work: Callable[Concatenate[Tx, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """Run ``work`` in a transaction that may write; durable once it returns.

        Raises and cancelled: as :meth:`read`; what has been written stays written.
        """
        return await trio.to_thread.run_sync(
            lambda: self.run(work, True, *args, **kw), limiter=self._writers
        )

    def run(
        self,
        work: Callable[Concatenate[Tx, P], T],
        writes: bool,
        /,
        *args: P.args,
        **kw: P.kwargs,
    ) -> T:
        """The same, in this thread."""
        engine = self.engine.execution_options(rtcore_writes=writes)
        try:
            with engine.begin() as conn:
                return work(Tx(conn, int(self.now_s() * 1000), self.vault), *args, **kw)
        except (OperationalError, InterfaceError, PoolTimeout) as exc:
            # the statement and its values stay out of the message: it may reach a log
            reason = type(getattr(exc, "orig", None) or exc).__name__
            raise StoreUnavailable(f"the database did not answer ({reason})") from exc

    async def settle(self) -> bool:
        """Let the file hold what was written, and nothing of what was erased.

        SQLite keeps old pages in its log until that is written back; PostgreSQL's vacuum does
        the like by itself. False: somebody reads what was before, so it is there for now
        (:attr:`is_settled`): ask again.

        Raises:
            StoreUnavailable: the database did not answer.
        """
        if self.engine.dialect.name == "sqlite":
            self.is_settled = await trio.to_thread.run_sync(self._checkpoint, limiter=self._writers)
        return self.is_settled

    def _checkpoint(self) -> bool:
        raw = self.engine.raw_connection()
        try:
            (is_busy, *_) = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy
        except sqlite3.OperationalError as exc:
            raise StoreUnavailable("the database is locked") from exc
        finally:
            raw.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
