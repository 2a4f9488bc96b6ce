"""What is Gemini's own: the request's shape, thought signatures, reasons to stop."""

from __future__ import annotations

import pytest
import trio

from rtcore.errors import ProviderError
from rtcore.ports import Finished, Message, ToolCall
from rtcore.providers.gemini import GeminiResponder, GeminiSettings, request_body
from tests.fakes.gemini import Answer, FakeGemini
from tests.providers._harness import KEY, LOOKUP, SHORT, answer_of, request_of

SECRETS = {"GEMINI_API_KEY": KEY}


def test_a_call_goes_back_signed_and_its_answer_is_named() -> None:
    call = ToolCall(id="c1", name="lookup", arguments='{"id": "42"}', opaque="c2ln")
    body = request_body(
        GeminiSettings(model="m", max_output_tokens=50, extra={"thinkingConfig": {"x": 1}}),
        request_of(
            Message(role="system", text="Be brief."),
            Message(role="user", text="Where is it?"),
            Message(role="assistant", text="A moment.", tool_calls=(call,)),
            Message(role="tool", text="sent", tool_call_id="c1"),
            tools=(LOOKUP,),
        ),
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert body["generationConfig"] == {"maxOutputTokens": 50, "thinkingConfig": {"x": 1}}
    called = {"functionCall": {"id": "c1", "name": "lookup", "args": {"id": "42"}}}
    assert body["contents"][1]["parts"][1] == called | {"thoughtSignature": "c2ln"}
    response = {"id": "c1", "name": "lookup", "response": {"output": "sent"}}
    assert body["contents"][2] == {"role": "user", "parts": [{"functionResponse": response}]}


@pytest.mark.parametrize(
    ("theirs", "ours"), [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "filtered")]
)
async def test_stop_reasons(theirs: str, ours: str, nursery: trio.Nursery) -> None:
    fake = FakeGemini(Answer(finish_reason=theirs))
    settings = GeminiSettings(model="m", base_url=await nursery.start(fake.serve), deadlines=SHORT)
    async with GeminiResponder(settings, SECRETS) as mind:
        last = (await answer_of(mind))[-1]
    assert last == Finished(stop_reason=ours, input_tokens=12, output_tokens=7)


async def test_a_call_the_model_could_not_write_can_be_tried_again(nursery: trio.Nursery) -> None:
    fake = FakeGemini(Answer(finish_reason="MALFORMED_FUNCTION_CALL"))
    settings = GeminiSettings(model="m", base_url=await nursery.start(fake.serve), deadlines=SHORT)
    async with GeminiResponder(settings, SECRETS) as mind:
        with pytest.raises(ProviderError, match="malformed function call") as caught:
            await answer_of(mind)
    assert caught.value.retryable


async def test_calls_without_an_id_get_one(nursery: trio.Nursery) -> None:
    calls = ((None, "lookup", {"id": "1"}, None), (None, "lookup", {"id": "2"}, None))
    fake = FakeGemini(Answer(texts=(), calls=calls))
    settings = GeminiSettings(model="m", base_url=await nursery.start(fake.serve), deadlines=SHORT)
    async with GeminiResponder(settings, SECRETS) as mind:
        deltas = await answer_of(mind)
    assert len({delta.id for delta in deltas if isinstance(delta, ToolCall)}) == 2
