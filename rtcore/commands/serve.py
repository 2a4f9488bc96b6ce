"""``rtcore serve``: a node that answers calls until it is told to stop."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio
from prometheus_client import CollectorRegistry, generate_latest

from rtcore.admission import MEDIA_PATH, MediaGate, check_exposure
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.assembly import serve_agent
from rtcore.call import Call
from rtcore.errors import ConfigError, ProviderError, first_error
from rtcore.heap import keep_heap
from rtcore.node import Node, NodeConfig, open_listeners
from rtcore.node_metrics import NodeCollector, RecordingCollector
from rtcore.protocol.plivo_signature import Tokens
from rtcore.providers.embedded import (
    AgentData,
    EmbeddedBrain,
    EmbeddedRecogniser,
    EmbeddedVoice,
    RecogniserSettings,
    load_demo_agent,
)
from rtcore.recording import Recordings, file_name
from rtcore.records import RecordLog
from rtcore.tls import Certificate
from rtcore.worker import obey_signals, obey_supervisor

__all__ = ["ServeOptions", "embedded_agent", "serve"]

log = structlog.get_logger()


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    host: str = "127.0.0.1"
    port: int = 8080
    agent: Path | None = None  # a file for rtcore.assembly; the demo's agent if None
    public_url: str = ""  # as the carrier dials it: what it signs
    is_insecure: bool = False
    records: Path | None = None  # where each call's record goes, as a line of JSON
    recordings: Path | None = None  # where a call's sound goes, if its agent wants that
    tls: tuple[Path, Path] | None = None  # certificate and key; None: not encrypted
    worker: int | None = None  # which one, of a supervisor's
    node: NodeConfig = NodeConfig()


class EmbeddedAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent with the embedded providers, whose workers :meth:`run` keeps."""

    agent: Agent
    recogniser: EmbeddedRecogniser
    voice: EmbeddedVoice

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; ready once each has started."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.recogniser.run)
            await nursery.start(self.voice.run)
            task_status.started()


def embedded_agent(data: AgentData) -> EmbeddedAgent:
    """Join the embedded providers to an agent made of ``data``.

    Raises:
        ConfigError: the extra is not installed.
    """
    recogniser = EmbeddedRecogniser(RecogniserSettings())
    voice = EmbeddedVoice()
    definition = AgentDefinition(name=data.name, welcome_message=data.welcome, phrases=data.phrases)
    agent = Agent(definition, recogniser, EmbeddedBrain(data), voice)
    return EmbeddedAgent(agent=agent, recogniser=recogniser, voice=voice)


async def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT: then drain; a second signal ends calls with their records.

    Raises:
        ConfigError: an option, the environment or the agent's file cannot be used.
        ProviderError: something the agent needs cannot be started.
        OSError: the address cannot be listened on.
    """
    try:
        await _serve(options)
    except* (ConfigError, ProviderError) as group:
        raise first_error(group) from None


async def _serve(options: ServeOptions) -> None:
    secret = os.environ.get("RTCORE_SECRET", "").encode() or None
    auth_token = os.environ.get("RTCORE_PLIVO_AUTH_TOKEN") or None
    check_exposure(
        options.host,
        is_guarded=secret is not None and auth_token is not None,
        is_insecure=options.is_insecure,
    )
    records = RecordLog(options.records) if options.records is not None else None
    recordings = Recordings(options.recordings) if options.recordings is not None else None

    def record_it(call: Call) -> None:
        if recordings is not None and call.agent.definition.recording:
            call.recorder = recordings.begin(file_name(call.context.call_id))

    certificate = Certificate(*options.tls) if options.tls is not None else None
    if certificate is not None and options.node.socket != "portable":
        raise ConfigError("tls-cert", "the fast socket speaks no TLS: say --socket portable")
    is_worker = options.worker is not None
    listeners = open_listeners(options.host, options.port, shares_port=is_worker)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            agent = await _start_agent(options.agent, nursery)
            gate = MediaGate(
                {},
                default=agent,
                secret=secret,
                plivo=Tokens(account=(auth_token,)) if auth_token else None,
                public_url=options.public_url,
            )
            node = Node(
                gate.admit,
                options.node,
                on_start=record_it,
                on_record=records.put if records else None,
            )
            nursery.start_soon(keep_heap, lambda: not node.calls)
            if records is not None:
                nursery.start_soon(records.run)
            if recordings is not None:
                nursery.start_soon(recordings.run)
            nursery.start_soon(obey_signals, signals, node, nursery.cancel_scope)
            if is_worker:
                registry = CollectorRegistry()
                registry.register(NodeCollector(node))
                if recordings is not None:
                    registry.register(RecordingCollector(recordings))
                metrics = partial(generate_latest, registry)
                nursery.start_soon(obey_supervisor, node, metrics, nursery.cancel_scope)
            if certificate is not None:
                nursery.start_soon(certificate.run)
            host, port = listeners[0].socket.getsockname()[:2]
            log.info(
                "listening",
                url=f"{'ws' if certificate is None else 'wss'}://{host}:{port}{MEDIA_PATH}{{token}}",
                agent=agent.definition.name,
            )
            await node.serve(listeners, tls=certificate.context if certificate else None)
            if records is not None:
                await records.flush()
            nursery.cancel_scope.cancel(reason="drained")
    log.info("stopped", calls=node.stats.calls, failed=node.stats.failed)


async def _start_agent(path: Path | None, nursery: trio.Nursery) -> Agent:
    """The agent of a file, or the demo's, with what serves it running in ``nursery``."""
    if path is not None:
        agent: Agent = await nursery.start(serve_agent, path, os.environ)
        return agent
    embedded = embedded_agent(load_demo_agent())
    await nursery.start(embedded.run)
    return embedded.agent
