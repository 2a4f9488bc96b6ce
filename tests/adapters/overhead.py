"""What each adapter costs a node: ``python -m tests.adapters.overhead``. Takes some six minutes.

CPU of a real node (``rtcore serve``, and the programs it runs) for each second of one call that
holds the conversation of ``talk`` with this provider's fake, the other two being the usual ones.
The usual three stand first; a speech model stands alone. The least of some rounds: whatever else
the machine does only adds.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

from tests.adapters.__main__ import _at_once, _hold, _patiently
from tests.adapters.kinds import ADAPTERS, MODELS, OWN_MINDS, USUAL, Adapter, Agent
from tests.adapters.programs import PROGRAMS, learn_to_speak
from tests.adapters.run import Gate, converse_with_own
from tests.adapters.table import complaints
from tests.adapters.talk import conversation

ROUNDS = 2
AT_ONCE = 2

Costs = dict[str, float]  # ms of CPU a call-second, by adapter


async def _agent(name: str, agent: Agent, costs: Costs, gate: Gate, folder: Path) -> None:
    seen = await _hold(agent, gate, folder)
    costs[name] = min(seen.cpu_ms, costs.get(name, seen.cpu_ms))


async def _own(adapter: Adapter, costs: Costs, gate: Gate, folder: Path) -> None:
    seen = await _patiently(
        lambda place, gate: converse_with_own(adapter, conversation(), place, gate=gate),
        complaints, gate, folder,
    )  # fmt: skip
    costs[adapter.name] = min(seen.cpu_ms, costs.get(adapter.name, seen.cpu_ms))


async def measure(rounds: int) -> Costs:
    """The least of ``rounds`` for each adapter."""
    costs: Costs = {}
    usual = ", ".join(adapter.provider for adapter in USUAL.values())
    agents: dict[str, Agent] = {f"the usual three ({usual})": USUAL}
    agents |= {each.name: {**USUAL, each.kind: each} for each in (*ADAPTERS, *PROGRAMS)}
    agents |= {each.name: {"speech": each} for each in MODELS}
    await learn_to_speak()
    for _ in range(rounds):
        calls = [partial(_agent, name, agent, costs) for name, agent in agents.items()]
        await _at_once([*calls, *(partial(_own, each, costs) for each in OWN_MINDS)], AT_ONCE)
    return costs


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    costs = trio.run(measure, rounds)
    sys.stdout.write("| adapter | CPU ms a call-second |\n| --- | --- |\n")
    for name, cost in costs.items():
        sys.stdout.write(f"| {name} | {cost:.1f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
