"""An agent ready to talk: its definition and the services that fill its ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from rtcore.agent.absent import ABSENT
from rtcore.agent.builtins import hand_over, hang_up, look_up
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.lines import LineCache
from rtcore.agent.template import filled
from rtcore.agent.tools import HAND_OVER, HANG_UP, Tool
from rtcore.errors import ConfigError
from rtcore.ports import KnowledgeIndex, Responder, Synthesizer, Transcriber
from rtcore.speech_port import SpeechModel, SpeechModels

__all__ = ["Agent", "Colleague"]


@dataclass(frozen=True, slots=True)
class Colleague:
    """An agent that may go on with a call; its welcome is the first it says."""

    agent: Agent
    what_for: str  # tells the model when to hand over


@dataclass(frozen=True, slots=True)
class Agent:
    """What :func:`rtcore.run_call` joins to a line. Shared by all calls to it.

    ``hang_up`` is offered to the model as a function unless ``may_hang_up`` is false.

    With a ``speech_model`` that one hears, thinks and speaks. The others may then be left out:
    ``synthesizer`` says the last words should the model be lost, ``responder`` answers chats.

    Raises:
        ConfigError: a port is not filled, two functions have the same name, a colleague has no
            welcome, or takes calls over in another way (with or without a speech model).
    """

    definition: AgentDefinition
    transcriber: Transcriber = ABSENT
    responder: Responder = ABSENT
    synthesizer: Synthesizer = ABSENT
    tools: tuple[Tool, ...] = ()
    may_hang_up: bool = True
    colleagues: Mapping[str, Colleague] = field(default_factory=dict)  # may take calls over
    knowledge: KnowledgeIndex | None = None  # looked up for each turn, before the model is asked
    lines: LineCache = field(default_factory=LineCache)
    speech_model: SpeechModel | SpeechModels | None = None

    def __post_init__(self) -> None:
        if self.definition.listening is not None and self.speech_model is not None:
            raise ConfigError("speech_model", "an agent that listens says nothing: leave it out")
        if self.speech_model is None:
            for port in self._needed:
                if getattr(self, port) is ABSENT:
                    raise ConfigError(port, "is missing: give the agent one, or a speech_model")

        names = [tool.name for tool in self.tools]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("functions", f"two are called {name}: rename one")

        for name, colleague in self.colleagues.items():
            if not colleague.agent.definition.welcome_message:
                where = f"colleagues.{name}.welcome_message"
                raise ConfigError(where, "is missing: it is what a caller hears at a hand-over")
            ours, theirs = self.speech_model, colleague.agent.speech_model
            if (ours and ours.turns) != (theirs and theirs.turns):
                where = f"colleagues.{name}.speech_model"
                what = (
                    "must be there for both agents of a hand-over or neither, with the same turns"
                )
                raise ConfigError(where, what)

    @property
    def _needed(self) -> tuple[str, ...]:
        """The ports that must be filled where no speech model is."""
        listening = self.definition.listening
        if listening is None:
            return "transcriber", "responder", "synthesizer"
        return (
            ("transcriber",)
            if listening.sentiment_every_s is None
            else ("transcriber", "responder")
        )

    @property
    def has_ears(self) -> bool:
        """Whether there is a transcriber, beside a speech model or instead of one."""
        return self.transcriber is not ABSENT

    @property
    def has_voice(self) -> bool:
        """Whether there is a synthesizer, beside a speech model or instead of one."""
        return self.synthesizer is not ABSENT

    def for_call(self, variables: Mapping[str, str]) -> Agent:
        """This agent with the variables of one call in its prompt and its welcome.

        So are its colleagues, who may be each other's. It shares all else with the other calls:
        providers, functions, cached lines.
        """
        return _filled(self, variables, {})

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The functions the model may call."""
        tools = self.tools
        own = {tool.name for tool in tools}
        if self.colleagues and HAND_OVER not in own:
            tools += (hand_over({name: c.what_for for name, c in self.colleagues.items()}),)
        if self.speech_model is not None and self.knowledge is not None:
            tools += (look_up(self.knowledge),) if "look_up" not in own else ()
        if self.may_hang_up and HANG_UP.name not in own:
            tools += (hang_up(),)
        return tools


def _filled(agent: Agent, variables: Mapping[str, str], done: dict[int, Agent]) -> Agent:
    """``agent`` with the variables filled in; ``done`` holds those that are, by what they were."""
    if (found := done.get(id(agent))) is not None:
        return found
    definition = msgspec.structs.replace(
        agent.definition,
        prompt=filled(agent.definition.prompt, variables),
        welcome_message=filled(agent.definition.welcome_message, variables),
    )
    colleagues: dict[str, Colleague] = {}
    done[id(agent)] = made = replace(agent, definition=definition, colleagues=colleagues)
    for name, each in agent.colleagues.items():
        colleagues[name] = replace(each, agent=_filled(each.agent, variables, done))
    return made
