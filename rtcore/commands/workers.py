"""``rtcore serve --workers N``: a node of several processes, and one place to ask how it is."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus

import h11
import msgspec
import structlog
import trio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from rtcore.node import open_listeners
from rtcore.supervisor import Supervisor

__all__ = ["StatusPage", "WorkersOptions", "serve"]

log = structlog.get_logger()

BEYOND_DRAIN_S = 30.0  # farewells, the last callbacks, what is still to be written
REQUEST_LIMIT_S = 5.0  # to ask and be answered
JSON = "application/json"


class WorkersOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    arguments: tuple[str, ...]  # of the whole command: what each worker is started with
    workers: int
    host: str = "127.0.0.1"
    port: int = 8080
    media_port: int | None = None
    database: str | None = None
    drain_s: float = 300.0
    is_pinned: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # None: nobody can ask


async def serve(options: WorkersOptions) -> int:
    """Serve until SIGTERM or SIGINT: then drain; a second signal ends calls with their records.

    Returns the exit status, see :meth:`Supervisor.run`.

    Raises:
        OSError: an address cannot be listened on.
    """
    held, arguments = [], list(options.arguments)
    for name, port in (("--port", options.port), ("--media-port", options.media_port)):
        if port is not None:
            hold = _hold(options.host, port)
            held.append(hold)
            arguments += [name, str(hold.getsockname()[1])]
    listeners = []
    if options.metrics_port is not None:
        listeners = open_listeners(options.metrics_host, options.metrics_port)
    environment = dict(os.environ)
    if options.database is not None and not environment.get("RTCORE_SECRET"):
        environment["RTCORE_SECRET"] = secrets.token_hex(32)  # what one signs the others know
    supervisor = Supervisor(
        [sys.executable, "-m", "rtcore", *arguments],
        options.workers,
        drain_limit_s=options.drain_s + BEYOND_DRAIN_S,
        is_pinned=options.is_pinned,
        environment=environment,
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.obey, signals)
            if listeners:
                host, port = listeners[0].socket.getsockname()[:2]
                log.info("status_page", url=f"http://{host}:{port}")
                page = StatusPage(supervisor)
                nursery.start_soon(trio.serve_listeners, page.answer, listeners)
            status = await supervisor.run()
            nursery.cancel_scope.cancel(reason="the workers have ended")
    for sock in held:
        sock.close()
    log.info("workers_stopped", status=status)
    return status


def _hold(host: str, port: int) -> socket.socket:
    """Make sure that nobody has the port, then keep it without listening.

    Without the first look a second node would share the port of one that runs, and each would
    get some of the other's calls.

    Raises:
        OSError: somebody has.
    """
    first, *others = open_listeners(host, port)
    for listener in others:
        listener.socket.close()
    family, address = first.socket.family, first.socket.getsockname()
    first.socket.close()
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(address)
    return held


class StatusPage:
    """``/healthz``, ``/readyz`` and ``/metrics`` of all workers together."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._registry = CollectorRegistry()
        self._registry.register(WorkersCollector(supervisor))

    async def answer(self, stream: trio.SocketStream) -> None:
        """Answer the one request of a connection."""
        http = h11.Connection(h11.SERVER)
        async with stream:
            with (
                trio.move_on_after(REQUEST_LIMIT_S),
                suppress(trio.BrokenResourceError, h11.RemoteProtocolError),
            ):
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(4096)))
                if not isinstance(event, h11.Request):
                    return
                status, kind, body = self._page(event.method, event.target.partition(b"?")[0])
                head = h11.Response(
                    status_code=status,
                    reason=status.phrase,
                    headers=[
                        ("Content-Type", kind),
                        ("Content-Length", str(len(body))),
                        ("Connection", "close"),
                    ],
                )
                data = () if event.method == b"HEAD" else (h11.Data(data=body),)
                parts = (head, *data, h11.EndOfMessage())
                await stream.send_all(b"".join(http.send(part) or b"" for part in parts))

    def _page(self, method: bytes, path: bytes) -> tuple[HTTPStatus, str, bytes]:
        if method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, JSON, b""
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == b"/healthz":
            return HTTPStatus.OK, JSON, self._states("ok")
        if path == b"/readyz":
            if self._supervisor.has_room:
                return HTTPStatus.OK, JSON, self._states("ready")
            return HTTPStatus.SERVICE_UNAVAILABLE, JSON, self._states("no worker has room")
        return HTTPStatus.NOT_FOUND, JSON, b""

    def _states(self, status: str) -> bytes:
        workers = [
            {
                "worker": worker.number,
                "serves": worker.report is not None,
                "has_room": worker.report is not None and worker.report.has_room,
                "calls": worker.report.calls if worker.report is not None else 0,
                "restarts": worker.restarts,
                "is_given_up": worker.is_given_up,
            }
            for worker in self._supervisor.workers
        ]
        return msgspec.json.encode({"status": status, "workers": workers})


class WorkersCollector(Collector):
    """What each worker counts, with its number, and what becomes of the workers themselves."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("rtcore_worker_up", "Whether it serves", labels=["worker"])
        restarts = CounterMetricFamily(
            "rtcore_worker_restarts", "Times it was started again", labels=["worker"]
        )
        pages = {}
        for worker in self._supervisor.workers:
            up.add_metric([str(worker.number)], worker.report is not None)
            restarts.add_metric([str(worker.number)], worker.restarts)
            if worker.report is not None:
                pages[worker.number] = worker.report.metrics
        yield up
        yield restarts
        yield from merged(pages)


def merged(pages: Mapping[int, str]) -> Iterator[Metric]:
    """The families of several workers' pages as one, each sample with its ``worker``."""
    families: dict[str, Metric] = {}
    for number, page in pages.items():
        for family in text_string_to_metric_families(page):
            name = family.name
            into = families.setdefault(name, Metric(name, family.documentation, family.type))
            for sample in family.samples:
                labels = {**sample.labels, "worker": str(number)}
                into.samples.append(sample._replace(labels=labels))
    yield from families.values()
