"""The OpenAPI document, drawn from the operations that requests are checked against.

quart-schema's own provider leaves nested structs out of the components (its references dangle)
and knows only JSON bodies, so this one is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from quart_schema.openapi import OpenAPIProvider
from werkzeug.routing import Rule

from api.web.examples import EXAMPLES, problem_example
from api.web.operations import Operation, operation_of
from api.web.paths import schema_of
from api.web.problems import CONTENT_TYPE, Problem

__all__ = ["MORE_EXAMPLES", "Specification"]

MORE_EXAMPLES = "rtcore-examples"

REF = "#/components/schemas/{name}"
JSON = "application/json"
DESCRIPTION = (
    "Voice agents on the telephone: what they are, what they know, what they may do. Errors are"
    " `application/problem+json` and name the field and the fix. Lists take `limit` and `offset`."
)
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag of the revision that is changed, or `*`.",
    "schema": {"type": "string", "pattern": r'^(\*|(W/)?"[0-9]{1,9}")$'},
    "example": "*",
}
ONCE = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Any text: a request sent again with it is not done again.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
HEADERS = {
    "ETag": {
        "description": "The revision, for If-Match.",
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Location": {"description": "Where the new resource is.", "schema": {"type": "string"}},
    "X-Request-ID": {"description": "Names this request.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}},
}
PROBLEM_HEADERS = {401: "WWW-Authenticate", 429: "Retry-After"}


class Specification(OpenAPIProvider):
    """Fills quart-schema's port."""

    def schema(self) -> dict[str, Any]:
        """The whole document; OpenAPI 3.1."""
        found = list(self._operations())
        types = {struct: None for _, what in found for struct in _structs(what)}
        refs, components = msgspec.json.schema_components([*types, Problem], ref_template=REF)
        # Python's end of a text; its ``$`` would let a line end after it, that of JSON Schema not
        text = msgspec.json.encode(components).replace(rb'\\Z"', b'$"')
        schemas: dict[str, Any] = msgspec.json.decode(text)
        ref_of = dict(zip([*types, Problem], refs, strict=True))
        more = self._app.extensions.get(MORE_EXAMPLES, {})  # of what was joined to the app
        for name, example in (EXAMPLES | more).items():
            if name in schemas:
                schemas[name]["examples"] = [example]
        paths: dict[str, dict[str, Any]] = {}
        for rule, what in found:
            path = self._path(rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                paths.setdefault(path, {})[method.lower()] = _operation(rule, what, ref_of, schemas)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "rtcore management API",
                "version": version("rtcore"),
                "description": DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": schemas,
                "headers": HEADERS,
                "securitySchemes": {
                    "key": {"type": "http", "scheme": "bearer", "bearerFormat": "rtk_<id>_<secret>"}
                },
            },
        }

    def _operations(self) -> Iterator[tuple[Rule, Operation]]:
        for rule in self._app.url_map.iter_rules():
            what = operation_of(self._app.view_functions[rule.endpoint])
            if what is not None:
                yield rule, what

    def _path(self, rule: Rule) -> str:
        parts = (f"{{{part}}}" if is_name else part for is_name, part in rule._trace)
        return "".join(parts).removeprefix("|")


def _structs(what: Operation) -> Iterator[Any]:
    for each in (what.body, what.query, *what.returns.values()):
        if each is not None:
            yield each


def _operation(
    rule: Rule, what: Operation, ref_of: dict[Any, Any], schemas: dict[str, Any]
) -> dict[str, Any]:
    blueprint = rule.endpoint.partition(".")[0]
    document: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": what.summary,
        "tags": [blueprint],
        "parameters": list(_parameters(rule, what, ref_of, schemas)),
        "responses": {
            **{str(status): _success(status, what, ref_of) for status in what.returns},
            **{str(status): _problem(status) for status in _problems(rule, what)},
        },
    }
    if what.scope is not None:
        document["security"] = [{"key": []}]
        document["description"] = f"Needs a key with the scope `{what.scope}`."
    if what.body is not None:
        document["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": ref_of[what.body]}},
        }
    if what.upload:
        file = {"type": "string", "contentMediaType": "application/octet-stream"}
        schema = {
            "type": "object",
            "properties": {what.upload: file},
            "required": [what.upload],
            "additionalProperties": False,
        }
        document["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema}},
        }
    return document


def _parameters(
    rule: Rule, what: Operation, ref_of: dict[Any, Any], schemas: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for name, converter in rule._converters.items():
        yield {"name": name, "in": "path", "required": True, "schema": schema_of(converter)}
    if what.query is not None:
        struct = schemas[ref_of[what.query]["$ref"].rpartition("/")[2]]
        for name, schema in struct["properties"].items():
            # what is left out of a query is null: it cannot be sent as such
            options = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
            shown = {k: v for k, v in schema.items() if k not in ("anyOf", "default")} | (
                options[0] if options else {}
            )
            if schema.get("default") is not None:
                shown["default"] = schema["default"]
            yield {"name": name, "in": "query", "schema": shown}
    if what.conditional:
        yield {**IF_MATCH, "required": what.conditional == "required"}
    if what.once:
        yield ONCE


def _success(status: int, what: Operation, ref_of: dict[Any, Any]) -> dict[str, Any]:
    headers = ["X-Request-ID"]
    if status in (201, 202):
        headers.append("Location")
    if what.conditional == "required" or (what.once and status == 201):
        headers.append("ETag")
    document: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
    }
    returned = what.returns[status]
    if returned is bytes:
        document["content"] = {"audio/wav": {"schema": {"type": "string", "format": "binary"}}}
    elif returned is str:
        document["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif returned is not None:
        document["content"] = {JSON: {"schema": ref_of[returned]}}
        if what.streams:
            document["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return document


def _problem(status: int) -> dict[str, Any]:
    headers = ["X-Request-ID", *([PROBLEM_HEADERS[status]] if status in PROBLEM_HEADERS else [])]
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": REF.format(name="Problem")},
                "example": problem_example(HTTPStatus(status)),
            }
        },
    }


def _problems(rule: Rule, what: Operation) -> list[int]:
    """Every status below 200 to 299 that an operation can end with."""
    found = {422, 500, *what.problems}  # 422: any of them refuses parameters it does not know
    if what.scope is not None:
        found |= {401, 403, 429, 503}
    if what.body is not None or what.upload:
        found |= {400, 408, 413, 415}
    if rule.arguments:
        found.add(404)
    if what.conditional:
        found.add(412)
    if what.conditional == "required":
        found.add(428)
    if what.once:
        found.add(409)
    return sorted(found)
