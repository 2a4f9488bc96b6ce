"""``rtcore serve --database`` with scripted providers: a whole node, API and store and all.

``python -m bench.api_node --port P --database sqlite:///…`` listens on 127.0.0.1 without an
account at the carrier, so calls come in unsigned.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import structlog
import trio
import typer

from api.agents import SharedProviders
from api.specs import AgentPlan
from api.standalone import StandaloneOptions, serve
from bench.node import scripted_agent
from rtcore.agent.agent import Agent
from rtcore.media.in_wait import BeatingClock
from rtcore.node import NodeConfig

STT_MS, LLM_MS, TTS_MS = 150, 350, 120


class Scripted(SharedProviders):
    """Every agent hears and says the same, whatever services it names."""

    def __init__(self, reply_ms: float) -> None:
        super().__init__({})
        self._agent = scripted_agent(STT_MS, LLM_MS, TTS_MS, reply_ms)

    def __call__(self, plan: AgentPlan) -> Agent:
        agent = self._agent
        return Agent(plan.definition, agent.transcriber, agent.responder, agent.synthesizer)


def main(
    port: Annotated[int, typer.Option(min=1, max=65535)],
    database: Annotated[str, typer.Option()],
    reply_ms: Annotated[float, typer.Option(min=100)] = 3000,
) -> None:
    """Serve on 127.0.0.1 until told to stop."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    node = NodeConfig(calls_max=10_000, calls_per_source_max=10_000, lag_max_ms=10_000)
    node = msgspec.structs.replace(node, drain_s=0.1)
    options = StandaloneOptions(database=database, port=port, node=node)
    trio.run(serve, options, Scripted(reply_ms), clock=BeatingClock())


if __name__ == "__main__":
    typer.run(main)
