"""The node: who may come in, the nursery that holds the calls, and how it empties.

It alone joins providers to calls. A call that fails is logged once and ended alone; the node
and the other calls go on.
"""

from __future__ import annotations

import functools
import math
import socket as stdlib_socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import msgspec
import structlog
import trio
from msgspec import Meta
from structlog.contextvars import bound_contextvars

from rtcore.agent.agent import Agent
from rtcore.call import Call, CallRecord, run_call
from rtcore.config import CallConfig, checked
from rtcore.errors import ConfigError, RemoteProtocolError
from rtcore.listening import ListeningCall
from rtcore.media import fast, portable
from rtcore.media._beats import Pump
from rtcore.media.handshake import Authorise, Rejection, UpgradeRequest
from rtcore.media.limits import SocketLimits
from rtcore.media.pacer import Pacer
from rtcore.ports import MediaSocket
from rtcore.turn.silero import SileroBatch
from rtcore.usage import Usage

__all__ = ["Admission", "Node", "NodeConfig", "NodeStats", "open_listeners", "serve_calls"]

log = structlog.get_logger()

Connection = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Admit = Callable[[UpgradeRequest], Awaitable["Admission | Rejection"]]
RETRY_AFTER_S = "5"  # a full node: the carrier tries twice more by itself
SILERO_TICK_S = 0.032  # one window of the network
FAREWELL_LIMIT_S = 10.0  # for the goodbye of calls that outlast a drain
END_LIMIT_S = 3.0  # for a call that is told to end: some 50 ms, unless a function writes
EXPECTED_MAX = 10_000  # calls on their way; past it those expected for longest are not waited for


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may become a call: with whom, and how it is served."""

    agent: Agent
    call_id: str | None = None  # the only call the stream may be of; None: any


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a node serves its calls."""

    socket: Literal["fast", "portable"] = "fast"
    voice: Literal["webrtc", "silero"] = "webrtc"  # silero: fewer noises taken for voice, at six
    # times the cost; the extra of that name
    is_pumped: bool = True  # the media clock reads all fast sockets; else a task each
    calls_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    calls_per_source_max: Annotated[int, Meta(ge=1, le=100_000)] = 1000  # a carrier's edge is
    # one source for all of its calls: lower it where callers connect by themselves
    lag_max_ms: Annotated[int, Meta(ge=1, le=10_000)] = 50  # past it the calls held would suffer
    drain_s: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    one_stream_per_call: bool = True  # a second stream of a call takes its place
    call: CallConfig = CallConfig()
    limits: SocketLimits = SocketLimits()


class NodeStats(msgspec.Struct, kw_only=True):
    """Counts since the node started."""

    calls: int = 0
    refused_full: int = 0
    refused_lag: int = 0
    refused_source: int = 0
    refused_request: int = 0  # wrong path, token, signature
    protocol_errors: int = 0
    replaced: int = 0
    failed: int = 0  # calls that ended by a fault of ours


class Node:
    """Accepts media sockets and serves a call on each."""

    def __init__(
        self,
        admit: Admit,
        config: NodeConfig | None = None,
        *,
        on_start: Callable[[Call], None] | None = None,
        on_record: Callable[[CallRecord], None] | None = None,
    ) -> None:
        """
        Args:
            admit: judges each request to become a WebSocket: whose call it is, or why not.
            on_start: given each call once the carrier has said which it is.
            on_record: given the record of each call as it ends. Neither may wait.

        Raises:
            ConfigError: ``config`` says what it may not.
        """
        self.config = checked(config or NodeConfig())
        self.stats = NodeStats()
        self.used = Usage()  # of all providers, by the calls that are over
        self._pump = Pump() if self.config.socket == "fast" and self.config.is_pumped else None
        self.pacer = Pacer(self._pump)
        self._silero = _silero(self.config.calls_max) if self.config.voice == "silero" else None
        self._admit = admit
        self._on_start = on_start
        self._on_record = on_record
        self._calls: dict[str, Call] = {}
        self._sources: dict[str, int] = {}
        self._draining = trio.Event()
        self._stopping = trio.Event()
        self._expected: dict[str, float] = {}  # until when; those expected for longest first
        self._fewer = trio.Event()  # expected, or held
        self._held: trio.Nursery | None = None  # of the connections; set while calls may come

    @property
    def calls(self) -> Mapping[str, Call]:
        """The calls in progress, by call id."""
        return self._calls

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def has_room(self) -> bool:
        """Whether one more call would be let in now, wherever it comes from."""
        return not self._is_full and self.pacer.lag_ms <= self.config.lag_max_ms

    @property
    def _is_full(self) -> bool:
        return self.is_draining or not self._has_place

    @property
    def _has_place(self) -> bool:
        return sum(self._sources.values()) < self.config.calls_max

    def drain(self) -> None:
        """Take no more calls but those expected; :meth:`serve` returns when all are over."""
        self._draining.set()

    def stop(self) -> None:
        """Wait for no call any longer: each ends now and leaves its record, none is expected."""
        self._draining.set()
        self._stopping.set()
        self._expected.clear()
        self._fewer.set()

    def expect(self, call_id: str, limit_s: float) -> None:
        """A call is on its way that was let in, or begun, here: a drain waits so long for it."""
        if self._is_over:
            return
        self._expected.pop(call_id, None)
        self._expected[call_id] = trio.current_time() + limit_s
        if len(self._expected) > EXPECTED_MAX:
            del self._expected[next(iter(self._expected))]

    @property
    def may_expect(self) -> bool:
        """Whether a call that is expected would be let in, be it that the node drains."""
        return self._held is not None and self._has_place and not self._is_over

    @property
    def _is_over(self) -> bool:
        """Whether no call may come any more, be it expected."""
        return self.is_stopping or (self.is_draining and self._held is None)

    def expect_no_more(self, call_id: str) -> None:
        """The call has come, or never will."""
        if self._expected.pop(call_id, None) is not None:
            self._fewer.set()

    async def serve(
        self,
        listeners: Sequence[trio.SocketListener],
        *,
        tls: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until :meth:`drain`; closes ``listeners``.

        With ``tls`` connections to ``listeners`` are encrypted, which only the portable socket
        can do.

        Without any, connections come by :meth:`take` alone.

        After a drain the calls held and those expected have ``drain_s`` to end by themselves,
        then a farewell is said, then they end. Cancelled: all calls end at once, and leave no
        record.

        Raises:
            ConfigError: ``tls`` with the fast socket.
        """
        if tls is not None and self.config.socket != "portable":
            raise ConfigError("socket", "only the portable one speaks TLS")
        doors: list[trio.SocketListener] | list[trio.SSLListener[trio.SocketStream]]
        doors = list(listeners) if tls is None else [trio.SSLListener(x, tls) for x in listeners]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pacer.run)
            if self._silero is not None:
                nursery.start_soon(_judge_voices, self._silero)
            async with trio.open_nursery() as calls:
                self._held = calls
                try:
                    async with trio.open_nursery() as accepting:
                        if doors:
                            accept = functools.partial(trio.serve_listeners, handler_nursery=calls)
                            accepting.start_soon(accept, self._serve_stream, doors)
                        task_status.started()
                        await self._draining.wait()
                        nursery.start_soon(self._hurry, calls)
                        await self._until_none(self._expected)
                        accepting.cancel_scope.cancel(reason="draining")
                    while self._sources or self._expected:  # one held may yet bring another
                        await self._until_none(self._sources)
                        await self._until_none(self._expected)
                finally:
                    self._held = None  # who comes from here on is refused
            nursery.cancel_scope.cancel(reason="drained")

    async def take(self, stream: trio.SocketStream) -> None:
        """Serve a connection that was accepted elsewhere, as one of the node's own.

        Returns at once, with ``stream`` left without its socket; where no call may come any
        more, once the connection has been refused. :meth:`serve` must be running.
        """
        if self._held is None:
            assert self.is_draining, "serve() is not running"
            await self._serve_stream(stream)
            return
        sock = stdlib_socket.socket(fileno=stream.socket.detach())
        own = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._held.start_soon(self._serve_stream, own)

    async def _until_none(self, calls: Mapping[str, float]) -> None:
        """Until there is none among ``calls``: those expected, or those held."""
        while calls:
            with trio.move_on_at(min(self._expected.values(), default=math.inf)):
                await self._fewer.wait()
            self._fewer = trio.Event()
            now_s = trio.current_time()
            for id in [id for id, until_s in self._expected.items() if until_s <= now_s]:
                del self._expected[id]

    async def _hurry(self, calls: trio.Nursery) -> None:
        """See to it that a drain ends."""
        log.info("draining", calls=len(self._calls), limit_s=self.config.drain_s)
        with trio.move_on_after(self.config.drain_s):
            await self._stopping.wait()
        if not self.is_stopping and self._calls:
            for call in list(self._calls.values()):
                call.say(call.agent.definition.farewell_line, ends_call=True)
            with trio.move_on_after(FAREWELL_LIMIT_S):
                await self._stopping.wait()
        for call in list(self._calls.values()):
            call.end("cancelled")  # by itself: one that is cancelled from here leaves no record
        await trio.sleep(END_LIMIT_S)
        calls.cancel_scope.cancel(reason="drain limit")

    # --- one connection -----------------------------------------------------------------

    async def _serve_stream(self, stream: Connection) -> None:
        """One connection, from its first octet to its last."""
        admission: Admission | None = None
        source = ""

        async def authorise(request: UpgradeRequest) -> Rejection | None:
            nonlocal admission, source
            source = request.remote
            decided = self._no_room(source) or await self._admit(request)
            if isinstance(decided, Rejection):
                self.stats.refused_request += decided.status in (400, 401, 403, 404)
                log.info("stream_refused", status=decided.status)
                return decided
            admission = decided
            return None

        try:
            async with trio.open_nursery() as nursery:
                socket = await self._accept(stream, authorise, nursery)
                if socket is not None:
                    assert admission is not None
                    with self._counted(source):
                        await self._serve_call(socket, admission)
                nursery.cancel_scope.cancel(reason="connection over")
        except* RemoteProtocolError as group:
            self.stats.protocol_errors += 1
            log.warning("carrier_broke_protocol", error=str(_innermost(group)))
        except* Exception:
            self.stats.failed += 1
            # as text: some renderers print a traceback with the words and keys in its variables
            log.error("call_failed", exception=traceback.format_exc())

    async def _accept(
        self, stream: Connection, authorise: Authorise, nursery: trio.Nursery
    ) -> MediaSocket | None:
        limits = self.config.limits
        if self.config.socket == "fast":
            assert isinstance(stream, trio.SocketStream), "serve() refuses this"
            return await fast.accept(stream, authorise, limits, nursery, self._pump)
        return await portable.accept(stream, authorise, limits, nursery)

    def _no_room(self, source: str) -> Rejection | None:
        """Refuse at the door what would make the calls inside suffer."""
        again = (("Retry-After", RETRY_AFTER_S),)
        if not self._has_place or (self.is_draining and not self._expected):
            self.stats.refused_full += 1
            return Rejection(status=503, body="no room for another call", headers=again)
        if self.pacer.lag_ms > self.config.lag_max_ms:
            self.stats.refused_lag += 1
            return Rejection(status=503, body="too busy for another call", headers=again)
        if self._sources.get(source, 0) >= self.config.calls_per_source_max:
            self.stats.refused_source += 1
            return Rejection(status=429, body="too many calls from this source", headers=again)
        return None

    @contextmanager
    def _counted(self, source: str) -> Iterator[None]:
        self._sources[source] = self._sources.get(source, 0) + 1
        try:
            yield
        finally:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
            self._fewer.set()

    async def _serve_call(self, socket: MediaSocket, admission: Admission) -> None:
        served: Call | None = None

        def started(call: Call) -> None:
            nonlocal served
            if admission.call_id not in (None, call.context.call_id):
                raise RemoteProtocolError("the stream is of another call", close_code=1008)
            if self.config.one_stream_per_call:
                before = self._calls.get(call.context.call_id)
                if before is not None:
                    self.stats.replaced += 1
                    before.end("replaced")
            served = self._calls[self._key(call)] = call
            if self._on_start is not None:
                self._on_start(call)

        self.stats.calls += 1
        voice = self._silero.voice() if self._silero is not None else None
        try:
            record = await run_call(
                socket,
                admission.agent,
                self.config.call,
                pacer=self.pacer,
                on_start=started,
                voice=voice,
                kind=None if admission.agent.definition.listening is None else ListeningCall,
            )
        finally:
            if voice is not None:
                voice.close()
            if served is not None:
                self.used.add(served.context.usage)
                if self._calls.get(self._key(served)) is served:
                    del self._calls[self._key(served)]
        with bound_contextvars(call_id=record.call_id):
            log.info(
                "call_ended",
                ended_by=record.ended_by,
                duration_s=round(record.duration_s, 1),
                turns=record.stats.turns,
                barge_ins=record.stats.barge_ins,
                lost_frames=record.stats.lost_frames,
                underruns=record.stats.underruns,
            )
        if self._on_record is not None:
            self._on_record(record)

    def _key(self, call: Call) -> str:
        if self.config.one_stream_per_call:
            return call.context.call_id
        return f"{call.context.call_id}/{call.stream_id}/{id(call)}"


async def serve_calls(
    agent: Agent,
    config: NodeConfig | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_record: Callable[[CallRecord], None] | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``agent`` to every WebSocket that connects to ``host``:``port``, until cancelled.

    For programs that do their own admission in front; ``task_status`` is given the port. A
    public node is :class:`Node` with an ``admit`` that checks a token.
    """

    async def admit(request: UpgradeRequest) -> Admission | Rejection:
        return Admission(agent=agent)

    listeners = open_listeners(host, port)
    node = Node(admit, config, on_record=on_record)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.serve, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])


def open_listeners(
    host: str, port: int, *, shares_port: bool = False, backlog: int = 1024
) -> list[trio.SocketListener]:
    """Listen on every address of ``host``; with ``shares_port`` several processes may.

    Raises:
        OSError: the address is taken or not ours; the message names it.
    """
    listeners: list[trio.SocketListener] = []
    infos = stdlib_socket.getaddrinfo(
        host, port, type=stdlib_socket.SOCK_STREAM, flags=stdlib_socket.AI_PASSIVE
    )
    for family, kind, protocol, _, address in infos:
        sock = stdlib_socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEADDR, 1)
            if shares_port:
                sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_REUSEPORT, 1)
            if family == stdlib_socket.AF_INET6:
                sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError as exc:
            sock.close()
            for listener in listeners:
                listener.socket.close()
            what = f"cannot listen on {host}, port {port}: {exc.strerror}"
            raise OSError(exc.errno, what) from exc
        listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
    return listeners


def _silero(calls_max: int) -> SileroBatch | None:
    """The batch all calls share; None, with a word on what is missing, for the default."""
    try:
        return SileroBatch(most_voices=calls_max)
    except ConfigError as exc:
        log.warning("silero_not_usable", error=str(exc), instead="webrtc")
        return None


async def _judge_voices(batch: SileroBatch) -> None:
    """One tick for all calls: what came in its 32 ms is judged together, four times cheaper."""
    deadline_s = trio.current_time()
    while True:
        deadline_s = max(deadline_s + SILERO_TICK_S, trio.current_time())
        await trio.sleep_until(deadline_s)
        while batch.run() == batch.most_at_once:  # some may be left
            await trio.lowlevel.checkpoint()


def _innermost(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
