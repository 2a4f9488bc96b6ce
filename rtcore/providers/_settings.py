"""What every provider is told: how long to wait, and the key to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from rtcore.errors import ConfigError

__all__ = ["Deadlines", "Seconds", "Secret", "Settings", "find_secret"]

Seconds = Annotated[float, Meta(gt=0, le=600)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of each provider's settings: immutable, by name only, nothing unknown."""


class Deadlines(Settings, frozen=True):
    """How long a service may keep us waiting, each from the moment we are ready for it.

    And where it may be: ``connect_s`` is for whatever its name leads to.
    """

    connect_s: Seconds = 3.0  # name, TCP, TLS and upgrade; a SYN lost once costs 1 s (RFC 6298)
    first_byte_s: Seconds = 2.5  # request sent -> first of the answer; hosted models: p95 < 2 s
    stall_s: Seconds = 2.0  # between two pieces of an answer; longer sounds like a dropped call
    close_s: Seconds = 0.05  # for a goodbye: a call leaves nothing behind 100 ms after its end
    public_only: bool = False  # connect to no private address, whatever a name resolves to


class Secret:
    """A credential that can be used and not be shown."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ConfigError(
                name, "is not a key: it holds a space, a line end or a non-ASCII sign"
            )
        self.name, self._value = name, value

    def reveal(self) -> str:
        """The credential itself, for the one header it goes into."""
        return self._value

    def censor(self, text: str) -> str:
        """``text`` without the credential, should a service have repeated it."""
        return text.replace(self._value, "***")

    def __repr__(self) -> str:
        return f"Secret({self.name})"


def find_secret(secrets: Mapping[str, str], name: str) -> Secret:
    """The credential called ``name``.

    Raises:
        ConfigError: there is none, or it cannot be a key.
    """
    value = secrets.get(name, "").strip()
    if not value:
        raise ConfigError(name, "is missing: set it in the environment or in the secrets file")
    return Secret(name, value)
