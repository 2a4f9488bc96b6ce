"""``/v1/agents``: agents, their versions, and which version calls get."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from api.addresses import check_addresses
from api.specs import KEPT_AS_SECRET, AgentSpec, ProviderChoice
from api.store.agents import (
    AgentRecord,
    VersionRecord,
    create_agent,
    delete_agent,
    find_agents,
    find_versions,
    get_agent,
    get_version,
    publish_agent,
    update_agent,
)
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import configured, invalid
from api.web.requests import (
    NameFilter,
    PageView,
    Paging,
    changes_of,
    etag,
    page_view,
    partial_of,
    unfit,
    wanted_revision,
)
from api.web.services import services
from api.web.times import Time, shown_time
from rtcore.agent.schema import Parameters
from rtcore.providers import turns_of

__all__ = ["VERSION_MAX", "blueprint"]

blueprint = Blueprint("agents", __name__, url_prefix="/v1/agents")
VERSION_MAX = 999_999_999  # a 32-bit column


class AgentView(AgentSpec, frozen=True, kw_only=True):
    """An agent at its latest version. Calls get the published one."""

    id: str
    answer_url: Annotated[str, Meta(description="Paste this into a Plivo application.")]
    version: int
    published_version: int | None
    created_at: Time
    updated_at: Time


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an agent, without its content."""

    version: int
    is_published: bool
    created_at: Time
    created_by: Annotated[str, Meta(description="The id of the API key that made it.")]


class VersionDetail(VersionView, frozen=True, kw_only=True):
    """One version of an agent."""

    agent: AgentSpec


class AgentFilter(NameFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of agents."""

    uses: (
        Annotated[
            str,
            Meta(
                max_length=64,
                description="Only those that use this function, knowledge base or secret.",
            ),
        ]
        | None
    ) = None


class UpdateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to change an agent."""

    publish: Annotated[
        bool, Meta(description="Let calls get the new version at once; else publish it later.")
    ] = False


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version new calls shall get; by default the latest."""

    version: Annotated[int, Meta(ge=1, le=VERSION_MAX)] | None = None


AgentPatch = partial_of(AgentSpec, "AgentPatch")


def _check(spec: AgentSpec) -> AgentSpec:
    """What the types of the fields cannot say.

    Raises:
        ApiError: 422 with the field.
    """
    if spec.analysis is not None:
        with configured():
            Parameters(spec.analysis.extract, "analysis.extract")
    kinds = {
        "stt": spec.stt,
        "llm": spec.llm,
        "tts": spec.tts,
        "speech_model": spec.speech_models,
    }
    if spec.analysis is not None:
        kinds["analysis.llm"] = spec.analysis.llm
    for kind, choices in kinds.items():
        for choice in choices:
            if choice.key_option is not None:
                raise invalid(f"{kind}.options.{choice.key_option}", KEPT_AS_SECRET)
            with configured():
                check_addresses(choice, kind, allow_private=services().settings.allow_private_urls)
    _check_turns(spec.speech_models)
    return spec


def _check_turns(models: tuple[ProviderChoice, ...]) -> None:
    """Models that take over from one another go by the same turns.

    Those that cannot be known here are judged when a call begins, as all other options are.
    """
    turns = [turns_of({"provider": choice.provider, **choice.options}) for choice in models]
    for place, each in enumerate(turns):
        if each != turns[0] and None not in (each, turns[0]):
            what = f"the first model of the list has {turns[0]!r}, this one {each!r}"
            raise invalid(f"speech_model[{place}].options.turns", what)


def _view(agent: AgentRecord) -> AgentView:
    fields = {name: getattr(agent.spec, name) for name in AgentSpec.__struct_fields__}
    return AgentView(
        **fields,
        id=agent.id,
        answer_url=f"{services().settings.public_url}/plivo/answer/{agent.id}",
        version=agent.version,
        published_version=agent.published_version,
        created_at=shown_time(agent.created_at_ms),
        updated_at=shown_time(agent.updated_at_ms),
    )


def _answer(agent: AgentRecord, status: int = 200) -> Answer:
    headers = {"ETag": etag(agent.revision)}
    if status == 201:
        headers["Location"] = f"/v1/agents/{agent.id}"
    return Answer(_view(agent), status, headers)


def _version(record: VersionRecord) -> VersionView:
    return VersionView(
        version=record.number,
        is_published=record.is_published,
        created_at=shown_time(record.created_at_ms),
        created_by=record.created_by,
    )


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Create an agent; its first version is published at once",
        scope="write",
        body=AgentSpec,
        returns={201: AgentView},
        once=True,
    ),
)
async def create(body: AgentSpec) -> Answer:
    return _answer(await services().store.write(create_agent, actor(), _check(body)), 201)


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List agents", scope="read", query=AgentFilter, returns={200: PageView[AgentView]}
    ),
)
async def find(query: AgentFilter) -> Answer:
    page = await services().store.read(
        find_agents, query.limit, query.offset, query.name, query.uses
    )
    return Answer(page_view(page, map(_view, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<id:agent_id>",
    Operation(
        summary="Read an agent at its latest version", scope="read", returns={200: AgentView}
    ),
)
async def get(agent_id: str) -> Answer:
    return _answer(await services().store.read(get_agent, agent_id))


@operation(
    blueprint,
    "PATCH",
    "/<id:agent_id>",
    Operation(
        summary="Change an agent: makes a version",
        scope="write",
        query=UpdateOptions,
        body=AgentPatch,
        returns={200: AgentView},
        conditional="required",
    ),
)
async def update(agent_id: str, query: UpdateOptions, body: msgspec.Struct) -> Answer:
    revision, changes = wanted_revision(required=True), changes_of(body)

    def change(spec: AgentSpec) -> AgentSpec:
        try:
            return _check(msgspec.structs.replace(spec, **changes))
        except ValueError as exc:  # fields that cannot stand together, or beside what is stored
            raise unfit(exc) from exc

    agent = await services().store.write(
        update_agent, actor(), agent_id, revision, change, publish=query.publish
    )
    return _answer(agent)


@operation(
    blueprint,
    "DELETE",
    "/<id:agent_id>",
    Operation(
        summary="Delete an agent that nothing uses, and its versions",
        scope="write",
        returns={204: None},
        problems=(409,),
        conditional="optional",
    ),
)
async def delete(agent_id: str) -> Answer:
    revision = wanted_revision(required=False)
    await services().store.write(delete_agent, actor(), agent_id, revision)
    return Answer(status=204)


@operation(
    blueprint,
    "GET",
    "/<id:agent_id>/versions",
    Operation(
        summary="List the versions of an agent",
        scope="read",
        query=Paging,
        returns={200: PageView[VersionView]},
    ),
)
async def versions(agent_id: str, query: Paging) -> Answer:
    page = await services().store.read(find_versions, agent_id, query.limit, query.offset)
    return Answer(page_view(page, map(_version, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<id:agent_id>/versions/<number:version>",
    Operation(summary="Read one version of an agent", scope="read", returns={200: VersionDetail}),
)
async def version(agent_id: str, version: int) -> Answer:
    record, spec = await services().store.read(get_version, agent_id, version)
    return Answer(VersionDetail(**msgspec.structs.asdict(_version(record)), agent=spec))


@operation(
    blueprint,
    "POST",
    "/<id:agent_id>/publish",
    Operation(
        summary="Let new calls get a version: the latest, or an older one to roll back",
        scope="write",
        body=PublishRequest,
        returns={200: AgentView},
        conditional="optional",
    ),
)
async def publish(agent_id: str, body: PublishRequest) -> Answer:
    revision = wanted_revision(required=False)
    return _answer(
        await services().store.write(publish_agent, actor(), agent_id, revision, body.version)
    )
