"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from functools import partial
from pathlib import Path

import pytest
import trio

import rtcore
from rtcore.media import fast
from rtcore.media.limits import SocketLimits
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber

ROOT = Path(__file__).parent.parent


def blocks(path: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


async def test_the_readme_s_program_answers_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[partial[Coroutine[None, None, None]]] = []
    monkeypatch.setattr(trio, "run", served.append)
    (program,) = blocks("README.md")
    exec(compile(program, "README.md", "exec"), {})
    (serve,) = served
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve, port=0))  # the one it names may be in use here
        socket = await fast.connect("127.0.0.1", port, "/", SocketLimits(), nursery)
        socket.send(b'{"event":"start","start":{"callId":"c","streamId":"s"}}')
        with trio.fail_after(30):
            assert b"playAudio" in (await socket.receive())[0]
        await socket.aclose()
        nursery.cancel_scope.cancel()


def test_the_guide_s_simulated_conversation_runs() -> None:
    agent = rtcore.Agent(
        rtcore.AgentDefinition(name="desk", welcome_message="Good day."),
        ScriptedTranscriber(["What time do you open?"]),
        ScriptedResponder(["At nine."]),
        ScriptedSynthesizer(),
    )
    (program,) = [block for block in blocks("docs/embedding.md") if "simulate(" in block]
    exec(
        compile(program, "docs/embedding.md", "exec"),
        {"agent": agent, "rtcore": rtcore, "trio": trio},
    )
