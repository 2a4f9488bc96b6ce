"""A Piper voice by path: real processes, of a program that behaves as both Pipers do."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import Segment, SpeechAudio
from rtcore.providers import build_synthesizer, piper, serve_providers
from rtcore.providers._settings import Deadlines
from rtcore.providers.piper import PiperSettings, PiperSynthesizer
from tests.fakes import piper_cli
from tests.fakes._http import eventually
from tests.providers._harness import CONTEXT, pcm_of, spoken
from tests.providers.test_synthesizers import TEXTS, says

LIMIT_S = 60  # of a whole test: each starts a Python or two, on a machine that may be busy


def voice_of(tmp_path: Path, rate_hz: int = 22_050, **how: Any) -> PiperSynthesizer:
    environment = {name: how.pop(name) for name in ("PIPER_FAULT", "PIPER_LIKE") if name in how}
    program, voice = piper_cli.install(tmp_path, rate_hz, **environment)
    return PiperSynthesizer(PiperSettings(voice=str(voice), executable=str(program), **how))


@asynccontextmanager
async def running(voice: PiperSynthesizer) -> AsyncIterator[None]:
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(voice.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("like", ["piper1", "rhasspy"])
@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
async def test_segments_are_spoken_in_order(tmp_path: Path, like: str, rate_hz: int) -> None:
    voice = voice_of(tmp_path, rate_hz, PIPER_LIKE=like)
    async with running(voice):
        audio = await spoken(voice, *TEXTS)
        assert says(audio, *TEXTS)
        assert [each.segment for each in audio if each.is_last] == [0, 1, 2]
        assert max(len(each.pcm) for each in audio) <= 1700  # 100 ms and the resampler's rest
        assert says(await spoken(voice, *TEXTS[:1]), *TEXTS[:1])  # by the process of before


async def test_no_process_and_no_file_outlives_its_nursery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(piper, "SHARED_MEMORY", memory)
    voice = voice_of(tmp_path, workers=2)
    async with running(voice):
        pids = voice.pids
        assert len(pids) == 2
        await spoken(voice, *TEXTS)
        assert len(list(memory.iterdir())) == 2
        assert list(memory.rglob("*.wav")) == []  # what was said is not kept
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list(memory.iterdir()) == []
    assert voice.pids == []


async def test_what_cannot_be_spoken_is_not_asked_for(tmp_path: Path) -> None:
    """The real program dies of a line without a sound."""
    voice = voice_of(tmp_path)
    async with running(voice):
        pids = voice.pids
        audio = await spoken(voice, "...", "\n", "Yes.", "— 🙂")
        assert [each.segment for each in audio if each.is_last] == [0, 1, 2, 3]
        assert [len(pcm_of(audio, segment)) > 0 for segment in range(4)] == [
            False,
            False,
            True,
            False,
        ]
        assert voice.pids == pids


async def test_long_and_odd_texts_are_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    voice = voice_of(tmp_path, extra=("--log", str(log)))
    text = "First line\nof [[several]], " + "and so on, " * 60
    async with running(voice):
        await spoken(voice, text)
    lines = log.read_text().splitlines()[2:]  # after its arguments and the probe
    assert len(lines) == 2
    assert all(len(line) <= piper.TEXT_MAX_CHARS + 2 for line in lines)
    assert " ".join(lines).split() == text.replace("[[", "[ [").split()


async def test_settings_reach_the_program(tmp_path: Path) -> None:
    log = tmp_path / "log"
    how: dict[str, Any] = {"speaker": 3, "length_scale": 1.2, "sentence_silence_s": 0.1}
    voice = voice_of(tmp_path, extra=("--volume", "0.7", "--log", str(log)), **how)
    async with running(voice):
        await spoken(voice, "Yes.")
    arguments = log.read_text().splitlines()[0]
    assert f"--model {tmp_path}/voice.onnx" in arguments
    assert "--speaker 3 --length_scale 1.2 --sentence_silence 0.1 --volume 0.7" in arguments


async def test_a_cancelled_reply_leaves_the_voice_fit(tmp_path: Path) -> None:
    voice = voice_of(tmp_path)
    async with running(voice):
        for _ in range(5):
            segment_tx, segment_rx = trio.open_memory_channel[Segment](2)
            audio_tx, audio_rx = trio.open_memory_channel[SpeechAudio](0)
            segment_tx.send_nowait(Segment(index=0, text="Never mind that."))
            segment_tx.send_nowait(Segment(index=1, text="Nor this."))
            with segment_tx, segment_rx, audio_tx, audio_rx:
                async with trio.open_nursery() as reply:
                    reply.start_soon(voice.synthesize, CONTEXT, segment_rx, audio_tx)
                    await audio_rx.receive()
                    reply.cancel_scope.cancel()
        with trio.move_on_after(0.0):
            await spoken(voice, "Not even begun.")
        assert says(await spoken(voice, *TEXTS), *TEXTS)


async def test_many_replies_take_turns(tmp_path: Path) -> None:
    voice = voice_of(tmp_path, workers=2)
    found: dict[str, list[SpeechAudio]] = {}

    async def speak(text: str) -> None:
        found[text] = await spoken(voice, text)

    async with running(voice):
        texts = [f"Reply number {number}." for number in range(8)]
        async with trio.open_nursery() as replies:
            for text in texts:
                replies.start_soon(speak, text)
        assert all(says(found[text], text) for text in texts)


async def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    voice = voice_of(tmp_path, PIPER_FAULT="poison")
    async with running(voice):
        pid = voice.pids[0]
        with pytest.raises(ProviderError, match="the process died") as caught:
            await spoken(voice, "This is poison.")
        assert caught.value.retryable
        await eventually(lambda: bool(voice.pids), LIMIT_S)
        assert voice.pids != [pid]
        assert says(await spoken(voice, *TEXTS), *TEXTS)


async def test_a_process_killed_while_idle_costs_no_reply(tmp_path: Path) -> None:
    voice = voice_of(tmp_path)
    async with running(voice):
        os.kill(voice.pids[0], signal.SIGKILL)
        await eventually(lambda: not voice.pids, LIMIT_S)
        assert says(await spoken(voice, *TEXTS), *TEXTS)  # it waits for the new one


async def test_a_program_that_is_gone_for_a_while_costs_replies_not_the_node(
    tmp_path: Path,
) -> None:
    voice = voice_of(tmp_path, deadlines=Deadlines(first_byte_s=0.3))
    async with running(voice):
        program = (tmp_path / "piper").rename(tmp_path / "elsewhere")
        os.kill(voice.pids[0], signal.SIGKILL)
        await eventually(lambda: not voice.pids, LIMIT_S)
        with pytest.raises(ProviderError, match="took longer") as caught:
            await spoken(voice, "Yes.")
        assert caught.value.retryable
        program.rename(tmp_path / "piper")
        await eventually(lambda: bool(voice.pids), LIMIT_S)
        assert len(voice.pids) == 1


async def test_a_process_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    voice = voice_of(tmp_path, deadlines=Deadlines(first_byte_s=2.5))
    async with running(voice):
        pid = voice.pids[0]
        with pytest.raises(ProviderError, match=r"a sentence took longer than 2\.5 s"):
            await spoken(voice, "This will hang.")
        await eventually(lambda: not psutil.pid_exists(pid), LIMIT_S)
        await eventually(lambda: bool(voice.pids), LIMIT_S)
        assert says(await spoken(voice, "Yes."), "Yes.")


async def test_a_voice_that_is_not_run_is_an_error_in_time(tmp_path: Path) -> None:
    voice = voice_of(tmp_path, deadlines=Deadlines(first_byte_s=0.05))
    with pytest.raises(ProviderError, match="took longer") as caught:
        await spoken(voice, "Yes.")
    assert caught.value.retryable


async def test_a_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    voice = voice_of(tmp_path, PIPER_FAULT="start")
    with pytest.raises(ProviderError, match=r"does not start: ValueError: no such voice") as caught:
        await voice.run()
    assert not caught.value.retryable


async def test_it_is_served_by_name(tmp_path: Path) -> None:
    program, path = piper_cli.install(tmp_path)
    spec = {"provider": "piper", "voice": str(path), "executable": str(program)}
    voice = build_synthesizer([spec], {})
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as serving:
            await serving.start(serve_providers, [voice])
            assert says(await spoken(voice, *TEXTS), *TEXTS)
            serving.cancel_scope.cancel()


def _break(tmp_path: Path, what: str) -> None:
    described = tmp_path / "voice.onnx.json"
    if what == "program":
        (tmp_path / "piper").unlink()
    elif what == "not executable":
        (tmp_path / "piper").chmod(0o600)
    elif what == "voice":
        (tmp_path / "voice.onnx").unlink()
    elif what == "description":
        described.unlink()
    elif what == "json":
        described.write_text("{")
    else:
        described.write_text('{"audio": {"sample_rate": 11025}}')


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("program", r"executable: .*/piper is no program here: pip install piper-tts, or give"),
        ("not executable", r"executable: .*/piper is no program here"),
        ("voice", r"voice: .*voice.onnx is no .onnx file: give the path"),
        ("description", r"voice: .*voice.onnx.json is missing: it comes with the voice"),
        ("json", r"voice: .*voice.onnx.json does not describe a Piper voice"),
        ("rate", r"voice: .*voice.onnx speaks at 11025 Hz, which is none of"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, what: str, message: str) -> None:
    program, voice = piper_cli.install(tmp_path)
    _break(tmp_path, what)
    with pytest.raises(ConfigError, match=message):
        PiperSynthesizer(PiperSettings(voice=str(voice), executable=str(program)))
