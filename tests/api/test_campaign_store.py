"""What is kept of campaigns, on both databases: claims, leases, outcomes, who is not called."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from api.calls.records import Ended, mark_answered, mark_ended, mark_machine
from api.campaigns import rules
from api.campaigns.specs import CampaignSpec, Retries, Retry, TargetSpec, Window
from api.outgoing.outbox import create_webhook
from api.outgoing.specs import WebhookSpec
from api.specs import AgentSpec
from api.store import Actor, Store, attempts
from api.store.agents import create_agent, delete_agent
from api.store.attempts import (
    IN_CALL_MS,
    LEASE_MS,
    Claimed,
    claim_call,
    close_unknown,
    look,
    refuse_attempt,
    settle,
    take_lease,
    undo_attempt,
)
from api.store.campaigns import (
    cancel_campaign,
    create_campaign,
    delete_campaign,
    get_campaign,
    pause_campaign,
    report_on,
    resume_campaign,
    start_campaign,
    update_campaign,
)
from api.store.do_not_call import block_numbers, find_blocked, unblock_number
from api.store.errors import Conflict, InUse, InvalidReference, NotFound
from api.store.tables import campaign_attempts, deliveries
from api.store.targets import add_targets, find_targets, get_target, retry_targets

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


# --- once -------------------------------------------------------------------------------


def test_nodes_that_claim_together_never_claim_the_same(desk: Desk) -> None:
    numbers = [f"1415555{number:04}" for number in range(40)]
    desk.campaign(*numbers, concurrency=100)
    # a second for each claim, whoever makes it: time is not what is tried here
    ticks = iter(range(NOON_MS, NOON_MS + 10**8, 1000))
    lock = threading.Lock()

    def now_s() -> float:
        with lock:
            return next(ticks) / 1000

    desk.store.now_s = now_s
    found: list[str] = []

    def node(name: str) -> None:
        for _ in range(1000):  # a campaign that another node is at is passed over
            claimed = desk.store.run(claim_call, True, name, FAST)
            if claimed is not None:
                found.append(claimed.call.to_number)
            if len(found) >= len(numbers):
                break

    threads = [threading.Thread(target=node, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == numbers


def test_a_number_is_in_one_call_at_a_time(desk: Desk) -> None:
    ids = {desk.campaign(FIRST), desk.campaign(FIRST)}
    one = desk.claimed()
    assert desk.claim() is None  # the other campaign leaves it alone for a while
    desk.end(one, Ended(state="completed", code=4000, source="Callee"))
    desk.now_ms += IN_CALL_MS
    again = desk.claimed()
    assert {one.campaign_id, again.campaign_id} == ids


def test_no_attempt_can_be_begun_twice(desk: Desk) -> None:
    desk.campaign(FIRST)
    desk.claimed()

    def forge(tx: Any) -> None:
        row = tx.conn.execute(sa.select(campaign_attempts)).one()._asdict()
        tx.conn.execute(sa.insert(campaign_attempts).values(**row | {"call_id": "call_other"}))

    with pytest.raises(sa.exc.IntegrityError):
        desk.write(forge)


def test_whoever_dies_after_the_claim_leaves_a_lease_that_ends(desk: Desk) -> None:
    desk.campaign(FIRST)
    one = desk.claimed()
    assert desk.claim("there") is None
    assert desk.read(look, "there").silent == ()
    desk.now_ms += LEASE_MS
    assert desk.read(look, "there").silent == (one.call.id,)
    assert desk.write(take_lease, one.call.id).id == one.call.id
    assert desk.write(take_lease, one.call.id) is None
    assert desk.read(look, "there").silent == ()


def test_what_nobody_knows_is_not_repeated_without_being_asked_for(desk: Desk) -> None:
    id = desk.campaign(FIRST)
    one = desk.claimed()
    assert desk.write(close_unknown, one.call.id)
    assert not desk.write(close_unknown, one.call.id)
    assert desk.targets(id) == [(FIRST, "done", "unknown")]
    assert desk.state(id) == "completed"
    assert desk.write(retry_targets, ME, id, outcome="unknown", target_ids=()) == 1
    assert desk.state(id) == "running"
    desk.end(one)  # the carrier tells it after all, and it does not count twice
    (target,) = desk.read(find_targets, id, 10, 0, {}).items
    assert target.attempts == 1


def test_an_unknown_attempt_may_become_known_late(desk: Desk) -> None:
    id = desk.campaign(FIRST, retries=Retries(busy=Retry(times=1, after_s=60)))
    one = desk.claimed()
    desk.write(close_unknown, one.call.id)
    desk.write(mark_ended, one.call.id, BUSY)
    assert desk.read(look, "here").ended == (one.call.id,)
    assert desk.write(settle, one.call.id) == "busy"
    assert desk.targets(id) == [(FIRST, "waiting", "busy")]
    assert desk.read(look, "here").ended == ()


def test_a_call_that_was_never_told_of_is_unknown(desk: Desk) -> None:
    id = desk.campaign(FIRST)
    one = desk.claimed()
    assert desk.end(one, Ended(state="failed", cause="the carrier never told")) == "unknown"
    assert desk.targets(id) == [(FIRST, "done", "unknown")]
    assert desk.read(look, "here").ended == ()


def test_a_call_known_not_to_have_been_made_is_made_again(desk: Desk) -> None:
    id = desk.campaign(FIRST, max_attempts=1)
    one = desk.claimed()
    desk.write(undo_attempt, one.call.id, 30.0)
    desk.write(mark_ended, one.call.id, Ended(state="failed"))
    assert desk.write(settle, one.call.id) is None
    assert desk.claim() is None
    desk.now_ms += 30_000
    two = desk.claimed()
    assert desk.answered(two) == "answered"
    (target,) = desk.read(find_targets, id, 10, 0, {}).items
    assert target.attempts == 1
    _, attempts = desk.read(get_target, id, target.id)
    assert [(each.ordinal, each.outcome) for each in attempts] == [
        (1, "not_made"),
        (2, "answered"),
    ]


# --- again ------------------------------------------------------------------------------


def test_a_busy_number_is_called_again_and_then_no_more(desk: Desk) -> None:
    id = desk.campaign(FIRST, retries=Retries(busy=Retry(times=1, after_s=600)))
    assert desk.end(desk.claimed()) == "busy"
    assert desk.targets(id) == [(FIRST, "waiting", "busy")]
    desk.now_ms += 590_000
    assert desk.claim() is None
    desk.now_ms += 10_000
    assert desk.end(desk.claimed()) == "busy"
    assert desk.targets(id) == [(FIRST, "done", "busy")]
    assert desk.read(report_on, id).attempts == {"busy": 2}


def test_attempts_that_were_erased_still_count(desk: Desk) -> None:
    generous = Retries(busy=Retry(times=10, after_s=60))
    id = desk.campaign(FIRST, retries=generous, max_attempts=3)
    for _ in range(2):
        desk.end(desk.claimed())
        desk.now_ms += 60_000

    def erase(tx: Any) -> None:
        tx.conn.execute(sa.delete(campaign_attempts))

    desk.write(erase)
    desk.end(desk.claimed())
    assert desk.targets(id) == [(FIRST, "done", "busy")]
    assert desk.read(find_targets, id, 10, 0, {}).items[0].attempts == 3


def test_one_erased_attempt_does_not_stand_in_the_way(desk: Desk) -> None:
    desk.campaign(FIRST, retries=Retries(busy=Retry(times=10, after_s=60)))
    first = desk.claimed()
    desk.end(first)
    desk.now_ms += 60_000
    desk.end(desk.claimed())
    desk.now_ms += 60_000

    def erase(tx: Any) -> None:
        mine = campaign_attempts.c.call_id == first.call.id
        tx.conn.execute(sa.delete(campaign_attempts).where(mine))

    desk.write(erase)
    assert desk.claim() is not None


def test_a_machine_that_answers(desk: Desk) -> None:
    id = desk.campaign(FIRST, machine_detection="hang_up")
    one = desk.claimed()
    assert one.call.plan.on_machine == "hang_up"
    desk.write(mark_machine, one.call.id)
    assert desk.end(one, Ended(state="completed", code=9100, source="Plivo")) == "machine"
    assert desk.targets(id) == [(FIRST, "done", "machine")]


def test_a_cancelled_campaign_calls_nobody_again(desk: Desk) -> None:
    id = desk.campaign(FIRST, SECOND)
    one = desk.claimed()
    desk.write(cancel_campaign, ME, id, hangs_up=True)
    assert desk.read(look, "here").to_hang_up == (one.call.id,)
    desk.end(one)
    assert desk.targets(id) == [(FIRST, "done", "busy"), (SECOND, "done", "cancelled")]
    with pytest.raises(Conflict):
        desk.write(retry_targets, ME, id, outcome="busy", target_ids=())
    with pytest.raises(Conflict):
        desk.write(add_targets, ME, id, [TargetSpec(number=THIRD)])


def test_an_account_without_credit_pauses_the_campaign(desk: Desk) -> None:
    id = desk.campaign(FIRST, SECOND)
    desk.end(desk.claimed(), Ended(state="failed", code=1010, source="Plivo"))
    campaign = desk.read(get_campaign, id)
    assert (campaign.state, campaign.reason) == ("paused", "the account has no credit left")


def test_a_campaign_whose_calls_all_fail_pauses_until_it_was_seen_to(desk: Desk) -> None:
    numbers = [f"1415555{number:04}" for number in range(rules.FAILURES_MAX + 2)]
    id = desk.campaign(*numbers, retries=Retries(failed=Retry(times=0, after_s=60)))
    for _ in range(rules.FAILURES_MAX - 1):
        desk.write(refuse_attempt, desk.claimed().call.id)
    assert desk.state(id) == "running"
    desk.write(refuse_attempt, desk.claimed().call.id)
    campaign = desk.read(get_campaign, id)
    assert (campaign.state, campaign.reason) == ("paused", "the last 10 calls all failed")
    desk.now_ms += 1
    desk.write(resume_campaign, ME, id)
    desk.write(refuse_attempt, desk.claimed().call.id)
    assert desk.state(id) == "running"


# --- who is not to be called ------------------------------------------------------------


def test_whoever_is_on_the_list_is_not_called(desk: Desk) -> None:
    desk.write(block_numbers, ME, [f"+{FIRST}"], source="api", remark="by letter")
    id = desk.campaign(FIRST, SECOND, THIRD)
    assert desk.targets(id)[0] == (FIRST, "done", "do_not_call")
    blocked = desk.write(block_numbers, ME, [FIRST, SECOND], source="api")
    assert (blocked.added, blocked.stopped) == (1, 1)
    assert desk.claimed().call.to_number == THIRD
    assert desk.claim() is None
    page = desk.read(find_blocked, 10, 0, None)
    assert {(each.number, each.note) for each in page.items} == {(FIRST, "by letter"), (SECOND, "")}


def test_a_campaign_whose_last_number_is_blocked_is_done(desk: Desk) -> None:
    id = desk.campaign(FIRST)
    desk.write(block_numbers, ME, [FIRST], source="api")
    assert desk.state(id) == "completed"
    desk.write(unblock_number, ME, FIRST)
    assert desk.claim() is None  # nobody is called again because a list was mended
    assert desk.write(retry_targets, ME, id, outcome="do_not_call", target_ids=()) == 1
    assert desk.claimed().call.to_number == FIRST
    with pytest.raises(NotFound):
        desk.write(unblock_number, ME, FIRST)


def test_the_list_is_looked_at_as_the_call_is_claimed(desk: Desk) -> None:
    """Even where a number came to wait behind the list's back."""
    id = desk.campaign(FIRST)
    one = desk.claimed()
    desk.write(block_numbers, ME, [FIRST], source="api")  # it rings already
    desk.write(undo_attempt, one.call.id, 0.0)
    assert desk.targets(id) == [(FIRST, "done", "do_not_call")]
    assert desk.write(retry_targets, ME, id, outcome="do_not_call", target_ids=()) == 0


def test_whoever_asks_in_the_call_has_opted_out(desk: Desk) -> None:
    id = desk.campaign(FIRST, retries=Retries(busy=Retry(times=5, after_s=60)))
    one = desk.claimed()
    blocked = desk.write(block_numbers, ME, [FIRST], source="agent", call_id=one.call.id)
    assert (blocked.added, blocked.stopped) == (1, 0)
    assert desk.answered(one) == "opted_out"
    assert desk.targets(id) == [(FIRST, "done", "opted_out")]


def test_what_is_over_costs_a_campaign_nothing(sqlite_url: str) -> None:
    store = Store.open(sqlite_url)
    desk = Desk(store)
    desk.campaign(FIRST, SECOND)
    one = desk.claimed()
    asked: list[tuple[str, Any]] = []
    sa.event.listen(
        store.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3]))
    )
    desk.read(look, "here")
    desk.answered(one)
    of_attempts = [(sql, values) for sql, values in asked if "FROM campaign_attempts" in sql]
    assert of_attempts
    with store.engine.connect() as conn:
        for sql, values in of_attempts:
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            steps = [row.detail for row in plan]
            assert "USE TEMP B-TREE FOR ORDER BY" not in steps, sql
            assert not any(step == "SCAN campaign_attempts" for step in steps), sql
    store.close()
