"""``/v1/calls``: make them, look at them, steer them while they last."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from quart import Blueprint, Response, request

from api.analysis.records import StoredAnalysis, get_analysis
from api.calls.commands import Mute, Say, Whisper
from api.calls.control import (
    carrying,
    change_agent,
    hang_up_call,
    make_call,
    steer_call,
    transfer_call,
)
from api.calls.live import CallEvent, Said
from api.calls.records import StoredCall, find_calls, get_call, get_streams
from api.calls.telephony import telephony
from api.calls.views import (
    AgentChange,
    CallDetail,
    CallEvents,
    CallFilter,
    CallMetrics,
    CallRequest,
    CallTranscript,
    CallView,
    DtmfRequest,
    SayRequest,
    StreamMetrics,
    TransferRequest,
    TurnMetrics,
    WhisperRequest,
    call_detail,
    call_view,
    event_data,
    transcript_lines,
)
from api.store import Tx
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import ApiError
from api.web.requests import PageView, page_view
from api.web.streams import Send, event_stream
from api.web.times import shown_time
from rtcore.metrics import TurnTiming

__all__ = ["blueprint"]

blueprint = Blueprint("calls", __name__, url_prefix="/v1/calls")

CARRIER_PROBLEMS = (409, 502, 504)
STEERING_PROBLEMS = (409, 504)


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Call somebody; the agent talks once they answer",
        scope="calls",
        body=CallRequest,
        returns={201: CallView},
        problems=(502, 504),
        once=True,
    ),
)
async def create(body: CallRequest) -> Answer:
    call = await make_call(telephony(), actor(), body)
    return Answer(call_view(call), 201, {"Location": f"/v1/calls/{call.id}"})


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List calls", scope="read", query=CallFilter, returns={200: PageView[CallView]}
    ),
)
async def find(query: CallFilter) -> Answer:
    filters = {
        "direction": query.direction,
        "state": query.state,
        "agent_id": query.agent_id,
        "from_number": _bare(query.from_number),
        "to_number": _bare(query.to_number),
    }
    page = await telephony().store.read(find_calls, query.limit, query.offset, filters)
    return Answer(page_view(page, map(call_view, page.items), query))


def _bare(number: str | None) -> str | None:
    return None if number is None else number.removeprefix("+")


@operation(
    blueprint,
    "GET",
    "/<id:call_id>",
    Operation(summary="Read a call", scope="read", returns={200: CallDetail}),
)
async def get(call_id: str) -> Answer:
    return Answer(call_detail(*await telephony().store.read(_with_analysis, call_id)))


def _with_analysis(tx: Tx, call_id: str) -> tuple[StoredCall, StoredAnalysis | None]:
    return get_call(tx, call_id), get_analysis(tx, call_id)


# --- live control -----------------------------------------------------------------------


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/hangup",
    Operation(
        summary="End a call; one that is over already is no error",
        scope="calls",
        returns={202: CallView},
        problems=CARRIER_PROBLEMS,
    ),
)
async def hangup(call_id: str) -> Answer:
    call = await hang_up_call(telephony(), actor(), call_id)
    return Answer(call_view(call), 202, {"Location": f"/v1/calls/{call.id}"})


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/transfer",
    Operation(
        summary="Hand the caller to a human, and take them back if nobody answers",
        scope="calls",
        body=TransferRequest,
        returns={202: CallView},
        problems=CARRIER_PROBLEMS,
    ),
)
async def transfer(call_id: str, body: TransferRequest) -> Answer:
    call = await transfer_call(telephony(), actor(), call_id, body)
    return Answer(call_view(call), 202, {"Location": f"/v1/calls/{call.id}"})


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/dtmf",
    Operation(
        summary="Press keys",
        scope="calls",
        body=DtmfRequest,
        returns={204: None},
        problems=CARRIER_PROBLEMS,
    ),
)
async def dtmf(call_id: str, body: DtmfRequest) -> Answer:
    line = telephony()
    async with carrying(line, call_id) as carrier_id:
        await line.carrier.send_digits(carrier_id, body.digits)
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/say",
    Operation(
        summary="Let the agent say something as soon as it has the floor",
        scope="calls",
        body=SayRequest,
        returns={204: None},
        problems=STEERING_PROBLEMS,
    ),
)
async def say(call_id: str, body: SayRequest) -> Answer:
    said = Say(
        call_id=call_id,
        text=body.text,
        is_interruptible=body.is_interruptible,
        ends_call=body.ends_call,
    )
    await steer_call(telephony(), said)
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/mute",
    Operation(
        summary="Let the agent only listen: what the caller says is written down unanswered",
        scope="calls",
        returns={204: None},
        problems=STEERING_PROBLEMS,
    ),
)
async def mute(call_id: str) -> Answer:
    await steer_call(telephony(), Mute(call_id=call_id, is_muted=True))
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/unmute",
    Operation(
        summary="Let the agent answer again, from the caller's next turn on",
        scope="calls",
        returns={204: None},
        problems=STEERING_PROBLEMS,
    ),
)
async def unmute(call_id: str) -> Answer:
    await steer_call(telephony(), Mute(call_id=call_id, is_muted=False))
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/whisper",
    Operation(
        summary="Tell the agent what the caller does not hear, from its next answer on",
        scope="calls",
        body=WhisperRequest,
        returns={204: None},
        problems=STEERING_PROBLEMS,
    ),
)
async def whisper(call_id: str, body: WhisperRequest) -> Answer:
    await steer_call(telephony(), Whisper(call_id=call_id, text=body.text))
    return Answer(status=204)


@operation(
    blueprint,
    "POST",
    "/<id:call_id>/agent",
    Operation(
        summary="Let another agent go on with a call, or the same with another prompt",
        scope="calls",
        body=AgentChange,
        returns={200: CallView},
        problems=STEERING_PROBLEMS,
    ),
)
async def agent(call_id: str, body: AgentChange) -> Answer:
    return Answer(call_view(await change_agent(telephony(), actor(), call_id, body)))


# --- what is known ----------------------------------------------------------------------


@operation(
    blueprint,
    "GET",
    "/<id:call_id>/transcript",
    Operation(summary="Read what was said", scope="read", returns={200: CallTranscript}),
)
async def transcript(call_id: str) -> Answer:
    records = await telephony().store.read(get_streams, call_id)
    items = [
        line
        for number, record in enumerate(records, 1)
        for line in transcript_lines(number, record)
    ]
    return Answer(CallTranscript(items=items))


@operation(
    blueprint,
    "GET",
    "/<id:call_id>/metrics",
    Operation(summary="Read what a call took", scope="read", returns={200: CallMetrics}),
)
async def metrics(call_id: str) -> Answer:
    records = await telephony().store.read(get_streams, call_id)
    streams = [
        StreamMetrics(
            ended_by=record.ended_by,
            started_at=shown_time(round(record.started_s * 1000)) if record.started_s else None,
            duration_s=round(record.duration_s, 3),
            turns=[_turn(timing) for timing in record.turns],
            barge_ins=list(record.barge_ins),
            stats=record.stats,
            usage=list(record.usage),
        )
        for record in records
    ]
    return Answer(CallMetrics(streams=streams))


def _turn(timing: TurnTiming) -> TurnMetrics:
    parts = msgspec.structs.asdict(timing)
    return TurnMetrics(response_ms=timing.response_ms, **parts)


@operation(
    blueprint,
    "GET",
    "/<id:call_id>/events",
    Operation(
        summary="What happened; asked for text/event-stream, what happens, until the call is over",
        scope="read",
        returns={200: CallEvents},
        problems=(409,),
        streams=True,
    ),
)
async def events(call_id: str) -> Answer | Response:
    line = telephony()
    call = await line.store.read(get_call, call_id)
    if request.accept_mimetypes.best != "text/event-stream":
        records = await line.store.read(get_streams, call_id)
        items = [
            CallEvent(event=each.kind, data=event_data(each.at_ms, number, each.fields))
            for number, record in enumerate(records, 1)
            for each in record.notes
        ]
        return Answer(CallEvents(items=items))

    async def work(send: Send) -> None:
        with line.listeners.listen(call_id) as heard:
            if heard is None:
                detail = "too many listen to this call already"
                await send("problem", {"status": 429, "detail": detail})
                return
            # asked again, now that nothing can be missed
            now = await line.store.read(get_call, call_id)
            await send("state", {"state": now.state})
            if now.ended_at_ms is not None:
                return
            said = Said()
            held = line.live.get(call_id)
            for words in held.said() if held is not None else ():
                if said.is_new(words):
                    await send("transcript", words)
            async with line.followers.follow(call_id):
                async for event in heard:
                    if event.event != "transcript" or said.is_new(event.data):
                        await send(event.event, event.data)

    if call.ended_at_ms is not None:
        raise ApiError(HTTPStatus.CONFLICT, "the call is over: ask without text/event-stream")
    return event_stream(work)
