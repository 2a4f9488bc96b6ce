"""A line that misbehaves, the same way every time for the same seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import NoReturn

import msgspec
import trio

from rtcore.ports import MediaSocket
from rtcore.testing.sockets import ABNORMAL, MemorySocket

__all__ = ["FaultyLine", "LineFaults"]

CLOSE_LIMIT_S = 1.0
MEDIA = b'{"event":"media"'  # how the fake carrier begins each of its media messages


class LineFaults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong between the carrier and the node; by default nothing.

    Times count from the call's beginning. Probabilities are per media message.
    """

    seed: int = 0
    loss: float = 0.0  # the message never arrives; its chunk number is missing
    reorder: float = 0.0  # the message arrives after the one behind it
    jitter_ms: float = 0.0  # each message is late by 0 to this much, order kept
    stall_every_ms: float = 0.0  # nothing gets through for stall_ms, then all at once
    stall_ms: float = 0.0
    mute_at_ms: float | None = None  # media stops for mute_ms, the call goes on
    mute_ms: float = 60_000.0
    deaf_at_ms: float | None = None  # the far end stops reading, and goes on sending
    dead_at_ms: float | None = None  # nothing either way any more, and no close
    close_at_ms: float | None = None  # the far end closes early, 1006: without a close frame
    close_code: int = 1000
    second_socket_at_ms: float | None = None  # the carrier dials again in the middle of the call
    spurious_clear_at_ms: float | None = None  # playout is cut, clearedAudio comes unasked

    @property
    def delays(self) -> bool:
        """Whether any message may have to wait."""
        return bool(self.jitter_ms or self.reorder or (self.stall_every_ms and self.stall_ms))


class FaultyLine:
    """A media socket seen through :class:`LineFaults`; :meth:`run` carries what is delayed."""

    def __init__(self, socket: MediaSocket, faults: LineFaults) -> None:
        self.lost_messages = 0
        self._socket = socket
        self._faults = faults
        self._dice = random.Random(faults.seed)
        self._began_s = trio.current_time()
        self._delayed: list[tuple[float, int, bytes]] = []  # a heap: due, order, message
        self._order = 0
        self._last_due_s = 0.0
        self._wake = trio.Event()

    @property
    def dropped_messages(self) -> int:
        return self._socket.dropped_messages

    async def run(self) -> None:
        """Deliver what was delayed, and close when it is time to, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._faults.delays:
                nursery.start_soon(self._deliver)
            if self._faults.close_at_ms is not None:
                await trio.sleep_until(self._began_s + self._faults.close_at_ms / 1000)
                if self._faults.close_code == ABNORMAL and isinstance(self._socket, MemorySocket):
                    self._socket.vanish()
                else:
                    await self._socket.aclose(self._faults.close_code)
            await trio.sleep_forever()

    async def receive(self) -> list[bytes]:
        messages = await self._socket.receive()
        if self._is_past(self._faults.deaf_at_ms) or self._is_past(self._faults.dead_at_ms):
            await trio.sleep_forever()
        return messages

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """See :meth:`rtcore.ports.MediaSocket.deliver`."""
        while True:
            handle(await self.receive())

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        faults = self._faults
        if self._is_past(faults.dead_at_ms):
            return True
        is_media = message.startswith(MEDIA)
        if is_media and (self._is_mute() or self._dice.random() < faults.loss):
            self.lost_messages += 1
            return True
        if not faults.delays:
            return self._socket.send(message, flush=flush)
        due_s = max(self._due_s(), self._last_due_s)
        self._last_due_s = due_s
        if is_media and self._dice.random() < faults.reorder:
            due_s += 0.021  # just after the frame behind it, at 20 ms each
        self._order += 1
        heapq.heappush(self._delayed, (due_s, self._order, message))
        self._wake.set()
        return True

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        with trio.move_on_after(CLOSE_LIMIT_S):
            await self._socket.aclose(code, reason)

    def _due_s(self) -> float:
        faults, now_s = self._faults, trio.current_time()
        due_s = now_s + self._dice.uniform(0, faults.jitter_ms) / 1000
        if faults.stall_every_ms and faults.stall_ms:
            since_ms = (now_s - self._began_s) * 1000 % faults.stall_every_ms
            stall_begins_ms = faults.stall_every_ms - faults.stall_ms
            if since_ms >= stall_begins_ms:
                due_s = max(due_s, now_s + (faults.stall_every_ms - since_ms) / 1000)
        return due_s

    def _is_past(self, at_ms: float | None) -> bool:
        return at_ms is not None and (trio.current_time() - self._began_s) * 1000 >= at_ms

    def _is_mute(self) -> bool:
        at_ms = self._faults.mute_at_ms
        return (
            at_ms is not None
            and self._is_past(at_ms)
            and not self._is_past(at_ms + self._faults.mute_ms)
        )

    async def _deliver(self) -> None:
        while True:
            self._wake = trio.Event()
            limit_s = self._delayed[0][0] if self._delayed else float("inf")
            with trio.CancelScope(deadline=limit_s):
                await self._wake.wait()
            now_s = trio.current_time()
            while self._delayed and self._delayed[0][0] <= now_s:
                self._socket.send(heapq.heappop(self._delayed)[2])
