"""What an agent is, as data: what is stored, versioned and edited."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rtcore.agent.listening import Listening
from rtcore.errors import ConfigError
from rtcore.turn import TurnConfig
from rtcore.turn.config import Preset

__all__ = ["AgentDefinition", "IdlePolicy"]

TurnNumber = int | float | str
TurnNumbers = Annotated[dict[str, TurnNumber], Meta(extra={"names_of": TurnConfig})]
Line = Annotated[str, Meta(max_length=2000)]


class IdlePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said to a caller who says nothing: reminders, then a goodbye."""

    reminders: tuple[Line, ...] = ("Are you still there?", "I am still here if you need me.")
    goodbye: Line = "I cannot hear you, so I will hang up now. Goodbye."


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name, words and manners of one agent.

    ``prompt`` and ``welcome_message`` may name variables of the call in braces
    (``{caller}``); unknown ones stay as they are.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    welcome_message: Line = ""
    prompt: Annotated[str, Meta(max_length=100_000)] = ""
    language: str = "en"
    phrases: tuple[str, ...] = ()  # words the recogniser should expect
    is_welcome_interruptible: bool = True
    repeat_line: Line = "Sorry, I did not get that. Could you say it again?"
    apology_line: Line = "I am sorry, something went wrong on my side. Please say that again."
    farewell_line: Line = "I am sorry, I cannot go on with this call. Goodbye."
    filler_line: Line = "One moment, please."
    idle: IdlePolicy = IdlePolicy()
    turn_preset: Preset | None = None  # how turns are taken with this agent; None: as the node says
    turn: TurnNumbers = {}  # single numbers of it, by their names in TurnConfig
    recording: bool = False  # keep what is said and heard, where the node keeps recordings
    listening: Listening | None = None  # the agent says nothing, and hears one side or both
    context_max_tokens: Annotated[int, Meta(ge=500, le=1_000_000)] = 16_000  # what a request
    # may hold: models read 16,000 tokens in some 300 ms, and a call of 30 minutes has half

    def __post_init__(self) -> None:
        try:
            self.turn_config(TurnConfig())
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc  # told by the field's path, as any bad value

    def turn_config(self, default: TurnConfig) -> TurnConfig:
        """Turn-taking as this agent wants it, or ``default`` where it wants nothing.

        Raises:
            ConfigError: a number has no such name, or is out of its limits.
        """
        if self.turn_preset is None and not self.turn:
            return default
        return TurnConfig.preset(self.turn_preset or "balanced", **self.turn)
