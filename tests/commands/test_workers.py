"""``rtcore serve --workers``: the real command, its processes, real sockets."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from rtcore.commands.workers import WorkersOptions, merged, serve
from rtcore.node import open_listeners
from tests.commands.served import child, serving

AGENT = """
name = "mute"
[[transcriber]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
[[responder]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
model = "none"
[[synthesizer]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
"""  # never asked: nobody speaks here
DIALS, DIALS_MAX = 8, 40  # all of them at one of two workers: once in 10^12 runs


def mute(folder: Path) -> str:
    path = folder / "agent.toml"
    path.write_text(AGENT)
    return str(path)


async def test_a_worker_that_is_killed_takes_its_own_calls_alone_and_a_drain_takes_none(
    tmp_path: Path,
) -> None:
    async with (
        serving("--agent", mute(tmp_path), "--workers", "2") as served,
        trio.open_nursery() as nursery,
    ):
        await served.until(lambda workers: len(workers) == 2 and all(w["serves"] for w in workers))
        hang_up = trio.Event()
        for last in range(DIALS, DIALS_MAX + 1, DIALS):
            for number in range(last - DIALS, last):
                nursery.start_soon(served.call, number, hang_up, nursery)
            workers = await served.until_they_hold(last)
            if all(worker["calls"] for worker in workers):
                break
        os.kill(child(served.process, 1), signal.SIGKILL)
        workers = await served.until(lambda ws: ws[0]["restarts"] == 1 and ws[0]["serves"])
        assert len(served.open) == workers[1]["calls"] > 0

        held = set(served.open)
        served.process.send_signal(signal.SIGTERM)
        while True:  # until nobody is let in any more
            try:
                (await trio.open_tcp_stream("127.0.0.1", served.port)).socket.close()
            except OSError:
                break
            await trio.sleep(0.02)
        await trio.sleep(0.1)
        assert served.open == held
        assert served.process.poll() is None
        hang_up.set()
        assert await served.process.wait() == 0


async def test_every_worker_counts_under_its_number_in_one_place(tmp_path: Path) -> None:
    kept = ("--recordings", str(tmp_path / "kept"))
    async with serving("--agent", mute(tmp_path), "--workers", "1", "--pin", *kept) as served:
        await served.until(lambda workers: bool(workers) and workers[0]["serves"])
        assert (await served.ask("/readyz")).status_code == 200
        probed = await served.ask("/readyz", "HEAD")  # as some balancers do
        assert (probed.status_code, probed.content) == (200, b"")
        assert (await served.ask("/readyz", "POST")).status_code == 405
        pid = child(served.process, 1)
        assert len(os.sched_getaffinity(pid)) == 1
        page = (await served.ask("/metrics")).text
        samples = {
            (sample.name, sample.labels.get("worker")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        assert samples["rtcore_worker_up", "1"] == 1
        assert samples["rtcore_node_has_room", "1"] == 1
        assert samples["rtcore_node_streams_total", "1"] == 0
        assert samples["rtcore_recordings_total", "1"] == 0
        assert (await served.ask("/v1/agents")).status_code == 404
        os.kill(served.process.pid, signal.SIGKILL)
        while psutil.pid_exists(pid):  # a worker does not outlive its supervisor
            await trio.sleep(0.05)


async def test_a_port_that_somebody_has_is_not_shared_with_them() -> None:
    (listener,) = open_listeners("127.0.0.1", 0, shares_port=True)
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: .* in use"):
        await serve(WorkersOptions(arguments=("serve",), workers=2, port=port))
    await listener.aclose()


def test_pages_become_one() -> None:
    page = '# TYPE a_total counter\na_total{kind="x"} %d\n# TYPE b gauge\nb %d\n'
    families = {family.name: family for family in merged({1: page % (1, 2), 2: page % (3, 4)})}
    assert families["a"].type == "counter"
    assert [(s.name, s.labels, s.value) for s in families["a"].samples] == [
        ("a_total", {"kind": "x", "worker": "1"}, 1),
        ("a_total", {"kind": "x", "worker": "2"}, 3),
    ]
    assert [sample.value for sample in families["b"].samples] == [2, 4]
