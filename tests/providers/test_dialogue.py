"""How long a session with a speech model may be silent: as long as it is known to be alive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
import trio
import trio.testing

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.ports import CallContext
from rtcore.providers._dialogue import SIGN_EVERY_S
from rtcore.providers.openai_realtime import OpenAIRealtime, OpenAIRealtimeSettings
from rtcore.speech_port import SpeechCommand, SpeechSession
from rtcore.testing import hang_up, say, simulate, wait, wait_for_agent_quiet
from rtcore.turn.config import TurnConfig
from tests.fakes.openai_realtime import FakeOpenAIRealtime
from tests.providers._dial import reaching
from tests.providers._harness import KEY
from tests.test_call import ANSWERS, QUESTIONS, VOICE, Made, make_call, said

SECRETS = {"OPENAI_API_KEY": KEY}
TURNS = ("ours", "theirs")


class Cable(trio.abc.Stream):
    """A connection that can be cut so that neither side is told."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_cut = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        octets = bytes(await self._stream.receive_some(max_bytes))
        if self.is_cut and octets:
            await trio.sleep_forever()
        return octets

    async def send_all(self, data: Any) -> None:
        if self.is_cut:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def cabled(fake: FakeOpenAIRealtime) -> AsyncIterator[list[Cable]]:
    """Within the block the fake is reached through cables, which are gathered."""
    cables: list[Cable] = []
    async with reaching(fake=fake):
        dial = trio.open_tcp_stream

        async def lay(host: str, port: int) -> Cable:
            cables.append(Cable(await dial(host, port)))
            return cables[-1]

        with mock.patch.object(trio, "open_tcp_stream", lay):
            yield cables


def model(turns: str) -> OpenAIRealtime:
    settings = {"detection": "server_vad", "base_url": "ws://fake/v1", "turns": turns}
    return OpenAIRealtime(msgspec.convert(settings, OpenAIRealtimeSettings), SECRETS)


@pytest.mark.parametrize("turns", TURNS)
async def test_a_model_is_silent_for_as_long_as_nobody_speaks_and_no_longer_than_it_lives(
    autojump_clock: trio.testing.MockClock, turns: str
) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS)
    tx, rx = trio.open_memory_channel[SpeechCommand](1)
    session = SpeechSession(context=CallContext(call_id="c"))
    async with cabled(fake) as cables:
        with (
            trio.fail_after(700),
            pytest.RaisesGroup(
                pytest.RaisesExc(ProviderError, match="a sign of life"),
                allow_unwrapped=True,
                flatten_subgroups=True,
            ),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(model(turns).converse, session, rx, print)
                await trio.sleep(600)
                assert [each.is_open for each in fake.sessions] == [True]
                cables[0].is_cut = True
                cut_s = trio.current_time()
        assert trio.current_time() - cut_s <= 3 * SIGN_EVERY_S
        tx.close()


@pytest.mark.parametrize("turns", TURNS)
def test_a_connection_that_dies_between_two_turns_is_not_noticed(turns: str) -> None:
    fake = FakeOpenAIRealtime(ANSWERS, QUESTIONS, first_s=0.3)
    agent = Agent(AgentDefinition(name="desk"), speech_model=model(turns))
    ask = [say(VOICE), wait_for_agent_quiet(1000)]

    async def run() -> Made:
        async with cabled(fake) as cables, trio.open_nursery() as nursery:

            async def cut() -> None:
                await trio.sleep(10)
                cables[0].is_cut = True

            nursery.start_soon(cut)
            script = [wait(500), *ask, wait(35_000), *ask, hang_up()]
            patient = CallConfig(turn=TurnConfig(idle_ms=60_000))
            return await make_call(agent, script, config=patient)

    made = simulate(run)
    assert len(fake.sessions) == 2
    assert said(made.record, "assistant") == [ANSWERS[0]] * 2  # each session begins with that
    assert [text.strip() for text in said(made.record, "user")] == [QUESTIONS[0]] * 2
    assert made.record.stats.floor_lost == 0
