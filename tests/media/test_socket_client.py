"""The client's end of the fast filling, which dials nodes in tests and under load."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.media import fast, portable
from rtcore.media.fast import FastSocket
from rtcore.media.handshake import Rejection, UpgradeRefused, UpgradeRequest
from rtcore.media.limits import SocketLimits

serve_tcp = partial(trio.serve_tcp, port=0, host="127.0.0.1")
LIMIT_S = 30.0  # for what takes milliseconds: a machine that others use may stand still for seconds
LIMITS = SocketLimits(handshake_limit_s=LIMIT_S, close_limit_s=LIMIT_S)
HASTY = SocketLimits(handshake_limit_s=0.3)


async def judge(request: UpgradeRequest) -> Rejection | None:
    return None if request.path == "/media" else Rejection(status=403)


async def echo(accept: object, stream: trio.SocketStream) -> None:
    async with trio.open_nursery() as nursery:
        sock = await accept(stream, judge, LIMITS, nursery)  # type: ignore[operator]
        if sock is None:
            return
        try:
            while True:
                for message in await sock.receive():
                    sock.send(message)
        except SocketClosed:
            await sock.aclose()


async def dial(
    nursery: trio.Nursery, port: int, path: str = "/media", limits: SocketLimits = LIMITS
) -> FastSocket:
    return await fast.connect("127.0.0.1", port, path, limits, nursery, [("X-Call", "1")])


@pytest.mark.parametrize("accept", [fast.accept, portable.accept], ids=["fast", "portable"])
async def test_it_speaks_to_either_filling(accept: object, nursery: trio.Nursery) -> None:
    [listener] = await nursery.start(serve_tcp, partial(echo, accept))
    port = listener.socket.getsockname()[1]
    client = await dial(nursery, port)
    for size in (0, 1, 125, 126, 400, 65_000):
        assert client.send(b"x" * size)
        with trio.fail_after(LIMIT_S):
            assert await client.receive() == [b"x" * size]
    with trio.fail_after(LIMIT_S / 2):  # the server answers: the limit is not waited out
        await client.aclose(4000, "done")
    with pytest.raises(SocketClosed) as ending:
        await client.receive()
    assert ending.value.code == 4000
    with pytest.raises(UpgradeRefused) as refused:
        await dial(nursery, port, "/elsewhere")
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "answer",
    [b"220 mail\r\n\r\n", b"", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", None],
    ids=["not HTTP", "nothing", "no accept", "silence"],
)
async def test_a_server_that_is_no_websocket(answer: bytes | None, nursery: trio.Nursery) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer is None:
            await trio.sleep_forever()
        await stream.send_all(answer)

    [listener] = await nursery.start(serve_tcp, serve)
    limits = HASTY if answer is None else LIMITS
    with pytest.raises(RemoteProtocolError):
        await dial(nursery, listener.socket.getsockname()[1], limits=limits)


async def test_what_the_server_sends_behind_its_handshake_is_kept(nursery: trio.Nursery) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async def authorise(request: UpgradeRequest) -> None:
            return None

        upgrade = await fast.admit(stream, authorise, LIMITS)
        assert upgrade is not None
        await stream.send_all(upgrade.response() + b"\x81\x05early\x81\x05later\x88\x00")

    [listener] = await nursery.start(serve_tcp, serve)
    client = await dial(nursery, listener.socket.getsockname()[1])
    with trio.fail_after(LIMIT_S):
        assert await client.receive() == [b"early", b"later"]
        with pytest.raises(SocketClosed) as ending:
            await client.receive()
    assert ending.value.code == 1005
    await client.aclose()
