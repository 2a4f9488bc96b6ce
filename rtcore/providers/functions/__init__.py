"""Functions that live elsewhere: behind a webhook, on an MCP server."""

from rtcore.providers._addresses import checked_url
from rtcore.providers._settings import Deadlines, Secret
from rtcore.providers.functions._endpoint import Endpoint
from rtcore.providers.functions.mcp import McpHttpSettings, McpServer, McpStdioSettings
from rtcore.providers.functions.webhook import Webhook, WebhookSettings

__all__ = [
    "Deadlines",
    "Endpoint",
    "McpHttpSettings",
    "McpServer",
    "McpStdioSettings",
    "Secret",
    "Webhook",
    "WebhookSettings",
    "checked_url",
]
