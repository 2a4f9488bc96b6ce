"""The node that is measured: what its recogniser gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from bench.load.ours import NodeOptions
from bench.node import HEARD, scripted_agent
from rtcore.hearing import HeardQueue
from rtcore.ports import CallContext, CallerAudio, Transcript, UtteranceEnd


@pytest.mark.parametrize(
    ("options", "partials"),
    [(NodeOptions(), ["What", "What time"]), (NodeOptions(partial_ms=0), [])],
)
async def test_its_recogniser_gives_partial_words_unless_told_not_to(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    options: NodeOptions,
    partials: list[str],
) -> None:
    told = dict(each.removeprefix("--").split("=") for each in options.arguments(tmp_path))
    given = {"partial_ms": float(told["partial-ms"])} if "partial-ms" in told else {}
    agent = scripted_agent(150, 350, 120, 3000, **given)
    queue, got = HeardQueue(100), list[Transcript]()
    for number in range(15):  # 1.2 s
        queue.put(CallerAudio(pcm=bytes(1280), start_sample=number * 640))
    queue.put(UtteranceEnd(at_sample=15 * 640))
    with trio.move_on_after(5):
        context = CallContext(call_id="call-1")
        await agent.transcriber.transcribe(context, queue.reader(), got.append)
    assert [each.text for each in got if not each.is_final] == partials
    assert [each.text for each in got if each.is_final] == [HEARD]
