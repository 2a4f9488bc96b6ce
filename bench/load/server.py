"""A server under load: started, pinned to a core, watched through /proc, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

__all__ = ["Server", "ServerError", "Usage", "cores", "go_first", "pin", "serving"]

START_LIMIT_S = 60.0  # peers load models
STOP_LIMIT_S = 10.0
LAST_LINES = 3  # of its log, where it did not come up
ALLOWED = sorted(os.sched_getaffinity(0))  # before anything was pinned
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """The server did not come up."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a server and its children have used since they began."""

    cpu_ms: float
    starved_ms: float  # ready to run, while something else had the core; another guest, too
    rss_kib: int
    pss_kib: int  # shared pages counted in parts


def cores() -> tuple[int, int]:
    """One core for the server, another for the load; the same where there is but one."""
    return ALLOWED[0], ALLOWED[-1]


def pin(core: int) -> None:
    """Keep this process, and what it starts from now on, on ``core``."""
    os.sched_setaffinity(0, {core})


def go_first() -> bool:
    """Put this process, and what it starts, before all others of the machine; False: may not.

    For a machine that is not quiet: what is measured is then what the server costs, not what
    its neighbours do. They suffer meanwhile.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


class Server:
    """A running server process and its children."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        # by thread: one that has ended is not in /proc any more, and did wait before
        self._starved_ns: dict[int, int] = {}

    def usage(self) -> Usage:
        """CPU and memory by now; reading memory stops the server for a moment."""
        cpu_ms = 0.0
        rss_kib = pss_kib = 0
        for pid in self._family():
            cpu_ms += _cpu_ms(pid)
            self._starved_ns.update(_starved_ns(pid))
            rss, pss = _memory_kib(pid)
            rss_kib, pss_kib = rss_kib + rss, pss_kib + pss
        starved_ms = sum(self._starved_ns.values()) / 1e6 + _stolen_ms(self.process.pid)
        return Usage(cpu_ms=cpu_ms, starved_ms=starved_ms, rss_kib=rss_kib, pss_kib=pss_kib)

    def _family(self) -> list[int]:
        """The server's process and all that descend from it."""
        parent_of = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError, IndexError):
                    # the name in brackets may hold anything: what follows it does not
                    parent_of[int(entry.name)] = int(
                        (entry / "stat").read_text().rpartition(")")[2].split()[1]
                    )
        family = [self.process.pid]
        for pid in family:  # grows as it goes
            family += [child for child, parent in parent_of.items() if parent == pid]
        return family

    def stop(self) -> None:
        """Ask it to end, then make it."""
        family = self._family()
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    core: int,
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run ``command`` on ``core`` until the block ends; it listens on ``port`` when that begins.

    Raises:
        ServerError: it ended, or did not listen in time; ``log`` holds what it said.
    """
    before = os.sched_getaffinity(0)
    with log.open("ab") as out:
        pin(core)
        try:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, **(env or {})}, cwd=cwd
            )
        finally:
            os.sched_setaffinity(0, before)
    server = Server(process)
    try:
        _wait_for(process, port, log)
        yield server
    finally:
        server.stop()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise ServerError(f"ended with {process.returncode}: {_last_words(log)}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise ServerError(f"not listening after {START_LIMIT_S:.0f} s: {_last_words(log)}")


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-LAST_LINES:]) if lines else "it said nothing"


def _cpu_ms(pid: int) -> float:
    """CPU of ``pid``, of ended threads and children too: what is done does not get undone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * TICK_MS
    return 0.0


def _starved_ns(pid: int) -> dict[int, int]:
    """How long each thread that ``pid`` has now waited for a core since it began."""
    found: dict[int, int] = {}
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found[int(task.name)] = int((task / "schedstat").read_text().split()[1])
    return found


def _stolen_ms(pid: int) -> float:
    """How long the machine below kept ``pid``'s core from whoever was to run on it, since boot.

    0 where it may run on several: which of them it would have had, nobody knows.
    """
    with suppress(OSError):
        allowed = os.sched_getaffinity(pid)
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if len(allowed) == 1 and name == f"cpu{min(allowed)}":
                return int(ticks[7]) * TICK_MS
    return 0.0


def _memory_kib(pid: int) -> tuple[int, int]:
    found = {"Rss": 0, "Pss": 0}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0])
    return found["Rss"], found["Pss"]
