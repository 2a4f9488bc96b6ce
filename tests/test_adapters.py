"""Every provider in a whole node, over real sockets: the short form of ``python -m tests.adapters``.

The second conversation behind providers that refuse, and the faults, are left to the command.
"""

from __future__ import annotations

import trio

from tests.adapters.__main__ import conversations
from tests.adapters.kinds import ADAPTERS


def test_every_provider_holds_a_conversation_is_stopped_and_counted() -> None:
    rows = trio.run(conversations)
    assert set(rows) == {adapter.name for adapter in ADAPTERS}
    for row in rows.values():
        assert row.works.startswith("4 turns"), row
        assert row.cancel != "no", row
        assert row.usage[:1].isdigit(), row
