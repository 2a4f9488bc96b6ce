"""What the command line does to a database."""

from __future__ import annotations

import pytest

from api.admin import create_api_key, create_secret_key, upgrade_database
from api.store import Store
from api.store.errors import StoreUnavailable
from api.store.keys import check_token, find_audit
from api.store.vault import Vault
from rtcore.errors import ConfigError


def test_a_key_is_made_for_a_new_database(empty_url: str) -> None:
    upgrade_database(empty_url)
    token = create_api_key(empty_url, "ci", ["write", "read"], expires_in_s=60)
    store = Store.open(empty_url)
    key = store.run(check_token, False, token)
    assert key is not None
    assert (key.name, key.scopes) == ("ci", ("read", "write"))
    assert store.run(find_audit, False, 1, 0).items[0].actor == "cli"
    store.close()


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "root"]])
def test_scopes_must_exist(sqlite_url: str, scopes: list[str]) -> None:
    with pytest.raises(ConfigError, match="scope"):
        create_api_key(sqlite_url, "ci", scopes)


def test_a_database_that_was_never_upgraded_is_refused(tmp_path: object) -> None:
    with pytest.raises(StoreUnavailable):
        create_api_key(f"sqlite:///{tmp_path}/x.db", "ci", ["read"])


@pytest.mark.parametrize("url", ["rtcore.db", "mysql://u:hidden@h/x", "oracle+none://h", "://", ""])
def test_what_is_no_address_of_a_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database: must be sqlite:///") as caught:
        upgrade_database(url)
    assert "hidden" not in str(caught.value)
    with pytest.raises(ConfigError, match="database"):
        create_api_key(url, "ci", ["read"])


def test_a_database_that_cannot_be_had_is_told_as_such(tmp_path: object) -> None:
    for url in (
        "postgresql://u:hidden@127.0.0.1:9/x?connect_timeout=1",
        f"sqlite:///{tmp_path}/none/x.db",
    ):
        with pytest.raises(StoreUnavailable, match="did not answer") as caught:
            upgrade_database(url)
        assert "hidden" not in str(caught.value)
        with pytest.raises(StoreUnavailable):
            create_api_key(url, "ci", ["read"])


def test_secret_keys_can_be_changed() -> None:
    old, new = create_secret_key(), create_secret_key()
    sealed = Vault((old,)).seal("s")
    assert Vault((new, old)).open(sealed) == "s"
