"""Several node processes behind one port: started, watched, replaced, and ended together.

The kernel deals new connections out to all that listen (``SO_REUSEPORT``). A call lives in one
process: if that dies its calls end, those of the others go on.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec
import structlog
import trio

from rtcore.worker import DRAIN, STOP, Report

__all__ = ["RestartPolicy", "Supervisor", "Worker"]

log = structlog.get_logger()

BAD_USAGE = 2  # what a process ends with that cannot be started like this, however often
START_LIMIT_S = 60.0  # models are loaded, databases brought to their newest shape
SILENT_LIMIT_S = 10.0  # a loop that stands still for so long carries no calls any more
STOP_LIMIT_S = 15.0  # once calls are not waited for: a worker's own limit, and to write and close
REPORT_MAX_BYTES = 1 << 20


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a worker that died is started again."""

    pause_s: float = 0.5  # after the first death; each further one doubles it
    pause_max_s: float = 30.0
    young_s: float = 60.0  # who lived longer has started well: its death is the first again
    young_max: int = 6  # so many in a row that died young, and it is given up

    def pause_after(self, died_young: int) -> float | None:
        """How long to wait after the death of ``died_young`` in a row; None: no more."""
        if died_young >= self.young_max:
            return None
        return float(min(self.pause_max_s, self.pause_s * 2 ** max(0, died_young - 1)))


@dataclass(eq=False)
class Worker:
    """One place, and the process that fills it now."""

    number: int  # from 1
    report: Report | None = None  # the last of the present process; None: it does not serve
    restarts: int = 0
    is_given_up: bool = False
    settled: trio.Event = field(default_factory=trio.Event)  # it has served, or died first


class Supervisor:
    """Keeps ``workers`` processes of ``command`` until it is told to stop.

    Args:
        command: its arguments; each process is given ``--worker N`` besides.
        drain_limit_s: how long a drain may take before calls are not waited for.
        is_pinned: each process stays on a core of its own, as far as there are enough.
        environment: of the processes; None: as our own.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        *,
        drain_limit_s: float,
        is_pinned: bool = False,
        environment: Mapping[str, str] | None = None,
        policy: RestartPolicy | None = None,
    ) -> None:
        self.workers = [Worker(number) for number in range(1, workers + 1)]
        self._command = command
        self._drain_limit_s = drain_limit_s
        self._is_pinned = is_pinned
        self._environment = environment
        self._policy = policy or RestartPolicy()
        self._draining = trio.Event()
        self._stopping = trio.Event()
        self._status = 0

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    @property
    def has_room(self) -> bool:
        """Whether some worker would take one more call."""
        return any(w.report is not None and w.report.has_room for w in self.workers)

    def drain(self) -> None:
        """Let all workers finish the calls they have."""
        self._draining.set()

    def stop(self) -> None:
        """Wait for no call any longer."""
        self._draining.set()
        self._stopping.set()

    async def run(self) -> int:
        """Serve until drained, or until no worker is left; the exit status.

        0: all went as told. 1: a worker was given up, or did not end well. 2: a worker said that
        it cannot be started so. Cancelled: the workers are killed.
        """
        first, *others = self.workers
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, first)
            await first.settled.wait()  # what is done once for all, it has done: migrations
            for worker in others:
                nursery.start_soon(self._keep, worker)
        return self._status

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """The first signal drains, the second stops."""
        is_second = False
        async for _ in signals:
            if is_second:
                self.stop()
            else:
                log.info("draining_workers", limit_s=self._drain_limit_s)
                self.drain()
            is_second = True

    # --- one place ----------------------------------------------------------------------

    async def _keep(self, worker: Worker) -> None:
        """Fill a place until it is to be left empty."""
        died_young = 0
        while not self.is_draining:
            began_s = trio.current_time()
            status = await self._live(worker)
            worker.report = None
            worker.settled.set()
            if self.is_draining or status == BAD_USAGE:
                self._status = max(self._status, BAD_USAGE if status == BAD_USAGE else status != 0)
                self.drain()
                return
            lived_s = trio.current_time() - began_s
            is_young = status != 0 and lived_s < self._policy.young_s
            died_young = died_young + 1 if is_young else 0
            pause_s = self._policy.pause_after(died_young)
            if pause_s is None:
                log.error("worker_given_up", worker=worker.number, died_young=died_young)
                worker.is_given_up = True
                self._status = max(self._status, 1)
                if all(each.is_given_up for each in self.workers):
                    self.drain()
                return
            ended = log.info if status == 0 else log.error  # 0: somebody had it drained
            ended(
                "worker_ended",
                worker=worker.number,
                status=status,  # negative: the signal that killed it
                lived_s=round(lived_s, 1),
                again_in_s=pause_s,
            )
            with trio.move_on_after(pause_s):
                await self._draining.wait()
            worker.restarts += not self.is_draining

    async def _live(self, worker: Worker) -> int:
        """One process from start to end; its exit status."""
        ours, theirs = socket.socketpair()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        async with stream, trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    [*self._command, "--worker", str(worker.number)],
                    stdin=theirs,
                    check=False,
                    env=self._environment,
                    # a terminal's Ctrl-C is for us to pass on: twice is another order
                    start_new_session=True,
                    deliver_cancel=_kill,
                )
            )
            theirs.close()
            if self._is_pinned:
                cores = sorted(os.sched_getaffinity(0))
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(process.pid, {cores[(worker.number - 1) % len(cores)]})
            log.info("worker_started", worker=worker.number, pid=process.pid)
            nursery.start_soon(self._listen, worker, process, stream)
            nursery.start_soon(self._end, worker, process, stream)
            status: int = await process.wait()
            nursery.cancel_scope.cancel(reason="the process has ended")
        return status

    async def _listen(
        self, worker: Worker, process: trio.Process, stream: trio.SocketStream
    ) -> None:
        """Take in reports; a process that falls silent is put out of its misery."""
        unread = b""
        while True:
            limit_s = START_LIMIT_S if worker.report is None else SILENT_LIMIT_S
            data = b""
            with trio.move_on_after(limit_s) as silence, suppress(trio.BrokenResourceError):
                data = await stream.receive_some()
            if not data and not silence.cancelled_caught:
                return  # it ends
            if silence.cancelled_caught or len(unread) > REPORT_MAX_BYTES:
                log.error("worker_hangs", worker=worker.number, silent_s=limit_s)
                process.kill()
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                try:
                    report = msgspec.json.decode(line, type=Report)
                except msgspec.DecodeError:  # it must not take the others with it
                    log.error("worker_unreadable", worker=worker.number)
                    process.kill()
                    return
                if worker.report is None:
                    log.info("worker_ready", worker=worker.number)
                worker.report = report
                worker.settled.set()

    async def _end(self, worker: Worker, process: trio.Process, stream: trio.SocketStream) -> None:
        """See to it that the process ends once we drain."""
        await self._draining.wait()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(DRAIN)
            with trio.move_on_after(self._drain_limit_s):
                await self._stopping.wait()
            await stream.send_all(STOP)
        await trio.sleep(STOP_LIMIT_S)
        log.error("worker_killed", worker=worker.number)
        process.kill()


async def _kill(process: trio.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
