"""What all providers share beside their port: a name, warm connections, an end."""

from __future__ import annotations

import trio

__all__ = ["Service"]


class Service(trio.abc.AsyncResource):
    """An outside service we keep connections to; made once, shared by all calls.

    ``warm`` before its first use in a call, at ring or answer, and again when the caller begins
    to speak: it is cheap when there is nothing to do. ``aclose`` at the end of the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def warm(self) -> None:
        """Open what the next use will need, so that no turn pays for it.

        Raises:
            ProviderError: the service cannot be reached.

        Cancelled: nothing is left open that was not before.
        """
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close all connections; sessions in use are their owners' to end first."""
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"
