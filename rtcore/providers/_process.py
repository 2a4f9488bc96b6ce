"""Child processes of providers: ended within a bound, restarted with growing pauses."""

from __future__ import annotations

import trio

__all__ = ["HEALTHY_AFTER_S", "RESTART_FIRST_S", "RESTART_MAX_S", "end_process"]

EXIT_LIMIT_S = 0.5  # from the end of its input to its exit; then it is killed
KILL_LIMIT_S = 2.0  # from SIGKILL to the exit; longer is the kernel's trouble, not ours
RESTART_FIRST_S, RESTART_MAX_S = 0.05, 5.0  # doubling while it keeps dying young
HEALTHY_AFTER_S = 10.0


async def end_process(process: trio.Process) -> None:
    """End a process within a bound, and leave no zombie. Runs to its end when cancelled."""
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.move_on_after(EXIT_LIMIT_S, shield=True):
        await process.stdin.aclose()
        await process.wait()
    if process.returncode is None:
        process.kill()
        with trio.move_on_after(KILL_LIMIT_S, shield=True):
            await process.wait()
    with trio.move_on_after(KILL_LIMIT_S, shield=True):
        await process.stdout.aclose()
