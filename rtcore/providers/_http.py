"""All HTTP to the services: one pooled client each, streamed answers, one map of errors."""

from __future__ import annotations

import functools
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import httpcore
import httpx
import trio

from rtcore.errors import ProviderError, RemoteProtocolError
from rtcore.providers._addresses import reach_public
from rtcore.providers._faults import refused, timed_out
from rtcore.providers._settings import Deadlines, Secret
from rtcore.providers._sse import SseEvent, SseParser
from rtcore.providers._wire import encode

__all__ = ["Answer", "HttpClient", "tls_context"]

CONNECTIONS_MAX = 512  # one answer each: more than a core can hold in calls
IDLE_LIMIT_S = 60.0  # services close idle connections after 60 s and more
ERROR_MAX_BYTES = 1 << 16
NOTHING = httpx.ByteStream(b"")
KEEP_ALIVE_EVENTS = frozenset({"ping"})  # says "alive", not "thinking": no progress


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The one TLS context of all clients: loading the roots takes tens of ms.

    The roots are certifi's, or those of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``: a container has
    none of its own.
    """
    return httpx.create_ssl_context()


class HttpClient:
    """The connections to one service.

    ``headers`` go with each request and may hold the key that ``secret`` names. Connections
    are made when needed and kept for a minute; a request on one that the service has closed
    meanwhile is sent again on a new one.
    """

    def __init__(
        self,
        provider: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        secret: Secret | None = None,
    ) -> None:
        self.provider = provider
        self.deadlines = deadlines
        self._secret = secret
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"accept-encoding": "identity", **headers},  # unpacking would only delay
            timeout=httpx.Timeout(
                None, connect=deadlines.connect_s, pool=deadlines.connect_s, write=deadlines.stall_s
            ),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_MAX,
                keepalive_expiry=IDLE_LIMIT_S,
            ),
            verify=tls_context(),
            trust_env=False,  # settings are handed in
        )
        if deadlines.public_only:  # httpx takes no other backend; its pool does
            pool: Any = self._client._transport._pool  # type: ignore[attr-defined]
            pool._network_backend = _PublicNetwork(pool._network_backend)

    async def post(
        self,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
    ) -> Answer:
        """Send JSON (octets as they are, or a form with files); return when the answer begins.

        Close what is returned: ``async with await client.post(...) as answer``.

        Raises:
            ProviderError: no connection, no answer in time, or a status of 400 and above.

        Cancelled: the request is closed.
        """
        if form is None:
            request = self._client.build_request(
                "POST",
                path,
                content=body if isinstance(body, bytes) else encode(body),
                headers={"content-type": "application/json", **(headers or {})},
                extensions=dict(extensions or {}),
            )
        else:
            request = self._client.build_request("POST", path, data=form, files=files)
        answer = await self._send(request)
        if answer.status >= 400:
            raise await self._refusal(answer)
        return answer

    async def warm(self) -> None:
        """Have one connection open, unless one idles already."""
        if not self._has_idle_connection():
            async with await self._send(self._client.build_request("HEAD", "")):
                pass  # any status will do: it is the connection that counts

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _has_idle_connection(self) -> bool:
        # httpx does not count its connections; its pool does
        pool: Any = getattr(self._client._transport, "_pool", None)
        connections = getattr(pool, "connections", ())
        return any(each.is_idle() and not each.has_expired() for each in connections)

    async def _send(self, request: httpx.Request) -> Answer:
        """Send ``request``, twice if a connection that had idled turns out to be dead."""
        for is_last in (False, True):
            progress = _Progress(self.deadlines)
            request.extensions["trace"] = progress.trace
            request.stream = _Body(request.read())
            try:
                with progress.scope:
                    response = await self._client.send(request, stream=True)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as exc:
                if progress.connected or is_last:
                    raise self._broken(exc) from exc
                continue
            except httpx.HTTPError as exc:
                raise self._broken(exc) from exc
            if progress.scope.cancelled_caught:
                raise timed_out(self.provider, "the answer's first byte", progress.limit_s)
            return Answer(self.provider, response, self.deadlines, progress.left_s())
        raise AssertionError("the second attempt returns or raises")

    async def _refusal(self, answer: Answer) -> ProviderError:
        async with answer:
            try:
                body = await answer.read(ERROR_MAX_BYTES)
            except ProviderError:
                body = b""  # the status says enough
        return refused(self.provider, answer.status, answer.headers, body, self._secret)

    def _broken(self, exc: httpx.HTTPError) -> ProviderError:
        return _broken(self.provider, exc)


class _PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone; certificates are still checked by name."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._network = network

    async def connect_tcp(
        self, host: str, port: int, *args: Any, **options: Any
    ) -> httpcore.AsyncNetworkStream:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            try:
                return await self._network.connect_tcp(address, port, *args, **options)
            except httpcore.ConnectError as exc:
                raise OSError(str(exc)) from exc

        try:
            return await reach_public(host, port, connect)
        except OSError as exc:
            raise httpcore.ConnectError(str(exc)) from exc


class _Body(httpx.AsyncByteStream):
    """A request's body. httpx would make a generator of it, and leave that suspended when a
    connection breaks under the request."""

    def __init__(self, octets: bytes) -> None:
        self._left = [octets] if octets else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class _Progress:
    """How far one request has come: its deadline follows it."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.connected = False  # for this request, not before it
        self.limit_s = deadlines.connect_s + deadlines.first_byte_s
        self.scope = trio.CancelScope(relative_deadline=self.limit_s)

    async def trace(self, name: str, _info: Mapping[str, object]) -> None:
        """Told by httpcore where the request is."""
        if name == "connection.connect_tcp.complete":
            self.connected = True
        elif name == "http11.send_request_body.complete":
            self.limit_s = self._deadlines.first_byte_s
            self.scope.deadline = trio.current_time() + self.limit_s

    def left_s(self) -> float:
        """What is left of the time for the first of the answer."""
        return max(0.0, self.scope.deadline - trio.current_time())


class Answer:
    """An answer that has begun: its status, then its body, piece by piece or event by event.

    Waiting for the first piece is bounded by what is left of ``first_byte_s``, for each next
    one by ``stall_s``; the time between two calls is ours and is not counted.
    """

    def __init__(
        self, provider: str, response: httpx.Response, deadlines: Deadlines, first_left_s: float
    ) -> None:
        self._provider = provider
        self._response = response
        self._deadlines = deadlines
        self._left_s, self._limit_s = first_left_s, deadlines.first_byte_s
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes()
        self._parser = SseParser()
        self._events: deque[SseEvent] = deque()
        self._ended = False

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def piece(self) -> bytes | None:
        """The next octets of the body as the network brings them; ``None`` at the end.

        Raises:
            ProviderError: nothing came in time, or the connection broke.
        """
        found = await self._next_piece()
        self._expect_next()
        return found

    async def event(self) -> SseEvent | None:
        """The next event of an event stream; ``None`` at the end. Raises as :meth:`piece`."""
        while not self._events:
            if self._ended:
                return None
            octets = await self._next_piece()
            try:
                events = self._parser.end() if octets is None else self._parser.feed(octets)
            except RemoteProtocolError as exc:
                raise ProviderError(self._provider, str(exc), retryable=False) from exc
            self._events.extend(each for each in events if each.name not in KEEP_ALIVE_EVENTS)
        self._expect_next()
        return self._events.popleft()

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises as :meth:`piece`, and when it is longer than ``max_bytes``."""
        body = bytearray()
        while (octets := await self.piece()) is not None:
            body += octets
            if len(body) > max_bytes:
                raise ProviderError(
                    self._provider, f"an answer longer than {max_bytes} octets", retryable=False
                )
        return bytes(body)

    async def aclose(self) -> None:
        """Close the request; the service sees a disconnect if the answer had not ended."""
        with trio.move_on_after(self._deadlines.close_s, shield=True):
            await self._response.aclose()
            # httpx reads through nested generators: run them out, leave none suspended
            with suppress(httpx.HTTPError, httpx.StreamError):
                async for _ in self._pieces:
                    pass
        self._response.stream = NOTHING  # httpx's own holds the response: none would be freed

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None and not self._ended:  # a body read to its end frees the connection
                with trio.move_on_after(self._deadlines.close_s), suppress(ProviderError):
                    while await self._next_piece() is not None:
                        pass
        finally:  # also when cancelled while it was read
            await self.aclose()

    async def _next_piece(self) -> bytes | None:
        started_at = trio.current_time()
        try:
            with trio.move_on_after(self._left_s):
                return await anext(self._pieces)
        except StopAsyncIteration:
            self._ended = True
            return None
        except (httpx.HTTPError, httpx.StreamError) as exc:
            raise _broken(self._provider, exc) from exc
        finally:
            self._left_s -= min(self._left_s, trio.current_time() - started_at)
        raise timed_out(self._provider, "the next of the answer", self._limit_s)

    def _expect_next(self) -> None:
        self._left_s = self._limit_s = self._deadlines.stall_s


def _broken(provider: str, exc: Exception) -> ProviderError:
    return ProviderError(provider, f"{type(exc).__name__}: {exc}", retryable=True)
