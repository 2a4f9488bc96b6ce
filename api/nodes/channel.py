"""Hears what PostgreSQL notifies, on a connection of its own.

The driver's socket is waited for by Trio; only connecting blocks, in a thread. A notification
may be missed while there is no connection: whoever listens looks for itself after each
``is_fresh`` call, and now and then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import structlog
import trio
from psycopg import sql
from sqlalchemy.engine import Engine

__all__ = ["listen_for_ever"]

log = structlog.get_logger()

CONNECT_LIMIT_S = 5
BACKOFF_S = (0.1, 5.0)  # the first pause after a failure, and the longest
# 11 s: the connection only listens, so nothing but this would notice that the server has vanished
KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


async def listen_for_ever(
    engine: Engine,
    channels: tuple[str, ...],
    hear: Callable[[str], None],
    fresh: Callable[[], None],
) -> None:
    """Give each payload on ``channels`` to ``hear``, until cancelled.

    ``fresh`` is called whenever a connection listens anew: what was notified before it is not
    heard. Neither may wait. Cancelled: the connection is closed.
    """
    pause_s = BACKOFF_S[0]
    while True:
        try:
            conn = await trio.to_thread.run_sync(partial(_connect, engine, channels))
            try:
                pause_s = BACKOFF_S[0]
                fresh()
                await _hear(conn, hear)
            finally:
                conn.close()
        except (psycopg.Error, OSError) as exc:
            log.warning("bus_lost", reason=type(exc).__name__, again_in_s=round(pause_s, 1))
        await trio.sleep(pause_s * (0.5 + random.random() / 2))  # nodes that were cut off together
        pause_s = min(pause_s * 2, BACKOFF_S[1])


def _connect(engine: Engine, channels: tuple[str, ...]) -> psycopg.Connection[Any]:
    _, options = engine.dialect.create_connect_args(engine.url)
    options = {**options, "connect_timeout": CONNECT_LIMIT_S, **KEEPALIVE}
    conn = psycopg.connect(**options, autocommit=True)
    try:
        for channel in channels:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    except BaseException:
        conn.close()
        raise
    return conn


async def _hear(conn: psycopg.Connection[Any], hear: Callable[[str], None]) -> None:
    """Until the connection is lost.

    Raises:
        psycopg.Error: it is.
    """
    raw = conn.pgconn
    while True:
        while (notice := raw.notifies()) is not None:
            hear(notice.extra.decode())
        await trio.lowlevel.wait_readable(raw.socket)
        raw.consume_input()
