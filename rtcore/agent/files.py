"""An agent as a TOML file: its words, its providers by name, its functions, its documents.

The file is data: nothing is connected, started or imported here (:mod:`rtcore.assembly` does).
What cannot be used is said by the field's path and what to do about it.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.agent.collecting import Kind
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.documents import Unreadable, check_upload, passages
from rtcore.agent.tools import Effect
from rtcore.errors import ConfigError
from rtcore.ports import Hit

__all__ = [
    "AgentFile",
    "ColleagueFile",
    "CollectFunction",
    "Function",
    "McpFunctions",
    "MessageFunction",
    "PlainFunction",
    "PythonFunction",
    "TransferFunction",
    "WebhookFunction",
    "read_agent_file",
    "read_documents",
]

FILE_MAX_BYTES = 1 << 20
DOCUMENT_MAX_BYTES = 10 << 20
DOCUMENTS_MAX = 200
Name = Annotated[str, Meta(pattern="^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")]
Seconds = Annotated[float, Meta(ge=1, le=60)]


class _Function(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """Base of what may stand under ``[[functions]]``; ``type`` says which."""


class WebhookFunction(_Function, frozen=True, tag="webhook"):
    """A function behind a URL: see :mod:`rtcore.providers.functions.webhook`."""

    name: Name
    description: Annotated[str, Meta(min_length=1, max_length=2000)]
    effect: Effect
    url: str
    parameters: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    secret: str | None = None  # the name of the key that signs the requests
    limit_s: Seconds = 10.0


class PythonFunction(_Function, frozen=True, tag="python"):
    """A coroutine function: see :func:`rtcore.agent.functions.function`."""

    function: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$")]  # module:name
    effect: Effect
    name: Name | None = None
    description: Annotated[str, Meta(max_length=2000)] = ""
    fixed: dict[str, Any] = {}
    limit_s: Seconds = 10.0


class McpFunctions(_Function, frozen=True, tag="mcp"):
    """All functions of an MCP server, on its pipes or at its URL.

    ``effects`` names those that only read (or end the call); the others are taken to write.
    """

    name: Name
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    url: str = ""
    secret: str | None = None  # the name of its bearer token
    effects: dict[str, Effect] = {}
    limit_s: Seconds = 15.0


class TransferFunction(_Function, frozen=True, tag="transfer"):
    """Hand the caller over: what the model calls whom -> number or SIP address."""

    targets: Annotated[dict[str, str], Meta(min_length=1)]
    description: Annotated[str, Meta(max_length=2000)] = ""


class CollectFunction(_Function, frozen=True, tag="collect"):
    """Take something down and have it confirmed: see :func:`rtcore.agent.collecting.collect`."""

    name: Name
    what: Annotated[str, Meta(min_length=1, max_length=200)]
    kind: Kind
    count: Annotated[int, Meta(ge=1, le=64)] | None = None


class MessageFunction(_Function, frozen=True, tag="leave_message"):
    """Take a message and post it to ``url``, as a webhook's call is."""

    url: str
    secret: str | None = None  # the name of the key that signs the requests
    limit_s: Seconds = 10.0


class PlainFunction(_Function, frozen=True, tag="built-in"):
    """One of rtcore's own that needs no settings."""

    name: Literal["send_dtmf", "wait_for_caller"]


Function = (
    WebhookFunction
    | PythonFunction
    | McpFunctions
    | TransferFunction
    | CollectFunction
    | MessageFunction
    | PlainFunction
)
Providers = Annotated[tuple[dict[str, Any], ...], Meta(min_length=1, max_length=5)]


class ColleagueFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another agent's file beside this one: an agent that may go on with the same call."""

    file: Annotated[str, Meta(min_length=1, max_length=500)]
    what_for: Annotated[str, Meta(min_length=1, max_length=2000)]


class AgentFile(AgentDefinition, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds: the fields of :class:`AgentDefinition`, and these.

    Each provider is a table with its name as ``provider`` and its options beside it; several
    of one kind take over from one another in order. With a ``speech_model``, one table or
    several, the others may be left out.
    """

    transcriber: Providers = ()
    responder: Providers = ()
    synthesizer: Providers = ()
    speech_model: dict[str, Any] | Providers | None = None
    functions: Annotated[tuple[Function, ...], Meta(max_length=50)] = ()
    documents: Annotated[tuple[str, ...], Meta(max_length=DOCUMENTS_MAX)] = ()  # beside the file
    colleagues: Annotated[dict[str, ColleagueFile], Meta(max_length=20)] = msgspec.field(
        default_factory=dict
    )
    may_hang_up: bool = True
    allow_private_urls: bool = False  # functions on this machine and its networks
    hedge_after_s: Annotated[float, Meta(gt=0, le=10)] | None = None

    @property
    def speech_models(self) -> tuple[dict[str, Any], ...]:
        """The speech models in order, however they are written."""
        if self.speech_model is None:
            return ()
        return (self.speech_model,) if isinstance(self.speech_model, dict) else self.speech_model

    @property
    def definition(self) -> AgentDefinition:
        """The part a call knows."""
        fields = AgentDefinition.__struct_fields__
        return AgentDefinition(**{name: getattr(self, name) for name in fields})


def read_agent_file(content: bytes) -> AgentFile:
    """
    Raises:
        ConfigError: it is no TOML, or a field is missing, unknown or of the wrong kind.
    """
    if len(content) > FILE_MAX_BYTES:
        raise ConfigError("agent", f"is {len(content)} octets long; at most {FILE_MAX_BYTES}")
    try:
        file = msgspec.toml.decode(content, type=AgentFile)
    except msgspec.ValidationError as exc:
        raise _field_error(str(exc)) from exc
    except msgspec.DecodeError as exc:
        raise ConfigError("agent", f"is no TOML: {exc}") from exc
    for port in ("transcriber", "responder", "synthesizer"):
        if file.speech_model is None and not getattr(file, port):
            raise ConfigError(port, "is missing")
    return file


def read_documents(names: tuple[str, ...], folder: Path) -> list[Hit]:
    """The passages of documents; reads files, so run it in a thread.

    Raises:
        ConfigError: one cannot be read, or is not what its name says.
    """
    found: list[Hit] = []
    for number, name in enumerate(names):
        field = f"documents[{number}]"
        try:
            content = (folder / name).read_bytes()
        except OSError as exc:
            raise ConfigError(field, f"{name} cannot be read: {exc.strerror}") from exc
        if len(content) > DOCUMENT_MAX_BYTES:
            raise ConfigError(field, f"{name} is larger than {DOCUMENT_MAX_BYTES >> 20} MiB")
        try:
            parts = passages(check_upload(name, content), content)
        except Unreadable as exc:
            raise ConfigError(field, str(exc)) from exc
        found += [Hit(text=part.text, title=part.heading, source=name) for part in parts]
    return found


def _field_error(message: str) -> ConfigError:
    """msgspec's words with the path of the field first, and what was meant, if that is plain."""
    what, _, path = message.partition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".") or "agent"
    if (unknown := re.search(r"unknown field `([^`]+)`", what)) is not None:
        if field == "agent":
            close = difflib.get_close_matches(unknown[1], AgentFile.__struct_fields__, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            return ConfigError(unknown[1], f"is unknown{meant}")
        return ConfigError(f"{field}.{unknown[1]}", "is unknown")
    if (missing := re.search(r"missing required field `([^`]+)`", what)) is not None:
        return ConfigError(
            missing[1] if field == "agent" else f"{field}.{missing[1]}", "is missing"
        )
    return ConfigError(field, what)
