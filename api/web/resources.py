"""What all resources with a revision have in common over HTTP: listed, read, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from quart import Blueprint

from api.store.keys import Scope
from api.store.records import Record, Resources
from api.web.operations import Answer, Operation, actor, operation
from api.web.requests import NameFilter, PageView, etag, page_view, wanted_revision
from api.web.services import services

__all__ = ["add_resources", "shown"]

S = TypeVar("S", bound=msgspec.Struct)


def shown(record: Record[Any], view: msgspec.Struct, status: int = 200, **headers: str) -> Answer:
    """A resource as ``view``, with what its next change must name."""
    return Answer(view, status, {"ETag": etag(record.revision), **headers})


def add_resources(
    blueprint: Blueprint,
    resources: Resources[S],
    view: Callable[[Record[S]], msgspec.Struct],
    *,
    key: str,
    shows: type[msgspec.Struct],
    scope: Scope,
    lists: str,
    reads: str,
    deletes: str,
    deletes_scope: Scope,
) -> None:
    """Serve the list of ``resources``, one of them (``key`` in its path), and its deletion.

    ``lists``, ``reads`` and ``deletes`` say so in the documentation.
    """
    path = f"/<id:{key}>"

    @operation(
        blueprint,
        "GET",
        "",
        Operation(summary=lists, scope=scope, query=NameFilter, returns={200: PageView[shows]}),  # type: ignore[valid-type]
    )
    async def find(query: NameFilter) -> Answer:
        page = await services().store.read(resources.find, query.limit, query.offset, query.name)
        return Answer(page_view(page, map(view, page.items), query))

    @operation(blueprint, "GET", path, Operation(summary=reads, scope=scope, returns={200: shows}))
    async def get(**path: str) -> Answer:
        record = await services().store.read(resources.get, path[key])
        return shown(record, view(record))

    @operation(
        blueprint,
        "DELETE",
        path,
        Operation(
            summary=deletes,
            scope=deletes_scope,
            returns={204: None},
            problems=(409,),
            conditional="optional",
        ),
    )
    async def delete(**path: str) -> Answer:
        revision = wanted_revision(required=False)
        await services().store.write(resources.delete, actor(), path[key], revision)
        return Answer(status=204)
