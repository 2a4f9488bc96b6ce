"""What the functions of an agent do to their call: fills :class:`rtcore.ports.CallControl`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from rtcore.errors import ToolError
from rtcore.turn import Expectation, TurnConfig, TurnDetector
from rtcore.turn.events import Event

__all__ = ["Steering"]


class Steering:
    """The turn machine and the line of one call, as functions may move them.

    ``transferring`` is set by who can redirect the carrier's call (the management API): given
    whom to ring and what to tell them, it returns once the carrier has agreed, or raises
    ToolError.
    """

    def __init__(
        self,
        detector: TurnDetector,
        turn: TurnConfig,
        act: Callable[[list[Event]], None],
        press: Callable[[str], bool],
    ) -> None:
        """``act`` takes what the turn machine decides; ``press`` sends keys, False if it cannot."""
        self._detector = detector
        self._turn = turn
        self._act = act
        self._press = press
        self._is_patient = False
        self.transferring: Callable[[str, str], Awaitable[None]] | None = None

    @property
    def is_caller_audible(self) -> bool:
        """Whether the caller's voice is heard just now."""
        return self._detector.is_caller_audible

    async def transfer(self, to: str, summary: str = "") -> None:
        if self.transferring is None:
            raise ToolError("this call cannot be transferred")
        await self.transferring(to, summary)

    def send_dtmf(self, digits: str) -> None:
        if not self._press(digits):
            raise ToolError("the line does not take keys now")

    def wait_for_caller(self, seconds: float) -> None:
        self._is_patient = True
        patient = msgspec.structs.replace(self._turn, idle_ms=int(seconds * 1000))
        self._act(self._detector.configure(patient))

    def caller_spoke(self) -> None:
        """The caller is back: from now on silence counts as before."""
        if self._is_patient:
            self._is_patient = False
            self._act(self._detector.configure(self._turn))

    def take_turns(self, turn: TurnConfig) -> None:
        """Take turns by other numbers from now on: another preset, or another agent's."""
        self._turn = turn
        self._is_patient = False
        self._act(self._detector.configure(turn))

    def expect(self, expectation: Expectation) -> None:
        self._act(self._detector.expect(expectation))
