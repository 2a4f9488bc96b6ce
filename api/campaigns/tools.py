"""What the agent of a campaign's call may do beside its own functions: end all calls to come."""

from __future__ import annotations

from functools import partial

from api.calls.records import StoredCall
from api.store import Actor, Store
from api.store.do_not_call import block_numbers
from api.store.errors import StoreUnavailable
from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.ports import ToolSpec

__all__ = ["OPT_OUT", "opt_out_tool"]

AGENT = Actor("agent")  # in the audit log: the model asked for it, in a call
OPT_OUT = ToolSpec(
    name="add_to_do_not_call",
    description="The person does not want to be called any more: put their number on the"
    " do-not-call list. Confirm it to them once this is done.",
    parameters={"type": "object", "properties": {}, "additionalProperties": False},
)


def opt_out_tool(store: Store, call: StoredCall) -> Tool:
    """``add_to_do_not_call`` for ``call``: of the number that was called, and no other."""
    return Tool(spec=OPT_OUT, effect="write", run=partial(_opt_out, store, call))


async def _opt_out(store: Store, call: StoredCall, use: ToolUse) -> str:
    numbers = [call.to_number]
    try:
        await store.write(block_numbers, AGENT, numbers, source="agent", call_id=call.id)
    except StoreUnavailable as exc:
        raise ToolError("the list does not answer now: say that somebody will see to it") from exc
    return "done: they will not be called again"
