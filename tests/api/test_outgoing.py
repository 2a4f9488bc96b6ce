"""Webhooks: what is written with what happened, delivered at least once, and given up at last."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from api.calls.recordings import begin_recording, finish_recordings
from api.calls.records import CallPlan, Ended, begin_outbound, mark_answered, mark_ended
from api.outgoing import outbox
from api.outgoing.outbox import (
    CLAIM_MS,
    KEEP_DEAD_MS,
    KEEP_DELIVERED_MS,
    WEBHOOKS,
    claim_deliveries,
    create_webhook,
    find_deliveries,
    finish_delivery,
    is_delivery_due,
    retry_delivery,
    tell,
    tidy_deliveries,
    update_webhook,
)
from api.outgoing.retrying import ATTEMPTS_MAX, FIRST_MS, WAIT_MAX_MS, wait_ms
from api.outgoing.sending import Sender
from api.outgoing.specs import WebhookSpec
from api.settings import ApiSettings
from api.specs import AgentSpec
from api.store import Actor, Store, Tx
from api.store.agents import create_agent
from api.store.errors import Conflict, NotFound
from rtcore.providers.functions.signing import signed, verify
from tests.api.client import SECRET_KEY, Api
from tests.fakes._faults import Fault
from tests.fakes.function import FakeFunction

ME = Actor("rtk_test")
HOOK = WebhookSpec(name="office", url="https://office.example.com/x")


class Clock:
    """The store's clock, moved by the test."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(store: Store) -> Clock:
    made = Clock()
    store.now_s = made
    return made


def hooked(store: Store, **changes: Any) -> str:
    spec = msgspec.structs.replace(HOOK, **changes)
    return store.run(create_webhook, True, ME, spec)[0].id


def states(store: Store, webhook_id: str) -> list[tuple[str, int]]:
    page = store.run(find_deliveries, False, webhook_id, 100, 0)
    return [(each.state, each.attempts) for each in reversed(page.items)]


# --- the rule of retries ----------------------------------------------------------------


def test_attempts_come_ever_rarer_and_end() -> None:
    waits = [wait_ms(attempts, None, 0.5) for attempts in range(1, ATTEMPTS_MAX + 1)]
    assert waits[0] == FIRST_MS
    known = [wait for wait in waits[:-1] if wait is not None]
    assert len(known) == ATTEMPTS_MAX - 1
    assert known == sorted(known)
    assert known[-1] == WAIT_MAX_MS
    assert waits[-1] is None
    assert 12 * 3_600_000 < sum(known) < 30 * 3_600_000


def test_jitter_and_the_receiver_s_own_wish() -> None:
    assert wait_ms(1, None, 0.0) == FIRST_MS * 0.8
    assert wait_ms(1, None, 1.0) == FIRST_MS * 1.2
    assert wait_ms(1, 60, 0.5) == 60_000
    assert wait_ms(1, 1e9, 0.5) == WAIT_MAX_MS
    assert wait_ms(3, 1, 0.5) == FIRST_MS * 16


# --- the outbox -------------------------------------------------------------------------


def test_a_call_s_life_is_told_to_those_who_want_to_know(store: Store) -> None:
    all_, ended_only = hooked(store), hooked(store, events=("call.ended",))
    off = hooked(store, is_enabled=False)
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    plan = CallPlan(variables={"name": "Ann"})
    call = store.run(begin_outbound, True, ME, agent.id, "14155550199", "14155550100", plan)
    for _ in range(2):  # the carrier may say everything twice
        store.run(mark_answered, True, call.id, "carrier-1")
    for _ in range(2):
        store.run(mark_ended, True, call.id, Ended(state="completed", source="Callee"))
    found = store.run(claim_deliveries, True, 100)
    told = [(each.webhook_id, msgspec.json.decode(each.body)) for each in found]
    kinds = [(id, body["type"], body["data"]["state"]) for id, body in told]
    assert sorted(kinds) == sorted(
        [
            (all_, "call.started", "queued"),
            (all_, "call.answered", "in_progress"),
            (all_, "call.ended", "completed"),
            (ended_only, "call.ended", "completed"),
        ]
    )
    assert {body["data"]["call_id"] for _, body in told} == {call.id}
    last = next(body for _, body in told if body["type"] == "call.ended")
    assert last["data"]["hangup"] == {"cause": "", "source": "Callee"}
    assert last["data"]["variables"] == {"name": "Ann"}
    both = [each.event_id for each in found if b'"call.ended"' in each.body]
    assert len(both) == 2
    assert len(set(both)) == 1  # one event, however many are told
    assert states(store, off) == []


def test_a_recording_is_told_of_once_it_is_whole(store: Store) -> None:
    hooked(store, events=("call.recording",))
    agent = store.run(create_agent, True, ME, AgentSpec(name="desk"))
    plan = CallPlan()
    call = store.run(begin_outbound, True, ME, agent.id, "14155550199", "14155550100", plan)
    store.run(begin_recording, True, call.id, 1, "folder", "a.wav")
    assert store.run(claim_deliveries, True, 10) == ()
    for _ in range(2):
        store.run(finish_recordings, True, {(call.id, 1): (16_000, 0)})
    (work,) = store.run(claim_deliveries, True, 10)
    told = msgspec.json.decode(work.body)["data"]
    assert (told["call_id"], told["duration_s"]) == (call.id, 2.0)


def test_what_is_not_kept_is_not_told(store: Store) -> None:
    webhook = hooked(store)

    def fails(tx: Tx) -> None:
        tell(tx, "call.ended", "call_1", {})
        raise RuntimeError("the transaction fails after it")

    with pytest.raises(RuntimeError):
        store.run(fails, True)
    assert states(store, webhook) == []


def test_one_node_claims_it_and_another_if_that_one_dies(store: Store, clock: Clock) -> None:
    webhook = hooked(store)
    store.run(tell, True, "call.ended", "call_1", {})
    (first,) = store.run(claim_deliveries, True, 10)
    assert store.run(claim_deliveries, True, 10) == ()
    assert not store.run(is_delivery_due, False)
    clock.now_s += CLAIM_MS / 1000
    (second,) = store.run(claim_deliveries, True, 10)
    assert (second.id, second.attempts) == (first.id, 2)
    store.run(finish_delivery, True, first, "", None)  # too late: nothing is written of it
    assert states(store, webhook) == [("waiting", 2)]
    store.run(finish_delivery, True, second, "", None)
    assert states(store, webhook) == [("delivered", 2)]
    with pytest.raises(Conflict):
        store.run(retry_delivery, True, ME, webhook, second.id)


def test_a_busy_webhook_leaves_room_for_others(store: Store) -> None:
    busy, other = hooked(store), hooked(store)
    for _ in range(3):
        store.run(tell, True, "call.ended", "call_1", {})
    found = store.run(claim_deliveries, True, 2, {busy})
    assert [each.webhook_id for each in found] == [other, other]


def test_old_deliveries_are_forgotten_and_dead_ones_later(store: Store, clock: Clock) -> None:
    webhook = hooked(store)
    for error, wait in (("", None), ("503", None), ("503", 1000)):
        store.run(tell, True, "call.ended", "call_1", {})
        (work,) = store.run(claim_deliveries, True, 1)
        store.run(finish_delivery, True, work, error, wait)
        clock.now_s += 0.001
    clock.now_s += KEEP_DELIVERED_MS / 1000
    store.run(tidy_deliveries, True)
    assert sorted(states(store, webhook)) == [("dead", 1), ("waiting", 1)]
    clock.now_s += KEEP_DEAD_MS / 1000
    store.run(tidy_deliveries, True)
    assert states(store, webhook) == [("waiting", 1)]


def test_where_too_many_wait_the_oldest_are_given_up(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.outgoing.outbox.WAITING_MAX", 2)
    webhook = hooked(store)
    for _ in range(5):
        store.run(tell, True, "call.ended", "call_1", {})
        clock.now_s += 1
    store.run(tidy_deliveries, True)
    assert [state for state, _ in states(store, webhook)] == ["dead"] * 3 + ["waiting"] * 2


def test_a_disabled_webhook_is_told_nothing_of_what_waited(store: Store, clock: Clock) -> None:
    webhook, other = hooked(store), hooked(store)
    for number in range(3):
        store.run(tell, True, "call.ended", f"call_{number}", {})
    (failed, *_) = store.run(claim_deliveries, True, 1)
    store.run(finish_delivery, True, failed, "503", 60_000)
    disable = partial(msgspec.structs.replace, is_enabled=False)
    store.run(update_webhook, True, ME, webhook, None, disable)
    store.run(tell, True, "call.ended", "call_9", {})
    clock.now_s += 3600
    claimed = store.run(claim_deliveries, True, 100)
    assert {work.webhook_id for work in claimed} == {other}
    assert {state for state, _ in states(store, webhook)} == {"dead"}
    dead = store.run(find_deliveries, False, webhook, 100, 0).items[0]
    with pytest.raises(Conflict, match="disabled"):
        store.run(retry_delivery, True, ME, webhook, dead.id)
    enable = partial(msgspec.structs.replace, is_enabled=True)
    store.run(update_webhook, True, ME, webhook, None, enable)
    assert store.run(claim_deliveries, True, 100) == ()  # no flood of what was given up
    assert store.run(retry_delivery, True, ME, webhook, dead.id).state == "waiting"


def test_a_webhook_goes_only_after_what_is_being_told_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a webhook that is deleted at that moment would undo the end of a call."""
    if store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    webhook = hooked(store)
    thread = threading.Thread(target=lambda: store.run(WEBHOOKS.delete, True, ME, webhook))
    write = outbox._write

    def write_meanwhile(*args: Any) -> list[str]:
        thread.start()
        thread.join(0.3)
        return write(*args)

    monkeypatch.setattr(outbox, "_write", write_meanwhile)
    store.run(tell, True, "call.ended", "call_1", {})
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(NotFound):
        store.run(find_deliveries, False, webhook, 100, 0)


# --- through the API --------------------------------------------------------------------


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return msgspec.structs.replace(settings, allow_private_urls=True)


@pytest.fixture
async def receiver(nursery: trio.Nursery) -> FakeFunction:
    fake = FakeFunction(b"", "text/plain")
    fake.url = await nursery.start(fake.serve)
    return fake


async def until(reached: Any) -> None:
    with trio.fail_after(10):
        while not await reached():
            await trio.sleep(0.02)


async def test_a_test_event_arrives_signed(api: Api, receiver: FakeFunction) -> None:
    made = await api.create("/v1/webhooks", {"name": "office", "url": f"{receiver.url}/hook"})
    path = f"/v1/webhooks/{made['id']}"
    shown = (await api.ask("GET", path)).json
    assert "secret" not in shown
    assert shown["name"] == "office"
    assert (await api.ask("POST", f"{path}/test")).status == 202

    async def delivered() -> bool:
        items = (await api.ask("GET", f"{path}/deliveries?state=delivered")).json["items"]
        return bool(items)

    await until(delivered)
    (asked,) = receiver.requests
    assert asked.path == "/hook"
    assert verify(asked.headers, asked.body, made["secret"], time.time())
    assert not verify(asked.headers, asked.body + b" ", made["secret"], time.time())
    told = asked.json()
    assert (told["type"], told["data"]) == ("webhook.test", {"webhook_id": made["id"]})
    assert asked.headers["webhook-id"] == told["id"]
    renewed = (await api.ask("POST", f"{path}/secret")).json
    assert renewed["secret"] != made["secret"]
    assert (await api.ask("DELETE", path)).status == 204
    assert (await api.ask("GET", f"{path}/deliveries")).status == 404


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"status": 503}, "503"),
        ({"status": 404}, "404"),
        ({"status": 503, "headers": {"retry-after": "9" * 400}}, "503"),
        ({"status": 302, "headers": {"location": "http://10.0.0.1"}}, "302: redirects"),
    ],
)
async def test_a_failure_is_shown_and_can_be_retried(
    api: Api, receiver: FakeFunction, answers: dict[str, Any], error: str
) -> None:
    for field, value in answers.items():
        setattr(receiver, field, value)
    made = await api.create("/v1/webhooks", {"name": "office", "url": receiver.url})
    path = f"/v1/webhooks/{made['id']}"
    delivery = (await api.ask("POST", f"{path}/test")).json

    async def failed() -> bool:
        (found,) = (await api.ask("GET", f"{path}/deliveries")).json["items"]
        return str(found["error"]).startswith(error)

    await until(failed)
    receiver.status, receiver.headers = 200, {}
    retried = await api.ask("POST", f"{path}/deliveries/{delivery['id']}/retry")
    assert (retried.status, retried.json["attempts"]) == (202, 0)

    async def delivered() -> bool:
        (found,) = (await api.ask("GET", f"{path}/deliveries")).json["items"]
        return bool(found["state"] == "delivered")

    await until(delivered)
    again = await api.ask("POST", f"{path}/deliveries/{delivery['id']}/retry")
    assert again.status == 409


async def test_a_long_answer_is_not_read(api: Api, receiver: FakeFunction) -> None:
    receiver.body = b"x" * (1 << 20)
    made = await api.create("/v1/webhooks", {"name": "office", "url": receiver.url})
    path = f"/v1/webhooks/{made['id']}"
    await api.ask("POST", f"{path}/test")

    async def delivered() -> bool:
        return bool((await api.ask("GET", f"{path}/deliveries?state=delivered")).json["items"])

    await until(delivered)


async def test_a_webhook_is_checked_and_only_for_admins(api: Api) -> None:
    bad = await api.ask("POST", "/v1/webhooks", {"name": "x", "url": "ftp://example.com"})
    assert (bad.status, bad.fields) == (422, ["url"])
    unknown = {"name": "x", "url": "https://example.com", "events": ["call.begun"]}
    assert (await api.ask("POST", "/v1/webhooks", unknown)).fields == ["events[0]"]
    made = await api.create("/v1/webhooks", {"name": "x", "url": "https://example.com"})
    path = f"/v1/webhooks/{made['id']}"
    stale = await api.ask("PATCH", path, {"name": "y"}, headers={"If-Match": '"7"'})
    assert stale.status == 412
    changed = await api.ask("PATCH", path, {"is_enabled": False}, headers={"If-Match": "*"})
    assert (changed.json["is_enabled"], changed.json["name"]) == (False, "x")
    key = await api.create("/v1/keys", {"name": "k", "scopes": ["read", "write", "calls"]})
    assert (await api.with_token(key["token"]).ask("GET", "/v1/webhooks")).status == 403


# --- the sender by itself ---------------------------------------------------------------


async def test_private_addresses_are_refused(store: Store, nursery: trio.Nursery) -> None:
    """Stored while they were allowed, or a name that leads inside by now."""
    webhook = hooked(store, url="https://127.0.0.1/hook")
    store.run(tell, True, "call.ended", "call_1", {})
    nursery.start_soon(Sender(store, allow_private=False).run)

    async def refused() -> bool:
        (found,) = store.run(find_deliveries, False, webhook, 10, 0).items
        return "private" in found.error

    await until(refused)
    nursery.cancel_scope.cancel()


async def test_a_receiver_that_hangs_is_given_up_within_the_claim(
    store: Store, receiver: FakeFunction, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.outgoing.sending.ATTEMPT_LIMIT_S", 0.1)
    webhook = hooked(store, url=receiver.url)
    receiver.faults.add(Fault(first_delay_s=60))
    store.run(tell, True, "call.ended", "call_1", {})
    nursery.start_soon(Sender(store, allow_private=True).run)

    async def failed() -> bool:
        (found,) = store.run(find_deliveries, False, webhook, 10, 0).items
        return found.attempts == 1 and bool(found.error)

    await until(failed)
    nursery.cancel_scope.cancel()


WRITER = """
import sys, time
from api.outgoing.outbox import claim_deliveries, tell
from api.store import Store
store = Store.open(sys.argv[1], secret_keys=(sys.argv[2],))
store.run(tell, True, "call.ended", "call_1", {"n": 1})
if sys.argv[3] == "claimed":
    store.run(claim_deliveries, True, 10)
sys.stdout.write("written")
sys.stdout.flush()
time.sleep(60)
"""


@pytest.mark.parametrize("moment", ["committed", "claimed"])
async def test_a_node_killed_before_it_sends_has_it_sent_by_another(
    store: Store, receiver: FakeFunction, nursery: trio.Nursery, moment: str
) -> None:
    webhook = hooked(store, url=receiver.url)
    url = store.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", WRITER, url, SECRET_KEY, moment]
    died = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert died.stdout is not None
    async with died.stdout:
        assert await died.stdout.receive_some()
        died.kill()
        await died.wait()
    ahead_s = CLAIM_MS / 1000 if moment == "claimed" else 0
    store.now_s = lambda: time.time() + ahead_s
    nursery.start_soon(Sender(store, allow_private=True).run)

    async def delivered() -> bool:
        return states(store, webhook) == [("delivered", 2 if moment == "claimed" else 1)]

    await until(delivered)
    (asked,) = receiver.requests
    assert asked.json()["data"] == {"n": 1}
    nursery.cancel_scope.cancel()


def test_the_verifier_of_the_guide_takes_what_is_sent_and_nothing_else() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/webhooks.md", "exec"), names)
    is_ours, secret = names["is_ours"], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed("evt_1", b"{}", secret, int(time.time()))
    assert is_ours(headers, b"{}", secret)
    assert not is_ours(headers, b"{ }", secret)
    assert not is_ours(headers, b"{}", "whsec_" + "A" * 32)
    assert not is_ours(signed("evt_1", b"{}", secret, int(time.time()) - 400), b"{}", secret)
