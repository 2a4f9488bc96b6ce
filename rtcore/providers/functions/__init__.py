"""Functions that live elsewhere: behind a webhook, on an MCP server."""

from rtcore.providers.functions.webhook import Webhook, WebhookSettings

__all__ = ["Webhook", "WebhookSettings"]
