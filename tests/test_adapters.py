"""Every provider in a whole node, over real sockets: ``python -m tests.adapters``, its short form.

The second conversation behind providers that refuse, and the faults, are left to the command.
"""

from __future__ import annotations

import trio

from tests.adapters.__main__ import conversations, rows_of

AT_ONCE = 7  # two rounds of some 20 s each on two cores that have nothing else to do


def test_every_provider_holds_a_conversation_is_stopped_and_counted() -> None:
    rows = rows_of()
    trio.run(conversations, rows, AT_ONCE)
    for row in rows.values():
        assert row.works.startswith("4 turns"), row
        assert row.cancel != "no", row
        assert row.usage[:1].isdigit(), row
