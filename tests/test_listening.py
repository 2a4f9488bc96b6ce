"""Calls that are only listened to: each track's words and times, keywords, mood, nothing said."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
import trio

from rtcore import ears
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.listening import KeywordRule, Listening, Track, heard_keywords, mood_of
from rtcore.audio import FRAME_BYTES
from rtcore.call import Call, CallRecord, TrackSpan, run_call
from rtcore.config import CallConfig
from rtcore.errors import ConfigError
from rtcore.listening import ListeningCall
from rtcore.testing import (
    L16_8K,
    L16_16K,
    MULAW_8K,
    CarrierReport,
    FakeCarrier,
    LineFaults,
    LineFormat,
    ProviderFault,
    ScriptedResponder,
    ScriptedTranscriber,
    dtmf,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
)
from rtcore.testing.caller import Action

FIRST, SECOND = "I want to cancel my contract", "let me see what I can do"
VOICE = speak("something or other to say").pcm
CALLER: list[Action] = [wait(500), say(VOICE), wait(6000), hang_up()]
HUMAN: list[Action] = [wait(3000), say(VOICE), wait(1500), say(VOICE)]
RULES = (
    KeywordRule(event="churn", words=("cancel", "leave you"), track="inbound"),
    KeywordRule(event="help", words=("what I can do",), track="outbound"),
)


class Kept:
    """A recorder that keeps everything."""

    def __init__(self) -> None:
        self.caller, self.agent = bytearray(), bytearray()

    def push(self, caller: bytes, agent: bytes | None) -> None:
        self.caller += caller
        self.agent += bytes(FRAME_BYTES) if agent is None else agent

    def close(self) -> None:
        """Nothing to close."""


class Made:
    record: CallRecord
    report: CarrierReport

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.kept = Kept()

    def lines(self) -> list[tuple[str, str, str]]:
        said = zip(self.record.tracks, self.record.transcript, strict=True)
        return [(span.track, message.role, message.text) for span, message in said]

    def notes(self, kind: str) -> list[dict[str, object]]:
        return [note.fields for note in self.record.notes if note.kind == kind]


async def make_call(
    listening: Listening,
    *,
    replies: tuple[str, ...] = ("Negative.",),
    config: CallConfig | None = None,
    faults: LineFaults | None = None,
    stt_faults: dict[int, ProviderFault] | None = None,
    llm_faults: dict[int, ProviderFault] | None = None,
    script: list[Action] = CALLER,
    line: LineFormat = MULAW_8K,
) -> Made:
    made = Made()
    here, there = memory_sockets()
    agent = Agent(
        AgentDefinition(name="ear", listening=listening, welcome_message="Never said."),
        ScriptedTranscriber((FIRST, SECOND), 100, partial_ms=200, faults=stt_faults),
        ScriptedResponder(replies, 100, faults=llm_faults),
    )

    def started(call: Call) -> None:
        assert isinstance(call, ListeningCall)
        call.recorder = made.kept
        call.on_words = lambda span, text: made.told.append((span.track, text))
        assert not call.say("Nobody hears this.")

    async def node() -> None:
        serve = partial(run_call, there, agent, config, on_start=started, kind=ListeningCall)
        made.record = await serve()

    tracks = listening.tracks
    carrier = FakeCarrier(
        script, line=line, outbound=HUMAN, tracks=tracks, is_one_way=True, faults=faults
    )
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node)
            made.report = await carrier.call(here)
    transcriber = agent.transcriber
    assert isinstance(transcriber, ScriptedTranscriber)
    assert transcriber.sessions.open == 0
    return made


def listen(listening: Listening, **how: object) -> Made:
    return simulate(partial(make_call, listening, **how))  # type: ignore[arg-type]


def test_both_tracks_are_heard_with_their_times() -> None:
    made = listen(Listening(keywords=RULES))
    assert made.lines() == [
        ("inbound", "user", FIRST),
        ("outbound", "assistant", FIRST),
        ("outbound", "assistant", SECOND),
    ]
    assert made.told == [(track, text) for track, _, text in made.lines()]
    spoken_ms = len(VOICE) / 16
    for span, began_ms in zip(made.record.tracks, (500, 3000, 4500 + spoken_ms), strict=True):
        assert span.at_ms == pytest.approx(began_ms, abs=150)
        assert span.until_ms - span.at_ms == pytest.approx(spoken_ms, abs=400)
    assert made.notes("keyword") == [
        {"name": "churn", "track": "inbound", "from_ms": made.record.tracks[0].at_ms},
        {"name": "help", "track": "outbound", "from_ms": made.record.tracks[2].at_ms},
    ]
    assert made.report.violations == ()  # nothing was said into the stream
    assert made.report.counts.audio_messages == 0
    assert (made.record.stats.turns, made.record.stats.replies) == (0, 0)
    assert made.record.ended_by == "hung_up"


@pytest.mark.parametrize(
    ("track", "wanted"), [("inbound", {"inbound"}), ("outbound", {"outbound"})]
)
def test_one_track_is_heard_alone(track: Track, wanted: set[str]) -> None:
    made = listen(Listening(track=track, keywords=RULES))
    assert {span.track for span in made.record.tracks} == wanted
    assert made.record.stats.heard_frames > 300


@pytest.mark.parametrize("line", [MULAW_8K, L16_8K, L16_16K], ids=["mulaw", "l16", "wide"])
def test_both_sides_are_recorded_side_by_side(line: LineFormat) -> None:
    kept = listen(Listening(), line=line).kept
    assert len(kept.caller) == len(kept.agent)

    def loud(pcm: bytes) -> float:
        return (
            next(at for at in range(0, len(pcm), 320) if max(pcm[at + 1 : at + 320 : 2]) > 3) / 16
        )

    assert loud(bytes(kept.caller)) == pytest.approx(500, abs=60)
    assert loud(bytes(kept.agent)) == pytest.approx(3000, abs=60)


def test_the_caller_s_mood_is_asked_for_when_something_new_was_said() -> None:
    made = listen(Listening(sentiment_every_s=5), script=[*CALLER[:-1], wait(12_000), hang_up()])
    assert made.notes("sentiment") == [
        {"mood": "negative", "lines": 2},
        {"mood": "negative", "lines": 1},
    ]


def test_a_mind_that_fails_costs_the_mood_alone() -> None:
    faults = {0: ProviderFault(kind="raise")}
    made = listen(Listening(sentiment_every_s=5), llm_faults=faults)
    assert made.notes("sentiment_failed") == [{"provider": "scripted-llm"}]
    assert made.notes("sentiment") == []
    assert len(made.lines()) == 3


def test_a_lossy_line_keeps_the_times() -> None:
    made = listen(Listening(), faults=LineFaults(seed=5, loss=0.03, jitter_ms=30))
    assert made.record.tracks[0].at_ms == pytest.approx(500, abs=200)
    assert made.record.stats.lost_frames > 0


def test_a_line_that_falls_silent_is_given_up() -> None:
    faults = LineFaults(mute_at_ms=1500, mute_ms=60_000)
    config = CallConfig(silence_limit_s=3.0)
    made = listen(Listening(), faults=faults, config=config)
    assert made.record.ended_by == "no_media"


def test_keys_are_noted_and_answered_by_nobody() -> None:
    made = listen(Listening(), script=[wait(500), dtmf("12#"), wait(8000), hang_up()])
    assert sum(int(str(note["keys"])) for note in made.notes("dtmf")) == 3
    assert made.record.stats.turns == 0
    assert made.report.violations == ()


def test_recognisers_that_are_lost_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "ATTEMPTS_MAX", 1)
    faults = {number: ProviderFault(kind="raise") for number in range(4)}
    made = listen(Listening(), stt_faults=faults)
    assert [note["track"] for note in made.notes("recogniser_lost")] == ["inbound", "outbound"]
    assert made.record.ended_by == "recogniser_lost"
    assert made.record.stats.provider_errors == 2


# --- rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I want to CANCEL.", ["churn"]),
        ("the cancellation was fine", []),
        ("I will leave   you now", ["churn"]),
        ("cancel, cancel and leave you", ["churn"]),
        ("", []),
    ],
)
def test_words_are_found_whole(text: str, found: list[str]) -> None:
    assert heard_keywords(RULES, "inbound", text) == found
    assert heard_keywords(RULES, "outbound", text) == []


@pytest.mark.parametrize("word", ["c++", "50 %", "(sic)", "naïve", "価格"])
def test_words_of_any_kind_are_found(word: str) -> None:
    rules = (KeywordRule(event="x", words=(word,)),)
    assert heard_keywords(rules, "inbound", f"so {word} it is") == ["x"]


@pytest.mark.parametrize(
    ("answer", "mood"),
    [
        ("negative", "negative"),
        ("**Positive.**", "positive"),
        ("I think: neutral", "neutral"),
        ("It is hard to say", ""),
        ("", ""),
    ],
)
def test_a_mood_is_read_from_an_answer(answer: str, mood: str) -> None:
    assert mood_of(answer) == mood


def test_what_an_agent_that_listens_needs() -> None:
    heard = ScriptedTranscriber(("x",))
    Agent(AgentDefinition(name="ear", listening=Listening()), heard)
    with pytest.raises(ConfigError, match="responder"):
        Agent(AgentDefinition(name="ear", listening=Listening(sentiment_every_s=5)), heard)
    with pytest.raises(msgspec.ValidationError, match="one of them"):
        msgspec.convert({"dial": "14155550111", "then_url": "https://x.example"}, Listening)


def test_a_line_says_where_it_lies() -> None:
    span = TrackSpan(track="inbound", at_ms=1.0, until_ms=2.0)
    assert msgspec.json.decode(msgspec.json.encode(span), type=TrackSpan) == span
