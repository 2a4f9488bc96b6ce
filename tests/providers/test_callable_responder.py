"""A mind that is an async generator of the program itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._settings import Deadlines
from rtcore.providers.callable_responder import CallableResponder
from tests.providers._harness import answer_of, request_of, text_of


async def echo(request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
    for word in request.messages[-1].text.split():
        await trio.sleep(0.1)
        yield word + " "


async def test_text_pieces(autojump_clock: trio.testing.MockClock) -> None:
    deltas = await answer_of(CallableResponder(echo))
    assert text_of(deltas) == "Hello? "
    assert deltas[-1] == Finished()


async def test_calls_end_the_answer_as_calls(autojump_clock: trio.testing.MockClock) -> None:
    async def call(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        yield ToolCall(id="c1", name="lookup", arguments="{}")

    assert (await answer_of(CallableResponder(call)))[-1] == Finished(stop_reason="tool_calls")


async def test_its_own_ending_stands(autojump_clock: trio.testing.MockClock) -> None:
    async def end(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        yield Finished(stop_reason="length", output_tokens=3)
        yield "never said"

    assert await answer_of(CallableResponder(end)) == [
        Finished(stop_reason="length", output_tokens=3)
    ]


@pytest.mark.parametrize("words", [0, 1])
async def test_a_stall_is_an_error(autojump_clock: trio.testing.MockClock, words: int) -> None:
    closed = trio.Event()

    async def stall(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        try:
            for _ in range(words):
                yield "word"
            await trio.sleep_forever()
        finally:
            closed.set()

    started_at = trio.current_time()
    with pytest.raises(ProviderError) as caught:
        await answer_of(CallableResponder(stall, deadlines=Deadlines(first_byte_s=3, stall_s=1)))
    assert caught.value.retryable
    assert trio.current_time() - started_at == pytest.approx(1 if words else 3)
    assert closed.is_set()


async def test_a_cancel_closes_the_generator(autojump_clock: trio.testing.MockClock) -> None:
    closed = trio.Event()

    async def endless(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        try:
            while True:
                yield "word "
        finally:
            closed.set()

    tx, rx = trio.open_memory_channel[Delta](0)
    with tx, rx, trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(CallableResponder(endless).respond, request_of(), tx)
            assert await rx.receive() == TextDelta(text="word ")
            nursery.cancel_scope.cancel()
    assert closed.is_set()


async def raising(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
    yield "one "
    raise RuntimeError("my number is 555-0100")


async def nonsense(_request: ResponderRequest) -> AsyncGenerator[Any, None]:
    yield 7


async def failing_to_close(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
    try:
        yield Finished()
    finally:
        raise OSError("disk")


def no_generator(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
    raise KeyError("prompt")


FAULTS = [
    (raising, "RuntimeError at test_callable_responder.py:"),
    (nonsense, "yielded int: neither text nor a delta"),
    (failing_to_close, "OSError at "),
    (no_generator, "KeyError at "),
]


@pytest.mark.parametrize(("think", "told"), FAULTS)
async def test_its_faults_are_those_of_one_answer(
    think: Callable[[ResponderRequest], AsyncGenerator[Any, None]], told: str
) -> None:
    with pytest.raises(ProviderError, match=told) as caught:
        await answer_of(CallableResponder(think))
    assert caught.value.retryable
    assert "555" not in str(caught.value)


async def test_its_own_provider_error_stands() -> None:
    async def refused(_request: ResponderRequest) -> AsyncGenerator[str | Delta, None]:
        raise ProviderError("graph", "no credit", retryable=False)
        yield ""

    with pytest.raises(ProviderError, match="graph: no credit") as caught:
        await answer_of(CallableResponder(refused))
    assert not caught.value.retryable
