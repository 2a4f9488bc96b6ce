"""Calls the functions of users: one signed POST, to an address checked in the same breath.

Redirects are not followed, proxies of the environment not used, long answers not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
import trio

from api.addresses import UrlRefused, check_url, is_public
from rtcore.agent.tools import ToolError

__all__ = ["Webhooks", "sign"]

ANSWER_MAX_BYTES = 64 << 10  # the model is told 8,000 characters of it
CONNECTIONS_MAX = 100


def sign(secret: str, body: bytes, at_s: int) -> str:
    """The value of ``X-Rtcore-Signature``: HMAC-SHA256 over ``<time>.<body>``, in hex."""
    mac = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256)
    return f"t={at_s},v1={mac.hexdigest()}"


class Webhooks:
    """One client for all functions of a node; close it with :meth:`aclose`."""

    def __init__(
        self,
        *,
        allow_private: bool,
        transport: httpx.AsyncBaseTransport | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._allow_private = allow_private
        self._now_s = now_s
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=None,  # the whole exchange has one limit, not each of its parts
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def call(
        self, url: str, body: Any, *, key: str, secret: str | None, limit_s: float
    ) -> str:
        """POST ``body`` as JSON; return the text of the answer.

        Raises:
            ToolError: no answer, or one that is not a success; the text is for the model.

        Cancelled: the connection is closed.
        """
        raw = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if secret is not None:
            headers["X-Rtcore-Signature"] = sign(secret, raw, int(self._now_s()))
        with trio.move_on_after(limit_s):
            try:
                return await self._post(url, raw, headers)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
                raise ToolError(
                    f"the function could not be reached ({type(exc).__name__})"
                ) from exc
            except UrlRefused as exc:
                raise ToolError(f"the function's URL {exc}") from exc
        raise ToolError(f"the function gave no answer within {limit_s:g} s")

    async def _post(self, url: str, raw: bytes, headers: dict[str, str]) -> str:
        request = await self._request(url, raw, headers)
        response = await self._client.send(request, stream=True)
        pieces = response.aiter_bytes()
        try:
            answer = bytearray()
            async for piece in pieces:
                answer += piece
                if len(answer) > ANSWER_MAX_BYTES:
                    raise ToolError(f"the function answered more than {ANSWER_MAX_BYTES} octets")
        finally:
            with trio.CancelScope(shield=True):  # closing sends nothing and waits for nothing
                await response.aclose()
                # httpx reads through nested generators: run them out, leave none suspended
                with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
                    async for _ in pieces:
                        pass
        if not response.is_success:
            raise ToolError(f"the function failed with status {response.status_code}")
        return answer.decode(errors="replace")

    async def _request(self, url: str, raw: bytes, headers: dict[str, str]) -> httpx.Request:
        """The request, bound to an address that has been checked: the name is not asked again."""
        check_url(url, allow_private=self._allow_private)
        if self._allow_private:
            return self._client.build_request("POST", url, content=raw, headers=headers)
        parts = urlsplit(url)
        assert parts.hostname is not None  # check_url has seen it
        port = parts.port or 443
        found = await trio.socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        if not addresses or not is_public(addresses):
            raise UrlRefused("leads to a private address")
        host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
        bound = urlunsplit(("https", f"{host}:{port}", parts.path or "/", parts.query, ""))
        return self._client.build_request(
            "POST",
            bound,
            content=raw,
            headers={**headers, "Host": parts.netloc},
            extensions={"sni_hostname": parts.hostname},  # whose certificate is checked
        )
