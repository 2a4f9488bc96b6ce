"""The store by itself, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from api.specs import AgentSpec, FunctionSpec, KnowledgeBaseSpec, ProviderChoice
from api.store import Actor, Store, Tx, upgrade
from api.store.agents import (
    create_agent,
    delete_agent,
    find_agents,
    find_versions,
    get_agent,
    get_published,
    publish_agent,
    update_agent,
)
from api.store.database import make_engine
from api.store.errors import (
    Conflict,
    InUse,
    InvalidReference,
    NotFound,
    RevisionChanged,
    StoreUnavailable,
    VaultLocked,
)
from api.store.functions import FUNCTIONS, create_function, update_function
from api.store.idempotency import begin_once, finish_once, forget_once
from api.store.keys import check_token, create_key, delete_key, find_audit
from api.store.knowledge import (
    KNOWLEDGE_BASES,
    add_document,
    add_passages,
    claim_document,
    delete_document,
    get_document,
)
from api.store.passages import search
from api.store.secrets import delete_secret, open_secrets, put_secret
from api.store.tables import metadata, secrets
from api.store.vault import Vault
from rtcore.agent.documents import Passage
from rtcore.errors import ConfigError

ME = Actor("rtk_test", "req-1")
BOOK = FunctionSpec(
    name="book", description="Book a table", url="https://example.com/f", effect="write"
)


def named(name: str) -> Callable[[AgentSpec], AgentSpec]:
    return lambda spec: msgspec.structs.replace(spec, name=name)


# --- migrations -------------------------------------------------------------------------


def test_migrations_make_what_the_code_expects(empty_url: str) -> None:
    upgrade(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as conn:
        options = {"include_object": lambda _o, name, *_: "fts" not in name and "words" not in name}
        context = MigrationContext.configure(conn, opts=options)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_filled_older_database_is_searchable_after_the_upgrade(empty_url: str) -> None:
    upgrade(empty_url, "0001")
    store = Store.open(empty_url)
    base = store.run(KNOWLEDGE_BASES.create, True, ME, KnowledgeBaseSpec(name="menu"))
    store.run(add_document, True, ME, base.id, "a.txt", "text/plain", b"soup", 5)
    work = store.run(claim_document, True)
    assert work is not None
    store.run(add_passages, True, work.id, 0, [Passage("Soups", "Tomato soup, 5 euro")], 1)
    store.close()
    upgrade(empty_url)
    upgrade(empty_url)  # nothing left to do
    store = Store.open(empty_url)
    hits = store.run(search, False, [base.id], "how much is the tomato soup?", 5)
    assert [hit.text for hit in hits] == ["Tomato soup, 5 euro"]
    store.close()


def test_nodes_that_start_together_migrate_once(empty_url: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            upgrade(empty_url)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# --- agents -----------------------------------------------------------------------------


def test_every_change_makes_a_version_and_publishing_moves_calls(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="one"))
    assert (agent.version, agent.published_version, agent.revision) == (1, 1, 1)
    two = store.run(update_agent, True, ME, agent.id, 1, named("two"), publish=False)
    assert (two.version, two.published_version, two.revision) == (2, 1, 2)
    assert store.run(get_published, False, agent.id).spec.name == "one"
    store.run(publish_agent, True, ME, agent.id, 2, None)
    assert store.run(get_published, False, agent.id).spec.name == "two"
    back = store.run(publish_agent, True, ME, agent.id, None, 1)
    assert (back.version, back.published_version) == (2, 1)
    assert store.run(get_published, False, agent.id).spec.name == "one"
    numbers = [each.number for each in store.run(find_versions, False, agent.id, 10, 0).items]
    assert numbers == [2, 1]
    assert store.run(get_agent, False, agent.id, 1).spec.name == "one"


def test_a_change_that_changes_nothing_makes_no_version(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="one"))
    same = store.run(update_agent, True, ME, agent.id, 1, named("one"), publish=True)
    assert same == agent


def test_a_stale_revision_changes_nothing(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="one"))
    store.run(update_agent, True, ME, agent.id, 1, named("two"), publish=True)
    with pytest.raises(RevisionChanged) as caught:
        store.run(update_agent, True, ME, agent.id, 1, named("three"), publish=True)
    assert caught.value.revision == 2
    with pytest.raises(RevisionChanged):
        store.run(delete_agent, True, ME, agent.id, 1)


def test_versions_that_do_not_exist_cannot_be_published(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="one"))
    with pytest.raises(NotFound):
        store.run(publish_agent, True, ME, agent.id, None, 7)
    assert store.run(get_agent, False, agent.id) == agent


def test_an_agent_cannot_name_what_does_not_exist(store: Store) -> None:
    ghost = "fn_" + "0" * 24
    with pytest.raises(InvalidReference) as caught:
        store.run(create_agent, True, ME, AgentSpec(name="x", function_ids=(ghost,)))
    assert caught.value.field == "function_ids[0]"
    assert store.run(find_agents, False, 10, 0).total == 0  # nothing was stored


def test_functions_of_one_agent_have_different_names(store: Store) -> None:
    one = store.run(create_function, True, ME, BOOK)
    two = store.run(create_function, True, ME, BOOK)
    spec = AgentSpec(name="x", function_ids=(one.id, two.id))
    with pytest.raises(InvalidReference, match="has a function book already"):
        store.run(create_agent, True, ME, spec)
    other = msgspec.structs.replace(BOOK, name="cancel")
    two = store.run(update_function, True, ME, two.id, None, lambda _: other)
    store.run(create_agent, True, ME, spec)
    with pytest.raises(InvalidReference, match="has another function book"):
        store.run(update_function, True, ME, two.id, None, lambda _: BOOK)


def test_what_is_in_use_stays(store: Store) -> None:
    store.run(put_secret, True, ME, "llm-key", "s3cret")
    function = store.run(create_function, True, ME, BOOK)
    base = store.run(KNOWLEDGE_BASES.create, True, ME, KnowledgeBaseSpec(name="menu"))
    spec = AgentSpec(
        name="waiter",
        function_ids=(function.id,),
        knowledgebase_ids=(base.id,),
        llm=(ProviderChoice(provider="openai", secret="llm-key"),),
    )
    agent = store.run(create_agent, True, ME, spec)
    for delete in (
        lambda: store.run(FUNCTIONS.delete, True, ME, function.id),
        lambda: store.run(KNOWLEDGE_BASES.delete, True, ME, base.id),
        lambda: store.run(delete_secret, True, ME, "llm-key"),
    ):
        with pytest.raises(InUse) as caught:
            delete()
        assert [(user.kind, user.id, user.name) for user in caught.value.users] == [
            ("agent", agent.id, "waiter")
        ]
    assert store.run(find_agents, False, 10, 0, None, function.id).total == 1
    # the published version still needs them, though the latest does not
    store.run(
        update_agent, True, ME, agent.id, None, lambda _: AgentSpec(name="waiter"), publish=False
    )
    with pytest.raises(InUse):
        store.run(FUNCTIONS.delete, True, ME, function.id)
    store.run(publish_agent, True, ME, agent.id, None, None)
    store.run(FUNCTIONS.delete, True, ME, function.id)
    with pytest.raises(InvalidReference):  # and no way back to a version that cannot work
        store.run(publish_agent, True, ME, agent.id, None, 1)


def test_a_function_cannot_go_while_an_agent_that_uses_it_comes(store: Store) -> None:
    """Two transactions at once: whichever is second sees the other."""
    function = store.run(create_function, True, ME, BOOK)
    holding, outcome = threading.Event(), list[BaseException | None]()

    def delete() -> None:
        holding.wait(5)
        try:
            store.run(FUNCTIONS.delete, True, ME, function.id)
            outcome.append(None)
        except InUse as exc:
            outcome.append(exc)

    def create(tx: Tx) -> None:
        create_agent(tx, ME, AgentSpec(name="x", function_ids=(function.id,)))
        holding.set()
        thread.join(0.2)  # the deletion is tried, and waits

    thread = threading.Thread(target=delete)
    thread.start()
    store.run(create, True)
    thread.join()
    assert isinstance(outcome[0], InUse)


def test_names_are_found_as_text_not_as_patterns(store: Store) -> None:
    for name in ("100% sure", "100 percent", "O'Brien; DROP TABLE agents"):
        store.run(create_agent, True, ME, AgentSpec(name=name))
    names = [a.spec.name for a in store.run(find_agents, False, 10, 0, "0% S").items]
    assert names == ["100% sure"]
    assert store.run(find_agents, False, 10, 0, "'; drop").total == 0
    assert store.run(find_agents, False, 10, 0, "o'brien").total == 1


def test_pages_cover_a_list_without_gaps(store: Store) -> None:
    for number in range(7):
        store.run(create_agent, True, ME, AgentSpec(name=str(number)))
    seen = [
        agent.id
        for offset in range(0, 9, 3)
        for agent in store.run(find_agents, False, 3, offset).items
    ]
    assert len(seen) == len(set(seen)) == 7


# --- keys, secrets, the audit log -------------------------------------------------------


def test_a_token_is_checked_by_all_of_it(store: Store) -> None:
    key, token = store.run(create_key, True, ME, "ci", ["write", "read"])
    assert key.scopes == ("read", "write")
    assert store.run(check_token, False, token) == key
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), "", "rtk_", token + "x", "é"):
        assert store.run(check_token, False, wrong) is None
    assert key.allows("read")
    assert not key.allows("admin")
    store.run(delete_key, True, ME, key.id)
    assert store.run(check_token, False, token) is None
    with pytest.raises(NotFound):
        store.run(delete_key, True, ME, key.id)


def test_a_key_ends_when_it_was_told_to(sqlite_url: str) -> None:
    now = [1000.0]
    store = Store(make_engine(sqlite_url), now_s=lambda: now[0])
    _, token = store.run(create_key, True, ME, "x", ["read"], 2_000_000)
    assert store.run(check_token, False, token) is not None
    now[0] = 2000.0
    assert store.run(check_token, False, token) is None
    store.close()


def test_no_token_and_no_secret_is_in_the_database(store: Store) -> None:
    _, token = store.run(create_key, True, ME, "ci", ["read"])
    store.run(put_secret, True, ME, "llm", "sk-very-secret")

    def dump(tx: Tx) -> str:
        return "".join(
            str(tuple(row))
            for table in metadata.sorted_tables
            for row in tx.conn.execute(sa.select(table))
        )

    text = store.run(dump, False)
    assert token.split("_", 2)[2] not in text  # what is random may hold the separator too
    assert "sk-very-secret" not in text
    assert store.run(open_secrets, False, ["llm", "other"]) == {"llm": "sk-very-secret"}


def test_secrets_need_their_key(store: Store) -> None:
    store.run(put_secret, True, ME, "llm", "x")
    locked = Store(store.engine)
    with pytest.raises(VaultLocked):
        locked.run(open_secrets, False, ["llm"])
    with pytest.raises(VaultLocked):
        locked.run(put_secret, True, ME, "tts", "x")
    with pytest.raises(ConfigError):
        Vault(("too short",))

    def spoil(tx: Tx) -> None:
        tx.conn.execute(sa.update(secrets).values(sealed=b"not sealed by us"))

    store.run(spoil, True)
    with pytest.raises(VaultLocked):
        store.run(open_secrets, False, ["llm"])


def test_the_audit_log_names_fields_and_never_values(store: Store) -> None:
    agent = store.run(create_agent, True, ME, AgentSpec(name="one"))
    store.run(update_agent, True, ME, agent.id, None, named("two"), publish=True)
    log = store.run(find_audit, False, 10, 0, agent.id)
    assert [(line.action, line.fields) for line in log.items] == [
        ("agent.published", ("version 2",)),
        ("agent.updated", ("name",)),
        ("agent.created", ()),
    ]
    assert log.items[0].actor == "rtk_test"
    assert log.items[0].request_id == "req-1"


# --- knowledge --------------------------------------------------------------------------


def filled(store: Store, *texts: str) -> str:
    """A knowledge base with one ready document, a passage for each text."""
    base = store.run(KNOWLEDGE_BASES.create, True, ME, KnowledgeBaseSpec(name="menu"))
    store.run(add_document, True, ME, base.id, "a.txt", "text/plain", b"x", 5)
    work = store.run(claim_document, True)
    assert work is not None
    batch = [Passage("", text) for text in texts]
    assert store.run(add_passages, True, work.id, 0, batch, len(batch))
    return base.id


def test_search_finds_by_stem_and_ranks_the_best_first(store: Store) -> None:
    base = filled(
        store,
        "We are open from nine to five.",
        "Parking is behind the house; parking costs two euro.",
        "Dogs are welcome. There is no parking for buses.",
    )
    hits = store.run(search, False, [base], "Where can I park? Is parking free?", 5)
    assert hits[0].position == 1
    assert {hit.position for hit in hits} == {1, 2}
    assert hits[0].score > hits[1].score > 0
    assert store.run(search, False, [base], "where is the and of", 5) == ()
    assert store.run(search, False, [], "parking", 5) == ()


@pytest.mark.parametrize(
    "question",
    ['"', "' OR 1=1 --", "a:b* NEAR(x y)", "!!! & | <->", "パーキング", "_ __", "\\", "parking -x"],
)
def test_a_question_is_words_never_a_query(store: Store, question: str) -> None:
    base = filled(store, "Parking is free.")
    hits = store.run(search, False, [base], question, 5)
    assert len(hits) == (1 if "parking" in question else 0)


def test_search_stays_within_its_knowledge_bases(store: Store) -> None:
    one, two = filled(store, "alpha parking"), filled(store, "beta parking")
    assert [h.text for h in store.run(search, False, [two], "parking", 5)] == ["beta parking"]
    assert len(store.run(search, False, [one, two], "parking", 5)) == 2
    store.run(KNOWLEDGE_BASES.delete, True, ME, one)
    assert [h.text for h in store.run(search, False, [one, two], "parking", 5)] == ["beta parking"]


def test_a_document_is_indexed_by_one_node_and_again_if_that_dies(sqlite_url: str) -> None:
    now = [1000.0]
    store = Store(make_engine(sqlite_url), now_s=lambda: now[0])
    base = store.run(KNOWLEDGE_BASES.create, True, ME, KnowledgeBaseSpec(name="menu"))
    document = store.run(add_document, True, ME, base.id, "a.txt", "text/plain", b"x", 5)
    assert document.state == "waiting"
    work = store.run(claim_document, True)
    assert work is not None
    assert store.run(claim_document, True) is None
    store.run(add_passages, True, work.id, 0, [Passage("", "parking")], 2)
    assert store.run(get_document, False, base.id, work.id).progress_percent == 50
    assert store.run(search, False, [base.id], "parking", 5) == ()  # not before all is there
    now[0] += 61
    again = store.run(claim_document, True)
    assert again == work
    store.run(add_passages, True, work.id, 0, [Passage("", "parking")], 1)
    assert store.run(get_document, False, base.id, work.id).state == "ready"
    assert len(store.run(search, False, [base.id], "parking", 5)) == 1
    store.close()


def test_a_deleted_document_is_not_indexed_any_further(store: Store) -> None:
    base = store.run(KNOWLEDGE_BASES.create, True, ME, KnowledgeBaseSpec(name="menu"))
    store.run(add_document, True, ME, base.id, "a.txt", "text/plain", b"x", 1)
    with pytest.raises(Conflict, match="holds 1 documents"):
        store.run(add_document, True, ME, base.id, "b.txt", "text/plain", b"x", 1)
    work = store.run(claim_document, True)
    assert work is not None
    store.run(delete_document, True, ME, base.id, work.id)
    assert not store.run(add_passages, True, work.id, 0, [Passage("", "parking")], 1)


# --- idempotency, faults ----------------------------------------------------------------


def test_a_request_with_a_key_is_done_once(store: Store) -> None:
    assert store.run(begin_once, True, "k1", "abc", "print", 1000) is None
    with pytest.raises(Conflict):
        store.run(begin_once, True, "k1", "abc", "print", 1000)
    assert store.run(begin_once, True, "k2", "abc", "print", 1000) is None  # another caller's
    store.run(finish_once, True, "k1", "abc", b"answer")
    assert store.run(begin_once, True, "k1", "abc", "print", 1000) == b"answer"
    with pytest.raises(InvalidReference):
        store.run(begin_once, True, "k1", "abc", "another", 1000)
    store.run(forget_once, True, "k2", "abc")
    assert store.run(begin_once, True, "k2", "abc", "another", 1000) is None


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def fail(tx: Tx) -> None:
        create_agent(tx, ME, AgentSpec(name="x"))
        raise Conflict("no")

    with pytest.raises(Conflict):
        store.run(fail, True)
    assert store.run(find_agents, False, 1, 0).total == 0


async def test_a_database_that_is_gone_is_unavailable(tmp_path: object) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/nowhere/x.db")
    with pytest.raises(StoreUnavailable) as caught:
        await store.read(find_agents, 1, 0)
    assert "SELECT" not in str(caught.value)
