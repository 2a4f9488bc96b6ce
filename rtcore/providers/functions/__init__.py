"""Functions that live elsewhere: behind a webhook, on an MCP server."""

from rtcore.providers.functions.mcp import McpHttpSettings, McpServer, McpStdioSettings
from rtcore.providers.functions.webhook import Webhook, WebhookSettings

__all__ = ["McpHttpSettings", "McpServer", "McpStdioSettings", "Webhook", "WebhookSettings"]
