"""What users write and the store keeps: agents, functions, knowledge bases, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Effect

__all__ = [
    "KEPT_AS_SECRET",
    "AgentPlan",
    "AgentSpec",
    "AnalysisSpec",
    "ColleagueSpec",
    "Criterion",
    "Destination",
    "EmbeddingChoice",
    "FunctionSpec",
    "KnowledgeBaseSpec",
    "Name",
    "ProviderChoice",
    "Retention",
    "SecretName",
    "Text",
    "TransferTarget",
    "definition_of",
]

KEPT_AS_SECRET = "is not taken here: store the key as a secret, and name that in `secret`"
ADDRESSES = frozenset({"base_url", "url"})
KEYS = frozenset({"api_key", "apikey", "auth_token", "access_token", "token", "password", "secret"})
PROGRAMS = frozenset({"piper"})  # on this machine, by a path: no API key may choose one
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=2000)]
SecretName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z")]
Destination = Annotated[
    str,
    Meta(
        pattern=r"^(\+?[1-9][0-9]{3,14}|sips?:[!-~]{1,200})\Z",
        description="A number in E.164, or a SIP address.",
    ),
]
TargetName = Annotated[str, Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}\Z")]
FunctionId = Annotated[str, Meta(pattern=r"^fn_[0-9a-f]{24}\Z")]
KnowledgeBaseId = Annotated[str, Meta(pattern=r"^kb_[0-9a-f]{24}\Z")]


class ProviderChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One outside service, and how to ask it."""

    provider: Annotated[
        str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z", description="Name of the service.")
    ]
    model: Annotated[str, Meta(max_length=200)] = ""
    voice: Annotated[str, Meta(max_length=200)] = ""
    secret: Annotated[
        SecretName | None, Meta(description="Name of the secret that is its API key.")
    ] = None
    options: Annotated[
        dict[str, Any], Meta(description="Settings of this service alone, passed on as they are.")
    ] = {}

    def __post_init__(self) -> None:
        if self.provider in PROGRAMS:
            raise ValueError(f"{self.provider} runs a program: only an agent's file may name it")

    @property
    def has_own_address(self) -> bool:
        """Whether ``options`` say where the service is."""
        return not ADDRESSES.isdisjoint(self.options)

    @property
    def key_option(self) -> str | None:
        """The option that is a key, or asks for one by a name of its own.

        A key among the options is shown to whoever may read agents. And the environment holds
        more than providers' keys, while ``options`` may say where one is sent: whoever may
        change an agent would read all of it.
        """
        if isinstance(self.options.get("key_name"), str):
            return "key_name"
        return min(KEYS.intersection(self.options), default=None)


Providers = Annotated[
    tuple[ProviderChoice, ...],
    Meta(max_length=5, description="In order: the next takes over when one fails."),
]


SpeechModels = Annotated[
    tuple[ProviderChoice, ...],
    Meta(
        min_length=1,
        max_length=5,
        description="In order, all with the same `turns`: the next takes over when one fails.",
    ),
]


Days = Annotated[int, Meta(ge=0, le=36_500)]


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many days after a call what is known of it is kept.

    0: no longer than the call itself. Null: an agent leaves it to the node, a node for ever.
    """

    recordings_days: Days | None = None
    transcripts_days: Annotated[
        Days | None, Meta(description="What was said, and what was made of it; numbers stay.")
    ] = None
    calls_days: Annotated[
        Days | None, Meta(description="The call itself with telephone numbers and all the rest.")
    ] = None


class Criterion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing a call is judged by, from ``lowest`` to ``highest``."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
    description: Annotated[
        str, Meta(min_length=1, max_length=2000, description="What a low and a high score mean.")
    ]
    lowest: Annotated[int, Meta(ge=0, le=1000)] = 1
    highest: Annotated[int, Meta(ge=1, le=1000)] = 5

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError("highest must be more than lowest")


class AnalysisSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is made of a call once it is over, by the agent's own model unless ``llm`` names one."""

    summary: bool = True
    summary_prompt: Annotated[Text, Meta(description="What the summary should say.")] = ""
    extract: Annotated[
        dict[str, Any],
        Meta(description="JSON Schema (2020-12) of an object to be filled in; empty: nothing."),
    ] = {}
    extract_prompt: Annotated[Text, Meta(description="How to fill it in.")] = ""
    rubric: Annotated[
        tuple[Criterion, ...],
        Meta(max_length=30, description="Each is scored, with a quote of the call as evidence."),
    ] = ()
    llm: Providers = ()

    def __post_init__(self) -> None:
        names = [criterion.name for criterion in self.rubric]
        if len(set(names)) < len(names):
            raise ValueError("two criteria of the rubric have the same name")


class TransferTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an agent may send a caller. The model knows it by its name and never sees ``to``."""

    to: Destination
    what_for: Annotated[Text, Meta(description="Tells the model when to transfer there.")] = ""
    mode: Annotated[
        Literal["cold", "warm"],
        Meta(description="`warm`: the human hears a summary first and presses a key."),
    ] = "cold"
    ring_timeout_s: Annotated[int, Meta(ge=5, le=120)] = 30
    hold_line: Annotated[str, Meta(min_length=1, max_length=2000)] = (
        "One moment more, please. I am still getting somebody for you."
    )
    take_back_line: Annotated[str, Meta(min_length=1, max_length=2000)] = (
        "I am sorry, nobody could take your call just now. How can I help you?"
    )


class ColleagueSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another agent that may go on with a call; what it says first is its welcome message."""

    agent_id: Annotated[str, Meta(pattern=r"^agt_[0-9a-f]{24}\Z")]
    what_for: Annotated[
        str, Meta(min_length=1, max_length=2000, description="Tells the model when to hand over.")
    ]


class AgentSpec(AgentDefinition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent: its words and manners, its services, its functions and its knowledge."""

    stt: Providers = ()
    llm: Providers = ()
    tts: Providers = ()
    speech_model: Annotated[
        ProviderChoice | SpeechModels | None,
        Meta(
            description="One model that hears, thinks and speaks, or several in order: the next"
            " goes on with the call when one fails. With it `stt`, `llm` and `tts` may be left"
            " out; `tts` says the last words if it fails, `llm` answers chats."
        ),
    ] = None
    function_ids: Annotated[tuple[FunctionId, ...], Meta(max_length=50)] = ()
    knowledgebase_ids: Annotated[tuple[KnowledgeBaseId, ...], Meta(max_length=20)] = ()
    colleagues: Annotated[
        dict[TargetName, ColleagueSpec],
        Meta(max_length=20, description="By name: agents that may go on with the same call."),
    ] = msgspec.field(default_factory=dict)
    takes_messages: Annotated[
        bool, Meta(description="Callers may leave a message: `GET /v1/messages` has them.")
    ] = False
    retention: Retention = Retention()
    analysis: AnalysisSpec | None = None
    transfer_targets: Annotated[
        dict[TargetName, TransferTarget],
        Meta(max_length=50, description="By name: the only places the agent may transfer to."),
    ] = msgspec.field(default_factory=dict)
    overflow_to: Annotated[
        Destination | None,
        Meta(description="Who is rung when no node has room for a call; else callers hear busy."),
    ] = None

    @property
    def speech_models(self) -> tuple[ProviderChoice, ...]:
        """The speech models in order, however they were given."""
        given = self.speech_model
        if given is None:
            return ()
        return (given,) if isinstance(given, ProviderChoice) else given


class FunctionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function the model may call: we POST its arguments to ``url`` and tell it the answer.

    ``effect`` says what the function does to the world. ``read`` changes nothing and may run
    before the turn is certain; ``write`` runs at most once and survives an interruption;
    ``terminal`` ends or moves the call, after what was said before has been heard.
    """

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}\Z",
            description="What the model calls it by.",
        ),
    ]
    description: Annotated[
        str, Meta(min_length=1, max_length=2000, description="Tells the model when to use it.")
    ]
    url: Annotated[
        str, Meta(max_length=2000, description="https, and no private address unless allowed.")
    ]
    effect: Effect
    parameters: Annotated[
        dict[str, Any],
        Meta(description="JSON Schema (2020-12) of what the model fills in, an object."),
    ] = {}
    fixed_parameters: Annotated[
        dict[str, Any], Meta(description="Sent with every call; the model never sees them.")
    ] = {}
    secret: Annotated[
        SecretName | None, Meta(description="Name of the secret that signs our requests.")
    ] = None
    limit_s: Annotated[float, Meta(ge=1, le=60, description="How long an answer may take.")] = 10.0


class EmbeddingChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible ``/embeddings`` endpoint: finds passages by their meaning."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    base_url: Annotated[str, Meta(pattern=r"^https?://[^\s?#]+\Z", max_length=500)] = (
        "https://api.openai.com/v1"
    )
    secret: Annotated[
        SecretName | None, Meta(description="Name of the secret that is its API key.")
    ] = None


class KnowledgeBaseSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Documents that are searched together."""

    name: Name
    description: Annotated[
        str, Meta(max_length=2000, description="Tells the model what it can find there.")
    ] = ""
    embedding: Annotated[
        EmbeddingChoice | None,
        Meta(description="Search by meaning too, beside the full text; null: by words alone."),
    ] = None


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a factory needs to fill an agent's ports. ``secrets`` are in clear: never log it."""

    definition: AgentDefinition
    stt: tuple[ProviderChoice, ...] = ()
    llm: tuple[ProviderChoice, ...] = ()
    tts: tuple[ProviderChoice, ...] = ()
    speech_model: tuple[ProviderChoice, ...] = ()
    secrets: Mapping[str, str] = {}


Kind = Literal["agent", "function", "knowledgebase", "secret"]


def definition_of(spec: AgentSpec) -> AgentDefinition:
    """The part of an agent that the core knows."""
    fields = AgentDefinition.__struct_fields__
    return AgentDefinition(**{name: getattr(spec, name) for name in fields})
