"""The agent of one call: the stored one, with the call's variables filled in.

A stream that is not the call's first goes on where the last one ended: the agent is told what
was said before, and begins with a line that fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec

from api.binding import AgentFactory, bind_agent
from api.calls.records import StoredCall, get_streams
from api.campaigns.tools import OPT_OUT, opt_out_tool
from api.meaning import Meanings
from api.store import Store
from api.store.attempts import is_campaign_call
from api.webhooks import Webhooks
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.call import CallRecord

__all__ = ["agent_of_call", "agent_with_prompt", "resumed", "variables_of"]

RESUMED_MAX_CHARS = 20_000  # of what was said before: some twenty minutes of talk
RESUMED_LINE = "Sorry, we were cut off for a moment. Please go on."
SPEAKERS = {"user": "Caller", "assistant": "You"}


def variables_of(call: StoredCall) -> dict[str, str]:
    """What prompts and greetings may name: what came with the call, and what it is."""
    is_inbound = call.direction == "inbound"
    return {
        **call.plan.variables,
        "caller": call.from_number if is_inbound else call.to_number,
        "called": call.to_number if is_inbound else call.from_number,
        "call_id": call.id,
        "direction": call.direction,
    }


def resumed(
    definition: AgentDefinition, records: Sequence[CallRecord], line: str
) -> AgentDefinition:
    """``definition`` for a call that had begun: ``line`` is said first."""
    said = "\n".join(
        f"{SPEAKERS[message.role]}: {message.text}"
        for record in records
        for message in record.transcript
        if message.role in SPEAKERS and message.text
    )
    prompt = definition.prompt
    if said:
        prompt += f"\n\nThis call goes on. What was said so far:\n{said[-RESUMED_MAX_CHARS:]}"
    return msgspec.structs.replace(
        definition, prompt=prompt.strip(), welcome_message=line, is_welcome_interruptible=True
    )


async def agent_with_prompt(
    store: Store,
    webhooks: Webhooks,
    agent_for: AgentFactory,
    call: StoredCall,
    chosen: tuple[str, int, str | None],
    meanings: Meanings | None = None,
) -> Agent:
    """An agent for ``call``: its id, its version, and a prompt in place of its own (or None).

    Raises:
        NotFound, VaultLocked, StoreUnavailable: as :func:`api.binding.bind_agent`.
    """
    agent_id, version, prompt = chosen
    bound = await bind_agent(store, webhooks, agent_for, agent_id, version, meanings=meanings)
    agent = bound.agent
    if prompt is not None:
        definition = msgspec.structs.replace(agent.definition, prompt=prompt)
        agent = dataclasses.replace(agent, definition=definition)
    agent = agent.for_call(variables_of(call))
    names = {tool.name for tool in agent.tools}
    if OPT_OUT.name not in names and await store.read(is_campaign_call, call.id):
        agent = dataclasses.replace(agent, tools=(*agent.tools, opt_out_tool(store, call)))
    return agent


async def agent_of_call(
    store: Store,
    webhooks: Webhooks,
    agent_for: AgentFactory,
    call: StoredCall,
    meanings: Meanings | None = None,
) -> Agent:
    """The agent that serves the next stream of ``call``, at the version the call began with.

    Raises:
        NotFound, VaultLocked, StoreUnavailable: as :func:`api.binding.bind_agent`.
    """
    chosen = call.agent_id, call.agent_version, call.plan.prompt
    agent = await agent_with_prompt(store, webhooks, agent_for, call, chosen, meanings)
    if call.streams == 1:
        return agent
    line = call.transfer.take_back_line if call.transfer is not None else RESUMED_LINE
    records = await store.read(get_streams, call.id)
    return dataclasses.replace(agent, definition=resumed(agent.definition, records, line))
