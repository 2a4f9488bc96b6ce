"""What a function may do to the call it serves."""

from __future__ import annotations

from typing import Protocol

from rtcore.turn.completeness import Expectation

__all__ = ["CallControl"]


class CallControl(Protocol):
    """The call, as its functions see it. Nothing here waits for the caller."""

    async def transfer(self, to: str) -> None:
        """Hand the caller over to ``to``, a number in E.164 or a SIP address.

        Raises:
            ToolError: the carrier refused; the call goes on.
        """
        ...

    def send_dtmf(self, digits: str) -> None:
        """Play ``digits`` (0-9, *, #, A-D) to the far end, as key tones."""
        ...

    def wait_for_caller(self, seconds: float) -> None:
        """Let the caller be silent for so long before reminding, once."""
        ...

    def expect(self, expectation: Expectation) -> None:
        """The caller's next turn is the answer to this: it is over when that is complete."""
        ...
