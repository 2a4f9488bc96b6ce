"""Recordings: both sides to the sample, on the disk in time, and never in the call's way."""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.audio import FRAME_BYTES, mulaw_to_pcm, pcm_to_mulaw
from rtcore.call import run_call
from rtcore.errors import ConfigError
from rtcore.recording import (
    HEADER_BYTES,
    Recording,
    Recordings,
    file_name,
    repair,
    wav_header,
)
from rtcore.testing import (
    FakeCarrier,
    LineFaults,
    ScriptedResponder,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    Tape,
    hang_up,
    interrupt_after,
    memory_sockets,
    read_wav,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from rtcore.testing.caller import Action

VOICE = speak("tell me this then please").pcm
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
SECOND = 50  # frames


def frames(level: int, count: int) -> list[bytes]:
    return [array("h", [level] * 160).tobytes()] * count


class Kept:
    """A recorder that keeps everything."""

    def __init__(self) -> None:
        self.caller, self.agent = bytearray(), bytearray()
        self.closes = 0

    def push(self, caller: bytes, agent: bytes | None) -> None:
        self.caller += caller
        self.agent += bytes(FRAME_BYTES) if agent is None else agent

    def close(self) -> None:
        self.closes += 1


def of_three() -> Agent:
    return Agent(
        AgentDefinition(name="desk"),
        transcriber=ScriptedTranscriber(("question", "and another"), 150, partial_ms=200),
        responder=ScriptedResponder((LONG, "Nine."), 100),
        synthesizer=ScriptedSynthesizer(50),
    )


def of_one() -> Agent:
    model = ScriptedSpeechModel((LONG, "Nine."), ("question", "and another"), first_audio_ms=150)
    return Agent(AgentDefinition(name="desk"), speech_model=model)


def call_with(
    recorder: Kept,
    script: list[Action],
    faults: LineFaults | None = None,
    make: Callable[[], Agent] = of_three,
) -> tuple[Tape, bool]:
    """The carrier's own tape of a call, and whether it was cut short by a barge-in."""

    async def call() -> tuple[Tape, bool]:
        tape = Tape()
        here, there = memory_sockets()
        agent = make()
        carrier = FakeCarrier(script, tape=tape, faults=faults)
        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_call, there, agent, recorder=recorder))
                report = await carrier.call(here)
        return tape, bool(report.barge_ins)

    return simulate(call)


def loud(pcm: bytes) -> list[int]:
    """The frames of ``pcm`` in which there is sound."""
    samples = array("h", pcm)
    return [
        at // 160
        for at in range(0, len(samples), 160)
        if max(map(abs, samples[at : at + 160])) > 500
    ]


@pytest.mark.parametrize("make", [of_three, of_one])
def test_both_sides_are_what_was_said_and_heard(make: Callable[[], Agent]) -> None:
    kept = Kept()
    talk = [wait(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
    tape, _ = call_with(kept, talk, make=make)
    assert kept.closes == 1
    assert len(kept.caller) == len(kept.agent)
    said = mulaw_to_pcm(bytes(tape.caller))
    assert said.startswith(bytes(kept.caller))
    assert len(said) - len(kept.caller) <= FRAME_BYTES  # the last one may meet the hang-up
    heard, ours = mulaw_to_pcm(bytes(tape.agent)), bytes(kept.agent)
    first, own_first = loud(heard)[0], loud(ours)[0]
    assert abs(first - own_first) <= 1  # a frame is 20 ms
    assert len(loud(heard)) == pytest.approx(len(loud(ours)), abs=2)


@pytest.mark.parametrize("make", [of_three, of_one])
def test_what_was_cleared_is_not_in_it(make: Callable[[], Agent]) -> None:
    kept = Kept()
    script = [wait(500), say(VOICE), interrupt_after(1500, VOICE), wait_for_agent_quiet(1000)]
    tape, was_cut = call_with(kept, [*script, hang_up()], make=make)
    assert was_cut
    heard = loud(mulaw_to_pcm(bytes(tape.agent)))
    ours = loud(bytes(kept.agent))
    assert len(ours) == pytest.approx(len(heard), abs=3)
    assert abs(ours[-1] - heard[-1]) <= 2  # the short answer after it lies at its place, too


def test_what_the_line_lost_keeps_its_place() -> None:
    kept = Kept()
    talk = [wait(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
    tape, _ = call_with(kept, talk, LineFaults(seed=3, loss=0.05))
    said = loud(mulaw_to_pcm(bytes(tape.caller)))
    assert abs(loud(bytes(kept.caller))[0] - said[0]) <= 1
    assert abs(len(kept.caller) // FRAME_BYTES - len(tape.caller) // 160) <= 3


# --- the file ---------------------------------------------------------------------------


def sides(path: Path) -> tuple[bytes, bytes]:
    content = path.read_bytes()
    samples = (len(content) - HEADER_BYTES) // 2
    assert content[:HEADER_BYTES] == wav_header(samples)
    return content[HEADER_BYTES::2], content[HEADER_BYTES + 1 :: 2]


def as_mulaw(level: int, count: int) -> bytes:
    return pcm_to_mulaw(b"".join(frames(level, count)))


def push(recording: Recording, caller: int, agent: int | None, count: int) -> None:
    spoken = [None] * count if agent is None else frames(agent, count)
    for one, other in zip(frames(caller, count), spoken, strict=True):
        recording.push(one, other)


async def test_a_recording_is_written_while_the_call_lasts(tmp_path: Path) -> None:
    kept: list[str] = []
    recordings = Recordings(tmp_path / "new")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        recording = recordings.begin("2026-01-01/a.wav", lambda r: kept.append(r.name))
        push(recording, 1000, None, SECOND)
        await recordings.flush()
        path = recordings.path("2026-01-01/a.wav")
        assert sides(path) == (as_mulaw(1000, SECOND), as_mulaw(0, SECOND))
        assert path.stat().st_mode & 0o077 == 0
        assert repair(path) is None  # somebody writes it
        push(recording, 1000, 2000, 7)
        recording.close()
        recording.close()
        await recordings.flush()
        assert kept == ["2026-01-01/a.wav"]
        assert sides(path)[1] == as_mulaw(0, SECOND) + as_mulaw(2000, 7)
        assert recording.samples == len(read_wav(path)) // 2 == (SECOND + 7) * 160
        assert repair(path) == recording.samples
        nursery.cancel_scope.cancel()
    assert recordings.stats.written_bytes == (SECOND + 7) * 320


async def test_many_may_wait_for_the_disk_while_calls_go_on(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        recording = recordings.begin("a.wav")
        push(recording, 1000, 1000, 25)

        async def flush() -> None:
            await recordings.flush()
            assert (tmp_path / "a.wav").stat().st_size >= HEADER_BYTES + 25 * 320

        async def go_on() -> None:
            while True:
                push(recording, 1000, 1000, 25)
                await trio.lowlevel.checkpoint()

        began_s = trio.current_time()
        async with trio.open_nursery() as talking:
            talking.start_soon(go_on)
            async with trio.open_nursery() as waiting:
                for _ in range(5):
                    waiting.start_soon(flush)
            talking.cancel_scope.cancel()
        assert trio.current_time() - began_s < 4  # not the limit
        nursery.cancel_scope.cancel()


async def test_a_cancelled_node_leaves_whole_files(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    recording = recordings.begin("a.wav")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        push(recording, 500, 600, SECOND + 3)
        nursery.cancel_scope.cancel()
    assert sides(tmp_path / "a.wav") == (as_mulaw(500, SECOND + 3), as_mulaw(600, SECOND + 3))


async def test_a_call_without_a_frame_leaves_no_file(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    kept: list[Recording] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        recordings.begin("a.wav", kept.append).close()
        await recordings.flush()
        nursery.cancel_scope.cancel()
    assert kept[0].samples == 0
    assert not (tmp_path / "a.wav").exists()


async def test_a_disk_too_far_behind_costs_silence_and_no_time(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path, waiting_max_bytes=2 * 25 * 320)
    recording = recordings.begin("a.wav")
    push(recording, 1000, 1000, 3 * 25)  # nothing writes yet: the third piece finds no room
    assert recordings.stats.dropped_samples == recording.dropped_samples == 25 * 160
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        await recordings.flush()
        push(recording, 2000, 2000, 25)
        recording.close()
        await recordings.flush()
        nursery.cancel_scope.cancel()
    expected = as_mulaw(1000, 50) + as_mulaw(0, 25) + as_mulaw(2000, 25)
    assert sides(tmp_path / "a.wav") == (expected, expected)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_refuses_costs_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    recordings = Recordings(tmp_path)
    recording = recordings.begin("a.wav")
    write, is_full = os.pwrite, False

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if is_full:
            raise OSError(code, "refused")
        return write(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recordings.run)
        for is_full, level in ((False, 1000), (True, 2000), (False, 3000)):  # noqa: B007
            push(recording, level, level, 25)
            await recordings.flush()
        recording.close()
        await recordings.flush()
        nursery.cancel_scope.cancel()
    assert recordings.stats.lost_samples == 25 * 160
    expected = as_mulaw(1000, 25) + as_mulaw(0, 25) + as_mulaw(3000, 25)
    assert sides(tmp_path / "a.wav") == (expected, expected)


@pytest.mark.parametrize("torn", [0, 1, 7, 4000])
def test_a_file_cut_off_anywhere_is_repaired(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "a.wav"
    whole = wav_header(1_000_000) + b"\x12\x34" * 4000
    path.write_bytes(whole[: len(whole) - torn])
    samples = repair(path)
    assert samples == 4000 - (torn + 1) // 2
    assert sides(path)[0] == b"\x12" * samples


def test_a_file_without_even_a_header_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    assert repair(path) == 0
    assert path.read_bytes() == wav_header(0)


def test_the_header_says_what_players_need() -> None:
    head = wav_header(8000)
    assert struct.unpack_from("<I", head, 4)[0] == len(head) + 16_000 - 8
    tag, channels, rate_hz, bytes_per_s, block, bits = struct.unpack_from("<HHIIHH", head, 20)
    assert (tag, channels, rate_hz, bytes_per_s, block, bits) == (7, 2, 8000, 16_000, 2, 8)


@pytest.mark.parametrize("call_id", ["../../etc/passwd", "a/b", "x" * 500, "\0", ""])
def test_a_carrier_s_id_is_never_a_path(call_id: str) -> None:
    name = file_name(call_id)
    assert Path(name).name == name
    assert len(name) < 80
    assert file_name(call_id) != name


def test_a_folder_has_one_id_wherever_it_is_opened(tmp_path: Path) -> None:
    assert Recordings(tmp_path).id == Recordings(tmp_path).id != ""
    assert Recordings(tmp_path / "other").id != Recordings(tmp_path).id


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="recordings"):
        Recordings(tmp_path / "file")
