"""Real-time voice agents on the telephone: a call is a nursery.

>>> async def main(socket):
...     agent = rtcore.Agent(
...         rtcore.AgentDefinition(name="desk", welcome_message="Good day."),
...         transcriber=..., responder=..., synthesizer=...,
...     )
...     record = await rtcore.run_call(socket, agent)
"""

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition, IdlePolicy
from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.call import Call, CallRecord, run_call
from rtcore.config import CallConfig
from rtcore.errors import (
    AtCapacity,
    ConfigError,
    LocalProtocolError,
    ProviderError,
    RemoteProtocolError,
    RtcoreError,
    SocketClosed,
)
from rtcore.journal import Journal, Noted
from rtcore.media.in_wait import BeatingClock
from rtcore.media.pacer import Pacer
from rtcore.node import Admission, Node, NodeConfig, open_listeners, serve_calls
from rtcore.turn import TurnConfig, TurnDetector

__all__ = [
    "Admission",
    "Agent",
    "AgentDefinition",
    "AtCapacity",
    "BeatingClock",
    "Call",
    "CallConfig",
    "CallRecord",
    "ConfigError",
    "IdlePolicy",
    "Journal",
    "LocalProtocolError",
    "Node",
    "NodeConfig",
    "Noted",
    "Pacer",
    "ProviderError",
    "RemoteProtocolError",
    "RtcoreError",
    "SocketClosed",
    "Tool",
    "ToolError",
    "ToolUse",
    "TurnConfig",
    "TurnDetector",
    "open_listeners",
    "run_call",
    "serve_calls",
]
