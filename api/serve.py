"""One process, one ``trio.run``: calls, webhooks and API, on one port or on two.

The accept loop looks at the head of each request without taking it: media goes to the node's
own sockets, everything else to Hypercorn's stream handler (an internal of it: its version is
pinned, and tests hold it to what is used here).
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Sequence

import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import wrap_app
from quart_trio import QuartTrio

from rtcore.admission import MEDIA_PATH
from rtcore.node import Node

__all__ = ["serve_node"]

MEDIA_HEAD = b"GET " + MEDIA_PATH.encode()  # shorter than the shortest request there is
HEAD_LIMIT_S = 10.0  # for the first octets of a connection
LINGER_S = 3.0  # a hangup callback follows the end of its stream within a second
GRACE_S = 5.0  # for requests in progress, once the last call is over


async def serve_node(
    node: Node,
    app: QuartTrio,
    listeners: Sequence[trio.SocketListener],
    *,
    media_listeners: Sequence[trio.SocketListener] = (),
    linger_s: float = LINGER_S,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` and the calls of ``node`` on ``listeners`` until :meth:`Node.drain`.

    After a drain no call comes in, the API and the carrier's callbacks are answered until the
    calls held are over (or the node's limit), then requests in progress have some seconds, then
    the app's background work ends. Cancelled: all of it ends at once.

    Args:
        media_listeners: for media alone, beside ``listeners``, which take it too.
        linger_s: how long the carrier may still tell the end of the last calls.
    """
    web = _Web(app)
    async with trio.open_nursery() as nursery:
        await nursery.start(web.run)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                hold = functools.partial(_hold, node, media_listeners)
                await accepting.start(hold, linger_s, accepting.cancel_scope)
                handle = functools.partial(_handle, node, web)
                accept = functools.partial(trio.serve_listeners, handler_nursery=connections)
                accepting.start_soon(accept, handle, list(listeners))
                task_status.started()
            connections.cancel_scope.deadline = trio.current_time() + GRACE_S
            await web.finish()
        await web.stop()
        nursery.cancel_scope.cancel(reason="drained")


async def _hold(
    node: Node,
    listeners: Sequence[trio.SocketListener],
    linger_s: float,
    accepting: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    await node.serve(listeners, task_status=task_status)
    if node.stats.calls:
        await trio.sleep(linger_s)
    accepting.cancel(reason="drained")


async def _handle(node: Node, web: _Web, stream: trio.SocketStream) -> None:
    """One connection, to whom its first octets say; one that says nothing is closed."""
    is_media = None
    with trio.move_on_after(HEAD_LIMIT_S):
        is_media = await _is_media(stream)
    if is_media is None:
        await trio.aclose_forcefully(stream)
    elif is_media:
        await node.take(stream)
    else:
        await web.serve(stream)


async def _is_media(stream: trio.SocketStream) -> bool | None:
    """Whether the request is one for a media stream; it stays unread. None: nothing came."""
    sock = stream.socket
    try:
        # the kernel wakes us once enough is there to tell, however small the pieces it comes in
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(MEDIA_HEAD))
        await trio.lowlevel.wait_readable(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        head = await sock.recv(len(MEDIA_HEAD), socket.MSG_PEEK)
    except OSError:
        return None
    return head == MEDIA_HEAD if head else None


class _Connection(TCPServer):
    """A connection whose idle time is bounded after every request, not only before the first.

    The task of a request is cancelled by its own end, often while it arms the timer: then an
    idle connection would stay for ever, and hold up a drain.
    """

    async def protocol_send(self, event: Event) -> None:
        with trio.CancelScope(shield=isinstance(event, Updated)):  # arming waits for nobody
            await super().protocol_send(event)


class _Web:
    """The app, and what Hypercorn needs to serve it one connection at a time."""

    def __init__(self, app: QuartTrio) -> None:
        self._config = Config()
        self._config.errorlog = None  # the app logs what fails, as structured events
        self._config.include_server_header = False
        self._app: AppWrapper = wrap_app(app, 0, "asgi")
        self._state: LifespanState = {}
        self._lifespan = Lifespan(self._app, self._config, self._state)
        self._context = WorkerContext(None)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the app's background work until cancelled; ready once it has started."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._lifespan.handle_lifespan)
            await self._lifespan.wait_for_startup()
            task_status.started()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        state = ConnectionState(self._state.copy())
        connection = _Connection(
            self._app,
            self._config,
            self._context,
            state,
            stream,  # type: ignore[arg-type] # it takes plain sockets too, and looks which
        )
        await connection.run()

    async def finish(self) -> None:
        """Let connections end with the request they are at; idle ones end now."""
        await self._context.terminated.set()

    async def stop(self) -> None:
        """End the app's background work."""
        await self._lifespan.wait_for_shutdown()
