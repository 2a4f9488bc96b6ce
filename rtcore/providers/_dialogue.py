"""A session with a speech-to-speech model over a WebSocket: what is the same for all of them.

Each service adds a dialogue: its messages and what they mean, without I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import trio

from rtcore.errors import ProviderError
from rtcore.providers._faults import timed_out
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines, Secret
from rtcore.providers._tasks import run_beside
from rtcore.providers._ws import WebSocket, connect
from rtcore.speech_port import SpeechCommand, SpeechEvent

__all__ = ["Dialogue", "DialogueService"]

# nothing is owed while nobody speaks, so silence is no fault; a connection that answers no ping for
# as long is dead, and would else be found out by the caller
SIGN_EVERY_S = 10.0


class Dialogue(Protocol):
    """The protocol of one session. What is to be sent and told is left in the two queues."""

    outbox: deque[str | bytes]  # for the service, in order
    events: deque[SpeechEvent]  # for the call, in order
    is_ready: bool  # the service has taken the session's settings

    @property
    def url(self) -> str: ...

    def begin(self) -> None:
        """The connection is there: say what the session is to be."""
        ...

    def obey(self, command: SpeechCommand) -> None:
        """Put one command into the service's words."""
        ...

    def hear(self, message: str | bytes) -> None:
        """Take one message of the service. Raises ProviderError."""
        ...


class DialogueService(Service):
    """A speech-to-speech model behind a WebSocket; each session is a dialogue."""

    def __init__(
        self,
        name: str,
        turns: Literal["ours", "theirs"],
        deadlines: Deadlines,
        secret: Secret | None,
        *,
        header: str = "authorization",
        scheme: str = "",
    ) -> None:
        """``header`` carries ``secret``, after ``scheme``; without a secret it is left out."""
        super().__init__(name)
        self._turns = turns
        self._deadlines = deadlines
        self._secret = secret
        self._header = header
        self._scheme = scheme

    @property
    def turns(self) -> Literal["ours", "theirs"]:
        return self._turns

    async def _hold(
        self,
        dialogue: Dialogue,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        """Hold one session until ``commands`` ends.

        Raises:
            ProviderError: no connection, a lost or closed one, settings that are refused or not
                taken within ``first_byte_s``, a fault that ends the session.

        Cancelled: the connection is closed.
        """
        name, key, deadlines = self.name, self._secret, self._deadlines
        headers = {self._header: f"{self._scheme}{key.reveal()}"} if key is not None else {}
        socket = await connect(name, dialogue.url, headers=headers, deadlines=deadlines, secret=key)
        shell = _Shell(name, dialogue, socket, emit, deadlines)
        try:
            dialogue.begin()
            await shell.send()
            await run_beside(lambda: shell.obey(commands), shell.listen)
        finally:
            await socket.aclose()


class _Shell:
    def __init__(
        self,
        provider: str,
        dialogue: Dialogue,
        socket: WebSocket,
        emit: Callable[[SpeechEvent], None],
        deadlines: Deadlines,
    ) -> None:
        self._provider = provider
        self._dialogue = dialogue
        self._socket = socket
        self._emit = emit
        self._limit_s = deadlines.first_byte_s
        self._ready = trio.Event()
        self._sending = trio.Lock()

    async def obey(self, commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        """Carry out commands, once the session is what it is to be."""
        with trio.move_on_after(self._limit_s) as limit:
            await self._ready.wait()
        if limit.cancelled_caught:
            raise timed_out(self._provider, "setting up the session", self._limit_s)
        async for command in commands:
            self._dialogue.obey(command)
            self._tell()
            await self.send()

    async def listen(self) -> None:
        """Tell what the service says, until it closes, or its connection proves to be dead."""
        while (message := await self._next()) is not None:
            self._dialogue.hear(message)
            self._tell()
            if self._dialogue.is_ready:
                self._ready.set()
            await self.send()
        raise ProviderError(self._provider, "closed the session", retryable=True)

    async def _next(self) -> str | bytes | None:
        """The next message, None once the service has closed. Raises ProviderError."""
        asked_s = 0.0
        while True:
            with trio.move_on_after(SIGN_EVERY_S):
                return await self._socket.receive()
            if self._socket.heard_s < asked_s:
                raise timed_out(self._provider, "a sign of life", SIGN_EVERY_S)
            asked_s = trio.current_time()
            await self._socket.ping()

    def _tell(self) -> None:
        while self._dialogue.events:
            self._emit(self._dialogue.events.popleft())

    async def send(self) -> None:
        """Send what is to be sent; both tasks may, and the order stays."""
        async with self._sending:
            while self._dialogue.outbox:
                await self._socket.send(self._dialogue.outbox.popleft())
