"""A service behind HTTP: one client, warmed and closed with it."""

from __future__ import annotations

from collections.abc import Mapping

from rtcore.providers._http import HttpClient
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines, find_secret

__all__ = ["HttpService", "bearer_client"]


class HttpService(Service):
    """Base of each provider that asks one service over HTTP; it has the client's name."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(client.provider)
        self._client = client

    async def warm(self) -> None:
        await self._client.warm()

    async def aclose(self) -> None:
        await self._client.aclose()


def bearer_client(
    provider: str,
    base_url: str,
    secrets: Mapping[str, str],
    key_name: str | None,
    deadlines: Deadlines,
) -> HttpClient:
    """A client whose key goes as a bearer token (RFC 6750); ``key_name`` None: without one.

    Raises:
        ConfigError: the key is missing.
    """
    secret = find_secret(secrets, key_name) if key_name else None
    return HttpClient(
        provider,
        base_url,
        headers={"authorization": f"Bearer {secret.reveal()}"} if secret else {},
        deadlines=deadlines,
        secret=secret,
    )
