"""The node as a whole: calls, webhooks, management API and store in one process."""

from __future__ import annotations

import os
import secrets as random_secrets
import signal
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio
from prometheus_client import CollectorRegistry, generate_latest

from api.agents import SharedProviders
from api.app import create_app
from api.calls.joining import add_telephony
from api.nodes.presence import PresenceConfig
from api.plivo.client import PlivoAccount
from api.serve import serve_node
from api.settings import ApiSettings
from api.specs import Retention
from api.store import Store, upgrade
from rtcore.admission import check_exposure
from rtcore.errors import ConfigError
from rtcore.heap import keep_heap
from rtcore.node import NodeConfig, open_listeners
from rtcore.node_metrics import NodeCollector
from rtcore.recording import Recordings
from rtcore.worker import obey_signals, obey_supervisor

__all__ = ["StandaloneOptions", "serve"]

log = structlog.get_logger()


class StandaloneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    database: str
    host: str = "127.0.0.1"
    port: int = 8080
    media_port: int | None = None  # None: media comes to the same port
    public_url: str = ""
    node_url: str = ""  # of this node alone, where several share the public one
    heartbeat_s: float = PresenceConfig().heartbeat_s
    is_insecure: bool = False
    allow_private_urls: bool = False  # what the API names may be on this machine and its networks
    recordings: Path | None = None  # where calls are recorded; None: nowhere
    keep_recordings_days: int | None = None  # None: for ever; an agent may say otherwise
    keep_transcripts_days: int | None = None
    keep_calls_days: int | None = None
    keep_audit_days: int | None = None  # None: as ApiSettings says
    worker: int | None = None  # which one, of a supervisor's
    node: NodeConfig = NodeConfig()


async def serve(options: StandaloneOptions, providers: SharedProviders | None = None) -> None:
    """Serve until SIGTERM or SIGINT: then drain; a second signal ends calls with their records.

    ``providers`` fill the ports of agents; by default those they name.

    Raises:
        ConfigError: an option or the environment cannot be used.
        StoreUnavailable: the database does not answer.
        OSError: an address cannot be listened on.
    """
    account = _account()
    check_exposure(options.host, is_guarded=account is not None, is_insecure=options.is_insecure)
    secret = os.environ.get("RTCORE_SECRET", "").encode() or random_secrets.token_bytes(32)
    if "RTCORE_SECRET" not in os.environ and options.database.startswith("postgresql"):
        log.warning("secret_is_random", fix="set RTCORE_SECRET, the same for all nodes")
    keys = tuple(key for key in os.environ.get("RTCORE_SECRET_KEYS", "").split(",") if key)
    is_worker = options.worker is not None
    listeners = open_listeners(options.host, options.port, shares_port=is_worker)
    host, port = listeners[0].socket.getsockname()[:2]
    media = []
    if options.media_port is not None:
        media = open_listeners(options.host, options.media_port, shares_port=is_worker)
    public_url = options.public_url.rstrip("/") or f"http://{host}:{port}"
    await trio.to_thread.run_sync(upgrade, options.database)
    store = Store.open(options.database, secret_keys=keys)
    if providers is None:
        providers = SharedProviders(allow_private=options.allow_private_urls)
    registry = CollectorRegistry()
    try:
        app = create_app(
            store,
            ApiSettings(
                public_url=public_url,
                retention=_retention(options),
                audit_keep_days=options.keep_audit_days or ApiSettings().audit_keep_days,
                allow_private_urls=options.allow_private_urls,
            ),
            agent_for=providers,
            call_config=options.node.call,
            registry=registry,
            is_ready=lambda: line.node.has_room,
        )
        line = add_telephony(
            app,
            account=account,
            secret=secret,
            node_config=options.node,
            media_url=options.node_url,
            presence=PresenceConfig(heartbeat_s=options.heartbeat_s),
            recordings=None if options.recordings is None else Recordings(options.recordings),
        )
        registry.register(NodeCollector(line.node))
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(providers.run)
                nursery.start_soon(keep_heap, lambda: not line.node.calls)
                nursery.start_soon(obey_signals, signals, line.node, nursery.cancel_scope)
                if is_worker:
                    metrics = partial(generate_latest, registry)
                    nursery.start_soon(obey_supervisor, line.node, metrics, nursery.cancel_scope)
                log.info(
                    "listening",
                    api=f"http://{host}:{port}",
                    public_url=public_url,
                    node_id=line.node_id,
                )
                await serve_node(line.node, app, listeners, media_listeners=media)
                nursery.cancel_scope.cancel(reason="drained")
    finally:
        store.close()
    log.info("stopped", calls=line.node.stats.calls, failed=line.node.stats.failed)


def _retention(options: StandaloneOptions) -> Retention:
    return Retention(
        recordings_days=options.keep_recordings_days,
        transcripts_days=options.keep_transcripts_days,
        calls_days=options.keep_calls_days,
    )


def _account() -> PlivoAccount | None:
    """The account at the carrier, as the environment says; None where it says nothing."""
    auth_id = os.environ.get("RTCORE_PLIVO_AUTH_ID", "")
    auth_token = os.environ.get("RTCORE_PLIVO_AUTH_TOKEN", "")
    if bool(auth_id) != bool(auth_token):
        missing = "RTCORE_PLIVO_AUTH_TOKEN" if auth_id else "RTCORE_PLIVO_AUTH_ID"
        raise ConfigError(missing, "is not set, but the other half of the account is")
    if not auth_id:
        return None
    given = {"auth_id": auth_id, "auth_token": auth_token}
    more = {"url": "RTCORE_PLIVO_API_URL", "calls_per_s": "RTCORE_PLIVO_CALLS_PER_S"}
    given |= {field: os.environ[name] for field, name in more.items() if os.environ.get(name)}
    try:
        return msgspec.convert(given, PlivoAccount, strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigError("RTCORE_PLIVO_...", f"cannot be used: {exc}") from exc
