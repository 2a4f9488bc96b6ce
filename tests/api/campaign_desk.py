"""A store whose time stands still and one campaign in it, for the tests of what is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from api.calls.records import Ended, mark_answered, mark_ended
from api.campaigns.specs import CampaignSpec, TargetSpec
from api.specs import AgentSpec
from api.store import Actor, Store
from api.store.agents import create_agent
from api.store.attempts import (
    Claimed,
    claim_call,
    settle,
)
from api.store.campaigns import (
    create_campaign,
    get_campaign,
    start_campaign,
)
from api.store.targets import add_targets, find_targets

ME = Actor("test")
NOON_MS = round(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)  # a Friday
FAST = 100.0  # calls a second of the account
FIRST, SECOND, THIRD = "14155550101", "14155550102", "14155550103"
BUSY = Ended(state="busy", cause="Busy Line", code=3010, source="Carrier")


class Desk:
    """A store whose time stands still, and one campaign in it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_ms = NOON_MS
        store.now_s = lambda: self.now_ms / 1000
        self.agent_id = self.write(create_agent, ME, AgentSpec(name="desk")).id

    def read(self, work: Any, *args: Any, **kw: Any) -> Any:
        return self.store.run(work, False, *args, **kw)

    def write(self, work: Any, *args: Any, **kw: Any) -> Any:
        return self.store.run(work, True, *args, **kw)

    def spec(self, **changes: Any) -> CampaignSpec:
        given: dict[str, Any] = {
            "name": "spring",
            "agent_id": self.agent_id,
            "from_": "+14155550199",
            "time_zone": "UTC",
            "calls_per_s": 100.0,
            "windows": (),
        }
        return CampaignSpec(**{**given, **changes})

    def campaign(self, *numbers: str, starts: bool = True, **changes: Any) -> str:
        id: str = self.write(create_campaign, ME, self.spec(**changes)).id
        if numbers:
            self.write(add_targets, ME, id, [TargetSpec(number=each) for each in numbers])
        if starts:
            self.write(start_campaign, ME, id)
        return id

    def claim(self, node: str = "here") -> Claimed | None:
        self.now_ms += 1000  # past any pace
        claimed = self.write(claim_call, node, FAST)
        assert claimed is None or isinstance(claimed, Claimed)
        return claimed

    def claimed(self) -> Claimed:
        found = self.claim()
        assert found is not None
        return found

    def end(self, claimed: Claimed, ended: Ended = BUSY) -> str | None:
        self.write(mark_ended, claimed.call.id, ended)
        outcome: str | None = self.write(settle, claimed.call.id)
        return outcome

    def answered(self, claimed: Claimed) -> str | None:
        self.write(mark_answered, claimed.call.id, f"uuid-{claimed.call.id}")
        return self.end(claimed, Ended(state="completed", code=4000, source="Callee"))

    def targets(self, id: str) -> list[tuple[str, str, str | None]]:
        page = self.read(find_targets, id, 100, 0, {})
        return [(each.number, each.state, each.outcome) for each in page.items]

    def state(self, id: str) -> str:
        return str(self.read(get_campaign, id).state)
