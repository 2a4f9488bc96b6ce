"""A function behind HTTPS: its arguments are posted as JSON, its answer goes to the model.

The request is ``POST <url>`` with ``{"function", "arguments", "call_id"}``, signed where there
is a secret (:mod:`rtcore.providers.functions.signing`). ``Idempotency-Key`` is the same for all
attempts at one call of the function: a receiver that keeps the keys of the last minutes does
nothing twice. The answer is JSON or plain text of at most 64 KiB.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
import trio

from rtcore.errors import ProviderError, ToolError
from rtcore.ports import ToolUse
from rtcore.providers._http import Answer
from rtcore.providers._service import Service
from rtcore.providers._settings import Seconds, Secret, Settings
from rtcore.providers._wire import encode
from rtcore.providers.functions._endpoint import Endpoint
from rtcore.providers.functions.signing import check_secret, signed

__all__ = ["Webhook", "WebhookSettings"]

log = structlog.get_logger()

ANSWER_MAX_BYTES = 65_536
ATTEMPTS_MAX = 2
RETRY_AFTER_S = 0.25  # where the receiver says nothing; the caller is waiting
TEXT_TYPES = ("application/json", "text/plain")


class WebhookSettings(Settings, frozen=True):
    """Where the function is, and how long its answer may take, all attempts together."""

    url: str
    limit_s: Seconds = 10.0
    allow_private: bool = False  # addresses of this machine and its networks, and plain http


class Webhook(Service):
    """One function behind a URL; ``run`` is the handler for :class:`rtcore.Tool`."""

    def __init__(
        self,
        name: str,
        settings: WebhookSettings,
        secret: Secret | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        Raises:
            ConfigError: the URL or the secret cannot be used.
        """
        super().__init__(name)
        if secret is not None:
            check_secret(secret.reveal(), secret.name)
        self._settings = settings
        self._secret = secret
        self._now = now
        self._endpoint = Endpoint(
            name,
            settings.url,
            settings.limit_s,
            allow_private=settings.allow_private,
            secret=secret,
        )

    async def run(self, use: ToolUse) -> str:
        """Ask the function; asked again, with the same key, where that can help.

        Raises:
            ToolError: no usable answer in time; the text is for the model.

        Cancelled: the request is closed; whether it took effect is not known.
        """
        body = encode({"function": self.name, "arguments": use.arguments, "call_id": use.call_id})
        with trio.move_on_after(self._settings.limit_s):
            for attempt in range(ATTEMPTS_MAX):
                try:
                    return await self._ask(use.key, body, attempt)
                except ProviderError as exc:
                    # not its words: they may hold a caller's
                    log.warning("webhook_failed", function=self.name, retryable=exc.retryable)
                    if not exc.retryable or attempt + 1 == ATTEMPTS_MAX:
                        raise ToolError(f"the function failed: {exc}") from exc
                    retry_after_s = exc.retry_after_s
                await trio.sleep(RETRY_AFTER_S if retry_after_s is None else retry_after_s)
        raise ToolError(f"the function gave no answer within {self._settings.limit_s:g} s")

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _ask(self, key: str, body: bytes, attempt: int) -> str:
        headers = {"idempotency-key": key}
        if self._secret is not None:
            headers |= signed(key, body, self._secret.reveal(), int(self._now()))
        answer = await self._endpoint.post(body, headers, attempt)
        async with answer:
            return await _text(answer)


async def _text(answer: Answer) -> str:
    if answer.status >= 300:
        raise ToolError(f"the function answered {answer.status}: redirects are not followed")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ToolError("the function's answer is compressed, which was not asked for")
    body = await answer.read(ANSWER_MAX_BYTES)
    if not body:
        return "done"
    if kind not in TEXT_TYPES and not kind.endswith("+json"):
        raise ToolError(f"the function answered with {kind or 'no content type'}, not JSON")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise ToolError("the function's answer is not UTF-8") from exc
