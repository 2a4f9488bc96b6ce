"""The link to a speech model: what is heard, what is kept, and every bound of it filled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Any, Literal

import pytest
import trio
import trio.testing

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, RATE_HZ
from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.metrics import CallStats
from rtcore.ports import CallContext, CallerAudio
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.speech_link import AGAIN_LIMIT_S, CONTROL_MAX, KEPT_SAMPLES, SILENCE, SpeechLink
from rtcore.speech_port import (
    Respond,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechModel,
    SpeechModels,
    SpeechSession,
    Tell,
)

VOICE = b"\x10" * FRAME_BYTES
CONTEXT = CallContext(call_id="c")
Session = Callable[[trio.MemoryReceiveChannel[SpeechCommand]], Awaitable[None]]


class Model:
    """Does in each session what it is told to, the last for ever."""

    name = "model"
    can_be_instructed = True

    def __init__(self, *sessions: Session, turns: Literal["ours", "theirs"] = "ours") -> None:
        self.turns: Literal["ours", "theirs"] = turns
        self.begun = 0
        self.heard: list[list[SpeechCommand]] = []
        self._sessions = sessions

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        which = self._sessions[min(self.begun, len(self._sessions) - 1)]
        self.begun += 1
        self.heard.append([])
        await which(commands)

    async def listen(self, commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        async for command in commands:
            self.heard[-1].append(command)


async def deaf(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
    await trio.sleep_forever()


async def lost(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
    await trio.sleep(1)
    raise ProviderError("model", "lost", retryable=True)


class Linked:
    """A link and what its owner is told."""

    def __init__(
        self, model: SpeechModel | SpeechModels, *pending: SpeechCommand, **config: Any
    ) -> None:
        self.stats = CallStats()
        self.link = SpeechLink(model, CallConfig(**config), self.stats)
        self.lost: list[str] = []
        self._pending = pending

    async def run(self) -> None:
        def pending() -> Iterable[SpeechCommand]:
            return self._pending if self.lost else ()

        await self.link.run(
            CONTEXT, lambda: SpeechSession(context=CONTEXT), pending, print, self.lost.append
        )

    def speak(self, frames: int, frame: bytes = VOICE) -> None:
        for _ in range(frames):
            self.link.push(frame)


def samples(commands: Iterable[SpeechCommand]) -> int:
    return sum(len(each.pcm) // 2 for each in commands if isinstance(each, CallerAudio))


async def test_silence_is_withheld_and_the_onset_is_not(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model()
    model._sessions = (model.listen,)
    linked = Linked(model)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.speak(100)
    linked.link.open()
    linked.speak(3)
    linked.link.flush()
    linked.link.tell(Respond(reply="r"))
    linked.speak(2)
    linked.link.close(0)
    await trio.testing.wait_all_tasks_blocked()
    (heard,) = model.heard
    first, rest, asked, last = heard
    assert isinstance(first, CallerAudio)
    assert first.start_sample == 80 * FRAME_SAMPLES  # 400 ms of pre-roll
    assert [samples([each]) // FRAME_SAMPLES for each in (first, rest, last)] == [20, 3, 2]
    assert asked == Respond(reply="r")


async def test_who_may_not_interrupt_is_silence_to_a_model_that_would_stop(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model(turns="theirs")
    model._sessions = (model.listen,)
    linked = Linked(model)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.is_muted = True
    linked.speak(4)
    linked.link.is_muted = False
    linked.speak(4)
    await trio.testing.wait_all_tasks_blocked()
    assert [each.pcm for each in model.heard[0] if isinstance(each, CallerAudio)] == [
        SILENCE * 4,
        VOICE * 4,
    ]


async def test_what_nobody_has_answered_is_told_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model(lost)
    model._sessions = (lost, model.listen)
    linked = Linked(model, Respond(reply="again"))
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.open()
    linked.speak(8)
    linked.link.flush()
    linked.link.answered()  # what came before is history
    linked.speak(8)
    linked.link.close(0)
    await trio.sleep(2)
    audio, asked = model.heard[1]
    assert isinstance(audio, CallerAudio)
    assert audio.start_sample == 8 * FRAME_SAMPLES
    assert samples([audio]) == 8 * FRAME_SAMPLES
    assert asked == Respond(reply="again")
    assert linked.lost == ["model"]
    assert linked.stats.provider_errors == 1


async def test_a_noise_is_not_told_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model(lost)
    model._sessions = (lost, model.listen)
    linked = Linked(model)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.open()
    linked.speak(8)
    linked.link.close(0)
    linked.link.forget()
    await trio.sleep(2)
    assert model.heard[1] == []
    assert not linked.link.has_unanswered


async def test_what_is_kept_has_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    linked = Linked(Model(deaf))
    linked.link.open()
    linked.speak(2 * KEPT_SAMPLES // FRAME_SAMPLES)
    (kept,) = linked.link._kept_in_one()
    assert samples([kept]) == KEPT_SAMPLES
    assert kept.start_sample == KEPT_SAMPLES


async def test_audio_a_session_is_too_far_behind_with_is_dropped_and_counted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    linked = Linked(Model(deaf), heard_max_chunks=5)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.open()
    linked.speak(4 * 7)
    assert linked.stats.dropped_heard_chunks == 2
    linked.link.tell(Say(reply="r", text="Control still fits."))
    await trio.testing.wait_all_tasks_blocked()
    assert linked.lost == []


async def test_a_session_that_takes_no_commands_is_given_up(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model(deaf)
    linked = Linked(model, heard_max_chunks=5)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(CONTROL_MAX + 5 + 1):
        linked.link.tell(Tell(text="keys"))
    await trio.sleep(1)
    assert model.begun == 2
    assert linked.lost == ["model"]


async def test_another_model_goes_on_without_a_failure(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    one, other = Model(deaf), Model(deaf)
    linked = Linked(one)
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.reopen(other)
    await trio.testing.wait_all_tasks_blocked()
    assert (one.begun, other.begun) == (1, 1)
    assert linked.stats.provider_errors == 0
    assert not linked.link.is_lost


async def refused(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
    raise ProviderError("model", "503", retryable=True)


async def denied(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
    raise ProviderError("model", "401", retryable=False)


async def test_a_model_alone_is_asked_again_with_growing_pauses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began_s: list[float] = []

    async def timed(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        began_s.append(trio.current_time())
        await refused(commands)

    linked = Linked(Model(timed))
    with trio.fail_after(10):
        await linked.run()
    pauses_s = [after - before for before, after in pairwise(began_s)]
    assert pauses_s == pytest.approx([0.25, 0.5, 1.0, 2.0])
    assert linked.link.is_lost
    assert linked.stats.provider_errors == 5


async def test_one_that_can_be_had_again_is_not_lost(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """What it brings then counts: the next loss is a first one."""
    refusals = [refused] * 3
    model = Model(lost, *refusals, lost, *refusals, deaf)
    linked = Linked(model)
    troubled: list[bool] = []
    nursery.start_soon(linked.run)
    await trio.sleep(5)
    assert model.begun == 5
    troubled.append(linked.link.is_refused)
    linked.link.progressed()
    troubled.append(linked.link.is_refused)
    await trio.sleep(8)
    assert model.begun == 9
    assert troubled == [True, False]
    assert not linked.link.is_lost


async def test_what_time_will_not_heal_is_the_end_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = Model(lost, refused, denied)
    linked = Linked(model)
    with trio.fail_after(10):
        await linked.run()
    assert model.begun == 3


async def test_a_model_that_takes_its_time_to_fail_is_asked_again_for_so_long_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def unreachable(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        await trio.sleep(4.5)
        raise ProviderError("model", "silent", retryable=True)

    model = Model(unreachable)
    linked = Linked(model)
    with trio.fail_after(4.5 + AGAIN_LIMIT_S + 4.5):
        await linked.run()
    assert model.begun == 3
    assert linked.link.is_lost


async def test_sessions_that_held_are_no_failures_in_a_row(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def idle(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        await trio.sleep(2 * AGAIN_LIMIT_S)
        raise ProviderError("model", "idle", retryable=True)

    model = Model(idle)
    linked = Linked(model)
    nursery.start_soon(linked.run)
    await trio.sleep(20 * AGAIN_LIMIT_S)
    assert model.begun == 10
    assert not linked.link.is_lost


async def test_a_model_that_is_lost_is_told_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    linked = Linked(Model(denied))
    await linked.run()
    assert linked.link.is_lost
    assert not linked.link.is_open
    linked.link.tell(Tell(text="nobody"))  # means nothing any more


async def test_the_next_of_a_list_is_told_what_nobody_has_answered(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    one, other = Model(lost), Model(deaf)
    other._sessions = (other.listen,)
    linked = Linked(FallbackSpeechModel([one, other]), Respond(reply="again"))
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    assert linked.link.has_another
    linked.link.open()
    linked.speak(8)
    linked.link.close(0)
    await trio.sleep(1.01)  # no pause: it is another
    audio, asked = other.heard[0]
    assert samples([audio]) == 8 * FRAME_SAMPLES
    assert asked == Respond(reply="again")
    assert (linked.link.place, linked.link.has_moved, linked.link.has_another) == (1, True, False)
    linked.link.progressed()
    assert linked.link.has_another


async def test_a_session_that_is_given_up_is_told_nothing_any_more(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    one, other = Model(deaf), Model(deaf)
    linked = Linked(FallbackSpeechModel([one, other]))
    nursery.start_soon(linked.run)
    await trio.testing.wait_all_tasks_blocked()
    linked.link.give_up()
    assert not linked.link.is_open
    await trio.testing.wait_all_tasks_blocked()
    assert (one.begun, other.begun) == (1, 1)
    assert linked.stats.provider_errors == 1


async def test_failures_do_not_count_against_another_model(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Lost once with each: twice without an answer, and yet neither has failed twice."""
    one, other = Model(lost, deaf), Model(lost, deaf)
    linked = Linked(one)
    nursery.start_soon(linked.run)
    await trio.sleep(2)
    assert one.begun == 2
    linked.link.reopen(other)
    await trio.sleep(2)
    assert other.begun == 2
    assert not linked.link.is_lost


async def test_failures_before_a_new_session_was_wanted_do_not_count(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    model = Model(lost, deaf, lost, deaf)
    linked = Linked(model)
    nursery.start_soon(linked.run)
    await trio.sleep(2)
    linked.link.reopen(model)
    await trio.sleep(2)
    assert model.begun == 4
    assert not linked.link.is_lost


async def test_another_model_wanted_in_the_pause_is_the_one_that_is_asked(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    one, other = Model(lost), Model(deaf)
    linked = Linked(one)
    nursery.start_soon(linked.run)
    await trio.sleep(1.1)  # lost, and in the pause before it is asked again
    linked.link.reopen(other)
    await trio.sleep(1)
    assert (one.begun, other.begun) == (1, 1)


async def test_a_cancel_ends_the_session(autojump_clock: trio.testing.MockClock) -> None:
    closed: list[bool] = []

    async def open_until_cancelled(commands: trio.MemoryReceiveChannel[SpeechCommand]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            closed.append(True)

    linked = Linked(Model(open_until_cancelled))
    with trio.move_on_after(RATE_HZ):
        await linked.run()
    assert closed == [True]
    assert not linked.link.is_open
