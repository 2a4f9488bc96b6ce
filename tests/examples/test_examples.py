"""The examples run: the webhook books once, the agent's file reads, the graph answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.assembly import serve_agent
from rtcore.errors import ToolError
from rtcore.ports import ToolUse
from rtcore.providers._settings import Secret
from rtcore.providers.functions import Webhook, WebhookSettings

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
USE = ToolUse(arguments={"day": "2026-03-01", "seats": 4}, key="call-1-1-1-0", call_id="call-1")
SECRETS = {
    name: KEY
    for name in ("DEEPGRAM_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "BOOKING_SECRET")
}


@asynccontextmanager
async def webhook() -> AsyncIterator[str]:
    command = [sys.executable, str(EXAMPLES / "webhook.py"), "0", KEY]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.receive_some()).decode().strip()
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


async def test_the_webhook_books_once_and_only_for_us() -> None:
    async with webhook() as url:
        settings = WebhookSettings(url=url, allow_private=True)
        async with Webhook("book", settings, Secret("hook", KEY)) as ours:
            answers = [await ours.run(USE) for _ in range(2)]  # the same key: an attempt again
            assert msgspec.json.decode(answers[0]) == {
                "booked": True,
                "day": "2026-03-01",
                "seats": 4,
            }
            assert answers[0] == answers[1]
        async with Webhook("book", settings, Secret("hook", "whsec_AAAA")) as stranger:
            with pytest.raises(ToolError, match="401"):
                await stranger.run(USE)
        async with httpx.AsyncClient() as anybody:
            assert (await anybody.post(url, json={"arguments": {}})).status_code == 401


@pytest.mark.parametrize("arguments", [[], ["8090"], ["port", KEY], ["8090", KEY, "more"]])
def test_the_webhook_says_how_it_is_used(arguments: list[str]) -> None:
    command = [sys.executable, str(EXAMPLES / "webhook.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python examples/webhook.py PORT SECRET")


async def test_the_agent_s_file_is_an_agent_that_knows_the_menu() -> None:
    async with trio.open_nursery() as nursery:
        agent: Agent = await nursery.start(serve_agent, EXAMPLES / "restaurant.toml", SECRETS)
        assert [tool.name for tool in agent.offered] == [
            "book", "collect_telephone", "transfer", "hang_up",
        ]  # fmt: skip
        assert agent.knowledge is not None
        (first, *_) = await agent.knowledge.search("do you have anything vegetarian", 2)
        assert first.title == "Vegetarian dishes"
        nursery.cancel_scope.cancel()


def test_the_graph_answers() -> None:
    pytest.importorskip("langgraph")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "langgraph_agent.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
        check=True,
    )
    assert "We open at nine." in done.stdout
