"""Functions of MCP servers: a child process and an HTTP endpoint, well and badly behaved."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import trio

from rtcore.errors import ConfigError, ProviderError, ToolError
from rtcore.ports import ToolUse
from rtcore.providers.functions import McpHttpSettings, McpServer, McpStdioSettings, mcp
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse

SCRIPT = Path(__file__).parent.parent / "fakes" / "mcp_stdio.py"
USE = ToolUse(arguments={"n": 1}, key="call-1-1-1-0", call_id="call-1")
COMMAND = (sys.executable, str(SCRIPT))


def children() -> int:
    return len(psutil.Process().children())


@asynccontextmanager
async def process(limit_s: float = 5.0) -> AsyncIterator[McpServer]:
    before = children()
    server = McpServer("files", McpStdioSettings(command=COMMAND, limit_s=limit_s))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()
    assert children() == before


async def test_a_process_lists_its_functions_and_runs_them() -> None:
    async with process() as server:
        assert [spec.name for spec in server.specs][:2] == ["add_two", "fail"]
        assert server.specs[0].description == "Add."
        told = msgspec.json.decode(await server.call("add_two", USE))
        assert told == [{"n": 1}, {"rtcore/idempotency-key": USE.key}]
        with pytest.raises(ToolError, match="no such thing"):
            await server.call("fail", USE)


async def test_calls_run_beside_one_another_and_a_late_one_is_cancelled() -> None:
    async with process(limit_s=0.3) as server:
        async with trio.open_nursery() as nursery:

            async def hang() -> None:
                with pytest.raises(ToolError, match=r"no answer within 0\.3 s"):
                    await server.call("hang", USE)

            nursery.start_soon(hang)
            await server.call("add_two", USE)
        with trio.move_on_after(0.1):
            await server.call("hang", USE)
        assert await server.call("count", USE) == "2"


@pytest.mark.parametrize("name", ["die", "big", "noise"])
async def test_a_process_that_breaks_is_started_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "RESTART_MIN_S", 0.05)
    async with process() as server:
        with pytest.raises(ToolError, match="failed"):
            await server.call(name, USE)
        with pytest.raises(ToolError, match=r"failed|is not running now"):
            await server.call("add_two", USE)
        with trio.fail_after(5):
            while True:
                try:
                    await server.call("add_two", USE)
                    break
                except ToolError:
                    await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (("/nowhere/at/all",), "cannot be started"),
        ((sys.executable, "-c", "pass"), "the server ended"),
        ((sys.executable, "-c", "print('hello')"), "not JSON-RPC"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "was not ready within"),
    ],
)
async def test_a_process_that_is_no_server_is_told_at_the_start(
    command: tuple[str, ...], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "START_LIMIT_S", 1.0)
    before = children()
    server = McpServer("files", McpStdioSettings(command=command))
    with pytest.raises(ProviderError, match=fault):
        await server.run()
    assert children() == before


# --- over HTTP ----------------------------------------------------------------------------


class FakeMcp(FakeHttpServer):
    """Knows one function; every other answer is an event stream."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = 0
        self.expired: set[str] = set()

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        await trio.sleep(fault.first_delay_s)
        body = request.json()
        session = request.headers.get("mcp-session-id", "")
        if body["method"] == "initialize":
            self.sessions += 1
            await self.tell(reply, body, {}, mcp_session_id=f"s{self.sessions}")
        elif session != f"s{self.sessions}" or session in self.expired:
            await reply.whole(404, b"", "text/plain")
        elif "id" not in body:
            await reply.whole(202, b"", "text/plain")
        elif body["method"] == "tools/list":
            await self.tell(reply, body, {"tools": [{"name": "look"}]})
        else:
            text = msgspec.json.encode(body["params"]["arguments"]).decode()
            await reply.start(200, content_type="text/event-stream")
            await reply.send(sse({"jsonrpc": "2.0", "method": "notifications/message"}))
            content = {"content": [{"type": "text", "text": text}]}
            await reply.send(sse({"jsonrpc": "2.0", "id": body["id"], "result": content}))
            await reply.end()

    async def tell(self, reply: Reply, body: Any, result: Any, **headers: str) -> None:
        answer = msgspec.json.encode({"jsonrpc": "2.0", "id": body["id"], "result": result})
        await reply.whole(200, answer, "application/json", **headers)


@asynccontextmanager
async def endpoint(fake: FakeMcp, limit_s: float = 5.0) -> AsyncIterator[McpServer]:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(fake.serve)
        settings = McpHttpSettings(
            url=f"{url}/mcp", allow_private=True, key_name="MCP_KEY", limit_s=limit_s
        )
        server = McpServer("shop", settings, {"MCP_KEY": "secret-1"})
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


async def test_an_endpoint_lists_its_functions_and_runs_them() -> None:
    fake = FakeMcp()
    async with endpoint(fake) as server:
        assert [spec.name for spec in server.specs] == ["look"]
        assert await server.call("look", USE) == '{"n":1}'
    assert fake.requests[0].headers["authorization"] == "Bearer secret-1"
    assert fake.requests[-1].headers["mcp-protocol-version"] == "2025-06-18"


async def test_an_expired_session_is_opened_anew_at_the_next_call() -> None:
    fake = FakeMcp()
    async with endpoint(fake) as server:
        fake.expired.add("s1")
        with pytest.raises(ToolError, match="failed"):
            await server.call("look", USE)
        assert await server.call("look", USE) == '{"n":1}'
    assert fake.sessions == 2


async def test_an_endpoint_that_is_late_is_told() -> None:
    fake = FakeMcp()
    async with endpoint(fake, limit_s=0.3) as server:
        fake.faults.add(Fault(first_delay_s=30))
        with pytest.raises(ToolError, match=r"no answer within 0\.3 s|took longer"):
            await server.call("look", USE)


async def test_an_endpoint_that_refuses_is_told_at_the_start() -> None:
    fake = FakeMcp()
    fake.faults.add(Fault(status=401))
    with pytest.RaisesGroup(ProviderError, flatten_subgroups=True):
        async with endpoint(fake):
            pass


def test_a_url_inside_or_a_missing_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"functions\.shop\.url"):
        McpServer("shop", McpHttpSettings(url="https://10.0.0.1/mcp"))
    with pytest.raises(ConfigError, match="MCP_KEY"):
        McpServer("shop", McpHttpSettings(url="https://example.com/mcp", key_name="MCP_KEY"))
