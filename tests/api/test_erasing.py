"""What is known of callers goes: by call, by caller, by policy; and nothing of it stays behind."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from api.calls.erasing import (
    BATCH_MAX,
    Erased,
    Policy,
    Subject,
    caller_alias,
    done_before_ms,
    due_before_ms,
    erase_call,
    erase_caller,
    erase_due,
    erase_recordings,
    forget_idle,
    read_policy,
)
from api.calls.recordings import (
    begin_recording,
    find_recordings,
    finish_recordings,
    forget_recordings,
    get_recordings,
    name_of,
    recording_of,
    remove_file,
)
from api.calls.records import (
    CallPlan,
    Ended,
    begin_inbound,
    begin_outbound,
    find_calls,
    get_call,
    get_streams,
    mark_ended,
    write_streams,
)
from api.specs import AgentSpec, Retention
from api.store import Actor, Store, Tx, database, keys
from api.store.agents import create_agent
from api.store.chats import begin_chat, get_chat, save_chat
from api.store.errors import Conflict, NotFound
from api.store.idempotency import begin_once, finish_once
from api.store.keys import find_audit, forget_audit
from api.store.records import note
from api.store.tables import call_streams, deliveries
from rtcore.call import CallRecord
from rtcore.metrics import CallStats
from rtcore.ports import Message

ME = Actor("test")
OURS, ANN, BOB = "14155550199", "14155550100", "14155550101"
DAY_MS = 86_400_000
OVER = Ended(state="completed")
WORDS = "my secret word is xylophonist"


def record(text: str) -> CallRecord:
    return CallRecord(
        call_id="c",
        stream_id="s",
        ended_by="hung_up",
        duration_s=1.0,
        turns=(),
        barge_ins=(),
        stats=CallStats(),
        transcript=(Message(role="user", text=text),),
        notes=(),
    )


class Filled:
    """A store with calls in it, and a clock that a test may turn."""

    def __init__(self, store: Store) -> None:
        self.store, self.now_s = store, 1_800_000_000.0
        store.now_s = lambda: self.now_s
        self.agent_id = store.run(create_agent, True, ME, AgentSpec(name="desk")).id

    def call(
        self,
        number: str,
        *,
        is_over: bool = True,
        is_inbound: bool = True,
        agent_id: str = "",
    ) -> str:
        """A call with somebody, with a transcript and a recording."""
        agent_id = agent_id or self.agent_id

        def work(tx: Tx) -> str:
            if is_inbound:
                carrier_id = (
                    f"uuid-{tx.conn.scalar(sa.select(sa.func.count()).select_from(call_streams))}"
                )
                id = begin_inbound(tx, agent_id, carrier_id, number, OURS).id
            else:
                id = begin_outbound(tx, ME, agent_id, OURS, number, CallPlan()).id
            write_streams(tx, {(id, 1): (record(WORDS), True)})
            begin_recording(tx, id, 1, "folder", f"{id}.wav")
            finish_recordings(tx, {(id, 1): (8000, 0)})
            if is_over:
                mark_ended(tx, id, OVER)
            return id

        return self.store.run(work, True)

    def exists(self, id: str) -> bool:
        try:
            self.store.run(get_call, False, id)
        except NotFound:
            return False
        return True

    def words(self, id: str) -> list[str]:
        records = self.store.run(get_streams, False, id)
        return [message.text for each in records for message in each.transcript]

    def erase(self, subject: Subject, node: Retention, after_ms: int = 0) -> Erased:
        policy = self.store.run(read_policy, False, node)
        return self.store.run(erase_due, True, ME, subject, policy, after_ms)

    def audited(self) -> list[tuple[str, str]]:
        page = self.store.run(find_audit, False, 100, 0, None)
        return [(line.action, line.resource_id) for line in page.items]


@pytest.fixture
def filled(store: Store) -> Filled:
    return Filled(store)


# --- one call ---------------------------------------------------------------------------


def test_a_call_that_is_over_goes_with_all_that_is_known_of_it(filled: Filled) -> None:
    store, id, other = filled.store, filled.call(ANN), filled.call(BOB)

    def asked(tx: Tx) -> None:
        assert begin_once(tx, "key", "one", "print", DAY_MS) is None
        finish_once(tx, "key", "one", b"... " + id.encode() + b" ...")
        assert begin_once(tx, "key", "two", "print", DAY_MS) is None
        finish_once(tx, "key", "two", other.encode())

    store.run(asked, True)
    erased = store.run(erase_call, True, ME, id)
    assert (erased.calls, erased.transcripts) == (1, 1)
    assert [each.name for each in erased.files] == [f"{id}.wav"]
    assert not filled.exists(id)
    assert filled.exists(other)
    assert store.run(get_recordings, False, id) == ()
    assert ("call.erased", id) in filled.audited()
    assert store.run(begin_once, True, "key", "two", "print", DAY_MS) == other.encode()
    assert store.run(begin_once, True, "key", "one", "print", DAY_MS) is None  # forgotten
    with pytest.raises(NotFound):
        store.run(erase_call, True, ME, id)

    def told(tx: Tx) -> int:
        query = sa.select(sa.func.count()).where(deliveries.c.subject_id == id)
        return tx.conn.scalar(query) or 0

    assert store.run(told, False) == 0


def test_a_call_that_goes_on_stays(filled: Filled) -> None:
    id = filled.call(ANN, is_over=False)
    for erase in (erase_call, erase_recordings):
        with pytest.raises(Conflict):
            filled.store.run(erase, True, ME, id)
    assert filled.words(id) == [WORDS]


def test_a_recording_alone_goes(filled: Filled) -> None:
    id = filled.call(ANN)
    erased = filled.store.run(erase_recordings, True, ME, id)
    assert (erased.calls, len(erased.files)) == (0, 1)
    assert filled.words(id) == [WORDS]
    # until the file is gone the row says where it is, whoever dies in between
    found = filled.store.run(find_recordings, False, "folder", "erasing", 2**62, 10)
    assert [each.key for each in found] == [(id, 1)]
    assert filled.store.run(find_recordings, False, "another", "erasing", 2**62, 10) == ()
    filled.store.run(forget_recordings, True, [(id, 1)])
    with pytest.raises(NotFound):
        filled.store.run(erase_recordings, True, ME, id)


def test_what_is_being_erased_is_not_kept_by_a_late_writer(filled: Filled) -> None:
    id = filled.call(ANN)
    filled.store.run(erase_call, True, ME, id)
    filled.store.run(finish_recordings, True, {(id, 1): (9000, 0)})
    assert filled.store.run(get_recordings, False, id) == ()
    filled.store.run(write_streams, True, {(id, 1): (record(WORDS), True)})  # and no error
    assert not filled.exists(id)


def test_a_recording_is_found_by_its_stream(filled: Filled) -> None:
    id = filled.call(ANN)
    filled.store.run(begin_recording, True, id, 3, "folder", "late.wav")
    found = filled.store.run(get_recordings, False, id)
    assert recording_of(found, id, 0).number == 1
    assert recording_of(found, id, 3).state == "running"
    with pytest.raises(NotFound):
        recording_of(found, id, 2)
    filled.store.run(finish_recordings, True, {(id, 3): (0, 0)})  # it stayed empty
    assert len(filled.store.run(get_recordings, False, id)) == 1


# --- one caller -------------------------------------------------------------------------


def test_a_caller_is_forgotten(filled: Filled) -> None:
    theirs = [filled.call(ANN), filled.call(f"+{ANN}"), filled.call(ANN, is_inbound=False)]
    others = [filled.call(BOB), filled.call(BOB, is_inbound=False)]
    going = filled.call(ANN, is_over=False)
    alias = caller_alias(b"0123456789abcdef", ANN)
    erased, going_on = filled.store.run(erase_caller, True, ME, ANN, alias)
    assert (erased.calls, len(erased.files), going_on) == (3, 3, 1)
    assert [filled.exists(id) for id in theirs] == [False] * 3
    assert [filled.exists(id) for id in (*others, going)] == [True] * 3
    # our own number is at the other end of every call: it is nobody's
    assert filled.store.run(erase_caller, True, ME, OURS, alias)[0].calls == 0
    audited = filled.audited()
    assert ("caller.erased", alias) in audited
    assert not any(ANN in resource for _, resource in audited)
    assert ANN not in alias
    assert caller_alias(b"another key of 16", ANN) != alias != caller_alias(b"", ANN)


def test_a_caller_with_many_calls_is_forgotten_in_steps(filled: Filled) -> None:
    for _ in range(BATCH_MAX + 1):
        filled.store.run(_lone_call, True, filled.agent_id)
    counts = []
    while True:
        erased, _ = filled.store.run(erase_caller, True, ME, ANN, "caller_x")
        counts.append(erased.calls)
        if not erased.calls:
            break
    assert counts == [BATCH_MAX, 1, 0]
    assert filled.store.run(find_calls, False, 10, 0, {}).total == 0


def _lone_call(tx: Tx, agent_id: str) -> None:
    mark_ended(tx, begin_outbound(tx, ME, agent_id, OURS, ANN, CallPlan()).id, OVER)


# --- by policy --------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["recordings", "transcripts", "calls"])
def test_a_policy_of_the_node_and_one_of_an_agent(filled: Filled, subject: Subject) -> None:
    field = f"{subject}_days"
    brief = AgentSpec(name="brief", retention=msgspec.convert({field: 1}, Retention))
    keeps = AgentSpec(name="keeps", retention=msgspec.convert({field: 100}, Retention))
    agents = {
        "usual": filled.agent_id,
        **{spec.name: filled.store.run(create_agent, True, ME, spec).id for spec in (brief, keeps)},
    }
    ids = {name: filled.call(ANN, agent_id=agent_id) for name, agent_id in agents.items()}
    going = filled.call(ANN, is_over=False, agent_id=agents["brief"])
    policy = msgspec.convert({field: 10}, Retention)

    def left() -> set[str]:
        while True:
            erased = filled.erase(subject, policy)
            if not (erased.calls or erased.transcripts or erased.files):
                break
        if subject == "calls":
            return {name for name, id in ids.items() if filled.exists(id)}
        if subject == "transcripts":
            return {name for name, id in ids.items() if filled.words(id)}
        return {name for name, id in ids.items() if filled.store.run(get_recordings, False, id)}

    assert left() == {"usual", "brief", "keeps"}
    filled.now_s += 1.5 * 86_400
    assert left() == {"usual", "keeps"}
    filled.now_s += 9 * 86_400
    assert left() == {"keeps"}
    filled.now_s += 100 * 86_400
    assert left() == set()
    assert filled.words(going) == [WORDS]  # however old: it is not over
    names = {"recordings": "recording_erased", "transcripts": "transcript_erased"}
    wanted = f"call.{names.get(subject, 'erased')}"
    assert sorted(id for action, id in filled.audited() if action == wanted) == sorted(ids.values())


def test_numbers_stay_when_a_transcript_goes(filled: Filled) -> None:
    id = filled.call(ANN)
    filled.now_s += 10
    filled.erase("transcripts", Retention(transcripts_days=0))
    assert filled.words(id) == []
    call = filled.store.run(get_call, False, id)
    assert call.from_number == ANN
    (kept,) = filled.store.run(get_streams, False, id)
    assert kept.duration_s == 1.0
    assert len(filled.store.run(get_recordings, False, id)) == 1


def test_without_a_policy_all_is_kept(filled: Filled) -> None:
    id = filled.call(ANN)
    filled.now_s += 1000 * 86_400
    for subject in ("recordings", "transcripts", "calls"):
        erased = filled.erase(subject, Retention())  # type: ignore[arg-type] # a name of three
        assert (erased.calls, erased.transcripts, erased.files) == (0, 0, ())
    assert filled.words(id) == [WORDS]


def test_when_each_agent_s_calls_are_due() -> None:
    agents = {"a": Retention(calls_days=0), "b": Retention(recordings_days=1)}
    policy, now_ms = Policy(Retention(calls_days=10), agents), 11 * DAY_MS
    assert due_before_ms("calls", policy, now_ms) == (DAY_MS, {"a": now_ms})
    assert due_before_ms("recordings", policy, now_ms) == (None, {"b": 10 * DAY_MS})
    assert due_before_ms("transcripts", policy, now_ms) == (None, {})
    assert DAY_MS - 3_600_000 < done_before_ms("calls", policy, now_ms) < DAY_MS
    assert done_before_ms("transcripts", policy, now_ms) == 0


def test_what_has_been_seen_to_is_not_looked_at_again(filled: Filled) -> None:
    id, policy = filled.call(ANN), Retention(calls_days=1)
    ended_ms = int(filled.now_s * 1000)
    filled.now_s += 2 * 86_400
    assert filled.erase("calls", policy, ended_ms + 1).calls == 0
    assert filled.exists(id)
    assert filled.erase("calls", policy, ended_ms).calls == 1


def test_conversations_nobody_goes_on_with_are_forgotten(filled: Filled) -> None:
    chat = begin_chat(filled.agent_id, 1, {})
    filled.store.run(save_chat, True, chat, DAY_MS)
    filled.now_s += 3600
    assert filled.store.run(forget_idle, True, DAY_MS, DAY_MS) == 0
    assert filled.store.run(get_chat, False, filled.agent_id, chat.id, 10 * DAY_MS).id == chat.id
    filled.now_s += 86_400
    assert filled.store.run(forget_idle, True, DAY_MS, DAY_MS) == 1
    with pytest.raises(NotFound):
        filled.store.run(get_chat, False, filled.agent_id, chat.id, 10 * DAY_MS)


def test_old_lines_of_the_audit_log_go_some_at_a_time(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "AUDIT_BATCH_MAX", 2)
    before = filled.store.run(find_audit, False, 100, 0).total
    for number in range(3):
        filled.store.run(note, True, ME, "test.old", f"res_{number}")
    filled.now_s += 3600
    filled.store.run(note, True, ME, "test.new", "res_new")
    filled.now_s += 86_400 - 1800
    gone = []
    while (forgotten := filled.store.run(forget_audit, True, DAY_MS)) != 0:
        gone.append(forgotten)
    assert max(gone) == 2
    assert sum(gone) == before + 3
    (left,) = filled.store.run(find_audit, False, 100, 0).items
    assert left.resource_id == "res_new"


# --- nothing left -----------------------------------------------------------------------


async def test_no_octet_of_it_stays_in_the_file(sqlite_url: str) -> None:
    store = Store.open(sqlite_url)
    filled = Filled(store)
    path = Path(sqlite_url.removeprefix("sqlite:///"))

    def holds(text: str) -> bool:
        files = path.parent.glob(f"{path.name}*")  # the log beside it, too
        return any(text.encode() in file.read_bytes() for file in files)

    id = filled.call(ANN)
    assert holds(WORDS)
    assert holds(ANN)
    await store.write(erase_call, ME, id)
    await store.settle()
    assert not holds(WORDS)
    assert not holds(ANN)
    store.close()


async def test_what_a_reader_holds_back_is_settled_later(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that began before it was erased sees it still, and so does the log."""
    monkeypatch.setattr(database, "BUSY_LIMIT_S", 0.05)
    store = Store.open(sqlite_url)

    def kept() -> bytes:
        return Path(sqlite_url.removeprefix("sqlite:///") + "-wal").read_bytes()

    id = Filled(store).call(ANN)
    reader = store.engine.execution_options(rtcore_writes=False).connect()
    reader.execute(sa.select(call_streams)).all()
    await store.write(erase_call, ME, id)
    assert not await store.settle()
    assert not store.is_settled
    assert WORDS.encode() in kept()
    reader.close()
    assert await store.settle()
    assert store.is_settled
    assert kept() == b""
    store.close()


def test_a_file_goes_and_with_the_last_one_its_day(tmp_path: Path) -> None:
    names = [name_of("call_1", 1_800_000_000.0) for _ in range(2)]
    assert {name.partition("/")[0] for name in names} == {"2027-01-15"}
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert remove_file(tmp_path / names[0])
    assert (tmp_path / names[1]).exists()
    assert remove_file(tmp_path / names[1])
    assert remove_file(tmp_path / names[1])  # gone already: as wished
    assert list(tmp_path.iterdir()) == []
