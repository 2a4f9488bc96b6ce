"""The fake carrier does what Plivo does: real time, checkpoints, clear, its buffer, its close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import msgspec
import pytest
import trio
import trio.testing

from rtcore.audio import pcm_to_mulaw
from rtcore.testing import (
    ALAW_8K,
    L16_8K,
    L16_16K,
    Action,
    CarrierReport,
    FakeCarrier,
    LineClock,
    LineFaults,
    LineFormat,
    Tape,
    dtmf,
    hang_up,
    interrupt_after,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from rtcore.testing.ear import BUFFER_MAX_MS
from tests.testing.nodes import TinyNode

Behaviour = Callable[[TinyNode], Awaitable[None]]
QUESTION = speak("where is my parcel").pcm  # 1.2 s
ANSWER = speak("it is on its way to you and will arrive tomorrow")  # 3.3 s


async def call(
    script: Sequence[Action],
    behaviour: Behaviour,
    *,
    tape: Tape | None = None,
    faults: LineFaults | None = None,
) -> tuple[CarrierReport, TinyNode]:
    here, there = memory_sockets()
    node = TinyNode(there)

    async def behave() -> None:
        await node.started.wait()
        await behaviour(node)

    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.listen)
            nursery.start_soon(behave)
            report = await FakeCarrier(script, tape=tape, faults=faults).call(here)
            nursery.cancel_scope.cancel()
    assert report.violations == ()
    return report, node


async def idle(node: TinyNode) -> None:
    pass


async def test_speech_arrives_as_it_is_spoken_every_20_ms(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began_s = trio.current_time()
    report, node = await call([wait(100), say(QUESTION), wait(100)], idle)
    media = node.of_kind("media")
    assert b"".join(node.media) == b"\xff" * 800 + pcm_to_mulaw(QUESTION) + b"\xff" * 800
    for number, (at, message) in enumerate(media, start=1):
        assert at - began_s == pytest.approx(number * 0.02)  # sent once it has been spoken
        assert message["media"]["chunk"] == number
        assert message["sequenceNumber"] == number + 1
    assert node.heard[0][1]["start"]["mediaFormat"] == {
        "encoding": "audio/x-mulaw",
        "sampleRate": 8000,
    }
    assert (report.ended_by, report.duration_ms) == ("caller", 1420)
    assert report.turns[0].start_sample == 800
    assert report.turns[0].end_sample == 800 + len(QUESTION) // 2
    assert not report.is_answered


async def test_a_burst_is_played_at_real_time_and_its_checkpoints_when_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def burst(node: TinyNode) -> None:
        await trio.sleep(0.5)
        for part in ("a", "b"):
            node.play(ANSWER.pcm)
            node.mark(part)

    tape = Tape()
    report, node = await call([wait(8000)], burst, tape=tape)
    length = ANSWER.samples
    ((start, end),) = report.agent_runs
    assert start == 4000
    assert end == pytest.approx(4000 + 2 * length, abs=8)  # the last pulse has faded
    played = node.of_kind("playedStream")
    assert [message["name"] for _, message in played] == ["a", "b"]
    assert [at for at, _ in played] == pytest.approx(
        [0.5 + length / 8000, 0.5 + 2 * length / 8000], abs=0.0201
    )
    assert all(at >= 0.5 + n * length / 8000 for n, (at, _) in enumerate(played, start=1))
    assert len(tape.agent) == len(tape.caller) == 8 * 8000
    assert tape.agent[4000 : 4000 + length] == pcm_to_mulaw(ANSWER.pcm)
    assert (report.gaps, report.pauses) == ((), ())


async def test_clear_drops_what_was_not_heard_and_its_checkpoints(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def cleared(node: TinyNode) -> None:
        node.play(ANSWER.pcm)
        node.mark("never")
        await trio.sleep(1.003)
        node.clear()
        await trio.sleep(1)
        node.play(ANSWER.pcm[:3200])
        node.mark("after")

    tape = Tape()
    report, node = await call([wait(6000)], cleared, tape=tape)
    assert [kind for kind in ("playedStream", "clearedAudio") if len(node.of_kind(kind)) == 1]
    assert [message["name"] for _, message in node.of_kind("playedStream")] == ["after"]
    sound = pcm_to_mulaw(ANSWER.pcm)
    assert tape.agent[:8024] == sound[:8024]
    assert tape.agent[8024:16024] == b"\xff" * 8000
    assert tape.agent[16024:17624] == sound[:1600]
    assert (report.counts.clears, report.counts.stale_messages) == (1, 0)
    assert report.gaps == ()


async def test_audio_of_the_old_reply_after_its_clear_is_stale(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def careless(node: TinyNode) -> None:
        node.play(ANSWER.pcm)
        await trio.sleep(1.5)
        node.clear()  # while the caller speaks
        await trio.sleep(0.2)
        node.play(ANSWER.pcm[:320])
        await trio.sleep(2)
        node.play(ANSWER.pcm)

    report, _ = await call([interrupt_after(1000, QUESTION), wait(4000)], careless)
    assert report.counts.stale_messages == 1
    (barge_in,) = report.barge_ins
    assert barge_in.start_sample == 8000
    assert barge_in.clear_sample == 12000
    assert barge_in.silence_ms == 500
    assert report.turns[0].response_onset_sample == 29600


async def test_an_agent_that_speaks_into_a_pause_cuts_in_and_its_audio_is_not_stale(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def hasty(node: TinyNode) -> None:
        node.play(ANSWER.pcm)
        await trio.sleep(1.5)
        node.clear()
        await trio.sleep(1.1)  # 400 ms into the caller's pause
        node.play(ANSWER.pcm)

    speech = QUESTION + bytes(2 * 8 * 800) + QUESTION
    report, _ = await call([interrupt_after(1000, speech), wait(4000)], hasty)
    assert report.counts.stale_messages == 0
    assert report.turns[0].cut_in_sample == 20800


async def test_no_more_than_40_s_are_buffered(autojump_clock: trio.testing.MockClock) -> None:
    long = speak("one " * 50)  # 15 s

    async def flood(node: TinyNode) -> None:
        for _ in range(4):
            for at in range(0, len(long.pcm), 16000):
                node.play(long.pcm[at : at + 16000])
                await trio.testing.wait_all_tasks_blocked()

    report, node = await call([wait(100)], flood)
    assert report.counts.audio_messages == 60
    assert report.counts.overflow_messages == 60 - BUFFER_MAX_MS // 1000
    assert node.of_kind("error")[0][1]["reason"] == "buffer_overflow"


async def test_response_time_is_measured_from_voice_to_ear(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(node: TinyNode) -> None:
        await trio.sleep(0.1 + 1.2 + 0.640)
        await node.play_paced(ANSWER.pcm)

    report, _ = await call([wait(100), say(QUESTION), wait_for_agent_quiet(600)], answer)
    (turn,) = report.turns
    assert turn.response_ms == 640
    assert report.gaps == ()
    assert report.ended_by == "caller"
    assert report.duration_ms == pytest.approx(100 + 1200 + 640 + 3300 + 600, abs=20)


async def test_a_hole_in_a_sentence_is_a_gap_and_one_between_sentences_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def stutter(node: TinyNode) -> None:
        node.play(ANSWER.pcm[:16000])
        await trio.sleep(1.0375)
        node.play(ANSWER.pcm[16000:])
        node.mark("sentence")
        await trio.sleep(ANSWER.samples / 8000 - 1 + 0.25)
        node.play(ANSWER.pcm)

    report, _ = await call([wait(10_000)], stutter)
    assert [(gap.start_sample, gap.gap_ms) for gap in report.gaps] == [(8000, 37.5)]
    assert [gap.gap_ms for gap in report.pauses] == [250]


async def test_keys_go_both_ways(autojump_clock: trio.testing.MockClock) -> None:
    async def press(node: TinyNode) -> None:
        node.send(event="sendDTMF", dtmf="12#")

    report, node = await call([wait(100), dtmf("5*"), wait(100)], press)
    assert [message["dtmf"]["digit"] for _, message in node.of_kind("dtmf")] == ["5", "*"]
    assert report.dtmf == "12#"


async def test_an_agent_that_never_speaks_is_not_waited_for_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = [wait_for_agent_quiet(500, limit_ms=2000), interrupt_after(1, QUESTION, limit_ms=1000)]
    report, _ = await call([*script, hang_up(), say(QUESTION)], idle)
    assert report.duration_ms == pytest.approx(3000, abs=20)
    assert report.missed_interruptions == 1
    assert report.turns == ()


async def test_the_node_may_close_first(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(node: TinyNode) -> None:
        await trio.sleep(1)
        await node.socket.aclose(1008, "no")

    report, _ = await call([wait(5000)], refuse)
    assert (report.ended_by, report.close_code) == ("node", 1008)


async def test_what_plivo_would_not_take_is_a_violation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets()
    for bad in (
        b"{",
        b'{"event":"unheard"}',
        b'{"event":"clearAudio","streamId":"another"}',
        b'{"event":"checkpoint","name":"x"}',
        b'{"event":"playAudio","media":{"contentType":"audio/x-l16","sampleRate":8000,"payload":""}}',
        b'{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":"8000","payload":""}}',
    ):
        there.send(bad)
    report = await FakeCarrier([wait(100)]).call(here)
    assert len(report.violations) == 6
    assert report.counts.clears == report.counts.audio_messages == 0


@pytest.mark.parametrize("line", [ALAW_8K, L16_8K, L16_16K])
async def test_other_formats_of_a_line(
    autojump_clock: trio.testing.MockClock, line: LineFormat
) -> None:
    here, there = memory_sockets()
    node, tape = TinyNode(there), Tape()

    async def echo(node: TinyNode) -> None:
        await node.started.wait()
        for _ in range(100):
            await trio.sleep(0.02)
        for sound in node.media:
            media = {"contentType": line.content_type, "sampleRate": line.rate_hz}
            text = msgspec.json.encode({"event": "playAudio", "media": {**media, "payload": sound}})
            there.send(text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        nursery.start_soon(echo, node)
        carrier = FakeCarrier([say(QUESTION), wait(4000)], line=line, tape=tape)
        report = await carrier.call(here)
        nursery.cancel_scope.cancel()
    assert {len(sound) for sound in node.media} == {line.frame_samples * line.sample_bytes}
    assert report.violations == ()
    said = bytes(tape.caller)[: 2 * line.rate_hz * line.sample_bytes]
    assert said in bytes(tape.agent)
    (start, end) = report.agent_runs[0]
    assert start == pytest.approx(16000, abs=4 * 8)
    assert end - start == pytest.approx(len(QUESTION) // 2, abs=4 * 8)


async def test_many_carriers_share_one_clock(autojump_clock: trio.testing.MockClock) -> None:
    clock, reports = LineClock(phases=10), []

    async def one(nursery: trio.Nursery) -> None:
        here, there = memory_sockets()
        node = TinyNode(there)
        nursery.start_soon(node.listen)
        reports.append(await FakeCarrier([say(QUESTION), wait(80)], clock=clock).call(here))
        times = [at for at, _ in node.of_kind("media")]
        assert [b - a for a, b in pairwise(times)] == pytest.approx([0.02] * 63)

    async with trio.open_nursery() as outer:
        outer.start_soon(clock.run)
        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(one, nursery)
        outer.cancel_scope.cancel()
    assert {report.counts.sent_frames for report in reports} == {64}


async def test_memory_of_a_long_call_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_sockets()
    node = TinyNode(there)
    carrier = FakeCarrier([wait(120_000)])

    async def talk() -> None:
        await node.started.wait()
        while True:
            await node.play_paced(ANSWER.pcm, lead_ms=0)

    async def drain() -> None:
        async for message in node.messages():
            if message["event"] == "start":
                node.started.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        nursery.start_soon(talk)
        report = await carrier.call(here)
        nursery.cancel_scope.cancel()
    assert report.counts.audio_messages > 5_900
    assert len(carrier.ear._queue) < 10
    assert len(carrier.ear.runs) == 1


def test_the_same_call_twice_gives_the_same_report() -> None:
    async def scene() -> bytes:
        async def answer(node: TinyNode) -> None:
            await trio.sleep(2)
            await node.play_paced(ANSWER.pcm)
            node.mark("end")

        faults = LineFaults(seed=3, loss=0.05, jitter_ms=30, reorder=0.05)
        report, node = await call([say(QUESTION), wait(5000)], answer, faults=faults)
        return msgspec.json.encode((report, node.heard))

    assert simulate(scene, seed=5) == simulate(scene, seed=5)


async def test_cancelling_the_call_closes_the_line(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_sockets()
    with trio.move_on_after(1):
        await FakeCarrier([wait(5000)]).call(here)
    assert not there.is_open
