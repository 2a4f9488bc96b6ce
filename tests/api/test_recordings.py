"""``/v1/calls/{id}/recording`` and the right to be forgotten, over a whole node and its carrier."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.calls import sweeping
from api.calls.keeping import EXAMPLES, ErasedView, RecordingsView
from api.calls.recordings import begin_recording, get_recordings
from api.calls.sweeping import erase_expired, mend_recordings
from api.store import Store
from rtcore.audio import mulaw_to_pcm
from rtcore.recording import HEADER_BYTES, wav_header
from rtcore.testing import Phone, hang_up, wait
from tests.api.telephone import ASKS, CALLER, OURS, Node, serving

CALL = "call_" + "0" * 24


async def recorded_call(node: Node, *then: Any, number: str = CALLER) -> str:
    """A call that was recorded from its first word to its last; our id of it."""
    call = node.plivo.ring(number, OURS, Phone(scripts=[[*ASKS, *then, hang_up()]]))
    await node.until(call.over.is_set)
    assert node.line.recordings is not None
    await node.line.recordings.flush()
    await node.line.keeper.flush()
    (shown, *_) = (await node.ask("GET", "/v1/calls"))["items"]
    return str(shown["id"])


def loud(octets: bytes) -> tuple[int, int]:
    """The first and the last sample that are heard, on one side."""
    heard = [at for at, sample in enumerate(array("h", mulaw_to_pcm(octets))) if abs(sample) > 500]
    return heard[0], heard[-1]


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wav"))


async def test_a_call_is_recorded_and_listened_to(store: Store, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    async with serving(url, recordings=tmp_path / "kept") as node:
        await node.bound(recording=True)
        call_id = await recorded_call(node)
        path = f"/v1/calls/{call_id}/recording"
        got = await node.http.get(path)
        assert got.status_code == 200
        assert got.headers["Content-Type"] == "audio/wav"
        samples = (len(got.content) - HEADER_BYTES) // 2
        assert got.content[:HEADER_BYTES] == wav_header(samples)
        (file,) = files_in(tmp_path)
        assert file.read_bytes() == got.content
        sound = got.content[HEADER_BYTES:]
        caller, agent = loud(sound[0::2]), loud(sound[1::2])
        # "Good day." is heard, then the caller asks, then they hear the answer
        assert agent[0] < caller[0] < caller[1] < agent[1]

        part = await node.http.get(path, headers={"Range": "bytes=40-99"})
        assert (part.status_code, part.content) == (206, got.content[40:100])
        assert part.headers["Content-Range"] == f"bytes 40-99/{len(got.content)}"
        tail = await node.http.get(path, headers={"Range": "bytes=-100"})
        assert (tail.status_code, tail.content) == (206, got.content[-100:])
        same = await node.http.get(path, headers={"If-None-Match": got.headers["ETag"]})
        assert (same.status_code, same.content) == (304, b"")
        for headers, status in (
            ({"Range": "bytes=99999999-"}, 416),
            ({"If-Match": '"another"'}, 412),
        ):
            refused = await node.http.get(path, headers=headers)
            assert refused.status_code == status
            assert refused.headers["Content-Type"] == "application/problem+json"
        (shown,) = (await node.ask("GET", f"/v1/calls/{call_id}/recordings"))["items"]
        assert (shown["stream"], shown["state"], shown["dropped_s"]) == (1, "kept", 0)
        assert shown["duration_s"] == samples / 8000
        metrics = (await node.http.get("/metrics")).text
        assert "rtcore_recordings_total 1.0" in metrics
        assert f"rtcore_recordings_written_bytes_total {samples * 2}.0" in metrics
        assert 'rtcore_recordings_lost_seconds_total{reason="dropped"} 0.0' in metrics
        await node.ask("GET", f"{path}?stream=2", status=404)
        await node.ask("GET", f"{path}?stream=0", status=422)


async def test_what_is_recorded_so_far_is_heard_meanwhile(sqlite_url: str, tmp_path: Path) -> None:
    async with serving(sqlite_url, recordings=tmp_path) as node:
        await node.bound(recording=True)
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, wait(20_000)]]))
        await node.until(lambda: node.line.live)
        (call_id,) = node.line.live
        path = f"/v1/calls/{call_id}/recording"
        await node.until(lambda: any(f.stat().st_size > 16_000 for f in files_in(tmp_path)))
        got = await node.http.get(path)
        assert got.content[:HEADER_BYTES] == wav_header((len(got.content) - HEADER_BYTES) // 2)
        assert "ETag" not in got.headers
        await node.ask("DELETE", path, status=409)
        await node.ask("DELETE", f"/v1/calls/{call_id}", status=409)
        call.hang_up()
        await node.until(call.over.is_set)


async def test_only_those_who_want_it_are_recorded(sqlite_url: str, tmp_path: Path) -> None:
    async with serving(sqlite_url, recordings=tmp_path) as node:
        await node.bound()
        call_id = await recorded_call(node)
        await node.ask("GET", f"/v1/calls/{call_id}/recording", status=404)
        assert files_in(tmp_path) == []
        assert (await node.ask("GET", f"/v1/calls/{call_id}/recordings"))["items"] == []
        for path in ("recording", "recordings"):
            await node.ask("GET", f"/v1/calls/{CALL}/{path}", status=404)


async def test_a_node_without_a_folder_serves_the_call_all_the_same(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        await node.bound(recording=True)
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
        await node.until(call.over.is_set)
        assert call.reports[0].is_answered
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        await node.ask("GET", f"/v1/calls/{shown['id']}/recording", status=404)


async def test_a_recording_that_lies_with_another_node(sqlite_url: str, tmp_path: Path) -> None:
    async with serving(sqlite_url, recordings=tmp_path) as node:
        await node.bound(recording=True)
        call_id = await recorded_call(node)
        await node.line.store.write(begin_recording, call_id, 2, "another", "a.wav")
        problem = await node.ask("GET", f"/v1/calls/{call_id}/recording?stream=2", status=404)
        assert "another node" in problem["detail"]
        erased = await node.ask("DELETE", f"/v1/calls/{call_id}/recording")
        assert (erased["recordings"], erased["recordings_elsewhere"]) == (1, 1)
        assert files_in(tmp_path) == []
        await node.ask("GET", f"/v1/calls/{call_id}", status=200)


# --- forgetting -------------------------------------------------------------------------


async def test_a_call_is_erased(store: Store, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    async with serving(url, recordings=tmp_path) as node:
        await node.bound(recording=True)
        call_id = await recorded_call(node)
        erased = await node.ask("DELETE", f"/v1/calls/{call_id}")
        assert erased == {
            "calls": 1,
            "transcripts": 1,
            "recordings": 1,
            "recordings_elsewhere": 0,
            "campaign_targets": 0,
            "calls_going_on": 0,
            "is_complete": True,
        }
        assert files_in(tmp_path) == []
        for path in ("", "/transcript", "/events", "/metrics", "/recording"):
            await node.ask("GET", f"/v1/calls/{call_id}{path}", status=404)
        await node.ask("DELETE", f"/v1/calls/{call_id}", status=404)


async def test_a_call_that_is_just_over_leaves_no_file(sqlite_url: str, tmp_path: Path) -> None:
    async with serving(sqlite_url, recordings=tmp_path) as node:
        await node.bound(recording=True)
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(300), hang_up()]]))
        await node.until(call.over.is_set)
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        await node.ask("DELETE", f"/v1/calls/{shown['id']}")
        assert node.line.recordings is not None
        await node.line.recordings.flush()
        assert files_in(tmp_path) == []


async def test_a_caller_is_erased_and_the_log_does_not_name_them(
    sqlite_url: str, tmp_path: Path
) -> None:
    other = "14155550177"
    async with serving(sqlite_url, recordings=tmp_path / "kept") as node:
        await node.bound(recording=True)
        for number in (CALLER, other, CALLER):
            await recorded_call(node, number=number)
        assert len(files_in(tmp_path)) == 3
        erased = await node.ask("DELETE", f"/v1/callers/+{CALLER}")
        assert (erased["calls"], erased["recordings"]) == (2, 2)
        assert len(files_in(tmp_path)) == 1
        (left,) = (await node.ask("GET", "/v1/calls"))["items"]
        assert left["from"] == other
        again = await node.ask("DELETE", f"/v1/callers/{CALLER}")
        assert (again["calls"], again["is_complete"]) == (0, True)
        lines = (await node.ask("GET", "/v1/audit?limit=100"))["items"]
        (line,) = [line for line in lines if line["action"] == "caller.erased"]
        assert line["resource_id"].startswith("caller_")
        assert not any(CALLER in str(line) for line in lines)
        database = Path(sqlite_url.removeprefix("sqlite:///"))
        for file in database.parent.glob(f"{database.name}*"):
            assert CALLER.encode() not in file.read_bytes()


async def test_what_is_past_its_time_is_erased(store: Store, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    async with serving(url, recordings=tmp_path) as node:
        await node.bound(recording=True, retention={"recordings_days": 0, "calls_days": 30})
        call_id = await recorded_call(node)
        await erase_expired(node.line)
        assert files_in(tmp_path) == []
        await node.ask("GET", f"/v1/calls/{call_id}/recording", status=404)
        said = (await node.ask("GET", f"/v1/calls/{call_id}/transcript"))["items"]
        assert len(said) == 3
        began_s = node.line.store.now_s()
        node.line.store.now_s = lambda: began_s + 31 * 86_400
        await erase_expired(node.line)
        assert (await node.ask("GET", "/v1/calls"))["total"] == 0
        node.line.store.now_s = lambda: began_s


# --- what a node that died left ---------------------------------------------------------


async def test_files_left_open_are_closed_and_doomed_ones_removed(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "SETTLED_MS", -1000)
    async with serving(sqlite_url, recordings=tmp_path) as node:
        await node.bound(recording=True)
        call_id = await recorded_call(node)
        folder = node.line.recordings
        assert folder is not None
        (tmp_path / "cut.wav").write_bytes(wav_header(10**6) + b"\x12\x34" * 800 + b"\x12")
        for number, name in ((2, "cut.wav"), (3, "never.wav")):
            await node.line.store.write(begin_recording, call_id, number, folder.id, name)
        running = folder.begin("live.wav")
        for _ in range(50):
            running.push(bytes(320), None)
        await folder.flush()
        await node.line.store.write(begin_recording, call_id, 4, folder.id, "live.wav")
        await mend_recordings(node.line)
        found = await node.line.store.read(get_recordings, call_id)
        assert [(each.number, each.state) for each in found] == [
            (1, "kept"),
            (2, "kept"),
            (4, "running"),
        ]
        assert found[1].samples == 800
        got = await node.http.get(f"/v1/calls/{call_id}/recording?stream=2")
        assert got.content == wav_header(800) + b"\x12\x34" * 800
        running.close()


async def test_the_specification_knows_it(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        spec = await node.ask("GET", "/openapi.json")
        for path, method in (
            ("/v1/calls/{call_id}", "delete"),
            ("/v1/calls/{call_id}/recording", "delete"),
            ("/v1/callers/{number}", "delete"),
        ):
            assert set(spec["paths"][path][method]["responses"]["200"]["content"]) == {
                "application/json"
            }
        answers = spec["paths"]["/v1/calls/{call_id}/recording"]["get"]["responses"]
        assert [set(answers[status]["content"]) for status in ("200", "206")] == [{"audio/wav"}] * 2
        assert {"304", "404", "412", "416"} <= set(answers)
        shown = spec["components"]["schemas"]["ErasedView"]
        assert shown["examples"] == [EXAMPLES["ErasedView"]]
        msgspec.convert(EXAMPLES["ErasedView"], ErasedView)
        msgspec.convert(EXAMPLES["RecordingsView"], RecordingsView)
        assert spec["components"]["schemas"]["RecordingsView"]["examples"]
