"""``rtcore call`` over real sockets: what it prints, what it returns, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from rtcore.audio import pcm_to_mulaw
from rtcore.cli import app
from rtcore.commands import call as command
from rtcore.commands.call import CallOptions, NotConnected, call, run, script_of, spoken
from rtcore.errors import ConfigError, ProviderError
from rtcore.testing import (
    ProviderFault,
    ScriptedSynthesizer,
    WavWriter,
    say,
    speak,
    wait,
    wait_for_agent_quiet,
)

VOICE = ScriptedSynthesizer()
ANSWER = speak("yes it is", 100)  # 300 ms
LIMIT_S = 30.0  # for what takes milliseconds: a machine that others use may stand still for seconds


async def serve_answers(request: WebSocketRequest, *, answers: bool) -> None:
    """Say the answer whenever the caller's voice has been gone for 60 ms."""
    if request.path.startswith("/refused"):
        await request.reject(403)
        return
    websocket = await request.accept()
    greets, drops = "greets" in request.path, "drops" in request.path
    media = {"contentType": "audio/x-mulaw", "sampleRate": 8000}
    payload = b64encode(pcm_to_mulaw(ANSWER.pcm)).decode()
    play = json.dumps({"event": "playAudio", "media": {**media, "payload": payload}})
    spoke, silent = False, 0
    try:
        if greets:
            await websocket.send_message(play)
        while True:
            message = json.loads(await websocket.get_message())
            if message["event"] != "media" or not answers:
                continue
            is_silent = set(b64decode(message["media"]["payload"])) == {0xFF}
            spoke, silent = spoke or not is_silent, silent + 1 if is_silent else 0
            if spoke and silent == 3:
                spoke = False
                await websocket.send_message(play)
                if drops:
                    await trio.sleep(0.5)  # which the answer takes to be heard
                    await websocket.aclose(1011, "a fault")
    except ConnectionClosed:
        pass


class Node:
    """A node in a thread of its own, as another process would be."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        handler = partial(serve_answers, answers=self._answers)
        with self._scope:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
                self.url = f"ws://127.0.0.1:{server.port}/calls?x=1"
                self._ready.set()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(LIMIT_S)

    def stop(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(answers=True)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def mute_node() -> Iterator[Node]:
    node = Node(answers=False)
    node.start()
    yield node
    node.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command with a caller in a hurry."""
    monkeypatch.setattr(command, "GREETING_BEGIN_MS", 40)
    monkeypatch.setattr(command, "ANSWER_BEGIN_MS", 500)
    monkeypatch.setattr(command, "QUIET_MS", 200)


async def test_a_call_is_made_answered_and_recorded(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    script = [wait(100), say(speak("hello", 200).pcm), wait_for_agent_quiet(150)]
    report = await call(node.url, script, record=path)
    assert report.is_answered
    assert report.violations == ()
    assert report.turns[0].response_ms is not None
    assert 50 < report.turns[0].response_ms < 1000  # 60 ms, and what the machine is late by
    with wave.open(str(path)) as recording:
        assert recording.getnchannels() == 2
        assert recording.getnframes() / 8 == pytest.approx(report.duration_ms, abs=40)


@pytest.mark.usefixtures("impatient")
def test_the_command_prints_json_and_returns_0(
    node: Node, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(CallOptions(url=node.url, say="hello", as_json=True), VOICE) == 0
    outcome = msgspec.json.decode(capfdbinary.readouterr().out, type=command.Outcome)
    assert (outcome.summary.calls, outcome.summary.answered) == (1, 1)
    assert outcome.calls[0].turns[0].response_ms is not None


@pytest.mark.usefixtures("impatient")
def test_the_command_reads_a_wav_interrupts_and_prints_plainly(
    node: Node, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "say.wav"
    with WavWriter(path) as writer:
        pcm = speak("hello", 100).pcm
        writer.write(pcm, pcm)
    assert run(CallOptions(url=node.url, wav=path, interrupt_after_ms=100), VOICE) == 0
    captured = capfd.readouterr()
    assert "barge-in" in captured.out
    assert "response p50 ms" in captured.out
    assert "hang_up" in captured.err
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.usefixtures("impatient")
def test_many_calls_at_once(node: Node, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    options = CallOptions(url=node.url, say="hello", as_json=True, calls=5, seconds=2.5)
    assert run(options, VOICE) == 0
    outcome = msgspec.json.decode(capfdbinary.readouterr().out, type=command.Outcome)
    assert outcome.summary.calls == outcome.summary.answered == 5
    assert {report.ended_by for report in outcome.calls} == {"limit"}


@pytest.mark.usefixtures("impatient")
def test_no_answer_is_1(mute_node: Node) -> None:
    assert run(CallOptions(url=mute_node.url, say="hello"), VOICE) == 1


@pytest.mark.usefixtures("impatient")
def test_a_greeting_is_no_answer(mute_node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    url = mute_node.url.replace("/calls", "/greets")
    assert run(CallOptions(url=url, say="hello"), VOICE) == 1
    assert "not answered: call-1\n" in capfd.readouterr().out


@pytest.mark.usefixtures("impatient")
def test_a_call_that_is_lost_after_its_answer_is_1(
    node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    url = node.url.replace("/calls", "/drops")
    assert run(CallOptions(url=url, say="hello", seconds=5.0), VOICE) == 1
    told = capfd.readouterr().out
    assert "lost: call-1, closed with 1011" in told
    assert "not answered" not in told


def test_the_help_tells_every_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        app(["call", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for status in ("0 ", "1 ", "2 ", "3 ", "130 "):
        assert status in told.partition("Exit status:")[2].partition("Options")[0]


def test_no_connection_is_3(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
        assert run(CallOptions(url=url, say="hello"), VOICE) == 3
    refused = node.url.replace("/calls", "/refused")
    assert run(CallOptions(url=refused, say="hello"), VOICE) == 3
    told = capfd.readouterr().out
    assert "403" in told
    assert "summary" not in told  # there is nothing to sum up


async def test_a_refused_call_leaves_nothing_behind(node: Node) -> None:
    with pytest.raises(NotConnected, match="403"):
        await call(node.url.replace("/calls", "/refused"), [wait(100)])


@pytest.mark.parametrize(
    "options",
    [
        CallOptions(url="http://127.0.0.1/", say="hello"),
        CallOptions(url="ws://127.0.0.1:99999/", say="hello"),
        CallOptions(url="ws://127.0.0.1/"),
        CallOptions(url="ws://127.0.0.1/", say="hello", wav=Path("x.wav")),
        CallOptions(url="ws://127.0.0.1/", say="hello", calls=0),
        CallOptions(url="ws://127.0.0.1/", say="hello", calls=2, record=Path("x.wav")),
        CallOptions(url="ws://127.0.0.1/", say="hello", record=Path("/nowhere/x.wav")),
        CallOptions(url="ws://127.0.0.1/", wav=Path("/nowhere/x.wav")),
        CallOptions(url="ws://127.0.0.1/", wav=Path(__file__)),
    ],
)
def test_bad_usage_is_2_before_anything_is_dialled(
    options: CallOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options, VOICE) == 2
    assert capfd.readouterr().err.startswith("rtcore call: ")


async def test_a_voice_that_fails_or_stalls_is_an_error(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for kind in ("raise", "stall"):
        voice = ScriptedSynthesizer(faults={0: ProviderFault(kind=kind)})
        with pytest.raises(ProviderError):
            await spoken("hello", voice)
        assert voice.sessions.open == 0


@pytest.mark.usefixtures("impatient")
def test_without_the_embedded_voice_there_is_still_a_sound(
    node: Node, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ConfigError("voice", "install rtcore[embedded]")

    monkeypatch.setattr(command, "EmbeddedVoice", missing)
    assert run(CallOptions(url=node.url, say="hello")) == 0
    assert "install rtcore[embedded]; the caller makes" in capfd.readouterr().err


def test_an_interrupt_hangs_up_and_leaves_the_recording(mute_node: Node, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    program = (
        "import sys; from pathlib import Path; from rtcore.commands.call import CallOptions, run; "
        "from rtcore.testing import ScriptedSynthesizer; "
        "sys.exit(run(CallOptions(url=sys.argv[1], say='hello', record=Path(sys.argv[2])), "
        "ScriptedSynthesizer()))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, mute_node.url, str(path)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "start" in process.stderr.readline()
        time.sleep(0.5)  # of the call
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "interrupted: hung up" in err
    with wave.open(str(path)) as recording:
        assert recording.getnframes() >= 3200


async def test_words_become_sound_through_any_voice() -> None:
    assert await spoken("hello you", ScriptedSynthesizer(ms_per_word=200)) == (
        speak("hello you", 200).pcm
    )


def test_there_is_always_more_to_say_than_time() -> None:
    options = CallOptions(url="ws://x/", say="", seconds=10)
    assert len(script_of(options, bytes(16000))) == 1 + 10 * 2
    with pytest.raises(ConfigError):
        command._address("wss://x/")
