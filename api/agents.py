"""Fills the ports of stored agents: providers by name, shared by all agents that name the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import trio

from api.addresses import check_addresses
from api.specs import KEPT_AS_SECRET, AgentPlan, ProviderChoice
from rtcore.agent.agent import Agent
from rtcore.agent.lines import LineCache, SharedLines
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

RECENT_MAX = 200  # providers kept while no call or chat has them: each may idle on some connections
LINES_MAX_BYTES = 64 << 20  # an hour of speech: the fixed lines of all agents
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
    and closes it. A provider is kept for as long as an agent has it; beyond that, those that were
    asked for last are.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, allow_private: bool = False
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._allow_private = allow_private
        self._breakers = Breakers()  # a service that is down is found out once, not by each agent
        self._made: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
        self._recent: OrderedDict[bytes, Any] = OrderedDict()  # what keeps those not in use
        self._lines = LineCache(LINES_MAX_BYTES)
        self._tx, self._rx = trio.open_memory_channel[_New](NEW_MAX)

    def __call__(self, plan: AgentPlan) -> Agent:
        """An agent ready to talk.

        Raises:
            ConfigError: a provider is unknown, lacks its key or has a wrong option; the field
                and the fix are named.
        """
        ports: dict[str, Any] = {}
        for kind, choices in (("stt", plan.stt), ("llm", plan.llm), ("tts", plan.tts)):
            if choices or kind in _needed(plan):
                build = partial(BUILDERS[kind], breakers=self._breakers)
                ports[PORTS[kind]] = self._shared(kind, choices, plan.secrets, build)
        if plan.speech_model:
            build = partial(build_speech_model, breakers=self._breakers)
            models = self._shared("speech_model", plan.speech_model, plan.secrets, build)
            ports["speech_model"] = models
        voices = (*plan.tts, *plan.speech_model)
        lines = SharedLines(self._lines, _key("tts", voices, plan.secrets).hex())
        return Agent(plan.definition, **ports, lines=lines)

    async def run(self) -> None:
        """Serve each provider from when it is first asked for until nobody has it any more."""
        async with trio.open_nursery() as nursery:
            async for new in self._rx:
                nursery.start_soon(new.serve)

    def _shared(
        self,
        kind: str,
        choices: Sequence[ProviderChoice],
        secrets: Mapping[str, str],
        build: Callable[[list[dict[str, Any]], Mapping[str, str]], Any],
    ) -> Any:
        """What ``build`` makes of ``choices``, one for all who name the same."""
        if not choices:
            raise ConfigError(kind, "names no provider: give the agent one")
        key = _key(kind, choices, secrets)
        provider = self._made.get(key)
        if provider is None:
            specs = [self._spec(kind, choice) for choice in choices]
            provider = build(specs, self._keys(choices, secrets))
            try:
                self._tx.send_nowait(_New(provider))
            except trio.WouldBlock as exc:
                raise ConfigError(kind, "too many providers at once: try again") from exc
            self._made[key] = provider
        self._recent[key] = provider
        self._recent.move_to_end(key)
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        return provider

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
        if choice.key_option is not None:
            raise ConfigError(f"{choice.provider}.{choice.key_option}", KEPT_AS_SECRET)
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


class _New:
    """A provider that is to be served; only those who use it keep it."""

    def __init__(self, provider: object) -> None:
        # a speech model alone has none, and holds nothing between two calls
        self.members: tuple[object, ...] = getattr(provider, "members", ())
        self.provider = weakref.ref(provider)

    async def serve(self) -> None:
        """Serve it until nobody has it any more, then close its connections (within a limit)."""
        unused = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def leave() -> None:  # in whatever thread its last user let go of it
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(unused.set)

        provider = self.provider()
        if provider is None:
            unused.set()
        else:
            weakref.finalize(provider, leave).atexit = False
        del provider
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_providers, self.members)
            await unused.wait()
            nursery.cancel_scope.cancel(reason="nobody uses it")


def _needed(plan: AgentPlan) -> tuple[str, ...]:
    """The kinds of provider that the agent cannot do without."""
    if plan.speech_model:
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
