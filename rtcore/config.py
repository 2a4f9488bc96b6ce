"""Frozen settings of a call. Each limit sits in its type, each reason beside its default."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

from rtcore.errors import ConfigError
from rtcore.turn import TurnConfig

__all__ = ["CallConfig", "checked"]

S = TypeVar("S", bound=msgspec.Struct)

Ms = Annotated[int, Meta(ge=0, le=600_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class CallConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one call is served."""

    turn: TurnConfig = TurnConfig()

    # --- the line
    start_limit_s: Seconds = 5.0  # a socket that does not say `start` is not a call
    silence_limit_s: Seconds = 60.0  # no media for so long: the carrier itself hangs up (6020)
    call_limit_s: Seconds = 1800.0  # a call no one ends must end
    lead_ms: Annotated[int, Meta(ge=80, le=400)] = 120  # less runs dry between two beats of 40 ms
    # `bench playout`: pieces of 20, 40, 60 ms cost 271, 161, 121 µs a second of speech; what a
    # piece is longer, the lead that hides a stall of ours is shorter: 40 keeps 80 ms of it. As
    # the media clock beats every 40 ms, smaller ones are hardly ever made
    chunk_ms: Annotated[int, Meta(ge=20, le=200)] = 40
    unsent_max_ms: Annotated[int, Meta(ge=200, le=10_000)] = 2000  # synthesis waits past it:
    # hides a voice that stalls for as long, and a barge-in wastes no more
    rewind_max_ms: Ms = 600  # a resumed reply goes back to its last pause, no further

    # --- the ears
    stt_gate: Literal["speech", "all"] = "speech"  # silence costs money and adds no words
    stt_preroll_ms: Annotated[int, Meta(ge=0, le=1000)] = 400  # the onset is heard late
    stt_chunk_ms: Annotated[int, Meta(ge=20, le=200)] = 80  # recognisers ask for 60 to 100
    heard_max_chunks: Annotated[int, Meta(ge=5, le=1000)] = 50  # 4 s; older live audio is
    # useless to a recogniser that far behind: dropped and counted
    stt_final_limit_s: Seconds = 1.5  # the turn is over and no word has come: ask again

    # --- the mind
    speculate: bool = True  # begin the answer at the eager end of turn
    first_token_limit_s: Seconds = 5.0
    stall_limit_s: Seconds = 3.0  # between two pieces of an answer
    tool_limit_s: Seconds = 30.0
    tool_filler_after_s: Seconds = 1.5  # silence longer than this sounds like a dropped call
    tool_steps_max: Annotated[int, Meta(ge=1, le=20)] = 5  # a model that loops must stop
    reply_limit_s: Seconds = 120.0

    # --- the voice
    first_audio_limit_s: Seconds = 4.0
    checkpoint_grace_s: Seconds = 1.0  # an acknowledgement later than its audio by this is lost

    # --- the end
    teardown_limit_s: Seconds = 0.05  # hang-up to nothing left: 100 ms in all


def checked(config: S, *, within: str = "") -> S:
    """``config`` itself, held to the limits in its types: making one in Python asks for none.

    Raises:
        ConfigError: a field is not what it may be; it is named with those it lies ``within``.
    """
    for field in msgspec.structs.fields(config):
        value, name = getattr(config, field.name), f"{within}{field.name}"
        if isinstance(value, msgspec.Struct) and type(value) is field.type:
            checked(value, within=f"{name}.")
        elif get_origin(field.type) is Literal:
            if value not in get_args(field.type):
                allowed = ", ".join(map(str, get_args(field.type)))
                raise ConfigError(name, f"{value!r} is none of {allowed}")
        else:
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as exc:
                raise ConfigError(name, f"{value!r} cannot be used: {exc}") from exc
    return config
