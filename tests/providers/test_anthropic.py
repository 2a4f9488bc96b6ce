"""What is Anthropic's own: the request's shape, versions, stop reasons."""

from __future__ import annotations

import pytest
import trio

from rtcore.ports import Finished, Message, ToolCall
from rtcore.providers.anthropic import AnthropicResponder, AnthropicSettings, request_body
from tests.fakes.anthropic import Answer, FakeAnthropic
from tests.providers._harness import KEY, LOOKUP, SHORT, answer_of, request_of

SECRETS = {"ANTHROPIC_API_KEY": KEY}


def test_roles_alternate_and_the_user_is_first() -> None:
    calls = tuple(ToolCall(id=f"c{n}", name="lookup", arguments="{oops") for n in range(2))
    body = request_body(
        AnthropicSettings(model="m"),
        request_of(
            Message(role="system", text="Be brief."),
            Message(role="assistant", text="Welcome."),
            Message(role="user", text="Two orders."),
            Message(role="user", text="And quickly."),
            Message(role="assistant", text=" ", tool_calls=calls),
            Message(role="tool", text="sent", tool_call_id="c0"),
            Message(role="tool", text="lost", tool_call_id="c1"),
            Message(role="system", text="The caller was cut off."),
            tools=(LOOKUP,),
        ),
    )
    assert body["system"] == "Be brief.\n\nThe caller was cut off."
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][3]["content"]] == ["tool_use"] * 2
    assert body["messages"][3]["content"][0]["input"] == {"invalid": "{oops"}
    assert [block["tool_use_id"] for block in body["messages"][4]["content"]] == ["c0", "c1"]
    assert body["tools"][0]["input_schema"] == LOOKUP.parameters


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("end_turn", "stop"), ("max_tokens", "length"), ("refusal", "filtered"), ("new", "stop")],
)
async def test_stop_reasons(theirs: str, ours: str, nursery: trio.Nursery) -> None:
    fake = FakeAnthropic(Answer(stop_reason=theirs))
    settings = AnthropicSettings(
        model="m", base_url=await nursery.start(fake.serve), deadlines=SHORT
    )
    async with AnthropicResponder(settings, SECRETS) as mind:
        last = (await answer_of(mind))[-1]
    assert last == Finished(stop_reason=ours, input_tokens=25, output_tokens=7)
    assert fake.requests[0].headers["anthropic-version"] == "2026-10-21"


async def test_a_call_without_arguments_is_an_empty_object(nursery: trio.Nursery) -> None:
    fake = FakeAnthropic(Answer(texts=(), calls=(("c1", "hang_up", ("",)),)))
    settings = AnthropicSettings(
        model="m", base_url=await nursery.start(fake.serve), deadlines=SHORT
    )
    async with AnthropicResponder(settings, SECRETS) as mind:
        call = (await answer_of(mind))[0]
    assert call == ToolCall(id="c1", name="hang_up", arguments="{}")


async def test_the_fake_satisfies_the_official_client(nursery: trio.Nursery) -> None:
    anthropic = pytest.importorskip("anthropic")
    fake = FakeAnthropic(Answer(calls=(("c1", "lookup", ('{"id": "4', '2"}')),)))
    url = await nursery.start(fake.serve)
    async with (
        anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0) as client,
        client.messages.stream(
            model="m", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
        ) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert text == "Hello there."
    assert message.content[-1].input == {"id": "42"}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == 7
