"""Both databases, fresh for every test; the app over them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from quart_trio import QuartTrio

from api.app import create_app
from api.settings import ApiSettings
from api.specs import AgentPlan
from api.store import Actor, Store, upgrade
from api.store.database import make_engine
from api.store.keys import SCOPES, create_key
from rtcore.agent.agent import Agent
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
from tests.api import postgres
from tests.api.client import SECRET_KEY, Api

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str | None]:
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database: copying it is faster than migrating anew."""
    path = tmp_path_factory.mktemp("template") / "rtcore.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str | None) -> str | None:
    if postgres_url is not None:
        name = _create_database(postgres_url)
        upgrade(_of(postgres_url, name))
        return name
    return None


def _create_database(url: str, template: str = "template1") -> str:
    name = f"test_{next(NUMBERS)}"
    engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    engine.dispose()
    return name


def _of(url: str, name: str) -> str:
    made = sa.make_url(url).set(database=name)
    return made.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str | None) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    if postgres_url is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return _of(postgres_url, _create_database(postgres_url))


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated SQLite database of the test's own."""
    path = tmp_path / "rtcore.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest,
    sqlite_url: str,
    postgres_url: str | None,
    postgres_template: str | None,
) -> Iterator[Store]:
    """A migrated store on each database."""
    url = sqlite_url
    if request.param == "postgresql":
        if postgres_url is None or postgres_template is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        url = _of(postgres_url, _create_database(postgres_url, postgres_template))
    opened = Store.open(url, secret_keys=(SECRET_KEY,))
    yield opened
    opened.close()


# --- the app ----------------------------------------------------------------------------


@pytest.fixture
def responder() -> ScriptedResponder:
    """The mind of every agent; a test may give it another script."""
    return ScriptedResponder(["Hello there."])


@pytest.fixture
def settings() -> ApiSettings:
    return ApiSettings(public_url="https://voice.example.com", upload_max_bytes=64 << 10)


@pytest.fixture
def plans() -> list[AgentPlan]:
    """What the agents were to be made of."""
    return []


@pytest.fixture
def app(
    store: Store, settings: ApiSettings, responder: ScriptedResponder, plans: list[AgentPlan]
) -> QuartTrio:
    """The app over each database."""

    def agent_for(plan: AgentPlan) -> Agent:
        plans.append(plan)
        return Agent(
            definition=plan.definition,
            transcriber=ScriptedTranscriber(["unheard"]),
            responder=responder,
            synthesizer=ScriptedSynthesizer(),
        )

    return create_app(store, settings, agent_for=agent_for)


@pytest.fixture
async def api(app: QuartTrio, store: Store) -> AsyncIterator[Api]:
    """A client with a key for everything, while the app's background work runs."""
    _, token = store.run(create_key, True, Actor("test"), "test", SCOPES)
    async with app.test_app() as running:
        yield Api(running.test_client(), token)
