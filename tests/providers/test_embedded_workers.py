"""Worker processes die, hang and are ended; calls lose a turn at most. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import msgspec
import psutil
import pytest
import trio

pytest.importorskip("espeakng_loader", reason="the embedded extra is not installed")
pytest.importorskip("pocketsphinx", reason="the embedded extra is not installed")

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import CallContext, CallerAudio, Segment, SpeechAudio, Transcript, UtteranceEnd
from rtcore.providers.embedded import (
    EmbeddedRecogniser,
    EmbeddedVoice,
    RecogniserSettings,
    VoiceSettings,
    _worker,
    recogniser,
)
from rtcore.providers.embedded._wire import Kind, Speak
from rtcore.providers.embedded._worker import WorkerPool

VOICE = "rtcore.providers.embedded._espeak"
LIMIT_S = 10  # of a whole test
SILENCE = bytes(1280)


@asynccontextmanager
async def running(pool: WorkerPool | EmbeddedRecogniser | EmbeddedVoice) -> AsyncIterator[None]:
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            yield
            nursery.cancel_scope.cancel()


def voice_pool(*, workers: int = 1, jobs_max: int = 4, inbox_max_frames: int = 500) -> WorkerPool:
    return WorkerPool(
        "voice", VOICE, workers=workers, jobs_max=jobs_max, inbox_max_frames=inbox_max_frames
    )


def order(text: str) -> bytes:
    return msgspec.json.encode(Speak(text=text, name="en-us", words_per_minute=160, pitch=50))


async def test_no_process_outlives_its_nursery() -> None:
    pool = voice_pool(workers=2)
    async with running(pool):
        pids = pool.pids
        assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


NODE = """
import trio
from rtcore.providers.embedded import EmbeddedVoice

async def main():
    async with trio.open_nursery() as nursery:
        voice = EmbeddedVoice()
        await nursery.start(voice.run)
        print(voice.pool.pids[0], flush=True)

trio.run(main)
"""


def has_ended(pid: int) -> bool:
    """A zombie has: in a container nobody may reap it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_worker_ends_when_its_node_dies() -> None:
    node = await trio.lowlevel.open_process([sys.executable, "-c", NODE], stdout=subprocess.PIPE)
    assert node.stdout is not None
    with trio.fail_after(LIMIT_S):
        pid = int(await node.stdout.receive_some(100))
        node.kill()
        await node.wait()
        while not has_ended(pid):
            await trio.sleep(0.01)
        await node.stdout.aclose()


async def test_a_dead_worker_fails_its_job_and_is_replaced() -> None:
    pool = voice_pool()
    async with running(pool):
        (first,) = pool.pids
        with await pool.open() as job:
            os.kill(first, signal.SIGKILL)
            with pytest.raises(ProviderError) as failed:
                await job.receive()
            assert failed.value.retryable
            with pytest.raises(ProviderError):
                await job.send(Kind.SPEAK, order("too late"))
        with await pool.open() as job:  # waits for the next process
            await job.send(Kind.OPEN)
            await job.send(Kind.SPEAK, order("hello"))
            assert (await job.receive()).kind is Kind.SOUND
        assert pool.pids != [first]


async def test_a_worker_that_cannot_be_started_again_costs_jobs_not_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = voice_pool()
    async with running(pool):
        with monkeypatch.context() as without_program:
            without_program.setattr(_worker, "RESTART_LIMIT_S", 0.3)
            without_program.setattr(_worker.sys, "executable", "/no/such/python")
            os.kill(pool.pids[0], signal.SIGKILL)
            while pool.pids:
                await trio.sleep(0.01)
            with pytest.raises(ProviderError, match="no worker in") as failed:
                await pool.open()
            assert failed.value.retryable
        with await pool.open():
            assert len(pool.pids) == 1


async def test_a_hung_worker_is_killed_and_replaced() -> None:
    pool = voice_pool()
    async with running(pool):
        (first,) = pool.pids
        os.kill(first, signal.SIGSTOP)
        with await pool.open() as job:
            await job.send(Kind.OPEN)
            with pytest.raises(ProviderError) as failed:
                await job.receive(0.05)
            assert failed.value.retryable
        with await pool.open() as job:
            assert pool.pids != [first]


async def test_a_worker_that_reads_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker, "WRITE_LIMIT_S", 0.05)
    pool = voice_pool()
    async with running(pool):
        os.kill(pool.pids[0], signal.SIGSTOP)
        with await pool.open() as job:

            async def flood() -> None:
                while True:  # the pipe and the outbox fill, then the limit strikes
                    await job.send(Kind.SPEAK, bytes(50_000))

            with pytest.raises(ProviderError):
                await flood()


async def test_more_jobs_than_a_worker_takes_are_refused() -> None:
    pool = voice_pool(jobs_max=1)
    async with running(pool):
        with await pool.open():
            with pytest.raises(ProviderError) as failed:
                await pool.open()
            assert failed.value.retryable
        with await pool.open():
            pass


async def test_more_jobs_than_the_outbox_holds_may_end_at_once() -> None:
    pool = voice_pool(jobs_max=300)
    async with running(pool):
        (pid,) = pool.pids
        with ExitStack() as jobs:
            for _ in range(200):
                jobs.enter_context(await pool.open())
        with await pool.open() as job:
            await job.send(Kind.OPEN)
            await job.send(Kind.SPEAK, order("a"))
            assert (await job.receive()).kind is Kind.SOUND
        assert pool.pids == [pid]


async def test_a_job_that_does_not_read_ends_alone() -> None:
    pool = voice_pool(inbox_max_frames=2)
    async with running(pool):
        with await pool.open() as idle, await pool.open() as other:
            await idle.send(Kind.OPEN)
            await idle.send(Kind.SPEAK, order("one two three four five six"))
            await trio.sleep(0.2)
            await idle.receive()
            await idle.receive()
            with pytest.raises(ProviderError):
                await idle.receive()
            await other.send(Kind.OPEN)
            await other.send(Kind.SPEAK, order("a"))
            assert (await other.receive()).kind is Kind.SOUND


async def test_a_worker_that_never_starts_is_an_error() -> None:
    pool = WorkerPool("voice", "json", workers=1, jobs_max=1, inbox_max_frames=1)
    with pytest.raises(ProviderError, match="does not start") as failed:
        await pool.run()
    assert not failed.value.retryable


async def test_an_unknown_voice_is_refused_by_name() -> None:
    voice = EmbeddedVoice(VoiceSettings(name="xx-nobody"))
    to_voice, segments = trio.open_memory_channel[Segment](1)
    out, _got = trio.open_memory_channel[SpeechAudio](10)
    to_voice.send_nowait(Segment(index=0, text="hello"))
    async with running(voice):
        with pytest.raises(ProviderError, match="xx-nobody") as failed:
            await voice.synthesize(CallContext(call_id="c"), segments, out)
        assert not failed.value.retryable


async def test_a_recogniser_that_dies_costs_one_utterance() -> None:
    ears = EmbeddedRecogniser()
    to_ear, hearing = trio.open_memory_channel[CallerAudio | UtteranceEnd](20)
    got: list[Transcript] = []
    context = CallContext(call_id="c", phrases=("where are you",))
    async with running(ears), trio.open_nursery() as call:
        call.start_soon(ears.transcribe, context, hearing, got.append)
        await to_ear.send(CallerAudio(pcm=SILENCE, start_sample=0))
        await trio.sleep(0.2)
        os.kill(ears.pool.pids[0], signal.SIGSTOP)
        await to_ear.send(UtteranceEnd(at_sample=640))
        await trio.sleep(0.05)
        os.kill(ears.pool.pids[0], signal.SIGKILL)
        await to_ear.send(CallerAudio(pcm=SILENCE, start_sample=8000))
        await to_ear.send(UtteranceEnd(at_sample=8640))
        to_ear.close()
    assert [(t.segment, t.text, t.is_final) for t in got] == [(0, "", True), (1, "", True)]


async def test_a_recogniser_that_hangs_answers_with_nothing_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recogniser, "FINAL_LIMIT_S", 0.1)
    ears = EmbeddedRecogniser()
    to_ear, hearing = trio.open_memory_channel[CallerAudio | UtteranceEnd](20)
    got: list[Transcript] = []
    async with running(ears):
        os.kill(ears.pool.pids[0], signal.SIGSTOP)
        to_ear.send_nowait(CallerAudio(pcm=SILENCE, start_sample=0))
        to_ear.send_nowait(UtteranceEnd(at_sample=640))
        to_ear.close()
        await ears.transcribe(CallContext(call_id="c"), hearing, got.append)
    assert [(t.text, t.is_final) for t in got] == [("", True)]


async def test_a_cancelled_call_gives_its_place_back() -> None:
    ears = EmbeddedRecogniser(RecogniserSettings(calls_per_worker=1))
    async with running(ears):
        for _ in range(3):
            _to_ear, hearing = trio.open_memory_channel[CallerAudio | UtteranceEnd](1)
            with trio.move_on_after(0.05) as scope:
                await ears.transcribe(CallContext(call_id="c"), hearing, lambda _: None)
            assert scope.cancelled_caught


@pytest.mark.parametrize("provider", [EmbeddedVoice, EmbeddedRecogniser])
def test_without_the_extra_it_says_what_to_install(
    provider: type[EmbeddedVoice | EmbeddedRecogniser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install '.\[embedded\]'"):
        provider()
