"""Calls as they are asked for and shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.analysis.records import StoredAnalysis
from api.analysis.views import AnalysisView, analysis_view
from api.calls.live import CallEvent
from api.calls.records import CallPlan, CallState, Direction, StoredCall
from api.specs import Destination
from api.web.requests import Paging
from api.web.times import Time, shown_time
from rtcore.call import CallRecord
from rtcore.metrics import BargeIn, CallStats
from rtcore.usage import ProviderUsage

__all__ = [
    "AgentChange",
    "CallDetail",
    "CallEvents",
    "CallFilter",
    "CallMetrics",
    "CallRequest",
    "CallTranscript",
    "CallView",
    "Dialling",
    "DtmfRequest",
    "SayRequest",
    "StreamMetrics",
    "TranscriptLine",
    "TransferRequest",
    "WhisperRequest",
    "call_detail",
    "call_view",
    "plan_of",
    "transcript_lines",
]

Phone = Annotated[
    str, Meta(pattern=r"^\+?[1-9][0-9]{3,14}\Z", description="E.164, with or without a plus sign.")
]
AgentId = Annotated[str, Meta(pattern=r"^agt_[0-9a-f]{24}\Z")]
VariableName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
Variables = Annotated[
    dict[VariableName, Annotated[str, Meta(max_length=2000)]], Meta(max_length=50)
]
Said = Annotated[str, Meta(min_length=1, max_length=2000)]


class Dialling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How somebody is called, by itself or by a campaign."""

    ring_timeout_s: Annotated[int, Meta(ge=5, le=600)] = 45  # a voicemail answers after 20 to 30
    time_limit_s: Annotated[int, Meta(ge=10, le=86_400)] = 1800
    caller_name: Annotated[str, Meta(max_length=50)] = ""
    machine_detection: Annotated[
        Literal["off", "hang_up", "continue", "leave_message"],
        Meta(description="What to do when a machine answers."),
    ] = "off"
    machine_message: Annotated[
        str, Meta(max_length=2000, description="What `leave_message` says before it hangs up.")
    ] = ""


class CallRequest(Dialling, frozen=True, kw_only=True):
    """A call to make: the agent talks to whoever answers ``to``."""

    to: Phone
    from_: Annotated[Phone, Meta(description="One of your numbers.")] = msgspec.field(name="from")
    agent_id: AgentId
    variables: Annotated[
        Variables, Meta(description="For the agent's prompt and greeting: `{name}`.")
    ] = {}


def plan_of(how: Dialling, variables: dict[str, str]) -> CallPlan:
    """What a call that is made so knows of itself."""
    policy = how.machine_detection
    return CallPlan(
        variables=variables,
        on_machine="" if policy == "off" else policy,
        machine_message=how.machine_message,
    )


class TransferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hand the caller to a human; if nobody takes the call, the agent has them back.

    ``cold``: the human's telephone rings, and who answers has the caller. ``warm``: the caller
    stays with the agent until the human has heard a summary and pressed 1.
    """

    to: Destination
    mode: Literal["cold", "warm"] = "cold"
    summary: Annotated[
        Said | None,
        Meta(description="What the human hears first; by default the agent's model makes one."),
    ] = None
    confirm_line: Annotated[Said, Meta(description="Said after the summary.")] = (
        "To take the call, press 1. To decline, press 2."
    )
    hold_line: Annotated[
        Said, Meta(description="What the caller hears when a warm transfer begins.")
    ] = "One moment, please. I am getting somebody for you."
    ring_timeout_s: Annotated[int, Meta(ge=5, le=120)] = 30
    caller_id: Annotated[Phone | None, Meta(description="By default our number.")] = None
    take_back_line: Annotated[
        Said, Meta(description="What the agent says when nobody took the call.")
    ] = "I am sorry, nobody could take your call just now. How can I help you?"


class DtmfRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key tones for the person on the line; ``w`` waits half a second, ``W`` a whole one."""

    digits: Annotated[str, Meta(pattern=r"^[0-9A-D*#wW]{1,64}\Z")]


class SayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something for the agent to say as soon as it has the floor."""

    text: Said
    is_interruptible: bool = True
    ends_call: Annotated[bool, Meta(description="Hang up once it has been heard.")] = False


class WhisperRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something for the agent's model to know from its next answer on; nobody hears it."""

    text: Said


class AgentChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who goes on with a call: another agent, or the same one with another prompt."""

    agent_id: Annotated[AgentId | None, Meta(description="By default the one it has.")] = None
    prompt: Annotated[
        Annotated[str, Meta(max_length=100_000)] | None,
        Meta(description="In place of the agent's own, in this call alone."),
    ] = None
    says_welcome: Annotated[bool, Meta(description="Begin with the agent's welcome.")] = False


class CallFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of calls."""

    direction: Direction | None = None
    state: CallState | None = None
    agent_id: AgentId | None = None
    from_number: Phone | None = None
    to_number: Phone | None = None


class TransferView(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer that was asked for."""

    to: str
    mode: Literal["cold", "warm"]
    outcome: Annotated[
        str,
        Meta(
            description="Empty while it goes on; then `completed`, `busy`, `no-answer`, `failed`,"
            " and of a warm one `declined` or `caller_left`."
        ),
    ]


class HangupView(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call is over, in the carrier's words."""

    cause: str
    code: int | None
    source: str
    billed_s: int | None
    cost: str


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call."""

    id: str
    direction: Direction
    state: CallState
    agent_id: str
    agent_version: int
    from_: str = msgspec.field(name="from")
    to: str
    carrier_id: Annotated[str | None, Meta(description="Plivo's CallUUID.")]
    variables: dict[str, str]
    is_machine: bool
    transfer: TransferView | None
    hangup: HangupView | None
    created_at: Time
    answered_at: Time | None
    ended_at: Time | None


class CallDetail(CallView, frozen=True, kw_only=True):
    """A call, and what was made of it once it was over."""

    analysis: Annotated[
        AnalysisView | None, Meta(description="Null: its agent wants none, or it goes on.")
    ]


def call_detail(call: StoredCall, analysis: StoredAnalysis | None) -> CallDetail:
    """``call`` as it is shown by itself."""
    shown = {name: getattr(call_view(call), name) for name in CallView.__struct_fields__}
    view = None if analysis is None else analysis_view(analysis)
    return CallDetail(**shown, analysis=view)


def call_view(call: StoredCall) -> CallView:
    """``call`` as it is shown."""
    transfer, ended = call.transfer, call.ended
    return CallView(
        id=call.id,
        direction=call.direction,
        state=call.state,
        agent_id=call.agent_id,
        agent_version=call.agent_version,
        from_=call.from_number,
        to=call.to_number,
        carrier_id=call.carrier_id,
        variables=call.plan.variables,
        is_machine=call.is_machine,
        transfer=None
        if transfer is None
        else TransferView(to=transfer.to, mode=transfer.mode, outcome=transfer.outcome),
        hangup=None
        if ended is None
        else HangupView(
            cause=ended.cause,
            code=ended.code,
            source=ended.source,
            billed_s=ended.billed_s,
            cost=ended.cost,
        ),
        created_at=shown_time(call.created_at_ms),
        answered_at=None if call.answered_at_ms is None else shown_time(call.answered_at_ms),
        ended_at=None if call.ended_at_ms is None else shown_time(call.ended_at_ms),
    )


class TranscriptLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said, or what a function answered; ``stream`` counts the call's streams.

    Where the agent only listens: on which track (``inbound`` is the caller, as ``user``;
    ``outbound`` what the caller hears, as ``assistant``), and when, in ms since it began.
    """

    stream: int
    role: Literal["system", "user", "assistant", "tool"]
    text: str
    track: Literal["inbound", "outbound"] | None = None
    at_ms: float | None = None
    until_ms: float | None = None


def transcript_lines(stream: int, record: CallRecord) -> list[TranscriptLine]:
    """What was said in one stream, as it is shown."""
    spans = [msgspec.structs.asdict(span) for span in record.tracks]
    missing = len(record.transcript) - len(spans)
    return [
        TranscriptLine(stream=stream, role=message.role, text=message.text, **span)
        for message, span in zip(record.transcript, [*spans, *[{}] * missing], strict=False)
    ]


class CallTranscript(msgspec.Struct, frozen=True, kw_only=True):
    """What was said and heard, in order; of a call that goes on, as of a second ago."""

    items: list[TranscriptLine]


class TurnMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one answer went, in ms; the parts add up to ``response_ms``."""

    response_ms: float
    endpointing_ms: float
    stt_final_ms: float
    llm_first_token_ms: float
    first_sentence_ms: float
    tts_first_audio_ms: float
    playout_ms: float
    is_speculative: bool


class StreamMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What one media stream of a call took."""

    ended_by: Annotated[str, Meta(description="Empty while it goes on.")]
    started_at: Annotated[Time | None, Meta(description="When the carrier opened it.")]
    duration_s: float
    turns: list[TurnMetrics]
    barge_ins: list[BargeIn]
    stats: CallStats
    usage: Annotated[
        list[ProviderUsage],
        Meta(
            description="Each provider by itself; `member` is its place in its list, from 0, and "
            "tokens that no service told of are estimated."
        ),
    ] = []


class CallMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a call took, stream by stream."""

    streams: list[StreamMetrics]


class CallEvents(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the streams of a call that are over."""

    items: list[CallEvent]


def event_data(at_ms: float, stream: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The data of one entry of a journal."""
    return {"at_ms": at_ms, "stream": stream, **fields}
