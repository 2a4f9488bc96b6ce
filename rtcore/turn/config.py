"""Every number of turn-taking, with its limit and its reason; three presets over them.

The reasons name their evidence: "calls" are two acted telephone calls of 80 turns, "field" the
published defaults of other systems. Milliseconds are turned into samples by ``TurnDetector``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.errors import ConfigError

__all__ = ["PRESETS", "Preset", "TurnConfig"]

Preset = Literal["eager", "balanced", "patient"]

Ms = Annotated[int, Meta(ge=0, le=10_000)]


class TurnConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How turns are taken in one call; the defaults are the preset ``balanced``."""

    language: str = "en"

    # --- what counts as voice
    vad_mode: Annotated[int, Meta(ge=0, le=3)] = 3  # best F1 of webrtcvad's on echo and calls
    noise_margin_db: Annotated[float, Meta(ge=3, le=30)] = (
        11.0  # kitchen and office: a third fewer false starts than 9
    )
    echo_margin_db: Annotated[float, Meta(ge=0, le=20)] = 4.5  # 0 of 72 masked, 0.13 false/min
    voice_range_db: Annotated[float, Meta(ge=15, le=60)] = 30.0  # cross-talk lies 40 dB under
    far_window_ms: Annotated[int, Meta(ge=100, le=2000)] = (
        800  # a reference 600 ms early costs nothing
    )
    start_ms: Annotated[int, Meta(ge=20, le=160)] = 60  # longer loses soft callers
    stop_ms: Annotated[int, Meta(ge=100, le=1000)] = 200  # what recognisers' finals assume (field)

    # --- end of turn, in ms of silence since the last voiced sample
    eager_ms: Annotated[int, Meta(ge=100, le=2000)] = 200  # the soonest that speech has stopped:
    # what it begins in vain costs tokens, what it gains is heard
    eager_max: Annotated[int, Meta(ge=0, le=20)] = 3  # speculations a turn (field)
    complete_ms: Annotated[int, Meta(ge=100, le=5000)] = 300  # people leave gaps of 200
    unsure_ms: Annotated[int, Meta(ge=100, le=5000)] = 860  # 10 cuts in 100 pauses (calls)
    unsure_max_ms: Annotated[int, Meta(ge=100, le=5000)] = 1100  # whose pauses are long
    unfinished_ms: Annotated[int, Meta(ge=100, le=8000)] = 1800  # field: 1,400 to 2,500
    turn_min_voiced_ms: Ms = 100  # less, and wordless, is a click and no turn
    turn_max_ms: Annotated[int, Meta(ge=5_000, le=600_000)] = 120_000  # noise taken for voice
    dtmf_flush_ms: Annotated[int, Meta(ge=200, le=10_000)] = 2000  # field: 2 s, or "#"

    # --- barge-in
    barge_in: Literal["mixed", "voice", "words", "off"] = "mixed"  # voice holds, words confirm
    suspect_ms: Annotated[int, Meta(ge=20, le=1000)] = 60  # silent within 250 with the pacer's lead
    confirm_ms: Annotated[int, Meta(ge=100, le=2000)] = 400  # field: 300 to 500
    confirm_streaming_ms: Annotated[int, Meta(ge=100, le=3000)] = 800  # a word comes sooner
    thinking_ms: Annotated[int, Meta(ge=20, le=1000)] = 160  # a cough must not void an answer
    blip_quiet_ms: Annotated[int, Meta(ge=60, le=2000)] = 200  # holes stay under 300
    no_words_ms: Annotated[int, Meta(ge=200, le=5000)] = 1000  # field: 750 to 1,200
    min_words: Annotated[int, Meta(ge=1, le=10)] = 1  # real words; backchannels do not count
    edge_ms: Annotated[int, Meta(ge=0, le=3000)] = 300  # of our own speech: evidence is doubled

    # --- liveness
    watchdog_ms: Annotated[int, Meta(ge=500, le=60_000)] = 5000  # field: 5 s
    idle_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 10_000  # field: 10 to 15 s
    idle_reminders: Annotated[int, Meta(ge=0, le=10)] = 2  # then goodbye

    def __post_init__(self) -> None:
        if not self.complete_ms <= self.unsure_ms <= self.unfinished_ms:
            raise ConfigError("complete_ms", "must be <= unsure_ms <= unfinished_ms")

    @classmethod
    def preset(cls, name: Preset, **overrides: Any) -> TurnConfig:
        """The preset ``name`` with single numbers overridden.

        Raises:
            ConfigError: no such preset, no such number, or a number out of its limits.
        """
        if name not in PRESETS:
            raise ConfigError("preset", f"{name!r} is none of {', '.join(PRESETS)}")
        try:
            return msgspec.convert({**PRESETS[name], **overrides}, cls)
        except msgspec.ValidationError as exc:
            raise ConfigError("turn", str(exc)) from exc


# what differs from the defaults; docs/turn-taking.md shows them side by side
PRESETS: dict[str, dict[str, Any]] = {
    # short answers, quick callers: accepts more false cut-offs for speed
    "eager": {
        "complete_ms": 250,
        "unsure_ms": 600,
        "unsure_max_ms": 850,
        "unfinished_ms": 1400,
        "confirm_ms": 300,
        "confirm_streaming_ms": 600,
        "no_words_ms": 750,
    },
    "balanced": {},
    # numbers, addresses, elderly callers, noisy places: waits, and is hard to interrupt by noise
    "patient": {
        "eager_ms": 300,
        "complete_ms": 500,
        "unsure_ms": 1100,
        "unsure_max_ms": 1500,
        "unfinished_ms": 2500,
        "suspect_ms": 120,
        "confirm_ms": 600,
        "confirm_streaming_ms": 1000,
        "no_words_ms": 1200,
        "idle_ms": 15_000,
    },
}
