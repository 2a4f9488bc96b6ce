"""Functions that live elsewhere: behind a webhook, on an MCP server."""

from rtcore.providers._settings import Secret
from rtcore.providers.functions._addresses import checked_url
from rtcore.providers.functions._endpoint import Endpoint
from rtcore.providers.functions.mcp import McpHttpSettings, McpServer, McpStdioSettings
from rtcore.providers.functions.webhook import Webhook, WebhookSettings

__all__ = [
    "Endpoint",
    "McpHttpSettings",
    "McpServer",
    "McpStdioSettings",
    "Secret",
    "Webhook",
    "WebhookSettings",
    "checked_url",
]
