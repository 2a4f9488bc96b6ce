"""Fills the ports of stored agents: providers by name, shared by all agents that name the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import trio

from api.addresses import check_addresses
from api.specs import KEPT_AS_SECRET, AgentPlan, ProviderChoice
from rtcore.agent.agent import Agent
from rtcore.agent.lines import LineCache
from rtcore.errors import ConfigError
from rtcore.providers import (
    build_responder,
    build_speech_model,
    build_synthesizer,
    build_transcriber,
    serve_providers,
)
from rtcore.providers.fallback import Breakers

__all__ = ["SharedProviders"]

NEW_MAX = 1000  # providers made and not yet served: more agents than that begin at once nowhere
BUILDERS: dict[str, Callable[..., Any]] = {
    "stt": build_transcriber,
    "llm": build_responder,
    "tts": build_synthesizer,
}
PORTS = {"stt": "transcriber", "llm": "responder", "tts": "synthesizer"}


class SharedProviders:
    """An :data:`api.binding.AgentFactory`. Keys come from the plan, then the environment.

    ``allow_private``: services may be where the plan says even on this machine and its networks.
    :meth:`run` keeps what the providers need beside the calls (worker processes, connections),
    and closes it.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, allow_private: bool = False
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._allow_private = allow_private
        self._breakers = Breakers()  # a service that is down is found out once, not by each agent
        self._made: dict[bytes, Any] = {}
        self._lines: dict[bytes, LineCache] = {}
        self._tx, self._rx = trio.open_memory_channel[object](NEW_MAX)

    def __call__(self, plan: AgentPlan) -> Agent:
        """An agent ready to talk.

        Raises:
            ConfigError: a provider is unknown, lacks its key or has a wrong option; the field
                and the fix are named.
        """
        ports: dict[str, Any] = {}
        for kind, choices in (("stt", plan.stt), ("llm", plan.llm), ("tts", plan.tts)):
            if choices or kind in _needed(plan):
                ports[PORTS[kind]] = self._provider(kind, choices, plan.secrets)
        if plan.speech_model is not None:
            ports["speech_model"] = self._speech_model(plan.speech_model, plan.secrets)
        voices = plan.tts if plan.speech_model is None else (*plan.tts, plan.speech_model)
        lines = self._lines.setdefault(_key("tts", voices, plan.secrets), LineCache())
        return Agent(plan.definition, **ports, lines=lines)

    async def run(self) -> None:
        """Serve each provider from when it is first asked for, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for provider in self._rx:
                nursery.start_soon(serve_providers, (provider,))

    def _provider(
        self, kind: str, choices: Sequence[ProviderChoice], secrets: Mapping[str, str]
    ) -> Any:
        if not choices:
            raise ConfigError(kind, "names no provider: give the agent one")
        key = _key(kind, choices, secrets)
        if key not in self._made:
            specs = [self._spec(kind, choice) for choice in choices]
            keys = self._keys(choices, secrets)
            self._serve(kind, key, BUILDERS[kind](specs, keys, breakers=self._breakers))
        return self._made[key]

    def _speech_model(self, choice: ProviderChoice, secrets: Mapping[str, str]) -> Any:
        key = _key("speech_model", (choice,), secrets)
        if key not in self._made:
            keys = self._keys((choice,), secrets)
            self._serve(
                "speech_model", key, build_speech_model(self._spec("speech_model", choice), keys)
            )
        return self._made[key]

    def _keys(
        self, choices: Sequence[ProviderChoice], secrets: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The keys these services may be built with.

        The environment's are the operator's, for the services they are known by: not for an
        address that whoever may change an agent has chosen, nor under a secret's name.
        """
        if any(choice.has_own_address and not choice.secret for choice in choices):
            return secrets
        named = {choice.secret for choice in choices}
        ours = {name: key for name, key in self._environment.items() if name not in named}
        return {**ours, **secrets}

    def _spec(self, kind: str, choice: ProviderChoice) -> dict[str, Any]:
        """A choice as the registry takes it: what was not said is left to the provider's default.

        Raises:
            ConfigError: it asks for a key that it may not have, or is where nothing may be asked.
        """
        if choice.names_a_key:
            raise ConfigError(f"{choice.provider}.key_name", KEPT_AS_SECRET)
        check_addresses(choice, kind, allow_private=self._allow_private)
        spec: dict[str, Any] = {"provider": choice.provider, **choice.options}
        for option, value in (
            ("model", choice.model),
            ("voice", choice.voice),
            ("key_name", choice.secret),
        ):
            if value:
                spec.setdefault(option, value)
        if choice.has_own_address:
            spec["public_only"] = not self._allow_private
        return spec

    def _serve(self, kind: str, key: bytes, provider: object) -> None:
        """Keep ``provider`` for all who name the same."""
        try:
            self._tx.send_nowait(provider)
        except trio.WouldBlock as exc:
            raise ConfigError(kind, "too many providers at once: try again") from exc
        self._made[key] = provider


def _needed(plan: AgentPlan) -> tuple[str, ...]:
    """The kinds of provider that the agent cannot do without."""
    if plan.speech_model is not None:
        return ()
    listening = plan.definition.listening
    if listening is None:
        return tuple(BUILDERS)
    return ("stt",) if listening.sentiment_every_s is None else ("stt", "llm")


def _key(kind: str, choices: Sequence[ProviderChoice], secrets: Mapping[str, str]) -> bytes:
    """The same for the same services with the same keys; the keys cannot be read from it."""
    used = {c.secret: secrets.get(c.secret, "") for c in choices if c.secret}
    told = msgspec.json.encode((kind, choices, sorted(used.items())))
    return hashlib.sha256(told).digest()
