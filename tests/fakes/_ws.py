"""A real WebSocket server on loopback (trio-websocket) that remembers what it was told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from tests.fakes._faults import Fault, FaultScript


@dataclass
class Session:
    """One connection as the service saw it."""

    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    fault: Fault
    socket: WebSocketConnection
    texts: list[Any] = field(default_factory=list)  # decoded JSON, in order
    octets: bytearray = field(default_factory=bytearray)  # all binary messages
    binary_sizes: list[int] = field(default_factory=list)
    sent: int = 0  # the service's own messages
    is_open: bool = True
    close_code: int | None = None

    def param(self, name: str) -> str | None:
        return next((value for key, value in self.query if key == name), None)

    def kinds(self) -> list[str]:
        return [text.get("type", "") for text in self.texts]


class Hung(Exception):
    """The script ends the session here."""


class FakeSocketServer(ABC):
    """Subclasses serve one session; ``faults`` says how it goes wrong."""

    hears_alone: ClassVar[bool] = False  # it listens where it speaks: nobody does meanwhile
    unknown: ClassVar[object] = {"type": "SomethingNew", "detail": {"depth": [1, 2]}}
    error: ClassVar[object] = {"type": "Error", "description": "scripted fault", "code": "SCRIPTED"}

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.faults = FaultScript()
        self.refusals = 0

    @property
    def open_sessions(self) -> int:
        return sum(session.is_open for session in self.sessions)

    async def drop_all(self) -> None:
        """Break every connection there is."""
        for session in self.sessions:
            if session.is_open:
                await trio.aclose_forcefully(session.socket._stream)

    async def serve(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port of 127.0.0.1; start with its base URL."""
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self._accept, "127.0.0.1", 0, None)
            task_status.started(f"ws://127.0.0.1:{server.port}")

    @abstractmethod
    async def session(self, session: Session) -> None:
        """Speak the protocol until the client has gone."""

    async def say(self, session: Session, message: object) -> None:
        """Send one message of the service, or what the fault wants instead of it."""
        fault, position = session.fault, session.sent
        session.sent += 1
        await trio.sleep(fault.gap_s)
        if position == fault.drop_after:
            if fault.close_code is not None:
                with trio.move_on_after(1, shield=True):  # whatever its other tasks do
                    await session.socket.aclose(fault.close_code, "scripted")
            else:
                await trio.aclose_forcefully(session.socket._stream)
            raise Hung
        if position == fault.stall_after:
            await self._stall(session)
        if position == fault.error_after:
            await session.socket.send_message(_text(self.error))
            raise Hung
        if position == fault.malformed_after:
            message = '{"type":'
        if fault.unknown_messages:
            await session.socket.send_message(_text(self.unknown))
        await session.socket.send_message(
            message if isinstance(message, bytes | str) else _text(message)
        )

    async def _stall(self, session: Session) -> None:
        """Say nothing any more; end when the client has left."""
        while session.socket.closed is None:
            if self.hears_alone:  # unread messages would hide the close behind them
                await session.socket.get_message()
            else:
                await trio.sleep(0.05)
        raise Hung

    async def hear(self, session: Session) -> Any:
        """The next message of the client: decoded JSON, or octets."""
        message = await session.socket.get_message()
        if isinstance(message, bytes):
            session.octets += message
            session.binary_sizes.append(len(message))
            return message
        decoded = msgspec.json.decode(message)
        session.texts.append(decoded)
        return decoded

    async def _accept(self, request: WebSocketRequest) -> None:
        fault = self.faults.next()
        await trio.sleep(fault.first_delay_s)
        if fault.status is not None:
            self.refusals += 1
            more = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after else []
            await request.reject(fault.status, extra_headers=more, body=fault.error_body)
            return
        parts = urlsplit(request.path)
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        session = Session(
            parts.path, parse_qsl(parts.query), headers, fault, await request.accept()
        )
        self.sessions.append(session)
        try:
            await self.session(session)
        except* (ConnectionClosed, Hung):
            pass
        finally:
            session.is_open = False
            closed = session.socket.closed
            session.close_code = closed.code if closed else None


def _text(message: object) -> str:
    return msgspec.json.encode(message).decode()
