"""What the store refuses, one class for each answer the API gives."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rtcore.errors import RtcoreError

__all__ = [
    "AgentUnusable",
    "Conflict",
    "InUse",
    "InvalidReference",
    "NotFound",
    "RevisionChanged",
    "StoreUnavailable",
    "Unreadable",
    "User",
    "VaultLocked",
]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """What uses a resource: it must let go of it before the resource can be deleted."""

    kind: str
    id: str
    name: str


class NotFound(RtcoreError):
    """There is no such resource."""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"there is no {kind} {id}")
        self.kind, self.id = kind, id


class RevisionChanged(RtcoreError):
    """The resource is no longer at the revision the caller saw; it is at ``revision``."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the resource has changed since; it is at revision {revision} now")
        self.revision = revision


class InUse(RtcoreError):
    """The resource cannot go while ``users`` use it."""

    def __init__(self, kind: str, id: str, users: Sequence[User]) -> None:
        names = ", ".join(f"{user.kind} {user.id}" for user in users)
        super().__init__(f"{kind} {id} is in use by {names}: detach it there first")
        self.users = tuple(users)


class InvalidReference(RtcoreError):
    """``field`` names something that cannot be used there."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class Conflict(RtcoreError):
    """The state of the resource forbids this now; the message says what would allow it."""


class AgentUnusable(Conflict):
    """An agent cannot talk as it is stored; the message names the field and the fix."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"agent {id} cannot be used: {reason}")


class StoreUnavailable(RtcoreError):
    """The database did not answer; asking again later can help."""


class Unreadable(StoreUnavailable):
    """A newer node has stored what this one cannot use: that one can be asked."""

    def __init__(self, id: str, field: str) -> None:
        super().__init__(
            f"{id}{field and ', '}{field}: a newer version has stored a value that this one"
            " cannot use: ask a node of that version, or upgrade this one"
        )


class VaultLocked(RtcoreError):
    """No key is configured that opens (or makes) the secret."""
