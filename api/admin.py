"""What an operator does to a database without the API: plain functions, for the command line."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cryptography.fernet import Fernet

from api.store import Actor, Store, upgrade
from api.store.keys import SCOPES, Scope, create_key
from rtcore.errors import ConfigError

__all__ = ["create_api_key", "create_secret_key", "upgrade_database"]


def upgrade_database(url: str) -> None:
    """Bring the database to the newest shape (``rtcore db upgrade``); harmless to repeat."""
    upgrade(url)


def create_api_key(
    url: str, name: str, scopes: Sequence[str], *, expires_in_s: float | None = None
) -> str:
    """Make an API key (``rtcore keys create --scope ...``); its token, which is kept nowhere.

    Raises:
        ConfigError: there is no such scope, or none was given.
        StoreUnavailable: the database does not answer, or has never been upgraded.
    """
    wanted: list[Scope] = [scope for scope in SCOPES if scope in scopes]
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not wanted:
        message = f"must be of {', '.join(SCOPES)}{f'; not {unknown[0]}' if unknown else ''}"
        raise ConfigError("scope", message)
    expires_at_ms = None if expires_in_s is None else int((time.time() + expires_in_s) * 1000)
    store = Store.open(url)
    try:
        _, token = store.run(create_key, True, Actor("cli"), name, wanted, expires_at_ms)
    finally:
        store.close()
    return token


def create_secret_key() -> str:
    """A new key for the secrets (``rtcore keys secret``), for ``RTCORE_SECRET_KEYS``."""
    return Fernet.generate_key().decode()
