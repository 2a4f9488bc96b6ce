"""Services whose address somebody else has chosen: never on this machine or its networks."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import msgspec
import pytest
import trio

from rtcore.errors import ProviderError
from rtcore.providers import _addresses
from rtcore.providers._addresses import reach_public
from rtcore.providers._http import HttpClient
from rtcore.providers._registry import REGISTRY, build_responder, build_transcriber
from rtcore.providers._settings import Deadlines
from rtcore.providers._ws import connect
from tests.fakes.function import FakeFunction
from tests.providers.test_functions_webhook import Resolver

PUBLIC_ONLY = Deadlines(connect_s=2.0, public_only=True)
URLS = {"base_url": "https://llm.example/v1", "url": "https://llm.example"}


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.0.0.8", "::1"], ["169.254.169.254"], ["::ffff:10.0.0.1"]]
)
async def test_no_connection_is_made_to_a_name_that_leads_inside(addresses: Sequence[str]) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(addresses))
    client = HttpClient("llm", "https://llm.example", headers={}, deadlines=PUBLIC_ONLY)
    with pytest.raises(ProviderError, match="private address"):
        await client.warm()
    with pytest.raises(ProviderError, match="private address"):
        await client.post("x", {})
    with pytest.raises(ProviderError, match="private address"):
        await connect("ears", "wss://llm.example/x", headers={}, deadlines=PUBLIC_ONLY)
    await client.aclose()


async def test_each_connection_is_judged_anew(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere later gains nothing; an open connection is used meanwhile."""
    server = FakeFunction()
    server.url = await nursery.start(server.serve)
    port = int(server.url.rpartition(":")[2])
    resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])
    trio.socket.set_custom_hostname_resolver(resolver)
    monkeypatch.setattr(_addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    client = HttpClient("llm", f"http://llm.example:{port}", headers={}, deadlines=PUBLIC_ONLY)
    for _ in range(2):
        async with await client.post("/", {"function": "book"}) as answer:
            assert await answer.read(1000) == b'{"ok": true}'
    assert server.connections == 1
    assert server.requests[0].headers["host"] == f"llm.example:{port}"
    await client.aclose()
    other = HttpClient("llm", f"http://llm.example:{port}", headers={}, deadlines=PUBLIC_ONLY)
    with pytest.raises(ProviderError, match="private address"):
        await other.post("/", {})
    await other.aclose()


async def test_the_next_address_is_tried_where_one_does_not_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(["8.8.4.4", "8.8.8.8", "1.1.1.1"]))
    asked: list[str] = []

    async def reach(address: str) -> str:
        asked.append(address)
        if address == "8.8.4.4":
            raise OSError("refused")
        if address == "8.8.8.8":
            await trio.sleep_forever()
        return address

    assert await reach_public("many.example", 443, reach) == "1.1.1.1"
    assert asked == ["8.8.4.4", "8.8.8.8", "1.1.1.1"]
    assert trio.current_time() == pytest.approx(1.0, abs=0.01)


def test_every_provider_with_an_address_can_be_held_to_public_ones() -> None:
    held = 0
    for entries in REGISTRY.values():
        for entry in entries.values():
            module = importlib.import_module(f"rtcore.providers.{entry.module}")
            settings_type = getattr(module, entry.settings)
            names = {field.name for field in msgspec.structs.fields(settings_type)}
            addresses = {name for name in names if "url" in name or name in ("host", "endpoint")}
            assert addresses <= URLS.keys(), f"{entry.settings}: who judges {addresses}?"
            if addresses:
                assert "deadlines" in names, entry.settings
                held += 1
    assert held > 10


def test_whoever_builds_a_provider_may_hold_it_to_public_addresses() -> None:
    ears = {"provider": "openai", "model": "x", "public_only": True, "base_url": URLS["base_url"]}
    keys = {"OPENAI_API_KEY": "sk-test"}
    (member,) = build_transcriber([ears], keys).members  # type: ignore[attr-defined]
    assert member._client.deadlines == Deadlines(first_byte_s=5.0, public_only=True)
    mind = {"provider": "ollama", "model": "x"}  # an address that nobody chose
    (local,) = build_responder([mind], {}).members  # type: ignore[attr-defined]
    assert not local._client.deadlines.public_only
