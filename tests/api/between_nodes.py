"""How soon a command sent to one node is done on another, and when a dead node is noticed.

``python -m tests.api.between_nodes [commands]``: two ``rtcore serve`` at their defaults on one
PostgreSQL of its own, a call on the second, commands to the first; then the second is killed.
"""

from __future__ import annotations

import sys

import trio

from api.admin import create_api_key, upgrade_database
from api.nodes.presence import PresenceConfig
from bench.report import percentile
from rtcore.testing import FakePlivo
from tests.api import postgres
from tests.api.test_node_processes import commands, hold_call, two_nodes, until_lost
from tests.fakes.openai_speech import FakeOpenAISpeech

COMMANDS = 200
REACHED_MS, LOST_S = 100.0, 30.0  # the bars


async def measure(database: str, count: int) -> tuple[list[float], float]:
    """What each command took, ms; and how long the dead node's call went unmarked, s."""
    token = create_api_key(database, "between", ["admin"])
    plivo = FakePlivo()
    async with trio.open_nursery() as nursery:
        await nursery.start(plivo.run)
        voice_url = await nursery.start(FakeOpenAISpeech().serve)
        heartbeat_s = PresenceConfig().heartbeat_s
        async with two_nodes(database, token, plivo, heartbeat_s) as (a, b):
            call_id = await hold_call(b, plivo, voice_url)
            took_ms = await commands(a, call_id, count)
            b.process.kill()
            lost_s = await until_lost(a, call_id, 2 * LOST_S)
        nursery.cancel_scope.cancel()
    return took_ms, lost_s


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COMMANDS
    with postgres.server() as database:
        if database is None:
            sys.stderr.write("there is no PostgreSQL server here\n")
            return 3
        upgrade_database(database)
        took_ms, lost_s = trio.run(measure, database, count)
    p50, p95, p99 = (percentile(took_ms, share) or 0.0 for share in (0.5, 0.95, 0.99))
    sys.stdout.write(
        f"{count} commands to the other node, done and told, ms:"
        f" p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}, max {max(took_ms):.0f}\n"
        f"the call of a killed node marked after {lost_s:.1f} s\n"
    )
    return 0 if p95 < REACHED_MS and lost_s < LOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
