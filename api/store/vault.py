"""Secrets at rest: sealed with Fernet under keys that are not in the database."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from api.store.errors import VaultLocked
from rtcore.errors import ConfigError

__all__ = ["Vault"]

HOW_TO_UNLOCK = "set RTCORE_SECRET_KEYS to a Fernet key (`rtcore keys secret` makes one)"


class Vault:
    """Seals with the first key, opens with any: so keys can be changed one by one."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        """
        Raises:
            ConfigError: a key is not 32 octets in URL-safe base64.
        """
        try:
            fernets = [Fernet(key) for key in keys]
        except ValueError as exc:
            raise ConfigError("RTCORE_SECRET_KEYS", "not a Fernet key") from exc
        self._fernet = MultiFernet(fernets) if fernets else None

    def seal(self, text: str) -> bytes:
        """
        Raises:
            VaultLocked: no key is configured.
        """
        if self._fernet is None:
            raise VaultLocked(f"secrets cannot be stored: {HOW_TO_UNLOCK}")
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """
        Raises:
            VaultLocked: no configured key opens it.
        """
        if self._fernet is None:
            raise VaultLocked(f"secrets cannot be read: {HOW_TO_UNLOCK}")
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as exc:
            raise VaultLocked("a secret was sealed under a key that is not configured") from exc
