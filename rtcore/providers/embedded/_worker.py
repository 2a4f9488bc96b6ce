"""Supervised worker processes: started, watched, restarted and ended by one nursery.

A job is one call's (or one reply's) use of a worker. A worker that dies takes its jobs with
it and nothing else: each gets a retryable error, and a new process is started. Every wait
here ends: what a worker does not take or answer in time gets it killed.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog
import trio

from rtcore.errors import ProviderError, RemoteProtocolError
from rtcore.providers._process import (
    HEALTHY_AFTER_S,
    RESTART_FIRST_S,
    RESTART_MAX_S,
    end_process,
)
from rtcore.providers._tasks import run_beside
from rtcore.providers.embedded import _wire
from rtcore.providers.embedded._wire import Frame, Kind

__all__ = ["Job", "WorkerPool"]

log = structlog.get_logger()

START_LIMIT_S = 10.0  # imports and models: under 1 s on an idle machine
RESTART_LIMIT_S = 2.0  # for a job to get a worker: one is there again in 0.4 s, or another
# provider had better take over while the caller still waits
WRITE_LIMIT_S = 2.0  # a worker that reads nothing for so long hangs
OUTBOX_MAX_FRAMES = 64  # 5 s of one call's audio
READ_BYTES = 65536  # a pipe holds no more


class Job:
    """One open conversation with a worker; leaving the block closes it, without waiting."""

    def __init__(
        self, worker: _Worker, number: int, inbox: trio.MemoryReceiveChannel[Frame]
    ) -> None:
        self._worker, self._number, self._inbox = worker, number, inbox

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._inbox.close()
        self._worker.close(self._number)

    async def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame; waits while the worker is behind, but not for ever.

        Raises:
            ProviderError: the worker died.
        """
        await self._worker.send(Frame(kind, self._number, payload))

    async def receive(self, limit_s: float = math.inf) -> Frame:
        """Wait for the worker's next frame; past ``limit_s`` the worker is given up.

        Raises:
            ProviderError: the worker died, hung or refused.
        """
        with trio.move_on_after(limit_s):
            try:
                frame = await self._inbox.receive()
            except trio.EndOfChannel:
                raise self._worker.lost("the worker died") from None
            if frame.kind is Kind.FAILED:
                raise ProviderError(self._worker.provider, frame.payload.decode(), retryable=False)
            return frame
        self.condemn()
        raise self._worker.lost(f"no answer in {limit_s:g} s")

    def condemn(self) -> None:
        """Kill the worker: it hangs, and whoever else waits for it had better know."""
        self._worker.kill()


class WorkerPool:
    """A fixed number of workers of one kind, shared by many jobs.

    Args:
        provider: its name in errors and logs.
        module: run with ``python -m``; speaks ``_wire`` on its standard input and output.
        workers: how many processes.
        jobs_max: open jobs per worker; more are refused.
        inbox_max_frames: what a job may leave unread; more ends the job.
    """

    def __init__(
        self, provider: str, module: str, *, workers: int, jobs_max: int, inbox_max_frames: int
    ) -> None:
        self.provider = provider
        self._jobs_max, self._inbox_max_frames = jobs_max, inbox_max_frames
        self._workers = [_Worker(provider, module, self._wake) for _ in range(workers)]
        self._waiting = trio.lowlevel.ParkingLot()
        self._next_job = 1  # 0 is the worker itself

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the workers alive until cancelled; started once all are ready.

        Raises:
            ProviderError: a worker could not be started at all.
        """

        async def keep() -> None:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as starting:
                    for worker in self._workers:
                        starting.start_soon(nursery.start, worker.run)
                task_status.started()

        await run_beside(keep)  # for its one plain error

    async def open(self) -> Job:
        """Open a job on the least busy worker; waits while all are being restarted.

        Raises:
            ProviderError: all are full, or none came up in time.
        """
        with trio.move_on_after(RESTART_LIMIT_S):
            while not (ready := [worker for worker in self._workers if worker.is_ready]):
                await self._waiting.park()
            worker = min(ready, key=lambda worker: worker.jobs)
            if worker.jobs >= self._jobs_max:
                raise ProviderError(self.provider, "all workers are busy", retryable=True)
            number, self._next_job = self._next_job, self._next_job % 0xFFFFFFFF + 1
            return Job(worker, number, worker.register(number, self._inbox_max_frames))
        raise ProviderError(self.provider, f"no worker in {RESTART_LIMIT_S:g} s", retryable=True)

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are ready."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def _wake(self) -> None:
        self._waiting.unpark_all()


class _Worker:
    """One place in the pool, filled by one process after another."""

    def __init__(self, provider: str, module: str, on_ready: Callable[[], None]) -> None:
        self.provider, self._module, self._on_ready = provider, module, on_ready
        self._process: trio.Process | None = None
        self._outbox: trio.MemorySendChannel[Frame] | None = None  # only while it is ready
        self._inboxes: dict[int, trio.MemorySendChannel[Frame]] = {}
        self._closed: list[int] = []  # jobs whose CLOSE found the outbox full

    @property
    def is_ready(self) -> bool:
        return self._outbox is not None

    @property
    def jobs(self) -> int:
        return len(self._inboxes) + len(self._closed)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.is_ready else None

    def register(self, job: int, inbox_max_frames: int) -> trio.MemoryReceiveChannel[Frame]:
        self._inboxes[job], inbox = trio.open_memory_channel[Frame](inbox_max_frames)
        return inbox

    async def send(self, frame: Frame) -> None:
        if frame.job not in self._inboxes or self._outbox is None:
            raise self.lost("the worker died")
        try:
            await self._outbox.send(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self.lost("the worker died") from None

    def close(self, job: int) -> None:
        """Forget a job; what its worker still says of it is dropped."""
        inbox = self._inboxes.pop(job, None)
        if inbox is None or self._outbox is None:
            return  # it died with its worker
        inbox.close()
        try:
            self._outbox.send_nowait(Frame(Kind.CLOSE, job))
        except trio.WouldBlock:
            self._closed.append(job)  # goes with the next frame, of which there are many

    def kill(self) -> None:
        """End the process at once and give it no more jobs; its reader does the rest."""
        self._outbox = None
        if self._process is not None:
            self._process.kill()

    def lost(self, message: str) -> ProviderError:
        return ProviderError(self.provider, message, retryable=True)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the process again whenever it ends; an end before the first READY is an error."""
        delay_s = RESTART_FIRST_S
        started = False
        while True:
            began_s = trio.current_time()
            became_ready = await self._live(trio.TASK_STATUS_IGNORED if started else task_status)
            if not became_ready and not started:
                raise ProviderError(
                    self.provider, f"python -m {self._module} does not start", retryable=False
                )
            started = True
            if trio.current_time() - began_s >= HEALTHY_AFTER_S:
                delay_s = RESTART_FIRST_S
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_MAX_S)

    async def _live(self, task_status: trio.TaskStatus[None]) -> bool:
        """Live one process from start to end; return whether it ever was ready."""
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # a Ctrl-C at the terminal is the node's to handle
            )
        except OSError as exc:  # no memory, no descriptors: the node goes on, and tries again
            log.warning("worker_not_started", provider=self.provider, reason=exc.strerror)
            return False
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        outbox, orders = trio.open_memory_channel[Frame](OUTBOX_MAX_FRAMES)
        became_ready = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin, orders)
                if await self._read_ready(process.stdout):
                    became_ready = True
                    self._outbox = outbox
                    self._on_ready()
                    task_status.started()
                    await self._read(process.stdout)
                nursery.cancel_scope.cancel(reason="the process is over")
        finally:
            self._outbox = None
            lost, self._inboxes = self._inboxes, {}
            self._closed.clear()
            for inbox in lost.values():
                inbox.close()
            orders.close()
            await end_process(process)
        log.warning(
            "worker_ended",
            provider=self.provider,
            exit_code=process.returncode,
            jobs_lost=len(lost),
        )
        return became_ready

    async def _read_ready(self, stdout: trio.abc.ReceiveStream) -> bool:
        """Wait for the first frame. READY is one header and alone: the worker waits for us."""
        with trio.move_on_after(START_LIMIT_S):
            octets = await stdout.receive_some(READ_BYTES)
            return octets == _wire.pack(Frame(Kind.READY, 0))
        return False

    async def _read(self, stdout: trio.abc.ReceiveStream) -> None:
        """Hand frames to their jobs until the process ends. Never waits for a job."""
        unframer = _wire.Unframer()
        try:
            while octets := await stdout.receive_some(READ_BYTES):
                for frame in unframer.feed(octets):
                    self._deliver(frame)
        except (trio.BrokenResourceError, RemoteProtocolError):
            self.kill()

    def _deliver(self, frame: Frame) -> None:
        inbox = self._inboxes.get(frame.job)
        if inbox is None:
            return  # of a job closed meanwhile
        try:
            inbox.send_nowait(frame)
        except trio.WouldBlock:
            log.warning("worker_job_unread", provider=self.provider)
            self.close(frame.job)

    async def _write(
        self, stdin: trio.abc.SendStream, orders: trio.MemoryReceiveChannel[Frame]
    ) -> None:
        async for frame in orders:
            octets = b"".join(_wire.pack(Frame(Kind.CLOSE, job)) for job in self._closed)
            self._closed.clear()
            if frame.kind is Kind.CLOSE or frame.job in self._inboxes:  # else of a job just closed
                octets += _wire.pack(frame)
            with trio.move_on_after(WRITE_LIMIT_S) as limit:
                try:
                    await stdin.send_all(octets)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # it died; its reader knows
            if limit.cancelled_caught:
                self.kill()
                return
