"""The specification, its examples, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from quart_trio import QuartTrio

from api.app import create_app
from api.settings import ApiSettings
from api.store import Store
from api.web.examples import EXAMPLES
from api.web.operations import Operation, operation_of
from api.web.problems import Problem
from tests.api.client import Api


@pytest.fixture
def plain(sqlite_url: str) -> Iterator[QuartTrio]:
    store = Store.open(sqlite_url)
    yield create_app(store, ApiSettings(), agent_for=pytest.fail)
    store.close()


async def spec_of(app: QuartTrio) -> Any:
    return (await Api(app.test_client(), "").ask("GET", "/openapi.json")).json


def operations(app: QuartTrio) -> Iterator[Operation]:
    for view in app.view_functions.values():
        if (found := operation_of(view)) is not None:
            yield found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


async def test_every_reference_leads_somewhere(plain: QuartTrio) -> None:
    spec = await spec_of(plain)
    assert spec["openapi"] == "3.1.0"
    for reference in set(references(spec)):
        at: Any = spec
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for each in value.values():
            yield from patterns(each)
    elif isinstance(value, list):
        for each in value:
            yield from patterns(each)


async def test_no_line_may_end_after_what_a_pattern_takes(plain: QuartTrio) -> None:
    """Python's ``$`` lets one; where a number is compared with a list, it would be another."""
    bodies = [each.body for each in operations(plain) if each.body is not None]
    _, taken = msgspec.json.schema_components(bodies)
    found = list(patterns(taken))
    assert len(found) > 10
    assert all(each.endswith(r"\Z") for each in found), found
    shown = list(patterns(await spec_of(plain)))
    assert len(shown) > 10
    assert all(each.endswith("$") for each in shown), shown


async def test_every_route_of_the_api_is_in_it(plain: QuartTrio) -> None:
    spec = await spec_of(plain)
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", r.rule) for r in plain.url_map.iter_rules()}
    hidden = {"/openapi.json", "/docs", "/docs/docs.js", "/docs/docs.css"}
    assert set(spec["paths"]) == rules - hidden
    for path, item in spec["paths"].items():
        for method, document in item.items():
            assert document["summary"], (method, path)
            for status, answer in document["responses"].items():
                assert answer["description"]
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]


async def test_every_struct_has_an_example_that_fits(plain: QuartTrio) -> None:
    spec = await spec_of(plain)
    types = {
        each
        for what in operations(plain)
        for each in (what.body, *what.returns.values())
        if each not in (None, str)
    }
    refs, _ = msgspec.json.schema_components(sorted(types, key=str))
    for type_, ref in zip(sorted(types, key=str), refs, strict=True):
        name = ref["$ref"].rpartition("/")[2]
        assert spec["components"]["schemas"][name]["examples"], name
        msgspec.convert(EXAMPLES[name], type_)
    assert set(EXAMPLES) <= set(spec["components"]["schemas"])


async def test_every_problem_has_an_example_that_fits(plain: QuartTrio) -> None:
    spec = await spec_of(plain)
    for item in spec["paths"].values():
        for document in item.values():
            for status, answer in document["responses"].items():
                if int(status) >= 400:
                    example = answer["content"]["application/problem+json"]["example"]
                    assert msgspec.convert(example, Problem).status == int(status)


async def test_the_page_asks_no_other_host(plain: QuartTrio) -> None:
    client = plain.test_client()
    for path, kind in [
        ("/docs", "text/html"),
        ("/docs/docs.js", "text/javascript"),
        ("/docs/docs.css", "text/css"),
    ]:
        response = await client.get(path)
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        text = (await response.get_data()).decode()
        assert not re.findall(r"https?://|//cdn|innerHTML|style=", text)
