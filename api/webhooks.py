"""The webhooks of a node: made when first used, kept for the connections they hold."""

from __future__ import annotations

from functools import partial

from api.kept import Kept
from api.specs import FunctionSpec
from rtcore.errors import ConfigError, ToolError
from rtcore.ports import ToolUse
from rtcore.providers.functions import Secret, Webhook, WebhookSettings

__all__ = ["Webhooks"]

KEPT_MAX = 100

Key = tuple[str, WebhookSettings, str | None]


class Webhooks:
    """One webhook for each function and secret, shared by all calls."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._kept: Kept[Key, Webhook] = Kept(KEPT_MAX)

    async def run(self, function: FunctionSpec, secret: str | None, use: ToolUse) -> str:
        """Ask ``function``, signing with ``secret`` if there is one.

        Raises:
            ToolError: as :meth:`Webhook.run`, or its URL or secret cannot be used.

        Cancelled: the request is closed; whether it took effect is not known.
        """
        settings = WebhookSettings(
            url=function.url, limit_s=function.limit_s, allow_private=self._allow_private
        )
        key = (function.name, settings, secret)
        async with self._kept.use(key, partial(_webhook, function, settings, secret)) as webhook:
            return await webhook.run(use)

    async def aclose(self) -> None:
        """Close all connections; no function is in use any more."""
        await self._kept.aclose()


def _webhook(function: FunctionSpec, settings: WebhookSettings, secret: str | None) -> Webhook:
    try:
        signer = Secret(function.secret or "secret", secret) if secret is not None else None
        return Webhook(function.name, settings, signer)
    except ConfigError as exc:
        raise ToolError(f"the function is not set up: {exc}") from exc
