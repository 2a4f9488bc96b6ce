"""An agent ready to talk: its definition and the services that fill its ports."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtcore.agent.definition import AgentDefinition
from rtcore.agent.lines import LineCache
from rtcore.agent.tools import Tool
from rtcore.ports import Responder, Synthesizer, Transcriber

__all__ = ["Agent"]


@dataclass(frozen=True, slots=True)
class Agent:
    """What :func:`rtcore.run_call` joins to a line. Shared by all calls to it.

    ``hang_up`` is offered to the model as a function unless ``may_hang_up`` is false.
    """

    definition: AgentDefinition
    transcriber: Transcriber
    responder: Responder
    synthesizer: Synthesizer
    tools: tuple[Tool, ...] = ()
    may_hang_up: bool = True
    lines: LineCache = field(default_factory=LineCache)
