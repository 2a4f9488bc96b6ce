"""Conference rooms of the fake service: who is in one, when people begin to talk, when it ends."""

from __future__ import annotations

import uuid

import trio

__all__ = ["Room", "Rooms"]


class Room:
    """One conference, from its first member to its last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.members: list[str] = []  # the ids of the calls in it now
        self.met: set[str] = set()  # of all that were ever in it together with another
        self.is_over = trio.Event()  # somebody left who ends it
        self._has_company = trio.Event()

    def enter(self, call_id: str) -> None:
        self.members.append(call_id)
        if len(self.members) > 1:
            self.met.update(self.members)
            self._has_company.set()

    def leave(self, call_id: str, *, ends: bool) -> None:
        self.members.remove(call_id)
        if ends:
            self.is_over.set()

    async def company(self) -> None:
        """Wait until two are in it."""
        await self._has_company.wait()


class Rooms:
    """The conferences of one account, by name; a name that is free again begins a new one."""

    def __init__(self) -> None:
        self.held: list[Room] = []  # all there have been, in order
        self._open: dict[str, Room] = {}

    def enter(self, name: str, call_id: str) -> Room:
        room = self._open.get(name)
        if room is None or room.is_over.is_set():
            room = self._open[name] = Room(name)
            self.held.append(room)
        room.enter(call_id)
        return room

    def leave(self, room: Room, call_id: str, *, ends: bool) -> None:
        room.leave(call_id, ends=ends)
        if not room.members and self._open.get(room.name) is room:
            del self._open[room.name]
