"""The file of records: whole lines, and a disk that refuses them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from rtcore.call import CallRecord
from rtcore.errors import ConfigError
from rtcore.metrics import CallStats
from rtcore.records import RecordLog


def record(call_id: str) -> CallRecord:
    return CallRecord(
        call_id=call_id,
        stream_id="s",
        ended_by="hung_up",
        duration_s=1.0,
        turns=(),
        barge_ins=(),
        stats=CallStats(),
        transcript=(),
        notes=(),
    )


def kept(path: Path) -> list[str]:
    lines = [line for line in path.read_bytes().splitlines() if line]
    return [msgspec.json.decode(line)["call_id"] for line in lines]


async def test_each_record_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    records = RecordLog(path)
    for call_id in ("a", "b"):
        records.put(record(call_id))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(records.run)
        await records.flush()
        nursery.cancel_scope.cancel()
    assert kept(path) == ["a", "b"]


async def test_a_full_disk_loses_records_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    records = RecordLog(path)
    records._path = Path("/dev/full")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(records.run)
        records.put(record("lost"))
        await records.flush()
        assert records.dropped == 1
        records._path = path
        records.put(record("kept"))
        await records.flush()
        nursery.cancel_scope.cancel()
    assert kept(path) == ["kept"]


def test_a_file_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="records"):
        RecordLog(tmp_path / "none" / "calls.jsonl")
