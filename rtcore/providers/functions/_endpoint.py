"""One URL of a user's that we post to: checked, pinned to the address that was checked."""

from __future__ import annotations

from collections.abc import Mapping

from rtcore.errors import ToolError
from rtcore.providers._addresses import addresses, checked_url
from rtcore.providers._http import Answer, HttpClient
from rtcore.providers._settings import Deadlines, Secret

__all__ = ["Endpoint"]


class Endpoint:
    """The connections to one URL; each request asks anew where its host is."""

    def __init__(
        self, name: str, url: str, limit_s: float, *, allow_private: bool, secret: Secret | None
    ) -> None:
        """
        Raises:
            ConfigError: the URL cannot be used; it is called ``functions.<name>.url``.
        """
        self._url = checked_url(url, f"functions.{name}.url", allow_private=allow_private)
        self._allow_private = allow_private
        self._client = HttpClient(
            name,
            "",
            headers={},
            deadlines=Deadlines(connect_s=min(3.0, limit_s), first_byte_s=limit_s, stall_s=limit_s),
            secret=secret,
        )

    async def post(self, body: bytes, headers: Mapping[str, str], attempt: int = 0) -> Answer:
        """Post JSON to the host's address number ``attempt``; close what is returned.

        Raises:
            ToolError: the host is unknown or not allowed.
            ProviderError: as :meth:`HttpClient.post`.
        """
        url = self._url
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = await addresses(url.host, port, allow_private=self._allow_private)
        except OSError as exc:
            raise ToolError(f"the function's {exc}") from exc
        return await self._client.post(
            str(url.copy_with(host=found[attempt % len(found)])),
            body,
            headers={"host": url.netloc.decode("ascii"), **headers},
            extensions={"sni_hostname": url.host},  # what the certificate must be for
        )

    async def aclose(self) -> None:
        await self._client.aclose()
