"""A LangGraph agent on the telephone, inside a Trio program of your own.

    pip install langgraph
    python examples/langgraph_agent.py            # ask it in text
    python examples/langgraph_agent.py serve      # take calls: rtcore call --url ws://127.0.0.1:PORT/

The graph runs in a thread, its tokens are spoken as they come. When the caller interrupts, the
reply's scope is cancelled: the thread is told at its next token, and what the caller did not
hear is not in the messages of the next turn. The graph is stateless here: `rtcore` keeps the
conversation, because it alone knows what was heard.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import trio
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langgraph.graph import END, START, MessagesState, StateGraph

import rtcore
from rtcore.ports import CallContext, Delta, Message, ResponderRequest, TextDelta
from rtcore.providers.thread_responder import ThreadResponder

# keyless, so that this runs anywhere; yours: init_chat_model("openai:gpt-4.1-mini")
MODEL = GenericFakeChatModel(
    messages=iter(["We open at nine. Shall I book a table for you?"] * 1000)
)


def graph() -> Any:
    """One node that asks the model; yours may have as many as it likes."""

    def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [MODEL.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


GRAPH = graph()
KINDS: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


def think(request: ResponderRequest) -> Generator[str | Delta, None, None]:
    """The graph's tokens, for :class:`ThreadResponder`."""
    messages = [KINDS[m.role](content=m.text) for m in request.messages if m.role in KINDS]
    config = {"configurable": {"thread_id": request.context.call_id}}
    for chunk, _ in GRAPH.stream({"messages": messages}, config, stream_mode="messages"):
        yield str(chunk.content)


async def ask(question: str) -> str:
    """One answer in text, streamed."""
    tx, rx = trio.open_memory_channel[Delta](0)
    request = ResponderRequest(
        context=CallContext(call_id="chat"), messages=(Message(role="user", text=question),)
    )
    said = ""

    async def respond() -> None:
        with tx:
            await ThreadResponder(think).respond(request, tx)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(respond)
        async for delta in rx:
            if isinstance(delta, TextDelta):
                said += delta.text
    return said


async def serve() -> None:
    """Take calls with the embedded ears and voice (``pip install '.[embedded]'``)."""
    from rtcore.providers import build_synthesizer, build_transcriber, serve_providers

    ears = build_transcriber([{"provider": "embedded"}], {})
    voice = build_synthesizer([{"provider": "embedded"}], {})
    definition = rtcore.AgentDefinition(
        name="graph",
        welcome_message="Hello. How can I help?",
        phrases=("when do you open", "book a table", "yes please"),  # what the small ears know
    )
    agent = rtcore.Agent(definition, ears, ThreadResponder(think), voice)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_providers, [ears, voice])
        port = await nursery.start(rtcore.serve_calls, agent)
        sys.stdout.write(f"rtcore call --url ws://127.0.0.1:{port}/\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        trio.run(serve)
    else:
        sys.stdout.write(f"{trio.run(ask, 'When do you open?')}\n")
