"""``/v1/knowledgebases``: documents, and what can be found in them."""

from __future__ import annotations

from http import HTTPStatus
from importlib.util import find_spec
from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint

from api.specs import KnowledgeBaseSpec
from api.store.knowledge import (
    KNOWLEDGE_BASES,
    DocumentRecord,
    DocumentState,
    add_document,
    create_base,
    delete_document,
    find_documents,
    get_document,
    update_base,
)
from api.store.passages import Hit
from api.store.records import Record
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import ApiError, configured, invalid
from api.web.requests import (
    PageView,
    Paging,
    changes_of,
    page_view,
    partial_of,
    wanted_revision,
)
from api.web.resources import add_resources, shown
from api.web.services import services
from api.web.times import Time, shown_time
from api.web.uploads import read_upload
from rtcore.agent.documents import Unreadable, check_upload
from rtcore.providers.functions import checked_url

__all__ = ["SourceView", "blueprint", "source_view"]

blueprint = Blueprint("knowledge", __name__, url_prefix="/v1/knowledgebases")


class KnowledgeBaseView(KnowledgeBaseSpec, frozen=True, kw_only=True):
    """A knowledge base as stored."""

    id: str
    created_at: Time
    updated_at: Time


class DocumentView(msgspec.Struct, frozen=True, kw_only=True):
    """A document; it is searched once its state is ``ready``."""

    id: str
    knowledgebase_id: str
    name: str
    media_type: str
    size_bytes: int
    state: DocumentState
    progress_percent: Annotated[int, Meta(ge=0, le=100)]
    passages: int
    error: Annotated[str | None, Meta(description="Why the state is ``failed``.")]
    created_at: Time


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A passage that was found. Scores compare within one answer only."""

    document_id: str
    document: str
    knowledgebase_id: str
    position: Annotated[int, Meta(description="Its place in the document, from 0.")]
    heading: str
    text: str
    score: float


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to look for, in plain words."""

    query: Annotated[str, Meta(min_length=1, max_length=1000)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 5


class SearchResults(msgspec.Struct, frozen=True, kw_only=True):
    """The best first; empty if nothing fits."""

    items: list[SourceView]


class DocumentFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of documents."""

    state: DocumentState | None = None


KnowledgeBasePatch = partial_of(KnowledgeBaseSpec, "KnowledgeBasePatch")


def _view(record: Record[KnowledgeBaseSpec]) -> KnowledgeBaseView:
    return KnowledgeBaseView(
        **msgspec.structs.asdict(record.spec),
        id=record.id,
        created_at=shown_time(record.created_at_ms),
        updated_at=shown_time(record.updated_at_ms),
    )


def _check(spec: KnowledgeBaseSpec) -> KnowledgeBaseSpec:
    """
    Raises:
        ApiError: 422, this node cannot search by meaning, or may not ask that service.
    """
    if spec.embedding is None:
        return spec
    if find_spec("numpy") is None:
        raise invalid("embedding", "needs NumPy on the nodes: pip install numpy")
    with configured():
        checked_url(
            spec.embedding.base_url,
            "embedding.base_url",
            allow_private=services().settings.allow_private_urls,
        )
    return spec


def _document(record: DocumentRecord) -> DocumentView:
    return DocumentView(
        id=record.id,
        knowledgebase_id=record.knowledge_base_id,
        name=record.name,
        media_type=record.media_type,
        size_bytes=record.size_bytes,
        state=record.state,
        progress_percent=record.progress_percent,
        passages=record.passage_count,
        error=record.error,
        created_at=shown_time(record.created_at_ms),
    )


def source_view(hit: Hit) -> SourceView:
    """``hit`` as it is shown."""
    return SourceView(
        document_id=hit.document_id,
        document=hit.document,
        knowledgebase_id=hit.knowledgebase_id,
        position=hit.position,
        heading=hit.heading,
        text=hit.text,
        score=round(hit.score, 4),
    )


add_resources(
    blueprint,
    KNOWLEDGE_BASES,
    _view,
    key="knowledgebase_id",
    shows=KnowledgeBaseView,
    scope="read",
    lists="List knowledge bases",
    reads="Read a knowledge base",
    deletes="Delete a knowledge base that no agent uses, and its documents",
    deletes_scope="write",
)


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Create a knowledge base",
        scope="write",
        body=KnowledgeBaseSpec,
        returns={201: KnowledgeBaseView},
        once=True,
    ),
)
async def create(body: KnowledgeBaseSpec) -> Answer:
    record = await services().store.write(create_base, actor(), _check(body))
    location = f"/v1/knowledgebases/{record.id}"
    return shown(record, _view(record), 201, Location=location)


@operation(
    blueprint,
    "PATCH",
    "/<id:knowledgebase_id>",
    Operation(
        summary="Change a knowledge base",
        scope="write",
        body=KnowledgeBasePatch,
        returns={200: KnowledgeBaseView},
        conditional="required",
    ),
)
async def update(knowledgebase_id: str, body: msgspec.Struct) -> Answer:
    revision, changes = wanted_revision(required=True), changes_of(body)

    def change(spec: KnowledgeBaseSpec) -> KnowledgeBaseSpec:
        return _check(msgspec.structs.replace(spec, **changes))

    record = await services().store.write(update_base, actor(), knowledgebase_id, revision, change)
    services().indexer.wake()  # its passages may need other vectors
    return shown(record, _view(record))


@operation(
    blueprint,
    "POST",
    "/<id:knowledgebase_id>/documents",
    Operation(
        summary="Upload a document: .pdf, .docx, or .txt, .md, .html or .csv in UTF-8",
        scope="write",
        upload="file",
        returns={202: DocumentView},
        problems=(409,),
    ),
)
async def upload(knowledgebase_id: str) -> Answer:
    own = services()
    name, content = await read_upload("file", own.settings.upload_max_bytes)
    try:
        media_type = await trio.to_thread.run_sync(check_upload, name, content)
    except Unreadable as exc:
        if exc.is_type:
            raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"file: {exc}") from exc
        raise invalid("file", str(exc)) from exc
    document = await own.store.write(
        add_document,
        actor(),
        knowledgebase_id,
        name,
        media_type,
        content,
        own.settings.documents_max,
    )
    own.indexer.wake()
    location = f"/v1/knowledgebases/{knowledgebase_id}/documents/{document.id}"
    return Answer(_document(document), 202, {"Location": location})


@operation(
    blueprint,
    "GET",
    "/<id:knowledgebase_id>/documents",
    Operation(
        summary="List documents and how far their indexing has come",
        scope="read",
        query=DocumentFilter,
        returns={200: PageView[DocumentView]},
    ),
)
async def documents(knowledgebase_id: str, query: DocumentFilter) -> Answer:
    page = await services().store.read(
        find_documents, knowledgebase_id, query.limit, query.offset, query.state
    )
    return Answer(page_view(page, map(_document, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<id:knowledgebase_id>/documents/<id:document_id>",
    Operation(summary="Read how a document is doing", scope="read", returns={200: DocumentView}),
)
async def document(knowledgebase_id: str, document_id: str) -> Answer:
    found = await services().store.read(get_document, knowledgebase_id, document_id)
    return Answer(_document(found))


@operation(
    blueprint,
    "DELETE",
    "/<id:knowledgebase_id>/documents/<id:document_id>",
    Operation(summary="Delete a document", scope="write", returns={204: None}),
)
async def remove(knowledgebase_id: str, document_id: str) -> Answer:
    await services().store.write(delete_document, actor(), knowledgebase_id, document_id)
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:knowledgebase_id>/search",
    Operation(
        summary="Search the documents that are ready",
        scope="read",
        body=SearchRequest,
        returns={200: SearchResults},
    ),
)
async def find_passages(knowledgebase_id: str, body: SearchRequest) -> Answer:
    own = services()
    base = await own.store.read(KNOWLEDGE_BASES.get, knowledgebase_id)
    hits = await own.meanings.find((base,), body.query, body.limit)
    return Answer(SearchResults(items=[source_view(hit) for hit in hits]))
