"""The bench of the kernels runs, and its document says what its table does."""

from __future__ import annotations

import json

import pytest

from bench import kernels


def test_the_document_holds_every_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--json", "--batches", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"when", "commit", "cpu", "cores", "command"} <= document["where"].keys()
    assert {result["form"] for result in document["results"]} >= {"rtcore", "numpy"}
    for result in document["results"]:
        assert len(result["samples_us"]) == 2
        assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]


def test_the_table_names_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--batches", "1"]) == 0
    table = capsys.readouterr().out
    for kernel in ("µ-law to pcm", "level", "22050 to 8000 Hz", "good frame"):
        assert kernel in table


def test_no_batches_is_refused() -> None:
    with pytest.raises(SystemExit, match="2"):
        kernels.main(["--batches", "0"])
