"""The management API as one Quart app, served in the same ``trio.run`` as the media."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Callable

import structlog
import trio
from prometheus_client import CollectorRegistry, Counter, Histogram
from quart import Response, g, request
from quart_schema import QuartSchema
from quart_trio import QuartTrio

from api.analysis.running import Analyst
from api.binding import AgentFactory
from api.indexing import Indexer
from api.meaning import Meanings
from api.outgoing import routes as outgoing
from api.outgoing.sending import Sender
from api.routes import access, agents, chat, functions, health, knowledge, messages
from api.settings import ApiSettings
from api.store import Store
from api.web import docs
from api.web.limits import RateLimiter
from api.web.paths import add_converters
from api.web.problems import handle_problems
from api.web.requests import drain
from api.web.services import EXTENSION, Services
from api.web.spec import Specification
from api.webhooks import Webhooks
from rtcore.config import CallConfig

__all__ = ["create_app"]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SLOW_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
MULTIPART_ROOM_BYTES = 64 << 10  # what surrounds the largest upload

log = structlog.get_logger()


def create_app(
    store: Store,
    settings: ApiSettings,
    *,
    agent_for: AgentFactory,
    call_config: CallConfig | None = None,
    registry: CollectorRegistry | None = None,
    is_ready: Callable[[], bool] = lambda: True,
) -> QuartTrio:
    """The app over a migrated ``store``. Its background work runs between startup and shutdown.

    Args:
        agent_for: fills the ports of a stored agent; see :data:`api.binding.AgentFactory`.
        call_config: how chats think (limits, tool steps): that of the calls.
        registry: where the counters of requests go; ``/metrics`` shows all of it.
        is_ready: whether the node takes new calls; ``/readyz`` asks.
    """
    app = QuartTrio("rtcore-api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = (
        max(settings.upload_max_bytes, settings.body_max_bytes) + MULTIPART_ROOM_BYTES
    )
    app.config["BODY_TIMEOUT"] = None  # web.requests has its own limit, and says so
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None  # the indexer can stop at any step
    app.url_map.merge_slashes = False  # no redirects: an address is there or not
    add_converters(app)
    handle_problems(app)
    registry = registry or CollectorRegistry()
    meanings = Meanings(store, allow_private=settings.allow_private_urls)
    own = Services(
        store=store,
        settings=settings,
        agent_for=agent_for,
        call_config=call_config or CallConfig(),
        webhooks=Webhooks(allow_private=settings.allow_private_urls),
        meanings=meanings,
        indexer=Indexer(store, meanings),
        limiter=RateLimiter(settings.requests_per_s, settings.requests_burst),
        analyst=Analyst(store, agent_for, registry=registry),
        sender=Sender(store, allow_private=settings.allow_private_urls, registry=registry),
        registry=registry,
        is_ready=is_ready,
    )
    app.extensions[EXTENSION] = own
    for module in (agents, chat, functions, knowledge, access, messages, outgoing, health, docs):
        app.register_blueprint(module.blueprint)
    QuartSchema(
        app,
        swagger_ui_path=None,  # ours needs no script of another host
        redoc_ui_path=None,
        scalar_ui_path=None,
        conversion_preference="msgspec",
        openapi_provider_class=Specification,
    )
    _observe(app, own.registry)

    @app.while_serving
    async def background() -> AsyncGenerator[None, None]:
        app.nursery.start_soon(own.indexer.run)
        app.nursery.start_soon(own.sender.run)
        app.nursery.start_soon(own.analyst.run)
        yield
        await own.webhooks.aclose()
        await own.meanings.aclose()

    return app


def _observe(app: QuartTrio, registry: CollectorRegistry) -> None:
    """Give every request an id, a line in the log and a place in the counters."""
    requests = Counter(
        "rtcore_api_requests", "Requests", ["route", "method", "status"], registry=registry
    )
    seconds = Histogram(
        "rtcore_api_request_seconds", "Time to answer", ["route"], buckets=SLOW_S, registry=registry
    )

    @app.before_request
    async def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        g.began_s = trio.current_time()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    async def end(response: Response) -> Response:
        if not await drain(request) and request.http_version.startswith("1"):
            response.headers["Connection"] = "close"
        response.headers["X-Request-ID"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        # the rule, not the path: paths hold ids, and anybody can make up new ones
        route = request.url_rule.rule if request.url_rule is not None else "none"
        elapsed_s = trio.current_time() - g.began_s
        requests.labels(route, request.method, response.status_code).inc()
        seconds.labels(route).observe(elapsed_s)
        log.info(
            "api_request",
            route=route,
            method=request.method,
            status=response.status_code,
            took_ms=round(elapsed_s * 1000, 1),
        )
        return response
