"""A mind in a thread: streamed, bounded, cancelled at its next word."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
import trio

from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, ResponderRequest, ToolCall
from rtcore.providers.fallback import FallbackResponder
from rtcore.providers.thread_responder import ThreadResponder
from tests.providers._harness import SHORT, answer_of, request_of, text_of


def counting(request: ResponderRequest) -> Generator[str | Delta, None, None]:
    yield from ("one ", "two ", "", "three")


async def test_what_it_yields_is_the_answer() -> None:
    deltas = await answer_of(ThreadResponder(counting))
    assert text_of(deltas) == "one two three"
    assert deltas[-1] == Finished()
    assert len(deltas) == 4


async def test_it_may_call_functions() -> None:
    def calling(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        yield ToolCall(id="1", name="look", arguments="{}")

    assert (await answer_of(ThreadResponder(calling)))[-1] == Finished(stop_reason="tool_calls")


async def test_what_it_raises_fails_this_one_answer() -> None:
    def broken(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        yield "one "
        raise RuntimeError("my number is 555-0100")

    with pytest.raises(ProviderError, match="thread: RuntimeError") as caught:
        await answer_of(ThreadResponder(broken))
    assert caught.value.retryable
    assert "555" not in str(caught.value)


async def test_another_takes_over_from_one_that_raises_at_once() -> None:
    def broken(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        raise RuntimeError("a bug")
        yield ""

    listed = FallbackResponder([ThreadResponder(broken), ThreadResponder(counting)])
    assert text_of(await answer_of(listed)) == "one two three"


async def test_what_is_no_piece_fails_this_one_answer() -> None:
    def nonsense(request: ResponderRequest) -> Generator[Any, None, None]:
        yield 7

    with pytest.raises(ProviderError, match="yielded int: neither text nor a delta"):
        await answer_of(ThreadResponder(nonsense))


async def test_its_own_provider_error_stands() -> None:
    def refused(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        raise ProviderError("graph", "no credit", retryable=False)
        yield ""

    with pytest.raises(ProviderError, match="graph: no credit") as caught:
        await answer_of(ThreadResponder(refused))
    assert not caught.value.retryable


async def test_a_close_that_fails_is_this_answers() -> None:
    def failing_to_close(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        try:
            yield "one "
        finally:
            raise OSError("disk")

    with pytest.raises(ProviderError, match="OSError at "):
        await answer_of(ThreadResponder(failing_to_close))


@pytest.mark.parametrize("first", [[], ["one "]])
async def test_silence_has_a_limit(first: list[str]) -> None:
    woken = threading.Event()

    def silent(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        yield from first
        woken.wait(5)
        yield "late"

    with pytest.raises(ProviderError, match="took longer"):
        await answer_of(ThreadResponder(silent, deadlines=SHORT))
    woken.set()


async def test_cancelled_it_is_left_at_once_and_closed_at_its_next_word() -> None:
    closed = threading.Event()

    def endless(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        try:
            while True:
                time.sleep(0.05)
                yield "word "
        finally:
            closed.set()

    responder = ThreadResponder(endless)
    tx, rx = trio.open_memory_channel[Delta](100)
    with rx, tx:
        with trio.move_on_after(0.12):
            await responder.respond(request_of(), tx)
        left_s = trio.current_time()
        assert await trio.to_thread.run_sync(closed.wait, 2.0)
        assert trio.current_time() - left_s < 1.0


async def test_no_more_threads_than_allowed() -> None:
    held = threading.Event()

    def holding(request: ResponderRequest) -> Generator[str | Delta, None, None]:
        held.wait(5)
        yield "done"

    responder = ThreadResponder(holding, deadlines=SHORT, threads_max=1)
    for _ in range(2):  # the first is left behind in its thread, the second gets none
        with pytest.raises(ProviderError, match="took longer"):
            await answer_of(responder)
    held.set()
    with trio.fail_after(5):
        while True:
            try:
                assert text_of(await answer_of(responder)) == "done"
                break
            except ProviderError:
                continue
