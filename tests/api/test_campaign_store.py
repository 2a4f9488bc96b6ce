"""What is kept of campaigns, on both databases: their life, pace and hours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from api.campaigns.specs import CampaignSpec, TargetSpec, Window
from api.outgoing.outbox import create_webhook
from api.outgoing.specs import WebhookSpec
from api.store import Store, attempts
from api.store.agents import delete_agent
from api.store.attempts import (
    claim_call,
    look,
    take_lease,
)
from api.store.campaigns import (
    cancel_campaign,
    delete_campaign,
    get_campaign,
    pause_campaign,
    report_on,
    resume_campaign,
    start_campaign,
    update_campaign,
)
from api.store.errors import Conflict, InUse, InvalidReference, NotFound
from api.store.tables import deliveries
from api.store.targets import add_targets
from tests.api.campaign_desk import FAST, FIRST, ME, SECOND, THIRD, Desk


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


# --- a campaign's life ------------------------------------------------------------------


def test_a_campaign_calls_each_number_and_is_done(desk: Desk) -> None:
    id = desk.campaign(FIRST, SECOND)
    one = desk.claimed()
    assert (one.call.to_number, one.call.from_number) == (FIRST, "14155550199")
    assert (one.call.state, one.call.direction) == ("queued", "outbound")
    two = desk.claimed()
    assert two.call.to_number == SECOND
    assert desk.claim() is None
    assert desk.answered(one) == "answered"
    assert desk.state(id) == "running"
    assert desk.answered(two) == "answered"
    assert desk.state(id) == "completed"
    assert desk.targets(id) == [(FIRST, "done", "answered"), (SECOND, "done", "answered")]
    report = desk.read(report_on, id)
    assert (report.states, report.outcomes) == ({"done": 2}, {"answered": 2})
    assert (report.attempts, report.open_attempts) == ({"answered": 2}, 0)


def test_webhooks_are_told_of_the_end(desk: Desk) -> None:
    spec = WebhookSpec(name="mine", url="https://example.com/", events=("campaign.finished",))
    desk.write(create_webhook, ME, spec)
    id = desk.campaign(FIRST)
    desk.answered(desk.claimed())

    def told(tx: Any) -> list[Any]:
        bodies = tx.conn.scalars(sa.select(deliveries.c.body))
        return [msgspec.json.decode(body) for body in bodies]

    (one,) = desk.read(told)
    assert one["type"] == "campaign.finished"
    assert one["data"] == {
        "campaign_id": id,
        "name": "spring",
        "state": "completed",
        "outcomes": {"answered": 1},
    }


def test_a_number_in_a_campaign_twice_is_called_once(desk: Desk) -> None:
    id = desk.campaign(FIRST, starts=False)
    given = [TargetSpec(number=number) for number in (f"+{FIRST}", SECOND, f"+{SECOND}", THIRD)]
    added = desk.write(add_targets, ME, id, given)
    assert (added.added, added.duplicates) == (2, [0, 2])
    assert [number for number, _, _ in desk.targets(id)] == [FIRST, SECOND, THIRD]


def test_numbers_added_to_a_completed_campaign_set_it_going(desk: Desk) -> None:
    id = desk.campaign(FIRST)
    desk.answered(desk.claimed())
    desk.write(add_targets, ME, id, [TargetSpec(number=SECOND)])
    assert desk.state(id) == "running"
    assert desk.claimed().call.to_number == SECOND


def test_variables_of_a_number_go_before_the_campaigns(desk: Desk) -> None:
    id = desk.campaign(starts=False, variables={"shop": "Roma", "name": "you"})
    desk.write(add_targets, ME, id, [TargetSpec(number=FIRST, variables={"name": "Ann"})])
    desk.write(start_campaign, ME, id)
    assert desk.claimed().call.plan.variables == {"shop": "Roma", "name": "Ann"}


@pytest.mark.parametrize(
    ("first", "then", "is_possible"),
    [
        ([], start_campaign, True),
        ([start_campaign], start_campaign, False),
        ([], pause_campaign, False),
        ([], resume_campaign, False),
        ([start_campaign], pause_campaign, True),
        ([start_campaign, pause_campaign], pause_campaign, True),  # it is so already
        ([start_campaign, pause_campaign], start_campaign, False),
        ([start_campaign, pause_campaign], resume_campaign, True),
        ([], cancel_campaign, True),
        ([start_campaign], cancel_campaign, True),
        ([cancel_campaign], cancel_campaign, True),
        ([cancel_campaign], resume_campaign, False),
        ([cancel_campaign], start_campaign, False),
        ([start_campaign], delete_campaign, False),
        ([start_campaign, pause_campaign], delete_campaign, True),
    ],
)
def test_what_may_follow_what(desk: Desk, first: list[Any], then: Any, is_possible: bool) -> None:
    id = desk.campaign(FIRST, starts=False)

    def do(work: Any) -> None:
        options = {"hangs_up": False} if work in (pause_campaign, cancel_campaign) else {}
        desk.write(work, ME, id, **options)

    for work in first:
        do(work)
    if is_possible:
        do(then)
    else:
        with pytest.raises(Conflict):
            do(then)


def test_a_campaign_without_numbers_does_not_start(desk: Desk) -> None:
    id = desk.campaign(starts=False)
    with pytest.raises(Conflict, match="nobody to call"):
        desk.write(start_campaign, ME, id)


def test_an_agent_is_held_until_the_campaign_is_over(desk: Desk) -> None:
    with pytest.raises(InvalidReference, match="agent_id"):
        desk.campaign(agent_id="agt_" + "0" * 24)
    id = desk.campaign(FIRST)
    with pytest.raises(InUse, match=id):
        desk.write(delete_agent, ME, desk.agent_id)
    desk.answered(desk.claimed())
    desk.write(delete_agent, ME, desk.agent_id)
    with pytest.raises(InvalidReference, match="agent_id"):
        desk.write(add_targets, ME, id, [TargetSpec(number=SECOND)])


def test_a_campaign_is_not_deleted_while_it_calls(desk: Desk) -> None:
    id = desk.campaign(FIRST)
    one = desk.claimed()
    desk.write(pause_campaign, ME, id, hangs_up=False)
    with pytest.raises(Conflict, match="still go on"):
        desk.write(delete_campaign, ME, id)
    desk.end(one)
    desk.write(delete_campaign, ME, id)
    with pytest.raises(NotFound):
        desk.read(get_campaign, id)


# --- pace and hours ---------------------------------------------------------------------


def test_a_pause_stops_the_next_call_and_no_other(desk: Desk) -> None:
    id = desk.campaign(FIRST, SECOND)
    one = desk.claimed()
    desk.write(pause_campaign, ME, id, hangs_up=False)
    assert desk.claim() is None
    assert desk.read(look, "here").to_hang_up == ()
    desk.write(pause_campaign, ME, id, hangs_up=True)
    assert desk.read(look, "here").to_hang_up == (one.call.id,)
    assert desk.write(take_lease, one.call.id, for_hang_up=True).id == one.call.id
    assert desk.write(take_lease, one.call.id, for_hang_up=True) is None  # another node has it
    desk.write(resume_campaign, ME, id)
    assert desk.claimed().call.to_number == SECOND


def test_as_many_calls_at_once_as_allowed(desk: Desk) -> None:
    desk.campaign(FIRST, SECOND, THIRD, concurrency=2)
    one = desk.claimed()
    desk.claimed()
    assert desk.read(look, "here").due_ms is None
    assert desk.claim() is None
    desk.end(one)
    assert desk.claimed().call.to_number == THIRD


def test_calls_of_all_kinds_share_the_accounts_pace(desk: Desk) -> None:
    desk.campaign(FIRST, SECOND, THIRD)
    assert desk.write(claim_call, "here", 2.0) is not None
    desk.now_ms += 10  # the campaign's own pace
    assert desk.write(claim_call, "there", 2.0) is not None
    desk.now_ms += 10
    assert desk.write(claim_call, "here", 2.0) is None
    desk.now_ms += 1000
    assert desk.write(claim_call, "here", 2.0) is not None


def test_a_campaign_has_a_pace_of_its_own(desk: Desk) -> None:
    desk.campaign(FIRST, SECOND, calls_per_s=0.5)
    assert desk.write(claim_call, "here", FAST) is not None
    desk.now_ms += 1999
    assert desk.write(claim_call, "here", FAST) is None
    assert desk.read(look, "here").due_ms == desk.now_ms + 1
    desk.now_ms += 1
    assert desk.write(claim_call, "here", FAST) is not None


def test_campaigns_take_turns(desk: Desk) -> None:
    desk.campaign(FIRST, SECOND)
    desk.campaign(THIRD)
    called = {desk.claimed().call.to_number, desk.claimed().call.to_number}
    assert called == {FIRST, THIRD}


def test_numbers_wait_for_the_hours_of_their_own_zone(desk: Desk) -> None:
    id = desk.campaign(starts=False, windows=(Window(opens="09:00", closes="17:00"),))
    zones = {FIRST: "Asia/Tokyo", SECOND: None, THIRD: "Asia/Tokyo"}
    given = [TargetSpec(number=number, time_zone=zone) for number, zone in zones.items()]
    desk.write(add_targets, ME, id, given)
    desk.write(start_campaign, ME, id)
    one = desk.claimed()
    assert one.call.to_number == SECOND  # it is noon there, and 21:00 in Tokyo
    desk.answered(one)
    assert desk.claim() is None
    midnight = round(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)  # 09:00 in Tokyo
    assert desk.read(look, "here").due_ms == midnight
    desk.now_ms = midnight - 2000
    assert desk.claim() is None
    assert desk.claimed().call.to_number == FIRST
    assert desk.claimed().call.to_number == THIRD


def test_many_numbers_are_put_off_in_parts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "REQUEUE_MAX", 2)
    numbers = [f"1415555{number:04}" for number in range(8)]
    desk.campaign(*numbers, windows=(Window(opens="20:00", closes="21:00"),))
    assert desk.claim() is None
    assert desk.read(look, "here").due_ms <= desk.now_ms  # six are put off, two are not
    assert desk.claim() is None
    evening = round(datetime(2026, 11, 20, 20, tzinfo=UTC).timestamp() * 1000)
    assert desk.read(look, "here").due_ms == evening


def test_a_zone_that_a_node_does_not_know_pauses_the_campaign(desk: Desk) -> None:
    id = desk.campaign(starts=False)
    given = [TargetSpec(number=FIRST, time_zone="Mars/Olympus")]  # known where it was added
    desk.write(add_targets, ME, id, given)
    desk.write(start_campaign, ME, id)
    assert desk.claim() is None
    campaign = desk.read(get_campaign, id)
    assert campaign.state == "paused"
    assert "Mars/Olympus" in campaign.reason


def test_other_hours_hold_at_once(desk: Desk) -> None:
    id = desk.campaign(FIRST, windows=(Window(opens="20:00", closes="21:00"),))
    assert desk.claim() is None
    at_noon = (Window(opens="11:00", closes="13:00"),)

    def change(spec: CampaignSpec) -> CampaignSpec:
        return desk.spec(windows=at_noon)

    desk.write(update_campaign, ME, id, None, change)
    assert desk.claimed().call.to_number == FIRST
