"""Attempts to call somebody, on both databases: once, again, never; claims, leases, outcomes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from api.calls.records import Ended, mark_ended, mark_machine
from api.campaigns import rules
from api.campaigns.specs import Retries, Retry, TargetSpec
from api.store import Store, Tx
from api.store.attempts import (
    IN_CALL_MS,
    LEASE_MS,
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
    get_campaign,
    report_on,
    resume_campaign,
)
from api.store.do_not_call import block_numbers, find_blocked, unblock_number
from api.store.errors import Conflict, NotFound, Unreadable
from api.store.tables import campaign_attempts, campaigns
from api.store.targets import add_targets, find_targets, get_target, retry_targets
from tests.api.campaign_desk import BUSY, FAST, FIRST, ME, NOON_MS, SECOND, THIRD, Desk


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


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


def test_a_campaign_of_a_newer_node_holds_up_no_other(desk: Desk) -> None:
    newer = desk.campaign(FIRST)

    def renew(tx: Tx) -> None:
        row = sa.update(campaigns).where(campaigns.c.id == newer)
        text = sa.func.replace(
            campaigns.c.spec, '"machine_detection":"off"', '"machine_detection":"z"'
        )
        tx.conn.execute(row.values(spec=text))

    desk.store.run(renew, True)
    with pytest.raises(Unreadable):
        desk.store.run(get_campaign, False, newer)
    assert desk.store.run(look, False, "a").due_ms is None
    assert desk.claim() is None
    desk.campaign(SECOND)
    assert desk.store.run(look, False, "a").due_ms is not None
    assert desk.claimed().call.to_number == SECOND


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
