"""Whom a node process obeys: signals in turn, a supervisor by word, its absence at last."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
import trio
import trio.testing

from rtcore.admission import MediaGate
from rtcore.node import Node
from rtcore.worker import DRAIN, STOP, STOP_LIMIT_S, Report, obey_signals, obey_supervisor
from tests.test_node import agent


@pytest.fixture
def node() -> Node:
    return Node(MediaGate({}, default=agent()).admit)


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """The other end of what is now our standard input."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    before = os.dup(0)
    os.dup2(theirs.fileno(), 0)
    theirs.close()
    yield ours
    os.dup2(before, 0)
    os.close(before)
    ours.close()


@pytest.mark.parametrize("is_third", [False, True])
async def test_the_first_signal_drains_the_second_stops_and_the_third_waits_for_nothing(
    node: Node, is_third: bool, autojump_clock: trio.testing.MockClock
) -> None:
    tx, rx = trio.open_memory_channel[int](0)
    with trio.fail_after(30), trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey_signals, rx, node, everything)
            await tx.send(signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
            assert node.is_draining
            assert not node.is_stopping
            assert everything.deadline == math.inf
            await tx.send(signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
            assert node.is_stopping
            if is_third:
                await tx.send(signal.SIGTERM)
            await trio.sleep_forever()
    assert everything.cancelled_caught
    assert trio.current_time() == (0 if is_third else STOP_LIMIT_S)


async def test_one_signal_to_a_node_that_was_told_to_drain_stops_nothing(node: Node) -> None:
    async def once() -> AsyncIterator[int]:
        yield signal.SIGTERM

    node.drain()
    with trio.CancelScope() as everything:
        await obey_signals(once(), node, everything)
    assert not everything.cancel_called


async def test_a_supervisor_is_told_how_we_are_and_obeyed(
    node: Node, supervisor: socket.socket
) -> None:
    with trio.fail_after(30), trio.CancelScope() as everything:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey_supervisor, node, lambda: b"metrics\n", everything)
            line = await trio.to_thread.run_sync(supervisor.recv, 4096)
            report = msgspec.json.decode(line, type=Report)
            assert report == Report(has_room=True, calls=0, metrics="metrics\n")
            supervisor.send(DRAIN)
            while not node.is_draining:
                await trio.sleep(0.01)
            assert not everything.cancel_called
            supervisor.send(STOP)
            while not node.is_stopping:
                await trio.sleep(0.01)
            assert everything.deadline <= trio.current_time() + STOP_LIMIT_S
            nursery.cancel_scope.cancel()


async def test_without_its_supervisor_a_node_drains(node: Node, supervisor: socket.socket) -> None:
    supervisor.shutdown(socket.SHUT_RDWR)
    with trio.fail_after(30), trio.CancelScope() as everything:
        await obey_supervisor(node, lambda: b"", everything)
    assert node.is_draining
    assert not everything.cancel_called
