"""Functions of an MCP server: a child process on its pipes, or an HTTP endpoint.

JSON-RPC 2.0 as the Model Context Protocol frames it, revision 2025-06-18: ``initialize``,
``tools/list`` and ``tools/call``; a server's own requests are answered (``ping``) or refused.
Source: https://modelcontextprotocol.io/specification/2025-06-18
"""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
import structlog
import trio
from msgspec import Meta

from rtcore.errors import ProviderError, ToolError, first_error
from rtcore.ports import ToolSpec, ToolUse
from rtcore.providers._http import Answer
from rtcore.providers._settings import Seconds, Settings, find_secret
from rtcore.providers._wire import encode
from rtcore.providers.functions._endpoint import Endpoint
from rtcore.providers.functions._pipes import CLOSE_LIMIT_S, Pipes, open_pipes

__all__ = ["McpHttpSettings", "McpServer", "McpStdioSettings"]

log = structlog.get_logger()

REVISION = "2025-06-18"
CLIENT = {"name": "rtcore", "version": "0.1"}
MESSAGE_MAX_BYTES = 1 << 20
TOOLS_MAX = 100  # a model reads them all with each request
PAGES_MAX = 20
NAME_MAX_CHARS = 64  # of a function's name, at all large services
START_LIMIT_S = 20.0  # a package runner may fetch the server first
RESTART_MIN_S, RESTART_MAX_S = 1.0, 30.0
METHOD_NOT_FOUND = -32601  # JSON-RPC 2.0, section 5.1


class McpStdioSettings(Settings, frozen=True):
    """A server that is a program of this machine.

    It is given no environment but this: ``PATH`` too, where it or its command needs one.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    limit_s: Seconds = 15.0


class McpHttpSettings(Settings, frozen=True):
    """A server behind a URL ("streamable HTTP"); its key goes as a bearer token."""

    url: str
    key_name: str | None = None
    limit_s: Seconds = 15.0
    allow_private: bool = False


class _Error(msgspec.Struct):
    message: str = "unnamed error"
    code: int = 0


class _Message(msgspec.Struct):
    """Any message of JSON-RPC."""

    id: int | str | None = None
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


class _Tool(msgspec.Struct):
    name: str
    description: str = ""
    inputSchema: dict[str, Any] = {}  # noqa: N815 - the protocol's name


class _Tools(msgspec.Struct):
    tools: list[_Tool]
    nextCursor: str | None = None  # noqa: N815 - the protocol's name


class _Content(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Called(msgspec.Struct):
    content: list[_Content] = []
    isError: bool = False  # noqa: N815 - the protocol's name


MESSAGE = msgspec.json.Decoder(_Message)


class _Session(ABC):
    """One initialised conversation with a server."""

    def __init__(self) -> None:
        self._ids = 0

    @abstractmethod
    async def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        """Ask and return the result, as JSON.

        Raises:
            ToolError: the server says no.
            ProviderError: the session is lost.

        Cancelled: the server is told where that is possible.
        """

    @abstractmethod
    async def notify(self, method: str, params: Mapping[str, Any]) -> None: ...

    def message(self, method: str, params: Mapping[str, Any], id: int | None = None) -> bytes:
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        return encode(body if id is None else {**body, "id": id})

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    async def initialise(self) -> None:
        params = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": CLIENT}
        await self.request("initialize", params)
        await self.notify("notifications/initialized", {})


def _result(message: _Message) -> bytes:
    if message.error is not None:
        raise ToolError(message.error.message)
    return bytes(message.result)


class _PipeSession(_Session):
    """Requests by number over the pipes of a child process."""

    def __init__(self, name: str, pipes: Pipes) -> None:
        super().__init__()
        self._name = name
        self._pipes = pipes
        self._waiting: dict[int, trio.MemorySendChannel[_Message]] = {}
        self._is_lost = False

    async def receive(self) -> None:
        """Give answers to who waits for them until the server's end.

        Raises:
            ProviderError: the server ended, or does not speak the protocol.
        """
        try:
            while (line := await self._pipes.line()) is not None:
                message = _decoded(self._name, line)
                if message.method is not None:
                    if message.id is not None:
                        self._pipes.send_soon(_answer_to(message))
                elif isinstance(message.id, int) and (tx := self._waiting.pop(message.id, None)):
                    tx.send_nowait(message)  # a channel of one, for the one answer
            raise ProviderError(self._name, "the server ended", retryable=True)
        finally:
            self._is_lost = True
            for tx in self._waiting.values():
                tx.close()

    async def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        if self._is_lost:
            raise ProviderError(self._name, "the server ended", retryable=True)
        id = self.next_id()
        tx, rx = trio.open_memory_channel[_Message](1)
        self._waiting[id] = tx
        try:
            await self._pipes.send(self.message(method, params, id))
            message = await rx.receive()
        except trio.EndOfChannel as exc:
            raise ProviderError(self._name, "the server ended", retryable=True) from exc
        finally:
            rx.close()
            tx.close()
            if self._waiting.pop(id, None) is not None:  # nobody will wait for the answer
                self._pipes.send_soon(self.message("notifications/cancelled", {"requestId": id}))
        return _result(message)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        await self._pipes.send(self.message(method, params))


def _answer_to(request: _Message) -> bytes:
    """What we say to a server's own request."""
    answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request.id}
    if request.method == "ping":
        return encode({**answer, "result": {}})
    error = {"code": METHOD_NOT_FOUND, "message": "this client offers nothing"}
    return encode({**answer, "error": error})


class _HttpSession(_Session):
    """One POST for each message; the answer is JSON, or an event stream that holds it."""

    def __init__(self, name: str, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._name = name
        self._endpoint = endpoint
        self._headers = {**headers, "accept": "application/json, text/event-stream"}

    async def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        id = self.next_id()
        async with await self._post(self.message(method, params, id)) as answer:
            if method == "initialize":
                self._headers["mcp-protocol-version"] = REVISION
                if session := answer.headers.get("mcp-session-id"):
                    self._headers["mcp-session-id"] = session
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                while (event := await answer.event()) is not None:
                    if (message := self._decoded(event.data)).id == id and not message.method:
                        return _result(message)
            elif (message := self._decoded(await answer.read(MESSAGE_MAX_BYTES))).id == id:
                return _result(message)
        raise ProviderError(self._name, f"no answer to {method}", retryable=True)

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        async with await self._post(self.message(method, params)):
            pass

    async def _post(self, body: bytes) -> Answer:
        return await self._endpoint.post(body, self._headers)

    def _decoded(self, body: bytes) -> _Message:
        return _decoded(self._name, body)


def _decoded(name: str, body: bytes) -> _Message:
    try:
        return MESSAGE.decode(body)
    except msgspec.DecodeError as exc:
        raise ProviderError(name, f"not JSON-RPC: {exc}", retryable=True) from exc


class McpServer:
    """One server's functions: listed when it has started, called for as long as it runs."""

    def __init__(
        self,
        name: str,
        settings: McpStdioSettings | McpHttpSettings,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """
        Raises:
            ConfigError: the URL cannot be used, or the key is missing.
        """
        self.name = name
        self.specs: tuple[ToolSpec, ...] = ()  # known once :meth:`run` has started
        self._settings = settings
        self._own_names: dict[str, str] = {}  # as the model calls a function -> as the server does
        self._session: _Session | None = None
        self._endpoint: Endpoint | None = None
        self._headers: dict[str, str] = {}
        if isinstance(settings, McpHttpSettings):
            secret = find_secret(secrets or {}, settings.key_name) if settings.key_name else None
            if secret is not None:
                self._headers["authorization"] = f"Bearer {secret.reveal()}"
            self._endpoint = Endpoint(
                name,
                settings.url,
                settings.limit_s,
                allow_private=settings.allow_private,
                secret=secret,
            )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the server until cancelled; started once its functions are known.

        A process that ends is started again, at growing intervals.

        Raises:
            ProviderError: it could not be started in the first place.
        """
        if self._endpoint is not None:
            try:
                with _within(self.name, START_LIMIT_S):
                    await self._list(await self._connect(self._endpoint))
                task_status.started()
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
                    await self._endpoint.aclose()
        delay_s = 0.0
        while True:
            lost: ProviderError | None = None
            try:
                await self._keep_process(task_status)
            except* ProviderError as group:
                lost = first_error(group)
            if not self.specs:
                raise lost or ProviderError(self.name, "has no functions", retryable=False)
            log.warning("mcp_server_lost", server=self.name)
            task_status = trio.TASK_STATUS_IGNORED
            delay_s = min(max(RESTART_MIN_S, delay_s * 2), RESTART_MAX_S)
            await trio.sleep(delay_s)

    async def call(self, name: str, use: ToolUse) -> str:
        """Call the function the model knows as ``name``.

        Raises:
            ToolError: it failed, or there was no answer in time; the text is for the model.

        Cancelled: the server is told; whether the function took effect is not known.
        """
        limit_s = self._settings.limit_s
        params = {
            "name": self._own_names[name],
            "arguments": use.arguments,
            "_meta": {"rtcore/idempotency-key": use.key},
        }
        with trio.move_on_after(limit_s):
            try:
                session = self._session
                if session is None and self._endpoint is not None:
                    session = await self._connect(self._endpoint)
                if session is None:
                    raise ToolError(f"{self.name} is not running now")
                return _text(await session.request("tools/call", params))
            except ProviderError as exc:
                if self._endpoint is not None:
                    self._session = None  # its session may have expired: the next call opens one
                raise ToolError(f"{self.name} failed: {exc}") from exc
        raise ToolError(f"{self.name} gave no answer within {limit_s:g} s")

    async def _keep_process(self, task_status: trio.TaskStatus[None]) -> None:
        assert isinstance(self._settings, McpStdioSettings)
        command, environment = self._settings.command, self._settings.environment
        async with open_pipes(self.name, command, environment) as pipes:
            session = _PipeSession(self.name, pipes)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pipes.write)
                    nursery.start_soon(session.receive)
                    with _within(self.name, START_LIMIT_S):
                        await session.initialise()
                        if not self.specs:
                            await self._list(session)
                    self._session = session
                    task_status.started()
            finally:
                self._session = None

    async def _connect(self, endpoint: Endpoint) -> _Session:
        session = _HttpSession(self.name, endpoint, self._headers)
        await session.initialise()
        self._session = session
        return session

    async def _list(self, session: _Session) -> None:
        specs: list[ToolSpec] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            params = {"cursor": cursor} if cursor else {}
            try:
                page = msgspec.json.decode(await session.request("tools/list", params), type=_Tools)
            except (msgspec.DecodeError, ToolError) as exc:
                message = f"its functions cannot be listed: {exc}"
                raise ProviderError(self.name, message, retryable=False) from exc
            for tool in page.tools:
                name = re.sub(r"[^a-zA-Z0-9_-]", "_", tool.name)[:NAME_MAX_CHARS]
                self._own_names[name] = tool.name
                schema = tool.inputSchema
                specs.append(ToolSpec(name=name, description=tool.description, parameters=schema))
            cursor = page.nextCursor
            if not cursor or len(specs) >= TOOLS_MAX:
                break
        self.specs = tuple(specs[:TOOLS_MAX])


@contextlib.contextmanager
def _within(name: str, limit_s: float) -> Iterator[None]:
    """Raises ProviderError when the block takes longer, or is refused."""
    try:
        with trio.fail_after(limit_s):
            yield
    except trio.TooSlowError as exc:
        message = f"was not ready within {limit_s:g} s"
        raise ProviderError(name, message, retryable=True) from exc
    except ToolError as exc:
        raise ProviderError(name, str(exc), retryable=False) from exc


def _text(result: bytes) -> str:
    try:
        called = msgspec.json.decode(result, type=_Called)
    except msgspec.DecodeError as exc:
        raise ToolError(f"the answer cannot be read: {exc}") from exc
    text = "\n".join(part.text for part in called.content if part.type == "text")
    if called.isError:
        raise ToolError(text or "the function failed")
    return text or "done"
