"""The webhooks of a node: made when first used, kept for the connections they hold."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from api.specs import FunctionSpec
from rtcore.errors import ConfigError, ToolError
from rtcore.ports import ToolUse
from rtcore.providers.functions import Secret, Webhook, WebhookSettings

__all__ = ["Webhooks"]

KEPT_MAX = 100  # those in use are kept beside them
CLOSE_LIMIT_S = 0.05  # as long as any connection of ours may take to say goodbye

Key = tuple[str, WebhookSettings, str | None]


@dataclass(slots=True)
class _Kept:
    webhook: Webhook
    users: int = 0


class Webhooks:
    """One webhook for each function and secret, shared by all calls; the idlest go first."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._kept: dict[Key, _Kept] = {}  # the most recently used last

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
        kept = self._kept.pop(key, None) or _Kept(_webhook(function, settings, secret))
        self._kept[key] = kept
        kept.users += 1
        try:
            return await kept.webhook.run(use)
        finally:
            kept.users -= 1
            await self._trim(KEPT_MAX)

    async def aclose(self) -> None:
        """Close all connections; no function is in use any more."""
        await self._trim(0)

    async def _trim(self, max_kept: int) -> None:
        idle = [key for key, kept in self._kept.items() if not kept.users]
        for key in idle[: max(0, len(self._kept) - max_kept)]:
            webhook = self._kept.pop(key).webhook
            with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
                await webhook.aclose()


def _webhook(function: FunctionSpec, settings: WebhookSettings, secret: str | None) -> Webhook:
    try:
        signer = Secret(function.secret or "secret", secret) if secret is not None else None
        return Webhook(function.name, settings, signer)
    except ConfigError as exc:
        raise ToolError(f"the function is not set up: {exc}") from exc
