"""When a delivery is tried again: plain functions of how often it was, and of a die."""

from __future__ import annotations

__all__ = ["ATTEMPTS_MAX", "wait_ms"]

ATTEMPTS_MAX = 10  # over some 20 hours: a receiver may be down for a night
FIRST_MS = 5_000
FACTOR = 4
WAIT_MAX_MS = 6 * 3_600_000
JITTER = 0.2  # receivers that come back are not asked by all that wait in one moment


def wait_ms(attempts: int, retry_after_s: float | None, die: float) -> int | None:
    """How long to wait after the ``attempts``-th attempt has failed; None: not any more.

    Args:
        retry_after_s: what the receiver asked for: no sooner than that, within our longest wait.
        die: evenly from 0 to 1.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    planned = min(FIRST_MS * FACTOR ** (attempts - 1), WAIT_MAX_MS)
    jittered = int(planned * (1 + JITTER * (2 * die - 1)))
    asked = 0 if retry_after_s is None else int(retry_after_s * 1000)
    return max(jittered, min(asked, WAIT_MAX_MS))
