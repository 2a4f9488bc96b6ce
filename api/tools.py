"""What an agent's functions and knowledge become in a call: tools of the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from api.meaning import Meanings
from api.specs import FunctionSpec, KnowledgeBaseSpec, TransferTarget
from api.store.errors import StoreUnavailable
from api.store.passages import Hit
from api.store.records import Record
from api.webhooks import Webhooks
from rtcore.agent.tools import Tool, ToolError, ToolUse
from rtcore.errors import ProviderError
from rtcore.ports import Hit as KnownHit
from rtcore.ports import ToolSpec

__all__ = ["TRANSFER", "StoreKnowledge", "function_tool", "knowledge_tool", "transfer_tool"]

TRANSFER = "transfer"  # its name
SUMMARY_MAX_CHARS = 1000

HITS_MAX = 4  # some 3,200 characters: what a model can use in one answer
LOOKUP_LIMIT_S = 1.0  # the caller waits for it; past it the agent goes on without
NO_PARAMETERS = {"type": "object", "properties": {}}  # some models want it spelled out


def function_tool(function: FunctionSpec, secret: str | None, webhooks: Webhooks) -> Tool:
    """``function`` as a tool: the model's arguments are POSTed with the fixed ones."""
    spec = ToolSpec(
        name=function.name,
        description=function.description,
        parameters=function.parameters or NO_PARAMETERS,
    )

    async def run(use: ToolUse) -> str:
        return await webhooks.run(function, secret, use)

    return Tool(
        spec=spec,
        effect=function.effect,
        run=run,
        fixed=function.fixed_parameters,
        limit_s=function.limit_s,
    )


class StoreKnowledge:
    """Fills :class:`rtcore.ports.KnowledgeIndex` with the documents of knowledge bases."""

    def __init__(
        self,
        meanings: Meanings,
        bases: Sequence[Record[KnowledgeBaseSpec]],
        found: Callable[[tuple[Hit, ...]], None],
    ) -> None:
        self._meanings = meanings
        self._bases = tuple(bases)
        self._found = found

    async def search(self, question: str, limit: int) -> tuple[KnownHit, ...]:
        """See :class:`rtcore.ports.KnowledgeIndex`; ``found`` is told too."""
        try:
            hits = await self._meanings.find(self._bases, question, limit)
        except StoreUnavailable as exc:
            raise ProviderError("knowledge", str(exc), retryable=True) from exc
        self._found(hits)
        return tuple(
            KnownHit(text=hit.text, title=hit.heading, source=hit.document) for hit in hits
        )


def transfer_tool(targets: Mapping[str, TransferTarget]) -> Tool:
    """``transfer``: hands the caller to one of ``targets``, which the model knows by name."""
    is_warm = any(target.mode == "warm" for target in targets.values())
    who = "; ".join(f"{name}: {target.what_for or name}" for name, target in targets.items())
    properties: dict[str, Any] = {"to": {"type": "string", "enum": list(targets)}}
    if is_warm:
        properties["summary"] = {
            "type": "string",
            "maxLength": SUMMARY_MAX_CHARS,
            "description": "What who takes the call should know: who calls, and what about.",
        }
    spec = ToolSpec(
        name=TRANSFER,
        description=f"Put the caller through, after telling them so. There is: {who}",
        parameters={
            "type": "object",
            "properties": properties,
            "required": ["to"],
            "additionalProperties": False,
        },
    )

    async def run(use: ToolUse) -> str:
        if use.control is None:
            raise ToolError("this is a chat: there is no call to transfer")
        name = str(use.arguments["to"])
        await use.control.transfer(name, str(use.arguments.get("summary", "")))
        if targets[name].mode == "warm":
            return "their telephone rings; say so, and keep the caller company until they come"
        return "the caller is being put through"

    return Tool(spec=spec, effect="terminal", run=run)


def knowledge_tool(
    meanings: Meanings,
    bases: Sequence[Record[KnowledgeBaseSpec]],
    found: Callable[[tuple[Hit, ...]], None],
) -> Tool:
    """``search_knowledge``: looks up what the agent's documents say; ``found`` is told too."""
    about = "; ".join(
        f"{base.spec.name}: {base.spec.description}" if base.spec.description else base.spec.name
        for base in bases
    )
    spec = ToolSpec(
        name="search_knowledge",
        description=f"Look up facts before you state them. There is: {about}",
        parameters={
            "type": "object",
            "properties": {
                "question": {"type": "string", "description": "What to look up, in plain words."}
            },
            "required": ["question"],
            "additionalProperties": False,
        },
    )

    async def run(use: ToolUse) -> str:
        hits: tuple[Hit, ...] = ()
        with trio.move_on_after(LOOKUP_LIMIT_S) as lookup:
            try:
                hits = await meanings.find(bases, str(use.arguments["question"]), HITS_MAX)
            except StoreUnavailable as exc:
                raise ToolError("the knowledge base does not answer now") from exc
        if lookup.cancelled_caught:
            raise ToolError("the lookup took too long")
        found(hits)
        if not hits:
            return "nothing was found; do not guess"
        return "\n\n".join(
            f"[{number}] {hit.document}{f' / {hit.heading}' if hit.heading else ''}\n{hit.text}"
            for number, hit in enumerate(hits, 1)
        )

    return Tool(spec=spec, effect="read", run=run)
