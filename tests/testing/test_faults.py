"""The line misbehaves as it is told, and the same way every time."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rtcore.errors import SocketClosed
from rtcore.testing import (
    CarrierReport,
    FakeCarrier,
    LineFaults,
    MemorySocket,
    memory_sockets,
    simulate,
    wait,
)
from tests.testing.nodes import TinyNode

Clock = trio.testing.MockClock
SECONDS = 10


async def through(faults: LineFaults) -> tuple[CarrierReport, TinyNode]:
    here, there = memory_sockets()
    node = TinyNode(there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        report = await FakeCarrier([wait(SECONDS * 1000)], faults=faults).call(here)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return report, node


def chunks(node: TinyNode) -> list[int]:
    return [message["media"]["chunk"] for _, message in node.of_kind("media")]


def lateness_ms(node: TinyNode) -> list[float]:
    return [at * 1000 - message["media"]["chunk"] * 20 for at, message in node.of_kind("media")]


async def test_an_orderly_line_loses_and_delays_nothing(autojump_clock: Clock) -> None:
    report, node = await through(LineFaults())
    assert chunks(node) == list(range(1, 50 * SECONDS + 1))
    assert lateness_ms(node) == pytest.approx([0.0] * 50 * SECONDS, abs=1e-6)
    assert report.counts.lost_messages == 0


async def test_loss_leaves_holes_in_the_chunk_numbers(autojump_clock: Clock) -> None:
    report, node = await through(LineFaults(seed=1, loss=0.1))
    assert chunks(node) == sorted(chunks(node))
    assert report.counts.lost_messages == 50 * SECONDS - len(chunks(node))
    assert 25 < report.counts.lost_messages < 85  # 50 expected, five deviations


async def test_jitter_delays_and_keeps_the_order(autojump_clock: Clock) -> None:
    _, node = await through(LineFaults(seed=1, jitter_ms=40))
    assert chunks(node) == sorted(chunks(node))
    late = lateness_ms(node)
    assert min(late) >= -1e-6
    assert 35 < max(late) <= 40 + 1e-6


async def test_reordering_swaps_neighbours_and_loses_nothing(autojump_clock: Clock) -> None:
    _, node = await through(LineFaults(seed=1, reorder=0.1))
    got = chunks(node)
    assert got != sorted(got)
    assert set(range(1, 50 * SECONDS - 5)) <= set(got)
    assert all(abs(number - at) <= 3 for at, number in enumerate(got, start=1))


async def test_a_stall_holds_everything_then_lets_it_all_through(autojump_clock: Clock) -> None:
    _, node = await through(LineFaults(stall_every_ms=2000, stall_ms=500))
    assert chunks(node) == sorted(chunks(node))
    assert max(lateness_ms(node)) == pytest.approx(500, abs=20)
    assert sum(late > 1 for late in lateness_ms(node)) == pytest.approx(5 * 25, abs=10)


async def test_a_muted_line_sends_nothing_for_a_while(autojump_clock: Clock) -> None:
    report, node = await through(LineFaults(mute_at_ms=2000, mute_ms=3000))
    assert report.counts.lost_messages == 150
    assert chunks(node)[98:100] == [99, 250]


async def test_an_early_close_ends_the_call(autojump_clock: Clock) -> None:
    report, node = await through(LineFaults(close_at_ms=3000, close_code=1001))
    assert (report.close_code, report.duration_ms) == (1001, pytest.approx(3000, abs=20))
    with pytest.raises(SocketClosed) as caught:
        await node.socket.receive()
    assert caught.value.code == 1001


async def test_a_lost_connection_has_no_close(autojump_clock: Clock) -> None:
    report, _ = await through(LineFaults(close_at_ms=3000, close_code=1006))
    assert report.close_code == 1006


async def test_a_dead_line_says_nothing_and_hears_nothing(autojump_clock: Clock) -> None:
    here, there = memory_sockets()
    node = TinyNode(there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        nursery.start_soon(FakeCarrier([wait(5000)], faults=LineFaults(dead_at_ms=1000)).call, here)
        await trio.sleep(4)
        node.play(bytes(320))
        await trio.sleep(0.5)
        assert len(chunks(node)) == pytest.approx(50, abs=1)
        assert there.is_open
        nursery.cancel_scope.cancel()


async def test_a_deaf_peer_fills_the_wire_until_it_refuses(autojump_clock: Clock) -> None:
    here, there = memory_sockets(wire_max_bytes=20_000, backlog_max_bytes=10_000)
    node = TinyNode(there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.listen)
        nursery.start_soon(
            FakeCarrier([wait(20_000)], faults=LineFaults(deaf_at_ms=1000)).call, here
        )
        await node.started.wait()
        await node.play_paced(bytes(320 * 50 * 15))
        assert there.dropped_messages > 500
        assert len(chunks(node)) > 700  # it goes on sending
        nursery.cancel_scope.cancel()


async def test_a_clear_that_nobody_asked_for(autojump_clock: Clock) -> None:
    report, node = await through(LineFaults(spurious_clear_at_ms=1000))
    assert [at for at, _ in node.of_kind("clearedAudio")] == pytest.approx([1.0])
    assert report.counts.clears == 0


async def test_the_carrier_may_dial_again_in_the_middle_of_a_call(autojump_clock: Clock) -> None:
    nodes: list[TinyNode] = []

    async with trio.open_nursery() as nursery:

        async def dial() -> MemorySocket:
            here, there = memory_sockets()
            nodes.append(TinyNode(there))
            nursery.start_soon(nodes[-1].listen)
            return here

        faults = LineFaults(second_socket_at_ms=2000)
        carrier = FakeCarrier([wait(4000)], faults=faults, redial=dial)
        report = await carrier.call(await dial())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    first, second = nodes
    assert [len(chunks(node)) for node in nodes] == pytest.approx([100, 100], abs=1)
    starts = [node.of_kind("start")[0][1]["start"] for node in nodes]
    assert starts[0]["callId"] == starts[1]["callId"]
    assert starts[0]["streamId"] != starts[1]["streamId"]
    assert report.ended_by == "caller"
    assert not first.socket.is_open
    assert not second.socket.is_open


def test_the_same_seed_makes_the_same_line_and_another_another() -> None:
    async def scene(seed: int) -> list[tuple[int, float]]:
        _, node = await through(LineFaults(seed=seed, loss=0.1, jitter_ms=50, reorder=0.1))
        return list(zip(chunks(node), lateness_ms(node), strict=True))

    assert simulate(scene, 1) == simulate(scene, 1)
    assert simulate(scene, 1) != simulate(scene, 2)
