"""``/v1/calls/{id}/analysis``: have a call analysed again. What comes of it is in the call."""

from __future__ import annotations

from quart import Blueprint

from api.analysis.records import request_analysis
from api.analysis.views import AnalysisRequest, AnalysisView, analysis_view
from api.web.operations import Answer, Operation, actor, operation
from api.web.services import services

__all__ = ["blueprint"]

blueprint = Blueprint("analysis", __name__, url_prefix="/v1/calls")


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/analysis",
    Operation(
        summary="Analyse a call that is over, again if it was",
        scope="calls",
        body=AnalysisRequest,
        returns={202: AnalysisView},
        problems=(409,),
    ),
)
async def analyse(call_id: str, body: AnalysisRequest) -> Answer:
    own = services()
    found = await own.store.write(request_analysis, actor(), call_id, body.agent_version)
    own.analyst.wake()
    return Answer(analysis_view(found), 202, {"Location": f"/v1/calls/{call_id}"})
