"""What the routes work with, joined once by :func:`api.app.create_app`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from quart import current_app

from api.analysis.running import Analyst
from api.binding import AgentFactory
from api.indexing import Indexer
from api.meaning import Meanings
from api.outgoing.sending import Sender
from api.settings import ApiSettings
from api.store import Store
from api.web.limits import RateLimiter
from api.webhooks import Webhooks
from rtcore.config import CallConfig

__all__ = ["EXTENSION", "Services", "services"]

EXTENSION = "rtcore"


@dataclass(frozen=True, slots=True)
class Services:
    """All that a handler may ask. One for each app."""

    store: Store
    settings: ApiSettings
    agent_for: AgentFactory
    call_config: CallConfig
    webhooks: Webhooks
    indexer: Indexer
    meanings: Meanings
    sender: Sender
    analyst: Analyst
    limiter: RateLimiter
    registry: CollectorRegistry
    is_ready: Callable[[], bool]


def services() -> Services:
    """Those of the app that serves the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Services)
    return found
