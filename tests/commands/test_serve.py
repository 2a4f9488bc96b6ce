"""``rtcore serve`` with one agent: what it keeps of its calls."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import msgspec
import pytest
import trio
from typer import rich_utils

from rtcore.cli import app
from rtcore.commands.serve import ServeOptions, serve
from rtcore.errors import ConfigError
from rtcore.media import fast
from rtcore.media.handshake import UpgradeRefused
from rtcore.media.limits import SocketLimits
from rtcore.testing import FakeCarrier, hang_up, read_wav, say, speak, wait
from rtcore.testing.loopback import free_port
from tests.commands.served import serving
from tests.commands.test_workers import AGENT, mute

VOICE = speak("is anybody there").pcm


@pytest.mark.parametrize("wish", ["recording = true", "recording = false", ""])
async def test_calls_are_recorded_if_the_agent_wants_it(tmp_path: Path, wish: str) -> None:
    agent = trio.Path(tmp_path / "agent.toml")
    await agent.write_text(f"{wish}\n{AGENT}")
    port, folder = free_port(), tmp_path / "kept"
    options = ServeOptions(port=port, agent=tmp_path / "agent.toml", recordings=folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, options)
        with trio.fail_after(60):
            while True:
                try:
                    path = "/plivo/media/any"
                    line = await fast.connect("127.0.0.1", port, path, SocketLimits(), nursery)
                    break
                except (OSError, UpgradeRefused):  # not listening yet, or lagging on a busy machine
                    await trio.sleep(0.05)
        carrier = FakeCarrier([say(VOICE), wait(300), hang_up()], call_id="../../call")
        report = await carrier.call(line)
        assert report.violations == ()
        nursery.cancel_scope.cancel()
    files = list(folder.glob("*.wav"))
    assert len(files) == (wish == "recording = true")
    for file in files:
        assert file.name.startswith("______call-")
        assert len(read_wav(file)) >= len(VOICE)


async def test_a_second_signal_ends_calls_and_keeps_their_records(tmp_path: Path) -> None:
    records = trio.Path(tmp_path / "records.jsonl")
    async with (
        serving("--agent", mute(tmp_path), "--records", str(records)) as served,
        trio.open_nursery() as nursery,
    ):
        await served.until(lambda workers: len(workers) == 1 and workers[0]["serves"])
        nursery.start_soon(served.call, 1, trio.Event(), nursery)
        await served.until_they_hold(1)
        served.process.send_signal(signal.SIGTERM)
        await trio.sleep(0.3)
        assert served.open == {1}
        served.process.send_signal(signal.SIGTERM)
        assert await served.process.wait() == 0
        nursery.cancel_scope.cancel()
    (record,) = [msgspec.json.decode(line) for line in (await records.read_bytes()).splitlines()]
    assert (record["call_id"], record["ended_by"]) == ("c1", "cancelled")


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    await trio.Path(tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="recordings"):
        await serve(ServeOptions(port=0, recordings=tmp_path / "file"))


@pytest.mark.parametrize(
    "option",
    [
        ("--media-port", "0"),
        ("--node-url", "https://edge.example.com"),
        ("--allow-private-urls",),
        ("--keep-recordings-days", "30"),
        ("--keep-transcripts-days", "0"),
        ("--keep-calls-days", "1"),
        ("--keep-audit-days", "90"),
    ],
)
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_what_needs_a_database_is_refused_without_one(
    option: tuple[str, ...], workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RTCORE_DATABASE", raising=False)
    with pytest.raises(ConfigError, match=f"{option[0][2:]}: means nothing without --database"):
        app(["serve", *option, *workers], standalone_mode=False)


@pytest.mark.parametrize("command", ["serve", "call", "demo", "fake-plivo", "replay"])
def test_no_option_is_cut_short_where_a_terminal_is_narrow(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 80)
    with pytest.raises(SystemExit, match=r"^0$"):
        app([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 80
    assert [line for line in lines if re.search(r"--[a-z-]*…", line)] == []


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--socket", "quick", "'fast', 'portable'"),
        ("--voice", "quiet", "'webrtc', 'silero'"),
        ("--calls-max", "100001", "100000"),
        ("--drain-s", "86401", "86400"),
    ],
)
def test_what_an_option_may_be_is_told(
    option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        app(["serve", option, value])
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())  # however wide it is drawn
    assert option in said
    assert told in said
