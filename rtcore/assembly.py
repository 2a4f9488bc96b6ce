"""Joins what an agent's file names: providers, functions and documents become an agent."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from rtcore.agent.agent import Agent, Colleague
from rtcore.agent.builtins import leave_message, send_dtmf, transfer, wait_for_caller
from rtcore.agent.collecting import collect
from rtcore.agent.files import (
    AgentFile,
    CollectFunction,
    McpFunctions,
    MessageFunction,
    PlainFunction,
    PythonFunction,
    TransferFunction,
    WebhookFunction,
    read_agent_file,
    read_documents,
)
from rtcore.agent.functions import function
from rtcore.agent.tools import Tool
from rtcore.errors import ConfigError, ProviderError, first_error
from rtcore.ports import ToolSpec
from rtcore.providers import (
    build_responder,
    build_speech_model,
    build_synthesizer,
    build_transcriber,
    serve_providers,
)
from rtcore.providers._settings import find_secret
from rtcore.providers.fallback import Breakers
from rtcore.providers.functions import (
    McpHttpSettings,
    McpServer,
    McpStdioSettings,
    Webhook,
    WebhookSettings,
)
from rtcore.providers.knowledge_sqlite import SqliteKnowledge

__all__ = ["serve_agent"]

CLOSE_LIMIT_S = 2.0
COLLEAGUES_MAX = 20  # agents of one call, all in all
PLAIN = {"send_dtmf": send_dtmf, "wait_for_caller": wait_for_caller}


async def serve_agent(
    path: Path,
    secrets: Mapping[str, str],
    *,
    breakers: Breakers | None = None,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the agent of a file, with all it needs, until cancelled; started with the agent.

    ``agent = await nursery.start(serve_agent, path, os.environ)``

    ``breakers``: the node's, so that a service that is down is found out once for all its agents.

    Raises:
        ConfigError: the file cannot be used; the field and the fix are named.
        ProviderError: an MCP server of it cannot be started.

    Cancelled: connections, processes and indexes are closed.
    """
    try:
        await _serve_agent(Path(path), secrets, breakers or Breakers(), task_status)
    except* (ConfigError, ProviderError) as group:
        raise first_error(group) from None


async def _serve_agent(
    path: Path,
    secrets: Mapping[str, str],
    breakers: Breakers,
    task_status: trio.TaskStatus[Agent],
) -> None:
    async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
        assembly = _Assembly(secrets, breakers, closing, nursery)
        agent = await assembly.agent(path, "agent")
        await assembly.join()
        task_status.started(agent)


class _Assembly:
    """The agents of one call: that of a file, and those it can be handed to, each made once."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        breakers: Breakers,
        closing: AsyncExitStack,
        nursery: trio.Nursery,
    ) -> None:
        self._secrets = secrets
        self._breakers = breakers
        self._closing = closing
        self._nursery = nursery
        self._made: dict[Path, tuple[Agent, AgentFile, dict[str, Colleague]]] = {}

    async def join(self) -> None:
        """Make all colleagues, who may be each other's, and introduce them.

        Raises:
            ConfigError: one cannot be used; its field begins with ``colleagues``.
        """
        waiting = list(self._made)
        while waiting:
            path = waiting.pop(0)
            agent, file, colleagues = self._made[path]
            for name, each in file.colleagues.items():
                field = f"colleagues.{name}.file"
                other = _place(path.parent / each.file)
                if other not in self._made:
                    if len(self._made) == COLLEAGUES_MAX:
                        raise ConfigError(field, f"is one more than {COLLEAGUES_MAX} agents")
                    await self.agent(other, field)
                    waiting.append(other)
                colleagues[name] = Colleague(self._made[other][0], each.what_for)
            replace(agent)  # checks them as any agent's are

    async def agent(self, path: Path, field: str) -> Agent:
        """The agent of a file, without its colleagues; ``field`` is what an error calls it.

        Raises:
            ConfigError, ProviderError: as :func:`serve_agent`.
        """
        try:
            file = read_agent_file(await trio.Path(path).read_bytes())
        except OSError as exc:
            raise ConfigError(field, f"{path} cannot be read: {exc.strerror}") from exc
        ports = _ports(file, self._secrets, self._breakers)
        colleagues: dict[str, Colleague] = {}
        agent = Agent(
            file.definition,
            **ports,
            tools=tuple(await self._tools(file)),
            may_hang_up=file.may_hang_up,
            colleagues=colleagues,
            knowledge=await self._knowledge(file, path.parent),
        )
        await self._nursery.start(serve_providers, ports.values())
        self._made[_place(path)] = agent, file, colleagues
        return agent

    async def _tools(self, file: AgentFile) -> list[Tool]:
        tools: list[Tool] = []
        for each in file.functions:
            if isinstance(each, WebhookFunction):
                tools.append(_tool(each, self._webhook(each, each.name, file)))
            elif isinstance(each, MessageFunction):
                tools.append(leave_message(self._webhook(each, "leave_message", file).run))
            elif isinstance(each, McpFunctions):
                server = _mcp_server(each, file, self._secrets)
                await self._nursery.start(server.run)
                tools += _mcp_tools(each, server)
            else:
                tools.append(_own(each))
        return tools

    def _webhook(
        self, each: WebhookFunction | MessageFunction, name: str, file: AgentFile
    ) -> Webhook:
        settings = WebhookSettings(
            url=each.url, limit_s=each.limit_s, allow_private=file.allow_private_urls
        )
        secret = find_secret(self._secrets, each.secret) if each.secret else None
        webhook = Webhook(name, settings, secret)
        self._closing.push_async_callback(_close, webhook)
        return webhook

    async def _knowledge(self, file: AgentFile, folder: Path) -> SqliteKnowledge | None:
        if not file.documents:
            return None
        read = partial(read_documents, file.documents, folder)
        knowledge = SqliteKnowledge(await trio.to_thread.run_sync(read))
        self._closing.callback(knowledge.close)
        return knowledge


def _place(path: Path) -> Path:
    """``path`` without its detours, so that a file is known again; asks no disk."""
    return Path(os.path.normpath(path))


def _ports(
    file: AgentFile, secrets: Mapping[str, str], breakers: Breakers | None
) -> dict[str, Any]:
    """What fills the agent's ports, by the name of the port."""
    ports: dict[str, Any] = {}
    if file.transcriber:
        ports["transcriber"] = build_transcriber(file.transcriber, secrets, breakers=breakers)
    if file.responder:
        ports["responder"] = build_responder(
            file.responder, secrets, breakers=breakers, hedge_after_s=file.hedge_after_s
        )
    if file.synthesizer:
        ports["synthesizer"] = build_synthesizer(file.synthesizer, secrets, breakers=breakers)
    if file.speech_models:
        ports["speech_model"] = build_speech_model(file.speech_models, secrets, breakers=breakers)
    return ports


def _own(
    each: PythonFunction | TransferFunction | CollectFunction | PlainFunction,
) -> Tool:
    """A function that needs nothing outside this process."""
    match each:
        case PythonFunction():
            return _python_function(each)
        case TransferFunction():
            return transfer(each.targets, description=each.description)
        case CollectFunction():
            return collect(each.name, each.what, each.kind, count=each.count)
    return PLAIN[each.name]()


async def _close(webhook: Webhook) -> None:
    with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
        await webhook.aclose()


def _tool(each: WebhookFunction, webhook: Webhook) -> Tool:
    spec = ToolSpec(name=each.name, description=each.description, parameters=each.parameters)
    return Tool(
        spec=spec, effect=each.effect, run=webhook.run, fixed=each.fixed, limit_s=each.limit_s
    )


def _mcp_server(each: McpFunctions, file: AgentFile, secrets: Mapping[str, str]) -> McpServer:
    if bool(each.command) == bool(each.url):
        raise ConfigError(f"functions.{each.name}", "needs either a command or a url")
    if each.command:
        on_pipes = McpStdioSettings(
            command=each.command, environment=each.environment, limit_s=each.limit_s
        )
        return McpServer(each.name, on_pipes)
    over_http = McpHttpSettings(
        url=each.url,
        key_name=each.secret,
        limit_s=each.limit_s,
        allow_private=file.allow_private_urls,
    )
    return McpServer(each.name, over_http, secrets)


def _mcp_tools(each: McpFunctions, server: McpServer) -> list[Tool]:
    names = {spec.name for spec in server.specs}
    for name in each.effects:
        if name not in names:
            known = ", ".join(sorted(names))
            raise ConfigError(f"functions.{each.name}.effects.{name}", f"is none of {known}")
    return [
        Tool(
            spec=spec,
            effect=each.effects.get(spec.name, "write"),
            run=partial(server.call, spec.name),
            limit_s=each.limit_s,
        )
        for spec in server.specs
    ]


def _python_function(each: PythonFunction) -> Tool:
    module_name, _, name = each.function.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"functions.{each.function}", f"cannot be imported: {exc}") from exc
    return function(
        found,
        each.effect,
        name=each.name or "",
        description=each.description,
        fixed=each.fixed,
        limit_s=each.limit_s,
    )
