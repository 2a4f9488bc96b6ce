"""``/v1/campaigns``: lists of numbers and how they are called. ``/v1/do-not-call``: who is not."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from quart import Blueprint, current_app

from api.calls.telephony import telephony
from api.campaigns.reading import faults_of_campaign, faults_of_targets, read_csv
from api.campaigns.running import Runner
from api.campaigns.specs import CampaignSpec, TargetSpec
from api.campaigns.views import (
    AddedView,
    BlockedFilter,
    BlockedView,
    BlockRequest,
    BlocksView,
    CampaignFilter,
    CampaignView,
    HangUp,
    ReportView,
    RetryRequest,
    RetryView,
    TargetDetail,
    TargetFilter,
    TargetsRequest,
    TargetView,
    blocked_view,
    campaign_view,
    report_view,
    target_detail,
    target_view,
)
from api.store.campaigns import (
    CampaignRecord,
    cancel_campaign,
    create_campaign,
    delete_campaign,
    find_campaigns,
    get_campaign,
    pause_campaign,
    report_on,
    resume_campaign,
    start_campaign,
    update_campaign,
)
from api.store.do_not_call import block_numbers, find_blocked, unblock_number
from api.store.targets import Added, add_targets, find_targets, get_target, retry_targets
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import ApiError, FieldError, invalid
from api.web.requests import PageView, changes_of, etag, page_view, partial_of, wanted_revision
from api.web.uploads import read_upload

__all__ = ["EXTENSION", "blueprint", "do_not_call"]

EXTENSION = "rtcore-campaigns"

blueprint = Blueprint("campaigns", __name__, url_prefix="/v1/campaigns")
do_not_call = Blueprint("do_not_call", __name__, url_prefix="/v1/do-not-call")

CampaignPatch = partial_of(CampaignSpec, "CampaignPatch")


def _runner() -> Runner:
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Runner)
    return found


def _checked(spec: CampaignSpec) -> CampaignSpec:
    """
    Raises:
        ApiError: 422 with every field that cannot be used.
    """
    _refuse(faults_of_campaign(spec))
    return spec


def _refuse(faults: Sequence[FieldError]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more: see errors)" if len(faults) > 1 else ""
        detail = f"{faults[0].field}: {faults[0].message}{more}"
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, fields=faults)


def _shown(campaign: CampaignRecord) -> Answer:
    return Answer(campaign_view(campaign), headers={"ETag": etag(campaign.record.revision)})


# --- campaigns --------------------------------------------------------------------------


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Create a campaign; it calls nobody before it is started",
        scope="write",
        body=CampaignSpec,
        returns={201: CampaignView},
        once=True,
    ),
)
async def create(body: CampaignSpec) -> Answer:
    campaign = await telephony().store.write(create_campaign, actor(), _checked(body))
    location = {"ETag": etag(1), "Location": f"/v1/campaigns/{campaign.id}"}
    return Answer(campaign_view(campaign), 201, location)


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List campaigns",
        scope="read",
        query=CampaignFilter,
        returns={200: PageView[CampaignView]},
    ),
)
async def find(query: CampaignFilter) -> Answer:
    given = query.limit, query.offset, query.name, query.state
    page = await telephony().store.read(find_campaigns, *given)
    return Answer(page_view(page, map(campaign_view, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<id:campaign_id>",
    Operation(summary="Read a campaign", scope="read", returns={200: CampaignView}),
)
async def get(campaign_id: str) -> Answer:
    return _shown(await telephony().store.read(get_campaign, campaign_id))


@operation(
    blueprint,
    "PATCH",
    "/<id:campaign_id>",
    Operation(
        summary="Change a campaign, for every call that begins from now on",
        scope="write",
        body=CampaignPatch,
        returns={200: CampaignView},
        problems=(409,),
        conditional="required",
    ),
)
async def update(campaign_id: str, body: msgspec.Struct) -> Answer:
    revision, changes = wanted_revision(required=True), changes_of(body)
    if "from" in changes:
        changes["from_"] = changes.pop("from")

    def change(spec: CampaignSpec) -> CampaignSpec:
        return _checked(msgspec.structs.replace(spec, **changes))

    given = actor(), campaign_id, revision, change
    campaign = await telephony().store.write(update_campaign, *given)
    _runner().wake()
    return _shown(campaign)


@operation(
    blueprint,
    "DELETE",
    "/<id:campaign_id>",
    Operation(
        summary="Delete a campaign that calls nobody; its calls stay",
        scope="write",
        returns={204: None},
        problems=(409,),
        conditional="optional",
    ),
)
async def delete(campaign_id: str) -> Answer:
    revision = wanted_revision(required=False)
    await telephony().store.write(delete_campaign, actor(), campaign_id, revision)
    return Answer(status=204)


# --- what it does -----------------------------------------------------------------------


def _turning(summary: str, query: Any = None) -> Operation:
    return Operation(
        summary=summary,
        scope="calls",
        query=query,
        returns={200: CampaignView},
        problems=(409,),
    )


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/start",
    _turning("Begin to call"),
)
async def start(campaign_id: str) -> Answer:
    line = telephony()
    assert line.carrier  # 503 where there is none, rather than a campaign that calls nobody
    await _check_agent(campaign_id)
    campaign = await line.store.write(start_campaign, actor(), campaign_id)
    _runner().wake()
    return _shown(campaign)


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/pause",
    _turning("Begin no more calls", HangUp),
)
async def pause(campaign_id: str, query: HangUp) -> Answer:
    given = actor(), campaign_id
    campaign = await telephony().store.write(pause_campaign, *given, hangs_up=query.hang_up)
    _runner().wake()
    return _shown(campaign)


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/resume",
    _turning("Go on where it was paused"),
)
async def resume(campaign_id: str) -> Answer:
    await _check_agent(campaign_id)
    campaign = await telephony().store.write(resume_campaign, actor(), campaign_id)
    _runner().wake()
    return _shown(campaign)


async def _check_agent(campaign_id: str) -> None:
    """
    Raises:
        AgentUnusable: nobody who is called could be talked with.
    """
    campaign = await telephony().store.read(get_campaign, campaign_id)
    if campaign.state in ("draft", "paused"):  # the agent of one that is over may be gone
        await telephony().check_agent(campaign.spec.agent_id)


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/cancel",
    _turning("End it for good: numbers that wait are not called", HangUp),
)
async def cancel(campaign_id: str, query: HangUp) -> Answer:
    given = actor(), campaign_id
    campaign = await telephony().store.write(cancel_campaign, *given, hangs_up=query.hang_up)
    _runner().wake()
    return _shown(campaign)


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/retry",
    Operation(
        summary="Call numbers again that are done, whatever the rules say",
        scope="calls",
        body=RetryRequest,
        returns={200: RetryView},
        problems=(409,),
    ),
)
async def retry(campaign_id: str, body: RetryRequest) -> Answer:
    if (body.outcome is None) == (not body.target_ids):
        raise invalid("outcome", "give either an outcome or target_ids")
    retried = await telephony().store.write(
        retry_targets, actor(), campaign_id, outcome=body.outcome, target_ids=body.target_ids
    )
    _runner().wake()
    return Answer(RetryView(retried=retried))


@operation(
    blueprint,
    "GET",
    "/<id:campaign_id>/report",
    Operation(summary="Read how far a campaign got", scope="read", returns={200: ReportView}),
)
async def report(campaign_id: str) -> Answer:
    return Answer(report_view(await telephony().store.read(report_on, campaign_id)))


# --- numbers ----------------------------------------------------------------------------


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/targets",
    Operation(
        summary="Add numbers: all of them, or none if one cannot be used",
        scope="write",
        body=TargetsRequest,
        returns={200: AddedView},
        problems=(409,),
        once=True,
    ),
)
async def add(campaign_id: str, body: TargetsRequest) -> Answer:
    _refuse(faults_of_targets(body.targets, await _own_number(campaign_id)))
    added = await _added(campaign_id, body.targets)
    return Answer(_added_view(added, added.duplicates))


@operation(
    blueprint,
    "POST",
    "/<id:campaign_id>/targets/csv",
    Operation(
        summary="Add the numbers of a CSV file: all of them, or none if a row cannot be used",
        scope="write",
        upload="file",
        returns={200: AddedView},
        problems=(409,),
    ),
)
async def add_csv(campaign_id: str) -> Answer:
    own_number = await _own_number(campaign_id)
    _, content = await read_upload("file", telephony().settings.upload_max_bytes)
    rows = await read_csv(content, own_number)
    _refuse(rows.faults)
    added = await _added(campaign_id, rows.targets)
    return Answer(_added_view(added, [rows.numbers[place] for place in added.duplicates]))


async def _own_number(campaign_id: str) -> str:
    campaign = await telephony().store.read(get_campaign, campaign_id)
    return campaign.spec.from_.removeprefix("+")


async def _added(campaign_id: str, targets: Sequence[TargetSpec]) -> Added:
    added = await telephony().store.write(add_targets, actor(), campaign_id, targets)
    _runner().wake()
    return added


def _added_view(added: Added, duplicates: list[int]) -> AddedView:
    return AddedView(added=added.added, do_not_call=added.do_not_call, duplicates=duplicates)


@operation(
    blueprint,
    "GET",
    "/<id:campaign_id>/targets",
    Operation(
        summary="List the numbers of a campaign, in their order",
        scope="read",
        query=TargetFilter,
        returns={200: PageView[TargetView]},
    ),
)
async def targets(campaign_id: str, query: TargetFilter) -> Answer:
    number = None if query.number is None else query.number.removeprefix("+")
    filters = {"state": query.state, "outcome": query.outcome, "number": number}
    given = campaign_id, query.limit, query.offset, filters
    page = await telephony().store.read(find_targets, *given)
    return Answer(page_view(page, map(target_view, page.items), query))


@operation(
    blueprint,
    "GET",
    "/<id:campaign_id>/targets/<id:target_id>",
    Operation(
        summary="Read a number of a campaign, and every call to it",
        scope="read",
        returns={200: TargetDetail},
    ),
)
async def target(campaign_id: str, target_id: str) -> Answer:
    found, attempts = await telephony().store.read(get_target, campaign_id, target_id)
    return Answer(target_detail(found, attempts))


# --- who is not to be called ------------------------------------------------------------


@operation(
    do_not_call,
    "POST",
    "",
    Operation(
        summary="Let nobody call these numbers, from this moment on",
        scope="write",
        body=BlockRequest,
        returns={200: BlocksView},
        once=True,
    ),
)
async def block(body: BlockRequest) -> Answer:
    blocked = await telephony().store.write(
        block_numbers, actor(), body.numbers, source="api", remark=body.note
    )
    _runner().wake()
    return Answer(BlocksView(added=blocked.added, stopped=blocked.stopped))


@operation(
    do_not_call,
    "GET",
    "",
    Operation(
        summary="List who is not to be called",
        scope="read",
        query=BlockedFilter,
        returns={200: PageView[BlockedView]},
    ),
)
async def blocked(query: BlockedFilter) -> Answer:
    number = None if query.number is None else query.number.removeprefix("+")
    page = await telephony().store.read(find_blocked, query.limit, query.offset, number)
    return Answer(page_view(page, map(blocked_view, page.items), query))


@operation(
    do_not_call,
    "DELETE",
    "/<e164:number>",
    Operation(
        summary="Let a number be called again; what was stopped stays so until it is retried",
        scope="write",
        returns={204: None},
    ),
)
async def unblock(number: str) -> Answer:
    await telephony().store.write(unblock_number, actor(), number)
    return Answer(status=204)
