"""Where the API keeps things: SQLite or PostgreSQL, plain functions of a transaction."""

from api.store.database import Actor, Store, Tx
from api.store.migrate import upgrade

__all__ = ["Actor", "Store", "Tx", "upgrade"]
