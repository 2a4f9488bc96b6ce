"""What every mind must do, whatever its protocol: the fault matrix over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Delta, Finished, Message, Responder, TextDelta, ToolCall
from rtcore.providers.anthropic import AnthropicResponder, AnthropicSettings
from rtcore.providers.gemini import GeminiResponder, GeminiSettings
from rtcore.providers.http_responder import HttpResponder, HttpResponderSettings
from rtcore.providers.openai_chat import OpenAIChatResponder, OpenAIChatSettings
from tests.fakes import anthropic, gemini, openai_chat, own_endpoint
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, eventually
from tests.providers._harness import KEY, LOOKUP, SHORT, answer_of, request_of, text_of

CALLS = (("c1", "lookup", ('{"id"', ': "4', '2"}')), ("c2", "lookup", ('{"id": "7"}',)))
GEMINI_CALLS = (("c1", "lookup", {"id": "42"}, "c2ln"), ("c2", "lookup", {"id": "7"}, None))


class Kind:
    """One protocol: its fake, and the responder that talks to it."""

    def __init__(
        self,
        fake: Callable[..., FakeHttpServer],
        connect: Callable[[str, dict[str, str]], Responder],
        answer: Callable[..., Any],
        calls: tuple[Any, ...] = CALLS,
    ) -> None:
        self.fake, self.connect, self.answer, self.calls = fake, connect, answer, calls


def _openai(url: str, secrets: dict[str, str]) -> Responder:
    settings = OpenAIChatSettings(model="m", base_url=url, deadlines=SHORT)
    return OpenAIChatResponder(settings, secrets)


def _anthropic(url: str, secrets: dict[str, str]) -> Responder:
    return AnthropicResponder(AnthropicSettings(model="m", base_url=url, deadlines=SHORT), secrets)


def _gemini(url: str, secrets: dict[str, str]) -> Responder:
    return GeminiResponder(GeminiSettings(model="m", base_url=url, deadlines=SHORT), secrets)


def _own(url: str, secrets: dict[str, str]) -> Responder:
    settings = HttpResponderSettings(url=url + "/think", key_name="OWN_KEY", deadlines=SHORT)
    return HttpResponder(settings, secrets)


SECRETS = {
    "OPENAI_API_KEY": KEY,
    "ANTHROPIC_API_KEY": KEY,
    "GEMINI_API_KEY": KEY,
    "OWN_KEY": KEY,
}
KINDS = {
    "openai": Kind(openai_chat.FakeOpenAIChat, _openai, openai_chat.Answer),
    "anthropic": Kind(anthropic.FakeAnthropic, _anthropic, anthropic.Answer),
    "gemini": Kind(gemini.FakeGemini, _gemini, gemini.Answer, GEMINI_CALLS),
    "own": Kind(own_endpoint.FakeOwnEndpoint, _own, own_endpoint.Answer),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


async def _pair(kind: Kind, nursery: trio.Nursery, *answers: Any) -> tuple[Any, Responder]:
    fake = kind.fake(*answers)
    url = await nursery.start(fake.serve)
    return fake, kind.connect(url, SECRETS)


async def test_a_normal_answer(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery, kind.answer(texts=("Grüße", " aus", " Köln 🏛.")))
    deltas = await answer_of(mind)
    assert text_of(deltas) == "Grüße aus Köln 🏛."
    assert isinstance(deltas[-1], Finished)
    assert deltas[-1].stop_reason == "stop"
    assert deltas[-1].input_tokens > 0
    assert deltas[-1].output_tokens > 0
    assert KEY in "".join(fake.requests[0].headers.values())
    await mind.aclose()


async def test_two_calls_split_over_many_deltas(kind: Kind, nursery: trio.Nursery) -> None:
    _, mind = await _pair(kind, nursery, kind.answer(texts=("One moment.",), calls=kind.calls))
    deltas = await answer_of(mind, request_of(tools=(LOOKUP,)))
    calls = [delta for delta in deltas if isinstance(delta, ToolCall)]
    assert [call.id for call in calls] == ["c1", "c2"]
    assert [call.arguments.replace(" ", "") for call in calls] == ['{"id":"42"}', '{"id":"7"}']
    assert isinstance(deltas[-1], Finished)
    assert deltas[-1].stop_reason == "tool_calls"
    await mind.aclose()


async def test_a_tool_result_goes_back(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery, kind.answer(calls=kind.calls), kind.answer())
    deltas = await answer_of(mind, request_of(tools=(LOOKUP,)))
    calls = tuple(delta for delta in deltas if isinstance(delta, ToolCall))
    history = (
        *request_of().messages,
        Message(role="assistant", text=text_of(deltas), tool_calls=calls),
        *(Message(role="tool", text='{"state": "sent"}', tool_call_id=c.id) for c in calls),
    )
    assert text_of(await answer_of(mind, request_of(*history, tools=(LOOKUP,)))) == "Hello there."
    assert b"sent" in fake.requests[1].body
    await mind.aclose()


@pytest.mark.parametrize("fragment_bytes", [2, 7])
async def test_any_fragmentation_reads_the_same(
    kind: Kind, nursery: trio.Nursery, fragment_bytes: int
) -> None:
    fake, mind = await _pair(kind, nursery, kind.answer(texts=("Übermäßig", " 漢字", " fine.")))
    fake.faults.add(Fault(fragment_bytes=fragment_bytes))
    assert text_of(await answer_of(mind)) == "Übermäßig 漢字 fine."
    await mind.aclose()


async def test_unknown_events_are_ignored(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery)
    fake.faults.add(Fault(unknown_messages=True))
    assert text_of(await answer_of(mind)) == "Hello there."
    await mind.aclose()


@pytest.mark.parametrize(
    ("fault", "retryable"),
    [
        (Fault(status=400), False),
        (Fault(status=401), False),
        (Fault(status=429, retry_after="7"), True),
        (Fault(status=500), True),
        (Fault(status=503, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"), True),
        (Fault(status=529, error_body=b"<html>busy</html>"), True),
        (Fault(drop_after=0), True),
        (Fault(drop_after=2), True),
        (Fault(stall_after=0), True),
        (Fault(stall_after=2), True),
        (Fault(first_delay_s=5.0), True),
        (Fault(error_after=1), True),
        (Fault(malformed_after=1), True),
    ],
    ids=repr,
)
async def test_each_fault_is_one_plain_error(
    kind: Kind, nursery: trio.Nursery, fault: Fault, retryable: bool
) -> None:
    fake, mind = await _pair(kind, nursery)
    fake.faults.add(fault)
    with trio.fail_after(2), pytest.raises(ProviderError) as caught:
        await answer_of(mind)
    assert caught.value.retryable is retryable
    assert KEY not in str(caught.value)
    assert caught.value.retry_after_s == {"7": 7.0, None: None}.get(fault.retry_after, 0.0)
    assert text_of(await answer_of(mind)) == "Hello there."  # the next one is not harmed
    await mind.aclose()


async def test_connections_are_reused(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery)
    for _ in range(3):
        assert text_of(await answer_of(mind)) == "Hello there."
    assert fake.connections == 1
    await mind.aclose()
    await eventually(lambda: fake.open_connections == 0)


async def test_a_dead_idle_connection_is_replaced(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery)
    fake.kills_reused = True
    for _ in range(2):
        assert text_of(await answer_of(mind)) == "Hello there."
    assert fake.connections == 2
    await mind.aclose()


async def test_warm_opens_one_connection_and_only_one(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery)
    await mind.warm()
    await mind.warm()
    await answer_of(mind)
    assert fake.connections == 1
    await mind.aclose()


async def test_a_cancel_stops_the_service(kind: Kind, nursery: trio.Nursery) -> None:
    fake, mind = await _pair(kind, nursery, kind.answer(texts=("word ",) * 200))
    fake.faults.add(Fault(gap_s=0.005))
    tx, rx = trio.open_memory_channel[Delta](0)
    with tx, rx:
        async with trio.open_nursery() as reply:
            reply.start_soon(mind.respond, request_of(), tx)
            assert isinstance(await rx.receive(), TextDelta)
            reply.cancel_scope.cancel()
    await eventually(lambda: fake.disconnects == 1 and fake.open_connections == 0)
    await mind.aclose()


async def test_a_full_channel_is_no_stall(kind: Kind, nursery: trio.Nursery) -> None:
    _, mind = await _pair(kind, nursery)
    tx, rx = trio.open_memory_channel[Delta](0)
    found: list[Delta] = []
    with tx, rx:
        async with trio.open_nursery() as reply:
            reply.start_soon(mind.respond, request_of(), tx)
            while not found or not isinstance(found[-1], Finished):
                await trio.sleep(0.12)  # slower in sum than any deadline
                found.append(await rx.receive())
    assert text_of(found) == "Hello there."
    await mind.aclose()


def test_a_missing_key_is_named(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="_KEY"):
        kind.connect("http://127.0.0.1:1", {})


def test_a_key_is_never_shown(kind: Kind) -> None:
    mind = kind.connect("http://127.0.0.1:1", SECRETS)
    assert KEY not in repr(mind) + repr(vars(mind))


async def test_no_server_is_a_retryable_error(kind: Kind) -> None:
    mind = kind.connect("http://127.0.0.1:1", SECRETS)
    with pytest.raises(ProviderError) as caught:
        await answer_of(mind)
    assert caught.value.retryable
    await mind.aclose()
