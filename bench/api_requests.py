"""Asks a management API at a steady rate, whatever it answers, and tells how long that took.

``python -m bench.api_requests``: one JSON document on standard output at the end.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import msgspec
import trio
import typer

__all__ = ["MIX", "Asked"]

IN_FLIGHT_MAX = 100  # an API that far behind is not asked more, and that is counted

# what is asked, and how often of fifty
MIX: dict[str, int] = {
    "list calls": 14,
    "get call": 8,
    "get agent": 10,
    "search": 8,
    "change agent": 5,
    "chat": 5,
}


class Asked(msgspec.Struct, kw_only=True):
    """What came of it."""

    sent: int = 0
    skipped: int = 0
    statuses: dict[str, int] = {}
    took_ms: dict[str, list[float]] = {}


class Asker:
    """One client; each request uses the next of the keys."""

    def __init__(self, url: str, keys: list[str], agent: str, base: str, call: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False)
        self._keys = itertools.cycle(keys)
        self._numbers = itertools.count()
        self._in_flight = 0
        self.asked = Asked()
        self._statuses: Counter[str] = Counter()
        self._requests: dict[str, Callable[[], tuple[str, str, Any]]] = {
            "list calls": lambda: ("GET", "/v1/calls?limit=20", None),
            "get call": lambda: ("GET", f"/v1/calls/{call}", None),
            "get agent": lambda: ("GET", f"/v1/agents/{agent}", None),
            "search": lambda: (
                "POST",
                f"/v1/knowledgebases/{base}/search",
                {"query": "when are you open on sunday"},
            ),
            "change agent": lambda: (
                "PATCH",
                f"/v1/agents/{agent}",
                {"prompt": f"Be brief. {next(self._numbers)}"},
            ),
            "chat": lambda: ("POST", f"/v1/agents/{agent}/chat", {"message": "hello"}),
        }

    async def run(self, rate_per_s: float, seconds: float) -> Asked:
        """Send on time for so long, answered or not."""
        shuffled = [name for name, share in MIX.items() for _ in range(share)]
        step = 7  # has no factor in common with fifty: kinds alternate
        began_s = trio.current_time()
        async with self._http, trio.open_nursery() as nursery:
            for number in range(int(rate_per_s * seconds)):
                await trio.sleep_until(began_s + number / rate_per_s)
                if self._in_flight >= IN_FLIGHT_MAX:
                    self.asked.skipped += 1
                    continue
                nursery.start_soon(self._ask, shuffled[number * step % len(shuffled)])
        self.asked.statuses = dict(self._statuses)
        return self.asked

    async def _ask(self, name: str) -> None:
        method, path, body = self._requests[name]()
        headers = {"Authorization": f"Bearer {next(self._keys)}", "If-Match": "*"}
        self._in_flight += 1
        began_s = trio.current_time()
        try:
            answer = await self._http.request(method, path, json=body, headers=headers)
            self._statuses[str(answer.status_code)] += 1
        except httpx.HTTPError as exc:
            self._statuses[type(exc).__name__] += 1
        finally:
            self._in_flight -= 1
        self.asked.sent += 1
        self.asked.took_ms.setdefault(name, []).append((trio.current_time() - began_s) * 1000)


def main(
    url: Annotated[str, typer.Option()],
    key: Annotated[list[str], typer.Option()],
    agent: Annotated[str, typer.Option()],
    base: Annotated[str, typer.Option()],
    call: Annotated[str, typer.Option()],
    rate: Annotated[float, typer.Option(min=0.1)] = 50,
    seconds: Annotated[float, typer.Option(min=0.1)] = 10,
) -> None:
    """Ask, then tell."""
    # the callers share this core and must keep time: stand back for them
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # --first is handed down
    os.nice(10)
    asker = Asker(url, key, agent, base, call)
    sys.stdout.buffer.write(msgspec.json.encode(trio.run(asker.run, rate, seconds)))


if __name__ == "__main__":
    typer.run(main)
