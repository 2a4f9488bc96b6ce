"""The webhooks of a node: shared while they are used, bounded when they are not."""

from __future__ import annotations

import pytest
import trio

from api import webhooks
from api.specs import FunctionSpec
from api.webhooks import Webhooks
from rtcore.ports import ToolUse
from tests.fakes._http import eventually
from tests.fakes.function import FakeFunction


def function(server: FakeFunction, name: str = "book") -> FunctionSpec:
    return FunctionSpec(name=name, description="Book a table", url=server.url, effect="write")


USE = ToolUse(arguments={}, key="call-1-1-1-0", call_id="call-1")


async def test_connections_are_kept_between_calls_and_closed_at_the_end(
    nursery: trio.Nursery,
) -> None:
    server = FakeFunction()
    server.url = await nursery.start(server.serve)
    hooks = Webhooks(allow_private=True)
    for _ in range(3):
        assert await hooks.run(function(server), None, USE) == '{"ok": true}'
    assert server.connections == 1
    await hooks.run(function(server), "rotated", USE)
    assert server.connections == 2
    await hooks.aclose()
    await eventually(lambda: server.open_connections == 0)


async def test_no_more_are_kept_than_fit_and_none_in_use_is_closed(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "KEPT_MAX", 1)
    server = FakeFunction()
    server.url = await nursery.start(server.serve)
    hooks = Webhooks(allow_private=True)
    async with trio.open_nursery() as calls:
        for name in "abc":
            calls.start_soon(hooks.run, function(server, name), None, USE)
    assert sorted(request.json()["function"] for request in server.requests) == ["a", "b", "c"]
    assert len(hooks._kept) == 1
    await hooks.aclose()
    assert not hooks._kept
