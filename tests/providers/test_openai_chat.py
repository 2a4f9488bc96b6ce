"""How compatible servers depart from OpenAI, and what the request looks like."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from rtcore.ports import Finished, Message, ToolCall
from rtcore.providers.openai_chat import (
    OpenAIChatResponder,
    OpenAIChatSettings,
    request_body,
)
from tests.fakes.openai_chat import Answer, FakeOpenAIChat, Quirks
from tests.providers._harness import KEY, LOOKUP, SHORT, answer_of, request_of

CALLS = (("c1", "lookup", ('{"id": "4', '2"}')), ("c2", "lookup", ()))


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(call_ids=False),
        Quirks(call_indexes=False),
        Quirks(finish_stop_always=True),
        Quirks(usage=False),
        Quirks(done_marker=False),
        Quirks(
            call_ids=False,
            call_indexes=False,
            finish_stop_always=True,
            usage=False,
            done_marker=False,
        ),
    ],
    ids=repr,
)
async def test_the_imitators_are_understood(quirks: Quirks, nursery: trio.Nursery) -> None:
    fake = FakeOpenAIChat(Answer(calls=CALLS), quirks=quirks)
    url = await nursery.start(fake.serve)
    settings = OpenAIChatSettings(model="m", base_url=url, key_name=None, deadlines=SHORT)
    async with OpenAIChatResponder(settings, {}) as mind:
        deltas = await answer_of(mind, request_of(tools=(LOOKUP,)))
    calls = [delta for delta in deltas if isinstance(delta, ToolCall)]
    assert [call.arguments for call in calls] == ['{"id": "42"}', "{}"]
    assert len({call.id for call in calls}) == 2
    assert isinstance(deltas[-1], Finished)
    assert deltas[-1].stop_reason == "tool_calls"
    assert "authorization" not in fake.requests[0].headers


@pytest.mark.parametrize(
    ("finish_reason", "stop_reason"), [("length", "length"), ("content_filter", "filtered")]
)
async def test_stop_reasons(finish_reason: str, stop_reason: str, nursery: trio.Nursery) -> None:
    fake = FakeOpenAIChat(Answer(finish_reason=finish_reason))
    url = await nursery.start(fake.serve)
    settings = OpenAIChatSettings(model="m", base_url=url, key_name=None, deadlines=SHORT)
    async with OpenAIChatResponder(settings, {}) as mind:
        last = (await answer_of(mind))[-1]
    assert isinstance(last, Finished)
    assert last.stop_reason == stop_reason


def test_the_request() -> None:
    settings = OpenAIChatSettings(
        model="m", temperature=0.2, max_output_tokens=99, extra={"service_tier": "priority"}
    )
    call = ToolCall(id="c1", name="lookup", arguments="{}")
    body = request_body(
        settings,
        request_of(
            Message(role="user", text="Where is it?"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", text="sent", tool_call_id="c1"),
            tools=(LOOKUP,),
        ),
    )
    assert body["max_completion_tokens"] == 99
    assert body["service_tier"] == "priority"
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == "lookup"
    assert body["messages"][2] == {"role": "tool", "content": "sent", "tool_call_id": "c1"}
    assert body["tools"][0]["function"]["parameters"]["required"] == ["id"]


def test_only_openai_itself_renamed_the_limit() -> None:
    settings = OpenAIChatSettings(model="m", base_url="http://host/v1", max_output_tokens=9)
    assert request_body(settings, request_of())["max_tokens"] == 9


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="temprature"):
        msgspec.convert({"model": "m", "temprature": 1}, OpenAIChatSettings)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its generators
async def test_the_fake_satisfies_the_official_client(nursery: trio.Nursery) -> None:
    openai = pytest.importorskip("openai")
    fake = FakeOpenAIChat(Answer(texts=("One", " moment."), calls=CALLS))
    url = await nursery.start(fake.serve)
    text, arguments, usage = "", "", None
    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:
        messages: list[Any] = [{"role": "user", "content": "Hi"}]
        stream = await client.chat.completions.create(
            model="m", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        async with stream:
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    for call in choice.delta.tool_calls or ():
                        arguments += call.function.arguments
    assert text == "One moment."
    assert arguments == '{"id": "42"}'
    assert usage is not None
    assert usage.prompt_tokens == 5
